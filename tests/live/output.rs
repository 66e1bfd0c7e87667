//! HLS and recordings: playable, bounded, and no trouble to each other.

use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Instant;

use oodstream::output;
use oodstream::output::publish::{HlsOptions, PublishOptions, RecordOptions, ServeOptions, Servers};
use oodstream::output::{Encoding, publish};
use support::live::*;

const BALL: &str = "test://ball?width=160&height=90&frames=50";

fn servers() -> Servers {
    Servers::new(&ServeOptions::default())
}

#[test]
fn hls_is_playable_and_bounded() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let www = folder.path().join("made/for/it");
    let hls = HlsOptions { segment_s: 1, segments: 3 };
    let options = PublishOptions { hls, ..PublishOptions::default() };
    let feeder = Feeder::start(&[target(format!("hls:{}", www.display()))], &servers(), &options, BALL).unwrap();
    let playlist = www.join("live.m3u8");
    let list = || fs::read_to_string(&playlist).unwrap_or_default();
    until("seven segments", || list().contains("live-00000006.ts"));
    fs::write(www.join("live-x.ts"), "not ours").unwrap();
    let files = names(&www);
    let segments = files.iter().filter(|name| name.contains("live-0")).count();
    assert!((3..=6).contains(&segments), "{files:?}");
    assert!(feeder.is_up(0));
    let text = list();
    assert_eq!(text.matches("#EXTINF").count(), 3, "{text}");
    assert!(text.starts_with("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n"), "{text}");
    assert!(!text.contains("DISCONTINUITY\n"), "{text}");
    for name in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(decoded(&www.join(name)) >= 20, "{name} begins with a key frame and is whole");
    }
    feeder.finish().unwrap();
    assert!(list().ends_with("#EXT-X-ENDLIST\n"));
    let shown = decoded(&playlist);
    assert!((50..=100).contains(&shown), "{shown} frames in the playlist");

    // A second run goes on with the numbers and leaves what is not ours.
    let first = list().lines().rfind(|line| line.ends_with(".ts")).unwrap().to_owned();
    let feeder = Feeder::start(&[target(format!("hls:{}", www.display()))], &servers(), &options, BALL).unwrap();
    until("a new playlist", || list().contains(".ts"));
    let second = list().lines().find(|line| line.ends_with(".ts")).unwrap().to_owned();
    assert!(second > first, "{second} after {first}");
    feeder.abort();
    assert!(www.join("live-x.ts").exists() && !www.join(first).exists());
}

#[test]
fn recordings_in_segments_keep_to_their_budget() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // The oldest that match exactly go first; the others look like it and do not.
    let foreign = ["cam-20200101-000000.mkv", "cam-20200101-000000.mp4.txt", "mycam-20200101-000000.mp4", "notes.txt"];
    let ours = ["cam-20200101-000000.mp4", "cam-20200101-000000-1.mp4"];
    for name in foreign.iter().chain(&ours) {
        fs::write(at(name), vec![0; 900_000]).unwrap();
    }
    let record = RecordOptions { segment_s: 2, segment_mb: None, budget_mb: Some(1) };
    let encoding = Encoding { bitrate_kbps: Some(1500), ..Encoding::default() };
    let options = PublishOptions { encoding, record, ..PublishOptions::default() };
    let path = at("cam-%Y%m%d-%H%M%S.mp4");
    let noise = "test://snow?width=160&height=90&frames=50";
    let feeder = Feeder::start(&[target(path.to_str().unwrap())], &servers(), &options, noise).unwrap();
    let finished = || {
        let names = names(folder.path());
        names
            .into_iter()
            .filter(|name| name.starts_with("cam-2") && name.ends_with(".mp4") && !name.contains("2020"))
            .collect::<Vec<_>>()
    };
    let mut seen = std::collections::BTreeSet::new();
    until("four segments", || {
        seen.extend(finished());
        seen.len() >= 4
    });
    feeder.finish().unwrap();
    let left = finished();
    println!("{} segments made, left: {left:?}", seen.len());
    assert!(left.len() < seen.len(), "the oldest are deleted");
    for name in &left {
        // The last one was ended early.
        assert!(decoded(&at(name)) >= if Some(name) == left.last() { 1 } else { 25 }, "{name}");
    }
    let bytes: u64 = left.iter().map(|name| fs::metadata(at(name)).unwrap().len()).sum();
    assert!(bytes < 1_500_000, "{bytes}");
    assert!(ours.iter().all(|name| !at(name).exists()));
    for name in foreign {
        assert_eq!(fs::metadata(at(name)).unwrap().len(), 900_000, "{name}");
    }
    assert!(names(folder.path()).iter().all(|name| !name.ends_with(".part")));
}

