//! Cameras that do it their own way, and peers that mean harm: what is shown, what is said, and what stays bounded.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use oodstream::input::live::{SourceOptions, Transport};
use oodstream::input::{FrameReader, LiveInput, Read, Signal, open_live};
use oodstream::output::publish::{self, PublishOptions, ServeOptions, Servers, Target};
use support::common;
use support::pretended::{Camera, Faults, h264, h265};

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn open(address: &str, transport: Transport) -> Box<dyn FrameReader> {
    let options = SourceOptions { transport, stall_s: 2.0, ..SourceOptions::default() };
    open_live(&LiveInput::parse(address).unwrap().unwrap(), &options, 0).unwrap()
}

/// Reads for as long as `seconds`, or until `enough` pictures came: how many, when the first, and the reasons of losses.
fn watch(reader: &mut dyn FrameReader, seconds: u64, enough: usize) -> (usize, Option<Duration>, Vec<String>) {
    let start = Instant::now();
    let (mut frames, mut first, mut reasons) = (0, None, Vec::new());
    while start.elapsed() < Duration::from_secs(seconds) && frames < enough {
        match reader.read(Duration::from_millis(50)).unwrap() {
            Read::Frame(frame) if frame.lost.is_none() => {
                frames += 1;
                first.get_or_insert(start.elapsed());
            }
            Read::Signal(Signal::Lost { reason }) => reasons.push(reason),
            _ => {}
        }
    }
    (frames, first, reasons)
}

/// `count` pictures come without a loss.
#[track_caller]
fn plays(faults: Faults, transport: Transport, login: &str, count: usize) -> Camera {
    let camera = Camera::start(faults);
    let mut reader = open(&camera.address(login), transport);
    let (frames, first, reasons) = watch(reader.as_mut(), PATIENCE.as_secs(), count);
    assert!(frames >= count && reasons.is_empty(), "{frames} pictures, the first after {first:?}: {reasons:?}");
    camera
}

#[test]
fn the_first_key_frame_of_a_long_group_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 500, "keyint=500");
    plays(Faults::none(&units), Transport::Tcp, "", 50);
}

#[test]
fn h265_with_its_parameter_sets_in_the_stream_alone_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let units = h265(folder.path(), 500, "keyint=500");
    for transport in [Transport::Tcp, Transport::Auto] {
        plays(Faults { h265: true, udp: 200, ..Faults::none(&units) }, transport, "", 50);
    }
}

#[test]
fn a_burst_at_the_start_is_shown_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 500, "keyint=500");
    // As a server sends what it has kept since the last key frame.
    plays(Faults { burst: 50, ..Faults::none(&units) }, Transport::Tcp, "", 125);
}

#[test]
fn an_open_group_is_shown_from_its_middle() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 97, "keyint=24:open-gop=1:bframes=1:b-adapt=0");
    // The only IDR picture is gone; the first unit is a P-frame in front of the B-frame that is shown before it.
    let late = std::sync::Arc::new(units[11..].to_vec());
    let idr = |unit: &Vec<Vec<u8>>| unit.iter().any(|nal| nal[0] & 31 == 5);
    assert!(idr(&units[0]) && !late.iter().any(idr));
    plays(Faults { pairs: true, ..Faults::none(&late) }, Transport::Tcp, "", 40);
}

#[test]
fn a_stream_without_key_frames_is_shown_from_its_middle() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 300, "intra-refresh=1:keyint=50");
    let late = std::sync::Arc::new(units[20..].to_vec());
    plays(Faults::none(&late), Transport::Tcp, "", 40);
}

#[test]
fn udp_that_is_refused_is_given_up_for_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    for udp in [400, 404, 406, 461, 500] {
        plays(Faults { udp, ..Faults::none(&units) }, Transport::Auto, "", 5);
    }
}

#[test]
fn a_camera_at_an_ipv6_address_that_describes_ipv4_is_shown() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    for udp in [200, 461] {
        plays(Faults { ipv6: true, udp, ..Faults::none(&units) }, Transport::Auto, "", 10);
    }
}

#[test]
fn a_slow_camera_is_lost_by_the_name_of_the_key_that_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 5, "keyint=1");
    let camera = Camera::start(Faults { interval: Duration::from_secs(1), ..Faults::none(&units) });
    let input = LiveInput::parse(&camera.address("")).unwrap().unwrap();
    let with = |stall_s| {
        let options = SourceOptions { transport: Transport::Tcp, stall_s, ..SourceOptions::default() };
        let mut reader = open_live(&input, &options, 0).unwrap();
        watch(reader.as_mut(), PATIENCE.as_secs(), 3)
    };
    let (_, _, reasons) = with(0.4);
    assert!(reasons[0].contains("source.stall_s"), "{reasons:?}");
    let (frames, _, reasons) = with(5.0);
    assert!(frames == 3 && reasons.is_empty(), "{frames} {reasons:?}");
}

