//! Live outputs on the loopback, with ffmpeg, ffprobe and plain RTSP requests as the monitors.

mod live;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use live::*;
use oodstream::media::publish::{HlsOptions, PublishOptions, RecordOptions, ServeOptions, Servers};
use oodstream::media::{Encoding, publish};
use rtsp::prelude::*;

const BALL: &str = "test://ball?width=160&height=90&frames=50";

fn servers() -> Servers {
    Servers::new(&ServeOptions::default())
}

#[test]
fn monitors_over_tcp_and_udp_at_once() {
    let _alone = alone();
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/road/front");
    // An odd size, as cameras do not have but crops do.
    let feeder = Feeder::serve(&url, "test://ball?width=161&height=91&frames=50");
    until_served(port, "road/front", "");
    let monitors = [Monitor::start(&url, "tcp"), Monitor::start(&url, "udp"), Monitor::start(&url, "tcp")];
    for monitor in &monitors {
        monitor.sees(30);
    }
    assert_eq!(feeder.clients(0), 3);
    for unknown in ["road", "road/frontal", "other"] {
        let url = format!("rtsp://127.0.0.1:{port}/{unknown}");
        assert_eq!(Rtsp::connect(port).ask("DESCRIBE", &url, "").status, 404, "{unknown}");
    }
    drop(monitors);
    until("the clients are gone", || feeder.clients(0) == 0);
    // Unwatched for a while, then again, from a key frame.
    feeder.go_on(10);
    Monitor::start(&url, "tcp").sees(10);
    let start = Instant::now();
    let written = feeder.finish().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(written.path.to_str().unwrap(), url);
    assert!(written.frames > 40 && !written.encoder.is_empty());
    TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn before_the_first_picture_clients_are_told_to_wait_and_two_streams_share_a_port() {
    let _alone = alone();
    let port = free_port();
    let servers = servers();
    let urls = ["a", "b"].map(|name| format!("rtsp://127.0.0.1:{port}/{name}"));
    let options = PublishOptions::default();
    let (mut first, _) = publish::open(&[target(&urls[0])], &servers, &options).unwrap();
    let second = Feeder::start(&[target(&urls[1])], &servers, &options, BALL).unwrap();
    until_served(port, "b", "");
    assert_eq!(Rtsp::connect(port).ask("DESCRIBE", &urls[0], "").status, 503);
    let taken = publish::open(&[target(&urls[1])], &servers, &options).map(drop).unwrap_err();
    assert!(taken.to_string().contains("another stream"), "{taken}");
    for frame in frames("test://ball?width=64&height=48&frames=3") {
        assert!(first.write(frame, Duration::ZERO).unwrap().is_none());
    }
    let monitor = Monitor::start(&urls[1], "tcp");
    monitor.sees(5);
    // One ends, the other goes on.
    first.finish(&|| false).unwrap();
    monitor.sees(10);
    assert_eq!(Rtsp::connect(port).ask("DESCRIBE", &urls[0], "").status, 404);
    second.finish().unwrap();
}

#[test]
fn passwords_are_asked_for() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    fs::write(&users, "# monitors\nann:open sesame\nbob:b0b\n").unwrap();
    let port = free_port();
    let servers = Servers::new(&ServeOptions { users: Some(users), ..ServeOptions::default() });
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let feeder = Feeder::start(&[target(&url)], &servers, &PublishOptions::default(), BALL).unwrap();
    // `ann:open sesame` in base 64.
    let basic = "Authorization: Basic YW5uOm9wZW4gc2VzYW1l\r\n";
    until_served(port, "x", basic);
    let refused = Rtsp::connect(port).ask("DESCRIBE", &url, "");
    assert_eq!(refused.status, 401);
    assert!(refused.headers.contains("Basic") && refused.headers.contains("Digest"), "{}", refused.headers);
    let wrong = "Authorization: Basic YW5uOndyb25n\r\n";
    assert_eq!(Rtsp::connect(port).ask("DESCRIBE", &url, wrong).status, 401);
    // ffmpeg takes digest where it is offered.
    let with = |who: &str| url.replace("://", &format!("://{who}@"));
    Monitor::start(&with("bob:b0b"), "tcp").sees(10);
    let failed = Command::new("ffmpeg")
        .args(["-nostdin", "-rtsp_transport", "tcp", "-i", &with("bob:wrong"), "-f", "null", "-"])
        .output()
        .unwrap();
    assert!(!failed.status.success() && String::from_utf8_lossy(&failed.stderr).contains("401"));
    feeder.finish().unwrap();
}

fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().expect("openssl runs");
    assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

/// A certificate and its key.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    openssl(
        folder,
        &format!("req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout {name}.key -out {name}.pem"),
    );
    (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")))
}

/// One that was valid on a day long ago.
fn expired_certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let settings = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
        policy=p\n[p]\ncommonName=supplied\n";
    fs::write(folder.join("ca.conf"), settings).unwrap();
    fs::write(folder.join("index"), "").unwrap();
    fs::write(folder.join("serial"), "01\n").unwrap();
    openssl(folder, "req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout old.key -out old.csr");
    openssl(
        folder,
        "ca -batch -selfsign -config ca.conf -keyfile old.key -in old.csr -out old.pem -startdate 200101000000Z \
         -enddate 200102000000Z -notext",
    );
    (folder.join("old.pem"), folder.join("old.key"))
}

#[test]
fn encrypted_streams() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (good, key) = certificate(folder.path(), "good");
    let (_, other_key) = certificate(folder.path(), "other");
    let (old, old_key) = expired_certificate(folder.path());
    let none = folder.path().join("none.pem");
    let junk = folder.path().join("junk.pem");
    fs::write(&junk, "hello").unwrap();
    let port = free_port();
    let url = format!("rtsps://127.0.0.1:{port}/x");
    let options = |certificate: &Path, key: &Path| ServeOptions {
        users: None,
        certificate: Some(certificate.to_path_buf()),
        key: Some(key.to_path_buf()),
    };
    let says = |options: &ServeOptions, what: &str| {
        let error = refused(&[target(&url)], options);
        assert!(error.to_string().contains(what), "{what}: {error}");
    };
    says(&ServeOptions::default(), "needs a certificate");
    says(&options(&none, &key), "cannot be read");
    says(&options(&junk, &key), "PEM");
    says(&options(&good, &other_key), "does not belong");
    says(&options(&old, &old_key), "expired");

    let servers = Servers::new(&options(&good, &key));
    let feeder = Feeder::start(&[target(&url)], &servers, &PublishOptions::default(), BALL).unwrap();
    let plain = target(url.replace("rtsps", "rtsp"));
    let both = publish::open(&[plain], &servers, &PublishOptions::default()).map(drop).unwrap_err();
    assert!(both.to_string().contains("with and without TLS"), "{both}");
    feeder.go_on(10);
    Monitor::start(&url, "tcp").sees(10);
    feeder.finish().unwrap();
}

#[test]
fn what_cannot_be_served() {
    let _alone = alone();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let none = ServeOptions::default();
    let error = refused(&[target(format!("rtsp://127.0.0.1:{port}/x"))], &none);
    assert!(error.to_string().contains(&format!("port {port} is in use")), "{error}");
    let error = refused(&[target(format!("rtsp://192.0.2.1:{port}/x"))], &none);
    assert!(error.to_string().contains("not an address of this machine"), "{error}");
    let options = ServeOptions { users: Some("no/such/file".into()), ..none.clone() };
    let error = refused(&[target(format!("rtsp://127.0.0.1:{}/x", free_port()))], &options);
    assert!(error.to_string().contains("users: no/such/file cannot be read"), "{error}");
    let twice = target("hls:x");
    assert_eq!(refused(&[twice.clone(), twice], &none).exit_code(), 2);
    if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
        assert!(refused(&[target("display:")], &none).to_string().contains("no display"));
    }
}

#[test]
fn stopped_and_killed_monitors_disturb_nobody() {
    let _alone = alone();
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/x");
    // Enough bits to fill what the system holds for a connection that is not read.
    let encoding = Encoding { bitrate_kbps: Some(12_000), ..Encoding::default() };
    let options = PublishOptions { encoding, ..PublishOptions::default() };
    let noise = "test://snow?width=320&height=180&frames=50";
    let feeder = Feeder::start(&[target(&url)], &servers(), &options, noise).unwrap();
    until_served(port, "x", "");
    let watching = Monitor::start(&url, "tcp");
    let stopped = [Monitor::start(&url, "tcp"), Monitor::start(&url, "udp")];
    let killed = Monitor::start(&url, "tcp");
    for monitor in [&watching, &killed].into_iter().chain(&stopped) {
        monitor.sees(5);
    }
    stopped.iter().for_each(|monitor| monitor.signal("-STOP"));
    killed.signal("-KILL");
    let (written, seen) = (feeder.written.load(Ordering::SeqCst), watching.frames());
    watching.sees(200);
    let (written, seen) = (feeder.written.load(Ordering::SeqCst) - written, watching.frames() - seen);
    println!("{seen} of {written} frames seen beside stopped monitors");
    assert!(seen * 10 >= written * 8, "{seen} of {written}");
    let dropped = feeder.statuses[0].dropped.load(Ordering::SeqCst);
    assert!(dropped * 10 <= written, "{dropped} dropped for all");
    until("the killed one is gone", || feeder.clients(0) <= 3);
    stopped.iter().for_each(|monitor| monitor.signal("-CONT"));
    drop(stopped);
    watching.sees(10);
    feeder.finish().unwrap();
}

