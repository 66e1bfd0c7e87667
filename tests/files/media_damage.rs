//! Inputs that are not what they should be: a clear error, or everything that could be read and a word about the rest.

use std::path::Path;
use std::time::Duration;

use oodstream::Error;
use oodstream::input::file::FileOptions;
use oodstream::input::{EndOfInput, Read};
use oodstream::output;
use oodstream::output::Encoding;
use oodstream::output::file::OpenFile;
use support::clips::{changed, clip, ffmpeg_is_there, ffprobe};

const WAIT: Duration = Duration::from_secs(20);

fn fails(path: &Path) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mp4");
    let open = OpenFile { path, output: Some(&output), encoding: &Encoding::default(), stream: 0 };
    let error = match output::file::open_file(&open, FileOptions::default()) {
        Ok(_) => panic!("{} opened", path.display()),
        Err(error) => error,
    };
    println!("{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    assert!(error.to_string().contains(&path.file_name().unwrap().to_string_lossy().into_owned()));
    error
}

/// Copies through and gives the number of frames that are in the output.
fn reads(path: &Path) -> (u64, EndOfInput) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mp4");
    let open = OpenFile { path, output: Some(&output), encoding: &Encoding::default(), stream: 0 };
    let (mut reader, writer) = output::file::open_file(&open, FileOptions::default()).unwrap();
    let mut writer = writer.unwrap();
    let end = loop {
        match reader.read(WAIT).unwrap() {
            Read::Frame(frame) => assert!(writer.write(frame, WAIT).unwrap().is_none()),
            Read::Signal(_) | Read::TimedOut => panic!("no frame in {WAIT:?}"),
            Read::End(end) => break end,
        }
    };
    let written = writer.finish(&|| false).unwrap();
    println!("{}: {} frames, {end:?}", path.display(), written.frames);
    let in_file = ffprobe(&written.path, "v:0", "packet=pts_time").len() as u64;
    assert_eq!(in_file, written.frames);
    (in_file, end)
}

#[test]
fn not_a_video() {
    if !ffmpeg_is_there() {
        return;
    }
    let gone = fails(Path::new("not-there.mp4"));
    assert!(gone.to_string().contains("no such file"));
    let empty = changed("silent.mp4", "empty.mp4", Vec::clear);
    assert!(fails(&empty).to_string().contains("zero bytes"));
    let text = changed("silent.mp4", "text.mp4", |bytes| *bytes = b"this is no video\n".repeat(500));
    assert!(fails(&text).to_string().contains("not a video"));
    let noise = changed("silent.mp4", "noise.mp4", |bytes| {
        let mut state = 1u32;
        bytes.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        });
    });
    fails(&noise);
    assert!(fails(&clip("sound.m4a")).to_string().contains("only sound"));
    // ffmpeg writes the index last: cutting the file off loses it.
    let cut = changed("plain.mp4", "no-moov.mp4", |bytes| bytes.truncate(bytes.len() / 2));
    assert!(fails(&cut).to_string().contains("moov"));
}

#[test]
fn truncated_and_corrupted() {
    if !ffmpeg_is_there() {
        return;
    }
    let cut = changed("plain.mkv", "cut.mkv", |bytes| bytes.truncate(bytes.len() / 2));
    let (frames, end) = reads(&cut);
    assert!((10..60).contains(&frames) && end.truncated, "{frames} {end:?}");

    let cut = changed("front.mp4", "cut-front.mp4", |bytes| bytes.truncate(bytes.len() * 2 / 3));
    let (frames, end) = reads(&cut);
    assert!((10..60).contains(&frames) && end.truncated, "{frames} {end:?}");

    let cut = changed("stream.ts", "cut.ts", |bytes| bytes.truncate(bytes.len() / 2));
    let (frames, _) = reads(&cut);
    assert!((10..60).contains(&frames), "{frames}");

    for name in ["plain.mp4", "plain.mkv", "mpeg4.avi", "vp8.webm", "stream.ts"] {
        let broken = changed(name, &format!("broken-{name}"), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 1500].iter_mut().step_by(3).for_each(|byte| *byte ^= 0xa5);
        });
        let (frames, end) = reads(&broken);
        assert!(frames >= 20, "{name}: {frames}");
        // FFmpeg's decoders conceal damage inside of a frame without telling.
        let reported = !["mpeg4.avi", "stream.ts"].contains(&name);
        assert!(!reported || !end.is_clean(), "{name}: the damage was not noticed");
    }
}
