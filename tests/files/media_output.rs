//! Outputs: names, refusals, stopping at any moment, full disks, back-pressure; images and test patterns as inputs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oodstream::Error;
use oodstream::gst;
use oodstream::gst::Frame;
use oodstream::input::file::FileOptions;
use oodstream::input::{FrameReader, Read};
use oodstream::output;
use oodstream::output::file::{OpenFile, Opened};
use oodstream::output::{Encoding, FrameWriter};
use support::clips::{clip, ffmpeg_is_there, ffprobe, frames_to_play, times};
use support::live::until;

const WAIT: Duration = Duration::from_secs(20);

fn test_input(spec: &str, output: &Path, encoding: &Encoding) -> Result<Opened, Error> {
    gst::init()?;
    output::file::open_test(spec, Some(output), encoding, 0)
}

fn next(reader: &mut Box<dyn FrameReader>) -> Option<Frame> {
    match reader.read(WAIT).unwrap() {
        Read::Frame(frame) => Some(frame),
        Read::Signal(_) | Read::TimedOut => panic!("no frame in {WAIT:?}"),
        Read::End(_) => None,
    }
}

fn write_all(reader: &mut Box<dyn FrameReader>, writer: &mut Box<dyn FrameWriter>) -> u64 {
    let mut frames = 0;
    while let Some(frame) = next(reader) {
        assert!(writer.write(frame, WAIT).unwrap().is_none());
        frames += 1;
    }
    frames
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn names_that_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refused = |output: &Path| {
        let error = test_input("test://ball?frames=3", output, &Encoding::default()).map(drop).unwrap_err();
        println!("{error}");
        error
    };
    assert!(refused(&at("no/such/out.mp4")).to_string().contains("does not exist"));
    assert_eq!(refused(&at("out.gif")).kind(), oodstream::ErrorKind::Usage);
    fs::write(at("there.mp4"), b"precious").unwrap();
    assert!(refused(&at("there.mp4")).to_string().contains("--overwrite"));
    assert_eq!(fs::read(at("there.mp4")).unwrap(), b"precious");
    fs::create_dir(at("folder.mp4")).unwrap();
    refused(&at("folder.mp4"));
    assert_eq!(listing(folder.path()), ["folder.mp4", "there.mp4"]);

    // The input itself, by name and by another link to it, even with leave to overwrite.
    if !ffmpeg_is_there() {
        return;
    }
    let input = at("in.mp4");
    fs::copy(clip("silent.mp4"), &input).unwrap();
    fs::hard_link(&input, at("link.mp4")).unwrap();
    let encoding = Encoding { overwrite: true, ..Encoding::default() };
    for output in [input.clone(), at("link.mp4")] {
        let open = OpenFile { path: &input, output: Some(&output), encoding: &encoding, stream: 0 };
        let error = output::file::open_file(&open, FileOptions::default()).map(drop).unwrap_err();
        assert!(error.to_string().contains("the output is the input"), "{error}");
    }
    assert_eq!(fs::read(&input).unwrap(), fs::read(clip("silent.mp4")).unwrap());
}

#[test]
fn a_name_taken_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mp4");
    let (mut reader, writer) =
        test_input("test://ball?width=64&height=48&frames=5", &output, &Encoding::default()).unwrap();
    let mut writer = writer.unwrap();
    // A second run with the same output is refused.
    let second = test_input("test://ball?frames=5", &output, &Encoding::default()).map(drop).unwrap_err();
    assert!(second.to_string().contains("another run"), "{second}");
    write_all(&mut reader, &mut writer);
    fs::write(&output, b"precious").unwrap();
    let error = writer.finish(&|| false).unwrap_err();
    assert!(error.to_string().contains("appeared"), "{error}");
    assert_eq!(fs::read(&output).unwrap(), b"precious");
    assert_eq!(listing(folder.path()), [".out.mp4.part", "out.mp4"], "the work is not lost");

    // With leave, it is.
    let encoding = Encoding { overwrite: true, ..Encoding::default() };
    let (mut reader, writer) = test_input("test://ball?width=64&height=48&frames=5", &output, &encoding).unwrap();
    let mut writer = writer.unwrap();
    write_all(&mut reader, &mut writer);
    assert_eq!(writer.finish(&|| false).unwrap().frames, 5);
    assert_eq!(listing(folder.path()), ["out.mp4"]);
    assert_ne!(fs::read(&output).unwrap(), b"precious");
}

#[test]
fn stopped_half_way_the_file_is_whole() {
    if !ffmpeg_is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mp4");
    let input = clip("plain.mp4");
    let open = OpenFile { path: &input, output: Some(&output), encoding: &Encoding::default(), stream: 0 };
    let (mut reader, writer) = output::file::open_file(&open, FileOptions::default()).unwrap();
    let mut writer = writer.unwrap();
    for _ in 0..20 {
        let frame = next(&mut reader).unwrap();
        assert!(writer.write(frame, WAIT).unwrap().is_none());
    }
    let written = writer.finish(&|| false).unwrap();
    assert_eq!((written.frames, times(&output, "v:0").len()), (20, 20));
    let sound = times(&output, "a:0");
    let end = sound.last().unwrap();
    assert!((0.5..1.8).contains(end), "the sound ends about where the pictures do: {end}");
}