/// Connects and goes away in all the ways there are.
fn come_and_go(port: u16, round: usize) {
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let mut client = Rtsp::play(port, "x");
    for _ in 0..5 {
        client.packet();
    }
    if round.is_multiple_of(2) {
        assert_eq!(client.ask("TEARDOWN", &url, "").status, 200);
    }
}

#[test]
fn coming_and_going_leaves_nothing_behind() {
    let _alone = alone();
    let port = free_port();
    let feeder = Feeder::serve(&format!("rtsp://127.0.0.1:{port}/x"), BALL);
    until_served(port, "x", "");
    let rounds = |count| {
        for round in 0..count {
            come_and_go(port, round);
        }
        until("all are gone", || feeder.clients(0) == 0);
    };
    rounds(6);
    let settled = |limit: usize| until("descriptors are closed", || descriptors() <= limit);
    // What stays open for good (thread pools) is there by now.
    feeder.go_on(25);
    let before = descriptors();
    rounds(20);
    settled(before + 4);
    println!("{before} descriptors before, {} after", descriptors());
    feeder.finish().unwrap();
}

#[test]
#[ignore = "takes minutes; prints figures"]
fn two_hundred_connects() {
    let _alone = alone();
    let port = free_port();
    let feeder = Feeder::serve(&format!("rtsp://127.0.0.1:{port}/x"), BALL);
    until_served(port, "x", "");
    for round in 0..=200 {
        if round % 20 == 0 {
            until("all are gone", || feeder.clients(0) == 0);
            feeder.go_on(25);
            println!("{round} connects: {} kB resident, {} descriptors", resident_kb(), descriptors());
        }
        come_and_go(port, round);
    }
    feeder.finish().unwrap();
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
    oodstream::media::init().unwrap();
}

#[test]
fn what_a_killed_process_recorded_plays_and_is_taken_over() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("k-%Y%m%d-%H%M%S.mp4");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recorder_to_kill", "--ignored"])
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
    feeder.finish().unwrap();
}

