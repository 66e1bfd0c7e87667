//! Streams served over RTSP on the loopback, with ffmpeg, GStreamer and plain RTSP requests as the monitors.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use oodstream::output::publish::{PublishOptions, ServeOptions, Servers};
use oodstream::output::{Encoding, publish};
use support::live::*;

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
    for transport in ["tcp", "udp"] {
        let seen = Arc::new(AtomicU64::new(0));
        let pipeline = format!(
            "rtspsrc location={url} protocols={transport} latency=0 ! rtph264depay ! h264parse ! avdec_h264 ! fakesink \
             name=end sync=false"
        );
        let client = gst::parse::launch(&pipeline).unwrap().downcast::<gst::Pipeline>().unwrap();
        let count = Arc::clone(&seen);
        let end = client.by_name("end").unwrap().static_pad("sink").unwrap();
        end.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            gst::PadProbeReturn::Ok
        });
        client.set_state(gst::State::Playing).unwrap();
        until("GStreamer as the client shows it", || seen.load(Ordering::SeqCst) >= 10);
        client.set_state(gst::State::Null).unwrap();
    }
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
fn before_the_first_picture_clients_wait_and_two_streams_share_a_port() {
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
    let servers = Servers::new(&ServeOptions { users: Some(users.into()), ..ServeOptions::default() });
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
        certificate: Some(certificate.into()),
        key: Some(key.into()),
        ..ServeOptions::default()
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
    // Without TLS there is no answer.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.set_read_timeout(Some(WAIT)).unwrap();
    plain.write_all(format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"RTSP/"), "{}", String::from_utf8_lossy(&answer));
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
    let options = ServeOptions { users: Some(Path::new("no/such/file").into()), ..none.clone() };
    let error = refused(&[target(format!("rtsp://127.0.0.1:{}/x", free_port()))], &options);
    assert!(error.to_string().contains("users: no/such/file cannot be read"), "{error}");
    let twice = target("hls:x");
    assert_eq!(refused(&[twice.clone(), twice], &none).kind(), oodstream::ErrorKind::Usage);
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
    let watching = [(); 2].map(|()| Monitor::start(&url, "tcp"));
    let stopped = [Monitor::start(&url, "tcp"), Monitor::start(&url, "udp")];
    let killed = Monitor::start(&url, "tcp");
    for monitor in watching.iter().chain([&killed]).chain(&stopped) {
        monitor.sees(5);
    }
    stopped.iter().for_each(|monitor| monitor.signal("-STOP"));
    killed.signal("-KILL");
    let before = watching.each_ref().map(|monitor| (feeder.written.load(Ordering::SeqCst), monitor.frames()));
    let mut written = 0;
    for (monitor, (written_before, seen_before)) in watching.iter().zip(before) {
        monitor.sees(200);
        written = feeder.written.load(Ordering::SeqCst) - written_before;
        let seen = monitor.frames() - seen_before;
        println!("{seen} of {written} frames seen beside stopped monitors");
        assert!(seen * 10 >= written * 8, "{seen} of {written}");
    }
    let dropped = feeder.statuses[0].dropped.load(Ordering::SeqCst);
    assert!(dropped * 10 <= written, "{dropped} dropped for all");
    until("the killed one is gone", || feeder.clients(0) <= 4);
    stopped.iter().for_each(|monitor| monitor.signal("-CONT"));
    drop(stopped);
    watching.iter().for_each(|monitor| monitor.sees(10));
    feeder.finish().unwrap();
}

#[test]
#[ignore = "takes a minute and a half"]
fn a_monitor_over_udp_that_vanishes_is_closed() {
    let _alone = alone();
    let port = free_port();
    let feeder = Feeder::serve(&format!("rtsp://127.0.0.1:{port}/x"), BALL);
    until_served(port, "x", "");
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [rtp, rtcp] = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
    // As one without power: no reports, no requests, and no end of its connection.
    let silent = Rtsp::play_over(port, "x", &format!("RTP/AVP;unicast;client_port={rtp}-{rtcp}"));
    until("it counts", || feeder.clients(0) == 1);
    let start = Instant::now();
    while feeder.clients(0) > 0 {
        assert!(start.elapsed() < Duration::from_secs(150), "its connection is never closed");
        feeder.go_on(5);
    }
    println!("closed after {:.0} s", start.elapsed().as_secs_f64());
    drop(silent);
    feeder.finish().unwrap();
}

/// A picture as it comes over RTP: its time, in ticks of 90 kHz, and the kinds of its NAL units (RFC 6184).
struct Unit {
    time: u32,
    kinds: Vec<u8>,
}

impl Unit {
    fn is_key(&self) -> bool {
        self.kinds.contains(&5)
    }
}

/// The next picture that is whole.
fn unit(client: &mut Rtsp) -> Unit {
    let (mut time, mut kinds) = (0, Vec::new());
    loop {
        let packet = client.packet();
        // Reports come between.
        if packet[1] & 0x7f != 96 {
            continue;
        }
        time = u32::from_be_bytes(packet[4..8].try_into().unwrap()).max(time);
        let payload = &packet[12..];
        match payload[0] & 31 {
            // Several in one packet, each with its length.
            24 => {
                let mut rest = &payload[1..];
                while rest.len() > 2 {
                    kinds.push(rest[2] & 31);
                    rest = &rest[2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]))..];
                }
            }
            // Part of one: its start says which.
            28 if payload[1] & 0x80 != 0 => kinds.push(payload[1] & 31),
            28 => {}
            kind => kinds.push(kind),
        }
        // The last packet of a picture.
        if packet[1] & 0x80 != 0 {
            return Unit { time, kinds };
        }
    }
}

#[test]
fn pictures_are_in_order_key_frames_have_their_parameters_and_new_clients_get_one() {
    let _alone = alone();
    let port = free_port();
    let feeder = Feeder::serve(&format!("rtsp://127.0.0.1:{port}/x"), BALL);
    until_served(port, "x", "");
    let mut first = Rtsp::play(port, "x");
    let mut units = vec![unit(&mut first)];
    assert!(units[0].is_key(), "it begins with a key frame: {:?}", units[0].kinds);
    // Without requests there is one in two seconds.
    let distance = 2 * 90_000;
    until("new clients get a key frame", || {
        let mut other = Rtsp::play(port, "x");
        assert!(unit(&mut other).is_key(), "a client begins with a key frame");
        for _ in 0..5 {
            units.push(unit(&mut first));
        }
        let keys = units.iter().filter(|unit| unit.is_key()).count() as u32;
        keys > 3 + (units.last().unwrap().time - units[0].time) / distance
    });
    for pair in units.windows(2) {
        assert!(pair[1].time > pair[0].time, "in the order in which they are shown, without B-frames");
    }
    for unit in units.iter().filter(|unit| unit.is_key()) {
        let picture = unit.kinds.iter().position(|kind| *kind == 5).unwrap();
        let parameters = &unit.kinds[..picture];
        assert!(parameters.contains(&7) && parameters.contains(&8), "SPS and PPS in band: {:?}", unit.kinds);
    }
    feeder.finish().unwrap();
}