#[test]
fn segments_end_at_their_size_and_with_a_change_of_the_picture() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("%Y%m%d-%H%M%S.mkv");
    let record = RecordOptions { segment_s: 3600, segment_mb: Some(1), budget_mb: None };
    let encoding = Encoding { bitrate_kbps: Some(8000), ..Encoding::default() };
    let options = PublishOptions { encoding, record, ..PublishOptions::default() };
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let targets = [target(path.to_str().unwrap()), target(&url)];
    // Four seconds of about a megabyte each, then two of another size.
    let both = "test://snow?width=320&height=180&frames=100 test://ball?width=160&height=120&frames=50";
    let feeder = Feeder::start(&targets, &servers(), &options, both).unwrap();
    until_served(port, "x", "");
    let monitor = Monitor::start(&url, "tcp");
    feeder.go_on(200);
    monitor.sees(10);
    feeder.finish().unwrap();
    let files = names(folder.path());
    let shape = |name: &String| {
        let path = folder.path().join(name);
        assert!(decoded(&path) > 0, "{name}");
        let arguments = ["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width", "-of", "csv=p=0"];
        let probed = Command::new("ffprobe").args(arguments).arg(path).output().unwrap();
        String::from_utf8_lossy(&probed.stdout).trim().to_owned()
    };
    let mut widths: Vec<_> = files.iter().map(shape).collect();
    println!("{files:?}: {widths:?}");
    assert!(files.len() >= 5 && files.iter().all(|name| name.ends_with(".mkv")), "{files:?}");
    widths.dedup();
    assert!(widths.starts_with(&["320".into(), "160".into(), "320".into()]), "{widths:?}");
    let sizes = files.iter().map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
    assert!(sizes.max().unwrap() < 4_000_000);
}

#[test]
fn one_file_is_finished_or_not_there() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let options = PublishOptions::default();
    for name in ["a.mp4", "b.mkv"] {
        let feeder = Feeder::start(&[target(at(name).to_str().unwrap())], &servers(), &options, BALL).unwrap();
        feeder.go_on(30);
        until("it works", || feeder.is_up(0));
        assert!(!at(name).exists());
        let written = feeder.finish().unwrap();
        let dropped = written.frames - decoded(&at(name));
        assert_eq!(dropped, 0, "{name}: every frame is in it");
    }
    let error = refused(&[target(at("a.mp4").to_str().unwrap())], &ServeOptions::default());
    assert!(error.to_string().contains("exists already"), "{error}");
    let feeder = Feeder::start(&[target(at("c.mp4").to_str().unwrap())], &servers(), &options, BALL).unwrap();
    feeder.go_on(30);
    feeder.abort();
    // Without a frame there is no file.
    publish::open(&[target(at("d.mp4").to_str().unwrap())], &servers(), &options).unwrap().0.finish(&|| false).unwrap();
    assert_eq!(names(folder.path()), ["a.mp4", "b.mkv"]);
}

#[test]
fn software_encoders_do_live_streams() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let there: Vec<_> = output::encoders().into_iter().map(|encoder| encoder.name).collect();
    for name in ["x264enc", "x265enc", "openh264enc"].into_iter().filter(|name| there.iter().any(|n| n == name)) {
        let path = folder.path().join(format!("{name}.mp4"));
        let port = free_port();
        let url = format!("rtsp://127.0.0.1:{port}/x");
        let encoding = Encoding { encoder: Some(name.into()), ..Encoding::default() };
        let options = PublishOptions { encoding, ..PublishOptions::default() };
        let targets = [target(path.to_str().unwrap()), target(&url)];
        let feeder = Feeder::start(&targets, &servers(), &options, BALL).unwrap();
        until_served(port, "x", "");
        Monitor::start(&url, "tcp").sees(10);
        let written = feeder.finish().unwrap();
        assert_eq!(written.encoder, name);
        let (recorded, frames) = (decoded(&path), written.frames);
        println!("{name}: {recorded} of {frames}");
        assert!(recorded + 3 >= frames, "{name}: {recorded} of {frames}");
    }
}

/// Not a test: records until it is killed, for the test below.
#[test]
#[ignore = "the other side of a test"]
fn recorder_to_kill() {
    let Some(path) = std::env::var_os("OODSTREAM_RECORD_TO") else { return };
    media_init();
    let feeder =
        Feeder::start(&[target(path.to_str().unwrap())], &servers(), &PublishOptions::default(), BALL).unwrap();
    feeder.go_on(u64::MAX / 2);
}

fn media_init() {
    oodstream::gst::init().unwrap();
}

