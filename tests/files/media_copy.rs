//! Frames read and written again: what comes out holds what went in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oodstream::input;
use oodstream::input::file::FileOptions;
use oodstream::input::{EndOfInput, FrameReader, Read};
use oodstream::output;
use oodstream::output::file::OpenFile;
use oodstream::output::{Encoding, FrameWriter, Written};
use support::clips::{clip, ffmpeg_is_there, ffprobe, rotated, stream_hash, times};

const WAIT: Duration = Duration::from_secs(20);

struct Copied {
    end: EndOfInput,
    written: Written,
    times: Vec<f64>,
    info: input::VideoInfo,
    _folder: tempfile::TempDir,
}

/// Reads every frame and writes it unchanged.
fn pass(mut reader: Box<dyn FrameReader>, mut writer: Box<dyn FrameWriter>) -> (EndOfInput, Written, Vec<f64>) {
    let mut times = Vec::new();
    let end = loop {
        match reader.read(WAIT).unwrap() {
            Read::Frame(frame) => {
                assert_eq!(frame.index, times.len() as u64);
                times.push(frame.running_time as f64 / 1e9);
                assert!(writer.write(frame, WAIT).unwrap().is_none(), "no room for a frame in {WAIT:?}");
            }
            Read::Signal(_) | Read::TimedOut => panic!("no frame in {WAIT:?}"),
            Read::End(end) => break end,
        }
    };
    drop(reader);
    (end, writer.finish(&|| false).unwrap(), times)
}

fn copy_as(input: &Path, extension: &str, encoding: &Encoding) -> Copied {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(format!("out.{extension}"));
    let (reader, writer) = output::file::open_file(
        &OpenFile { path: input, output: Some(&output), encoding, stream: 3 },
        FileOptions::default(),
    )
    .unwrap();
    let info = reader.info().unwrap().clone();
    let (end, written, times) = pass(reader, writer.unwrap());
    assert_eq!(written.path, output);
    let left: Vec<PathBuf> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, [output], "nothing but the output is left");
    Copied { end, written, times, info, _folder: folder }
}

fn copy(input: &Path) -> Copied {
    copy_as(input, "mp4", &Encoding::default())
}

/// Frames and running times in = out.
#[track_caller]
fn assert_same_frames(input: &Path, copied: &Copied, tolerance: f64) {
    let start = |times: &[f64]| times.first().copied().unwrap_or_default();
    let (wanted, got) = (times(input, "v:0"), times(&copied.written.path, "v:0"));
    assert_eq!(got.len(), wanted.len(), "frames");
    assert_eq!(copied.written.frames, wanted.len() as u64);
    // A transport stream starts at any time; running times start at 0.
    let shift = if input.extension().is_some_and(|e| e == "ts") { start(&wanted) - start(&got) } else { 0.0 };
    for (index, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
        assert!((wanted - shift - got).abs() <= tolerance, "frame {index}: {got} instead of {}", wanted - shift);
    }
    for (index, (read, got)) in copied.times.iter().zip(&got).enumerate() {
        assert!((read - got).abs() <= tolerance.max(0.000_01), "frame {index}: read at {read}, written at {got}");
    }
    assert!(copied.end.is_clean(), "{:?}", copied.end);
}

#[test]
fn plain_mp4_with_sound_and_tags() {
    if !ffmpeg_is_there() {
        return;
    }
    let input = clip("plain.mp4");
    let copied = copy(&input);
    let output = &copied.written.path;
    assert_same_frames(&input, &copied, 0.000_002);
    assert_eq!(stream_hash(output, "a:0"), stream_hash(&input, "a:0"));
    let (wanted, got) = (times(&input, "a:0"), times(output, "a:0"));
    assert_eq!(got.len(), wanted.len());
    for (wanted, got) in wanted.iter().zip(&got) {
        assert!((wanted - got).abs() < 0.000_05, "audio at {got} instead of {wanted}");
    }
    let tags = ffprobe(output, "", "format_tags").join(",");
    for tag in ["Drive", "37.7749", "2021-03-04T05:06:07"] {
        assert!(tags.contains(tag), "{tag} is not in {tags}");
    }
    assert_eq!((copied.info.width, copied.info.height, copied.info.audio_tracks), (160, 120, 1));
    assert_eq!((copied.info.fps, copied.info.frames), (Some(30.0), Some(60)));
    assert!(copied.info.codec.contains("H.264"), "{}", copied.info.codec);
    let durations: Vec<f64> = [&input, output].map(|f| ffprobe(f, "", "format=duration")[0].parse().unwrap()).into();
    assert!((durations[0] - durations[1]).abs() < 0.05, "{durations:?}");
}

#[test]
fn every_container_and_codec() {
    if !ffmpeg_is_there() {
        return;
    }
    let exact = ["silent.mp4", "silent.mov", "vfr.mp4", "ten-bit.mp4", "hevc.mp4", "mpeg4.avi", "mjpeg.avi"];
    for name in exact {
        println!("{name}");
        assert_same_frames(&clip(name), &copy(&clip(name)), 0.000_002);
    }
    for name in ["plain.mkv", "vfr.mkv", "vp8.webm", "vp9.webm", "odd.mkv", "stream.ts"] {
        println!("{name}");
        assert_same_frames(&clip(name), &copy(&clip(name)), 0.000_02);
    }
}