#[test]
fn markers_on_slices_and_new_ssrcs_change_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25:slices=4");
    let camera = Camera::start(Faults { markers: true, ssrc_every: Some(25), ..Faults::none(&units) });
    let mut reader = open(&camera.address(""), Transport::Tcp);
    let (mut means, start) = (Vec::new(), Instant::now());
    while means.len() < 75 && start.elapsed() < PATIENCE {
        match reader.read(Duration::from_millis(50)).unwrap() {
            Read::Frame(frame) => {
                assert!(frame.lost.is_none());
                let view = frame.map().unwrap();
                let luma = view.i420().y;
                // A slice that is not there is green: dark in luma, over a quarter of the picture.
                let last = &luma.data[luma.data.len() * 7 / 8..];
                means.push(last.iter().map(|y| f64::from(*y)).sum::<f64>() / last.len() as f64);
            }
            Read::Signal(Signal::Lost { reason }) => panic!("{reason}"),
            _ => {}
        }
    }
    assert_eq!(means.len(), 75);
    let rate = means.len() as f64 / start.elapsed().as_secs_f64();
    assert!(rate < 30.0, "{rate} pictures a second of 25");
    let (low, high) = means.iter().fold((f64::MAX, 0.0f64), |(low, high), mean| (low.min(*mean), high.max(*mean)));
    assert!(high - low < 60.0, "{low} to {high}");
}

#[test]
fn sessions_are_kept_alive_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    let camera = plays(Faults { timeout: Some(2), ..Faults::none(&units) }, Transport::Tcp, "", 110);
    assert!(camera.requests("GET_PARAMETER").len() >= 2);
    let faults = Faults { timeout: Some(2), no_parameters: true, ..Faults::none(&units) };
    let camera = plays(faults, Transport::Tcp, "", 110);
    assert!(camera.requests("GET_PARAMETER").is_empty() && camera.requests("OPTIONS").len() >= 3);
}

#[test]
fn digest_with_sha_256_and_qop_is_answered_and_a_wrong_password_tried_once() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    let faults = Faults { login: true, ..Faults::none(&units) };
    plays(faults.clone(), Transport::Tcp, "user:right@", 10);
    let camera = Camera::start(faults);
    let mut reader = open(&camera.address("user:wrong@"), Transport::Tcp);
    let (_, _, reasons) = watch(reader.as_mut(), 6, 1);
    assert_eq!(reasons, ["401: wrong user or password"]);
    assert_eq!(camera.requests("Authorization").len(), 1);
}

#[test]
fn the_first_track_that_can_be_decoded_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    plays(Faults { unknown_first: true, ..Faults::none(&units) }, Transport::Tcp, "", 10);
}

#[test]
fn junk_is_skipped_and_channels_that_are_not_named_are_those_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    let junk = b"\x00ju$nk\x80\x60".to_vec();
    plays(Faults { junk, silent_setup: true, ..Faults::none(&units) }, Transport::Tcp, "", 60);
}

#[test]
fn what_a_camera_answers_is_said_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 5, "keyint=5");
    for (answer, holds) in [
        ("RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: SEQUENCE\r\n\r\n", "no room"),
        ("RTSP/1.0 503 Service Unavailable\r\nCSeq: SEQUENCE\r\n\r\n", "503"),
        ("RTSP/1.0 404 Not Found\r\nCSeq: SEQUENCE\r\n\r\n", "404"),
        ("RTSP/1.0 500 Broken\r\nCSeq: SEQUENCE\r\n\r\n", "500 Broken to DESCRIBE"),
        ("RTSP/1.0 200 OK\r\nCSeq: SEQUENCE\r\nContent-Length: 700000000\r\n\r\n", "700000000"),
    ] {
        let camera = Camera::start(Faults { describe: Some(answer.to_owned()), ..Faults::none(&units) });
        let mut reader = open(&camera.address(""), Transport::Tcp);
        let (_, _, reasons) = watch(reader.as_mut(), 3, 1);
        assert!(reasons.iter().any(|reason| reason.contains(holds)), "{answer}: {reasons:?}");
        if ["no room", "503"].contains(&holds) {
            assert!(camera.requests("DESCRIBE").len() <= 2, "requests become less frequent");
        }
    }
}

#[test]
fn the_login_goes_to_no_other_server() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25");
    let other = Camera::start(Faults { login: true, ..Faults::none(&units) });
    let moved = format!("RTSP/1.0 302 Moved\r\nCSeq: SEQUENCE\r\nLocation: {}\r\n\r\n", other.address("evil:token@"));
    let camera = Camera::start(Faults { describe: Some(moved), ..Faults::none(&units) });
    let mut reader = open(&camera.address("user:right@"), Transport::Tcp);
    let (frames, _, reasons) = watch(reader.as_mut(), 4, 1);
    assert_eq!((frames, other.requests("Authorization").len()), (0, 0));
    assert!(!other.requests("DESCRIBE").is_empty(), "it was followed");
    assert!(reasons.iter().all(|reason| !reason.contains("token")), "{reasons:?}");
}