#[test]
fn what_a_killed_process_recorded_plays_and_is_taken_over() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("k-%Y%m%d-%H%M%S.mp4");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "output::recorder_to_kill", "--ignored"])
        .env("OODSTREAM_RECORD_TO", &template)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let part = || names(folder.path()).into_iter().find(|name| name.ends_with(".part"));
    let size = |name: &str| fs::metadata(folder.path().join(name)).map_or(0, |meta| meta.len());
    let first = Instant::now();
    // Some fragments of a second each.
    until("something is written", || part().is_some_and(|name| decoded(&folder.path().join(name)) >= 50));
    println!("after {:?}: {:?}", first.elapsed(), part().map(|name| size(&name)));
    child.kill().unwrap();
    child.wait().unwrap();
    let part = part().unwrap();
    assert!(decoded(&folder.path().join(&part)) >= 50);
    // The next run gives it its name.
    let (writer, _) =
        publish::open(&[target(template.to_str().unwrap())], &servers(), &PublishOptions::default()).unwrap();
    let name = part.trim_start_matches('.').trim_end_matches(".part").to_owned();
    assert_eq!(names(folder.path()), std::slice::from_ref(&name));
    assert!(decoded(&folder.path().join(name)) >= 50);
    writer.abort();
}

#[test]
fn a_place_that_fails_disturbs_no_other_and_comes_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (www, recordings) = (folder.path().join("www"), folder.path().join("rec"));
    fs::create_dir(&recordings).unwrap();
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let targets = [
        target(&url),
        target(format!("hls:{}", www.display())),
        target(recordings.join("%Y%m%d-%H%M%S.mp4").to_str().unwrap()),
    ];
    let options = PublishOptions {
        hls: HlsOptions { segment_s: 1, segments: 3 },
        record: RecordOptions { segment_s: 1, ..RecordOptions::default() },
        ..PublishOptions::default()
    };
    let feeder = Feeder::start(&targets, &servers(), &options, BALL).unwrap();
    until("all are up", || (0..3).all(|output| feeder.is_up(output)));
    let monitor = Monitor::start(&url, "tcp");
    monitor.sees(5);
    // The folders go, and files take their places.
    for folder in [&www, &recordings] {
        fs::remove_dir_all(folder).or_else(|_| fs::remove_dir_all(folder)).unwrap();
        fs::write(folder, "in the way").unwrap();
    }
    until("both are down", || (1..3).all(|output| !feeder.is_up(output)));
    monitor.sees(25);
    assert!(feeder.is_up(0));
    for folder in [&www, &recordings] {
        fs::remove_file(folder).unwrap();
        fs::create_dir(folder).unwrap();
    }
    until("both are back", || (1..3).all(|output| feeder.is_up(output)));
    let mp4 = || names(&recordings).into_iter().find(|name| name.ends_with(".mp4") && !name.starts_with('.'));
    until("it records again", || mp4().is_some());
    until("the playlist is back", || www.join("live.m3u8").exists());
    assert!(decoded(&recordings.join(mp4().unwrap())) > 10);
    for output in 1..3 {
        assert!(feeder.statuses[output].restarts.load(Ordering::SeqCst) >= 1);
        assert!(feeder.statuses[output].dropped.load(Ordering::SeqCst) >= 1);
    }
    assert_eq!(feeder.statuses[0].restarts.load(Ordering::SeqCst), 0);
    monitor.sees(5);
    // What the recording lacks is not passed over.
    let error = feeder.finish().unwrap_err().to_string();
    assert!(error.contains("parts are missing"), "{error}");
}

#[test]
fn a_full_disk_stops_the_recording_until_there_is_room() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // A small file system needs leave to mount one.
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
    if !Command::new("mount").args(mount).arg(&disk).output().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: no leave to mount a small file system");
        return;
    }
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let targets = [target(&url), target(disk.join("%Y%m%d-%H%M%S.mp4").to_str().unwrap())];
    let record = RecordOptions { segment_s: 2, ..RecordOptions::default() };
    let encoding = Encoding { bitrate_kbps: Some(3000), ..Encoding::default() };
    let options = PublishOptions { encoding, record, ..PublishOptions::default() };
    let noise = "test://snow?width=160&height=90&frames=50";
    let feeder = Feeder::start(&targets, &servers(), &options, noise).unwrap();
    until_served(port, "x", "");
    let monitor = Monitor::start(&url, "tcp");
    until("it records", || feeder.is_up(1));
    until("the disk is full", || feeder.statuses[1].restarts.load(Ordering::SeqCst) >= 2 && !feeder.is_up(1));
    monitor.sees(10);
    for name in names(&disk) {
        fs::remove_file(disk.join(name)).unwrap();
    }
    until("it records again", || names(&disk).iter().any(|name| decoded(&disk.join(name)) > 0));
    feeder.abort();
    drop(monitor);
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
}