/// An RTSP server that takes what is pushed to `/in`, on a thread of its own.
struct Receiver {
    server: rtsp::RTSPServer,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    listen: Option<glib::Source>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    fn start(port: u16, user: Option<(&str, &str)>, packets: &Arc<AtomicU64>) -> Self {
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&port.to_string());
        let factory = rtsp::RTSPMediaFactory::new();
        factory.set_launch("( rtph264depay name=depay0 ! h264parse ! fakesink name=end sync=false async=false )");
        factory.set_transport_mode(rtsp::RTSPTransportMode::RECORD);
        let role = gst::Structure::builder("sender")
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
            .build();
        factory.add_role_from_structure(&role);
        if let Some((user, password)) = user {
            let auth = rtsp::RTSPAuth::new();
            let token = rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "sender").build();
            auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
            server.set_auth(Some(&auth));
        }
        let packets = Arc::clone(packets);
        factory.connect_media_configure(move |_, media| {
            let end = media.element().downcast::<gst::Bin>().unwrap().by_name("end").unwrap();
            let packets = Arc::clone(&packets);
            end.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                packets.fetch_add(1, Ordering::SeqCst);
                gst::PadProbeReturn::Ok
            });
        });
        server.mount_points().unwrap().add_factory("/in", factory);
        let context = glib::MainContext::new();
        let id = server.attach(Some(&context)).unwrap();
        let listen = context.find_source_by_id(&id);
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let run = main_loop.clone();
        let thread = Some(std::thread::spawn(move || run.run()));
        Self { server, context, main_loop, listen, thread }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let (server, main_loop, listen) = (self.server.clone(), self.main_loop.clone(), self.listen.take());
        self.context.invoke(move || {
            listen.unwrap().destroy();
            server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
            main_loop.quit();
        });
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn pushed_to_a_server_that_goes_and_comes_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let packets = Arc::new(AtomicU64::new(0));
    let file = folder.path().join("credentials");
    fs::write(&file, "# for the relay\nme:se cret\n").unwrap();
    let options = PublishOptions { push_credentials: Some(file), ..PublishOptions::default() };
    let out = folder.path().join("out.mp4");
    // The server is not there yet; one that takes connections and says nothing never will be.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    let targets = [
        target(format!("rtsp+push://127.0.0.1:{port}/in")),
        target(format!("rtsp+push://me:se%20cret@127.0.0.1:{mute_port}/in")),
        target(out.to_str().unwrap()),
    ];
    let feeder = Feeder::start(&targets, &servers(), &options, BALL).unwrap();
    until("a first try failed", || feeder.statuses[0].restarts.load(Ordering::SeqCst) >= 1);
    let receiver = Receiver::start(port, Some(("me", "se cret")), &packets);
    let arrive = |what: &str| {
        let from = packets.load(Ordering::SeqCst);
        until(what, || packets.load(Ordering::SeqCst) >= from + 20);
        until("it is up", || feeder.is_up(0));
    };
    arrive("packets arrive");
    drop(receiver);
    until("it is down", || !feeder.is_up(0));
    let receiver = Receiver::start(port, Some(("me", "se cret")), &packets);
    arrive("packets arrive again");
    assert!(!feeder.is_up(1), "nobody took the stream there");
    for status in &feeder.statuses {
        assert!(!status.name.contains("cret"), "{}", status.name);
    }
    let start = Instant::now();
    // The silent one holds up neither the end of the others nor the program.
    let (frames, ended) = (feeder.written.load(Ordering::SeqCst), feeder.finish());
    println!("{:?} after {:?}", ended.as_ref().map(|_| ()), start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(decoded(&out) >= frames - 5);
    drop(receiver);
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

#[test]
#[ignore = "takes a minute; prints figures"]
fn memory_beside_stopped_monitors() {
    let _alone = alone();
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let encoding = Encoding { bitrate_kbps: Some(12_000), ..Encoding::default() };
    let options = PublishOptions { encoding, ..PublishOptions::default() };
    let noise = "test://snow?width=320&height=180&frames=50";
    let feeder = Feeder::start(&[target(&url)], &servers(), &options, noise).unwrap();
    until_served(port, "x", "");
    let monitors = [(); 3].map(|()| Monitor::start(&url, "tcp"));
    monitors.iter().for_each(|monitor| monitor.sees(5));
    monitors[..2].iter().for_each(|monitor| monitor.signal("-STOP"));
    for _ in 0..12 {
        println!("{} kB resident, {} clients, {} frames", resident_kb(), feeder.clients(0), monitors[2].frames());
        feeder.go_on(100);
    }
    monitors[..2].iter().for_each(|monitor| monitor.signal("-CONT"));
    feeder.finish().unwrap();
}

/// Not a test: shows a window where `DISPLAY` says, for the test below.
#[test]
#[ignore = "the other side of a test"]
fn window_to_show() {
    if std::env::var_os("DISPLAY").is_none() {
        return;
    }
    media_init();
    let feeder = Feeder::start(&[target("display:")], &servers(), &PublishOptions::default(), BALL).unwrap();
    until("the window is up", || feeder.is_up(0));
    feeder.go_on(50);
    assert!(feeder.is_up(0) && feeder.statuses[0].restarts.load(Ordering::SeqCst) == 0);
    assert_eq!(feeder.finish().unwrap().path.to_str().unwrap(), "display:");
}

#[test]
fn a_window_on_a_display() {
    let _alone = alone();
    let (read, write) = std::io::pipe().unwrap();
    let xvfb = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"])
        .stdout(write)
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(mut xvfb) = xvfb else {
        eprintln!("skipped: there is no Xvfb to show a window on");
        return;
    };
    let mut number = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(read), &mut number).unwrap();
    let shown = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "window_to_show", "--ignored"])
        .env("DISPLAY", format!(":{}", number.trim()))
        .output();
    xvfb.kill().unwrap();
    xvfb.wait().unwrap();
    let shown = shown.unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stdout));
}