/// A served stream without a picture yet, and its port.
fn serve(users: Option<&std::path::Path>) -> (u16, Box<dyn oodstream::output::FrameWriter>) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = Servers::new(&ServeOptions { users: users.map(Into::into), ..ServeOptions::default() });
    let target = Target::parse(&format!("rtsp://127.0.0.1:{port}/x")).unwrap().unwrap();
    (port, publish::open(&[target], &servers, &PublishOptions::default()).unwrap().0)
}

/// Whether the server hung up; what it sent before goes to `said`.
fn hung_up(client: &mut TcpStream, said: &mut Vec<u8>) -> bool {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    match client.read_to_end(said) {
        Ok(_) => true,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn bodies_and_endless_heads_are_not_read() {
    let (port, _writer) = serve(None);
    for head in ["OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 600000000\r\n\r\n", "OPTIONS * RTSP/1.0\r\n"] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(head.as_bytes()).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let piece = b"X-Header: value\r\n".repeat(4096);
        let mut sent = 0usize;
        while sent < 600_000_000 && client.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 200_000_000, "{sent} bytes were read");
    }
}

/// Connections that a server at `port` has open: `01`, established, see proc_pid_net(5).
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let at_port = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && fields.nth(1) == Some("01")
    };
    table.lines().filter(at_port).count()
}

#[test]
fn connections_of_one_address_are_bounded() {
    let (port, _writer) = serve(None);
    let mut clients: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    // The last ones are hung up on at once, the first ones because they say nothing.
    let mut last = clients.pop().unwrap();
    assert!(hung_up(&mut last, &mut Vec::new()));
    assert!(hung_up(&mut clients[0], &mut Vec::new()));
    let open = connections(port);
    assert!(open <= 64, "{open} connections");
}

#[test]
fn passwords_cannot_be_tried_fast_and_names_not_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "ann:secret\n").unwrap();
    let (port, _writer) = serve(Some(&users));
    let status = |path: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // `ann:wrong` in base 64.
        let login = "Authorization: Basic YW5uOndyb25n\r\n";
        let request = format!("DESCRIBE rtsp://127.0.0.1:{port}/{path} RTSP/1.0\r\nCSeq: 1\r\n{login}\r\n");
        client.write_all(request.as_bytes()).ok()?;
        let mut said = [0; 64];
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let count = client.read(&mut said).ok().filter(|count| *count > 12)?;
        String::from_utf8_lossy(&said[9..count]).split(' ').next()?.parse::<u16>().ok()
    };
    assert_eq!([status("x"), status("nothing")], [Some(401), Some(401)]);
    let answered = (0..100).filter(|_| status("x").is_some()).count();
    assert!(answered < 10, "{answered} of 100 tries were answered");
}

#[cfg(unix)]
#[test]
fn no_link_in_an_output_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::create_dir(folder.path().join("hls")).unwrap();
    for (part, target) in [(".x.mkv.part", "x.mkv"), ("hls/.live.m3u8.part", "hls:hls")] {
        for hard in [false, true] {
            std::fs::write(&victim, "precious").unwrap();
            let part = folder.path().join(part);
            let _ = std::fs::remove_file(&part);
            if hard {
                std::fs::hard_link(&victim, &part).unwrap();
            } else {
                std::os::unix::fs::symlink(&victim, &part).unwrap();
            }
            let target = match target.strip_prefix("hls:") {
                Some(name) => format!("hls:{}", folder.path().join(name).display()),
                None => folder.path().join(target).display().to_string(),
            };
            let servers = Servers::new(&ServeOptions::default());
            let target = Target::parse(&target).unwrap().unwrap();
            let (writer, _) = publish::open(&[target], &servers, &PublishOptions::default()).unwrap();
            writer.abort();
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        }
    }
}

#[test]
fn a_header_that_announces_gigabytes_is_refused() {
    let place = common::Place::new();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode(&[90; 16 * 16 * 3], 16, 16, image::ExtendedColorType::Rgb8)
        .unwrap();
    // Height and width in the frame header.
    let header = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let side = 30_000u16.to_be_bytes();
    jpeg[header + 5..header + 9].copy_from_slice(&[side, side].concat());
    std::fs::create_dir(place.path("images")).unwrap();
    std::fs::write(place.path("images/big.jpg"), jpeg).unwrap();
    place.run("run images -o none").code(1).says(&["30000x30000", "larger"]);
}