#[test]
fn dropped_at_any_moment_nothing_hangs() {
    if !ffmpeg_is_there() {
        return;
    }
    let input = clip("plain.mp4");
    let start = Instant::now();
    for frames in [0, 1, 7, 30] {
        for abort in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let output = folder.path().join("out.mp4");
            let open = OpenFile { path: &input, output: Some(&output), encoding: &Encoding::default(), stream: 0 };
            let (mut reader, writer) = output::file::open_file(&open, FileOptions::default()).unwrap();
            let mut writer = writer.unwrap();
            for _ in 0..frames {
                let frame = next(&mut reader).unwrap();
                assert!(writer.write(frame, WAIT).unwrap().is_none());
            }
            if abort {
                writer.abort();
                assert_eq!(listing(folder.path()), [""; 0]);
            } else {
                drop(writer);
                assert_eq!(listing(folder.path()).len(), usize::from(frames > 0), "what was written stays");
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn what_a_killed_process_leaves_behind_plays() {
    if !ffmpeg_is_there() {
        return;
    }
    for name in ["out.mp4", "out.mov", "out.mkv"] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join(name);
        let spec = "test://ball?width=64&height=48&fps=10&frames=150";
        let (mut reader, writer) = test_input(spec, &output, &Encoding::default()).unwrap();
        let mut writer = writer.unwrap();
        write_all(&mut reader, &mut writer);
        let left = folder.path().join(format!(".{name}.part"));
        // The encoder and the muxer work in threads of their own: let them come so far.
        let deadline = Instant::now() + WAIT;
        while frames_to_play(&left) < 20 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Dropping stops the pipeline where it is, without an end of stream.
        drop(writer);
        assert!(!output.exists());
        let frames = frames_to_play(&left);
        println!("{name}: {frames} of 150 frames can be played");
        assert!(frames >= 20, "{name}: {frames}");
    }
}

#[test]
fn back_pressure_gives_the_frame_back() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mp4");
    // Slow to encode, so that the queue in front of the encoder fills.
    let encoding = Encoding { preset: Some("veryslow".into()), ..Encoding::default() };
    let spec = "test://snow?width=320&height=240&frames=40";
    let (mut reader, writer) = test_input(spec, &output, &encoding).unwrap();
    let mut writer = writer.unwrap();
    let mut given_back = 0;
    // All at hand before the first is written, so that the encoder cannot keep up, whatever the scheduler does.
    let frames: Vec<_> = std::iter::from_fn(|| next(&mut reader)).collect();
    let count = frames.len() as u64;
    for frame in frames {
        let mut waiting = Some(frame);
        while let Some(frame) = waiting.take() {
            let index = frame.index;
            waiting = writer.write(frame, Duration::ZERO).unwrap();
            if let Some(back) = &waiting {
                assert_eq!(back.index, index);
                given_back += 1;
                std::thread::yield_now();
            }
        }
    }
    assert!(given_back > 0);
    assert_eq!(writer.finish(&|| false).unwrap().frames, count);
    assert_eq!(count, 40);
}

#[test]
fn a_full_disk_is_reported_and_the_rest_kept() {
    // A file size limit would raise a signal; a small file system needs leave to mount one.
    let folder = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).output();
    let disk = folder.path().to_str().unwrap();
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk]).is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: no leave to mount a small file system");
        return;
    }
    let output = folder.path().join("out.mp4");
    let spec = "test://snow?width=320&height=240&frames=300";
    let (mut reader, writer) = test_input(spec, &output, &Encoding::default()).unwrap();
    let mut writer = writer.unwrap();
    let error = loop {
        let Some(frame) = next(&mut reader) else { panic!("the disk took it all") };
        match writer.write(frame, WAIT) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("no room in {WAIT:?}"),
            Err(error) => break error,
        }
    };
    writer.abort();
    let left = listing(folder.path());
    // A process that another test starts at this moment may hold the file open until it runs its own program.
    until("the file is closed", || mount(&["umount", disk]).unwrap().status.success());
    assert!(error.to_string().contains("no space left") && error.to_string().contains(".out.mp4.part"), "{error}");
    assert_eq!(left, [".out.mp4.part"]);
}