#[test]
fn sound_that_the_container_holds_otherwise_or_not_at_all() {
    if !ffmpeg_is_there() {
        return;
    }
    // A transport stream has AAC with ADTS headers, MP4 has it without: the same packets.
    let input = clip("stream.ts");
    let copied = copy(&input);
    assert_eq!(times(&copied.written.path, "a:0").len(), times(&input, "a:0").len());
    let notes = &copied.end.notes;
    assert!(notes.len() == 1 && notes[0].starts_with("the clock of the file starts at"), "{notes:?}");
    // MP4 has no PCM: encoded, and said so.
    let input = clip("mjpeg.avi");
    let copied = copy(&input);
    assert_eq!(ffprobe(&copied.written.path, "a:0", "stream=codec_name"), ["aac"]);
    let sound = times(&copied.written.path, "a:0");
    assert!(sound[0] < 0.03 && (1.9..2.1).contains(sound.last().unwrap()), "{sound:?}");
    assert!(copied.end.notes.iter().any(|note| note.contains("encoded as AAC")), "{:?}", copied.end.notes);
    // Matroska has it.
    let copied = copy_as(&input, "mkv", &Encoding::default());
    assert_eq!(stream_hash(&copied.written.path, "a:0"), stream_hash(&input, "a:0"));
    assert_eq!(copied.end.notes, ["the chroma of the pictures (4:2:2) is reduced to 4:2:0"]);
}

#[test]
fn rotation_is_applied() {
    if !ffmpeg_is_there() {
        return;
    }
    let input = rotated("upright.mp4", 90);
    let copied = copy(&input);
    assert_same_frames(&input, &copied, 0.000_002);
    assert_eq!((copied.info.width, copied.info.height), (120, 160));
    assert_eq!(ffprobe(&copied.written.path, "v:0", "stream=width,height"), ["120,160"]);
    assert!(ffprobe(&copied.written.path, "v:0", "stream_side_data=rotation").is_empty());
}

#[test]
fn several_tracks_and_subtitles() {
    if !ffmpeg_is_there() {
        return;
    }
    for (name, extension) in [("many.mkv", "mkv"), ("many.mp4", "mp4"), ("many.mkv", "mp4"), ("plain.mp4", "mkv")] {
        println!("{name} to {extension}");
        let input = clip(name);
        let copied = copy_as(&input, extension, &Encoding::default());
        let output = &copied.written.path;
        // Matroska counts in milliseconds.
        assert_same_frames(&input, &copied, if extension == "mkv" { 0.000_6 } else { 0.000_02 });
        assert_eq!(stream_hash(output, "a"), stream_hash(&input, "a"));
        let kinds = |file: &Path| ffprobe(file, "", "stream=codec_type").join(" ");
        assert_eq!(kinds(output), kinds(&input));
        if name.starts_with("many") {
            let languages = |file: &Path| ffprobe(file, "a", "stream_tags=language").join(" ");
            assert_eq!(languages(output), languages(&input));
            assert_eq!((copied.info.audio_tracks, copied.info.subtitle_tracks), (2, 1));
            let text = |file: &Path| {
                let args = ["-v", "error", "-i", file.to_str().unwrap(), "-map", "0:s:0", "-f", "srt", "-"];
                let out = std::process::Command::new("ffmpeg").args(args).output().unwrap();
                String::from_utf8_lossy(&out.stdout).into_owned()
            };
            let (wanted, got) = (text(&input), text(output));
            for line in ["first line", "second line"] {
                assert!(wanted.contains(line) && got.contains(line), "{line} is not in {got}");
            }
            // MP4 fills the gaps between subtitles with empty ones, the first at 0.
            let (wanted, got) = (times(&input, "s:0"), times(output, "s:0"));
            for time in wanted.iter().filter(|time| **time > 0.1) {
                assert!(got.iter().any(|got| (got - time).abs() < 0.002), "{time} is not in {got:?}");
            }
        }
    }
}

#[test]
fn shape_colour_and_fields_are_kept_right() {
    if !ffmpeg_is_there() {
        return;
    }
    let input = clip("anamorphic.mp4");
    let copied = copy(&input);
    assert_same_frames(&input, &copied, 0.000_002);
    assert_eq!(copied.info.par, (4, 3));
    let shape = "stream=sample_aspect_ratio,color_space,color_transfer,color_primaries,color_range";
    assert_eq!(ffprobe(&copied.written.path, "v:0", shape), ffprobe(&input, "v:0", shape));

    let input = clip("interlaced.mp4");
    let copied = copy(&input);
    assert_same_frames(&input, &copied, 0.000_002);
    assert_eq!(ffprobe(&copied.written.path, "v:0", "stream=field_order"), ["progressive"]);
}

#[test]
fn sound_that_starts_late_stays_late() {
    if !ffmpeg_is_there() {
        return;
    }
    for name in ["late-audio.mp4", "late-video.mp4", "late-both.mp4"] {
        println!("{name}");
        let input = clip(name);
        let copied = copy(&input);
        assert_same_frames(&input, &copied, 0.000_02);
        let (wanted, got) = (times(&input, "a:0"), times(&copied.written.path, "a:0"));
        assert_eq!(got.len(), wanted.len());
        for (wanted, got) in wanted.iter().zip(&got) {
            assert!((wanted - got).abs() < 0.000_1, "audio at {got} instead of {wanted}");
        }
        assert_eq!(stream_hash(&copied.written.path, "a:0"), stream_hash(&input, "a:0"));
    }
}