#[test]
fn images_become_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let file = |index: u8, width: u32, name: &str| {
        let path = folder.path().join(name);
        image::RgbImage::from_pixel(width, 48, image::Rgb([200, index * 20, 30])).save(&path).unwrap();
        path
    };
    let mut files: Vec<PathBuf> = (0..6).map(|i| file(i, 64, &format!("{i}.png"))).collect();
    files.push(file(6, 64, "6.jpg"));
    let output = folder.path().join("out.mp4");
    let (mut reader, writer) = output::file::open_images(&files, Some(&output), &Encoding::default(), 2).unwrap();
    assert_eq!(reader.info().map_or((None, None), |info| (info.frames, info.fps)), (Some(7), Some(10.0)));
    let mut writer = writer.unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = next(&mut reader) {
        seen.push((frame.stream, frame.index, frame.running_time / 1_000_000));
        assert!(writer.write(frame, WAIT).unwrap().is_none());
    }
    writer.finish(&|| false).unwrap();
    assert_eq!(seen, (0..7).map(|i| (2, i, i * 100)).collect::<Vec<_>>());
    if ffmpeg_is_there() {
        assert_eq!(times(&output, "v:0").len(), 7);
        assert_eq!(ffprobe(&output, "v:0", "stream=r_frame_rate"), ["10/1"]);
    }
    // One of another size is named.
    files.insert(2, file(9, 80, "wide.png"));
    let (mut reader, _) = output::file::open_images(&files, None, &Encoding::default(), 0).unwrap();
    next(&mut reader);
    next(&mut reader);
    let error = reader.read(WAIT).map(drop).unwrap_err();
    assert!(error.to_string().contains("wide.png") && error.to_string().contains("80x48"), "{error}");
}

#[test]
fn frames_are_drawn_on_in_place_and_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mkv");
    let encoding = Encoding { width_factor: 2, crf: Some(5), ..Encoding::default() };
    let spec = "test://black?width=64&height=48&frames=10&fps=10";
    let (mut reader, writer) = test_input(spec, &output, &encoding).unwrap();
    let mut writer = writer.unwrap();
    while let Some(frame) = next(&mut reader) {
        let mut wide = frame.new_like(128, 48).unwrap();
        assert_eq!((wide.index, wide.running_time, wide.duration), (frame.index, frame.running_time, frame.duration));
        let source = frame.map().unwrap();
        let mut view = wide.map_mut().unwrap();
        let picture = view.i420();
        assert!(picture.y.row(47).iter().all(|y| *y == 16) && picture.u.row(23).iter().all(|u| *u == 128));
        let mut y = picture.y;
        for row in 0..48 {
            y.row_mut(row)[..64].copy_from_slice(source.i420().y.row(row));
            y.row_mut(row)[64..].fill(200);
        }
        drop((source, view));
        assert!(writer.write(wide, WAIT).unwrap().is_none());
    }
    assert_eq!(writer.finish(&|| false).unwrap().frames, 10);
    let (mut reader, _) = output::file::open_file(
        &OpenFile { path: &output, output: None, encoding: &encoding, stream: 0 },
        FileOptions::default(),
    )
    .unwrap();
    let mut frames = 0;
    while let Some(mut frame) = next(&mut reader) {
        assert_eq!((frame.width(), frame.height()), (128, 48));
        let view = frame.map().unwrap();
        let row = view.i420().y.row(20);
        assert!(row[10] < 30 && row[100] > 185, "{} {}", row[10], row[100]);
        drop(view);
        frame.map_mut().unwrap().i420().y.row_mut(0)[0] = 77;
        assert_eq!(frame.map().unwrap().i420().y.row(0)[0], 77);
        frames += 1;
    }
    assert_eq!(frames, 10);
}

#[test]
fn settings_of_the_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let size = |name: &str, encoding: &Encoding| {
        let output = folder.path().join(name);
        let spec = "test://snow?width=160&height=120&frames=50";
        let (mut reader, writer) = test_input(spec, &output, encoding).unwrap();
        let mut writer = writer.unwrap();
        write_all(&mut reader, &mut writer);
        writer.finish(&|| false).unwrap();
        fs::metadata(&output).unwrap().len()
    };
    let low = size("low.mp4", &Encoding { bitrate_kbps: Some(200), ..Encoding::default() });
    let high = size("high.mp4", &Encoding { bitrate_kbps: Some(2000), ..Encoding::default() });
    assert!(high > low * 3, "{low} {high}");
    let (coarse, fine) =
        (Encoding { crf: Some(45), ..Encoding::default() }, Encoding { crf: Some(15), ..Encoding::default() });
    assert!(size("fine.mp4", &fine) > size("coarse.mp4", &coarse) * 3);
    let refused = |encoding: Encoding| {
        let output = folder.path().join("refused.mp4");
        test_input("test://ball", &output, &encoding).map(drop).unwrap_err().to_string()
    };
    assert!(refused(Encoding { preset: Some("warp".into()), ..Encoding::default() }).contains("veryfast"));
    assert!(refused(Encoding { crf: Some(99), ..Encoding::default() }).contains("99"));
    assert!(refused(Encoding { encoder: Some("nosuchenc".into()), ..Encoding::default() }).contains("nosuchenc"));
    assert!(refused(Encoding { encoder: Some("vp8enc".into()), ..Encoding::default() }).contains("H.264"));
    assert!(!folder.path().join(".refused.mp4.part").exists());
    let listed = output::encoders();
    assert_eq!(listed.iter().filter(|e| e.chosen).count(), 1, "{listed:?}");
}
