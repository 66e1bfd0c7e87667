//! Live inputs against real servers at the loopback interface: what comes, what happens when it stops, and that it
//! comes back.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use gstreamer::prelude::PluginFeatureExtManual;

use oodstream::gst::Frame;
use oodstream::input::live::{SourceOptions, Transport};
use oodstream::input::{FrameReader, LiveInput, Read, Signal, open_live};
use support::camera::{Camera, CameraOptions, Codec, certificate, wait_for};
use support::web::Web;

/// Longest wait for anything that must happen. Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(40);

fn open(address: &str, options: &SourceOptions) -> Box<dyn FrameReader> {
    log();
    let input = LiveInput::parse(address).unwrap().unwrap();
    open_live(&input, options, 7).unwrap()
}

fn over(transport: Transport) -> SourceOptions {
    SourceOptions { transport, stall_s: 2.0, ..SourceOptions::default() }
}

/// The next that is not a time-out.
#[track_caller]
fn next(reader: &mut dyn FrameReader) -> Read {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match reader.read(Duration::from_millis(100)).unwrap() {
            Read::TimedOut => {}
            read => return read,
        }
    }
    panic!("nothing came");
}

#[track_caller]
fn frame(reader: &mut dyn FrameReader) -> Frame {
    match next(reader) {
        Read::Frame(frame) => frame,
        other => panic!("no frame: {other:?}"),
    }
}

/// The next signal and the frames before it.
#[track_caller]
fn signal(reader: &mut dyn FrameReader) -> (Signal, Vec<Frame>) {
    let mut frames = Vec::new();
    loop {
        match next(reader) {
            Read::Frame(frame) => frames.push(frame),
            Read::Signal(signal) => return (signal, frames),
            other => panic!("no signal: {other:?}"),
        }
    }
}

#[track_caller]
fn lost(reader: &mut dyn FrameReader) -> (String, Vec<Frame>) {
    match signal(reader) {
        (Signal::Lost { reason }, frames) => (reason, frames),
        (other, _) => panic!("{other:?}"),
    }
}

#[track_caller]
fn back(reader: &mut dyn FrameReader) -> (Duration, String, Vec<Frame>) {
    match signal(reader) {
        (Signal::Back { away, what }, frames) => (away, what, frames),
        (other, _) => panic!("{other:?}"),
    }
}

/// Their times and numbers go up, and none is from the future.
#[track_caller]
fn in_order(frames: &[Frame]) {
    for pair in frames.windows(2) {
        assert!(pair[0].running_time < pair[1].running_time, "{pair:?}");
        assert_eq!(pair[0].index + 1, pair[1].index);
    }
    for frame in frames {
        assert!(frame.captured.unwrap() <= Instant::now());
        assert_eq!(frame.stream, 7);
    }
}

/// Mean brightness of a picture.
fn brightness(frame: &Frame) -> f64 {
    let view = frame.map().unwrap();
    let luma = view.i420().y;
    luma.data.iter().map(|y| f64::from(*y)).sum::<f64>() / luma.data.len() as f64
}

/// Everything that is logged in this process, down to the last trace.
fn log() -> &'static Arc<Mutex<Vec<u8>>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    LOG.get_or_init(|| {
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&sink)))
            .init();
        log
    })
}

fn logged() -> String {
    String::from_utf8_lossy(&log().lock().unwrap()).into_owned()
}

#[test]
fn pictures_over_tcp_and_udp() {
    let camera = Camera::start(CameraOptions { sound: true, ..CameraOptions::default() });
    for transport in [Transport::Tcp, Transport::Udp, Transport::Auto] {
        let mut reader = open(&camera.address(), &over(transport));
        assert!(reader.info().is_none());
        let (away, what, before) = back(reader.as_mut());
        assert_eq!((away, before.len()), (Duration::ZERO, 0));
        assert!(what.contains("H.264") && what.contains("320x240") && what.contains("25 fps"), "{what}");
        let mut ages = Vec::new();
        let frames: Vec<Frame> = (0..15)
            .map(|_| {
                let frame = frame(reader.as_mut());
                ages.push(frame.captured.unwrap().elapsed().as_millis());
                frame
            })
            .collect();
        println!("{transport:?}: read {ages:?} ms after their capture");
        in_order(&frames);
        assert_eq!((frames[0].running_time, frames[0].index), (0, 0));
        assert!(frames.iter().all(|frame| frame.lost.is_none() && frame.width() == 320));
        // 14 steps of 40 ms: the camera's pace, not that of the machine.
        let span = frames[14].running_time as f64 / 1e9;
        assert!((0.2..30.0).contains(&span), "{span}");
        let info = reader.info().unwrap();
        assert_eq!((info.container.as_str(), info.width, info.height, info.audio_tracks), ("RTSP", 320, 240, 0));
        assert!(info.codec.contains("H.264"), "{info:?}");
    }
}

#[test]
fn a_camera_whose_clock_jumps() {
    const HOUR: i32 = 3600 * 90_000;
    for ticks in [HOUR, -HOUR] {
        let options = CameraOptions { jump: Some((30, ticks)), codec: Codec::Jpeg, ..CameraOptions::default() };
        let camera = Camera::start(options);
        let mut reader = open(&camera.address(), &over(Transport::Tcp));
        back(reader.as_mut());
        let started = Instant::now();
        let mut frames: Vec<Frame> = Vec::new();
        let mut late = Duration::ZERO;
        while frames.len() < 75 {
            // A new connection for it would do as well, a running time that jumps would not.
            if let Read::Frame(frame) = next(reader.as_mut()) {
                late = late.max(frame.captured.unwrap().elapsed());
                frames.push(frame);
            }
        }
        in_order(&frames);
        let (span, took) = (frames[74].running_time as f64 / 1e9, started.elapsed().as_secs_f64());
        println!("clock jumps by {ticks}: {span:.2} s of pictures in {took:.2} s, oldest {late:.2?}");
        assert!(span > 1.0 && span < took + 5.0 && late < Duration::from_secs(20), "{span} {took} {late:?}");
    }
}

/// Killed and started again, as something else.
fn restarted(transport: Transport) {
    let mut camera = Camera::start(CameraOptions { pattern: "white".into(), ..CameraOptions::default() });
    let port = camera.port();
    let mut reader = open(&camera.address(), &over(transport));
    back(reader.as_mut());
    let first = frame(reader.as_mut());
    camera.kill();
    let (reason, _) = lost(reader.as_mut());
    println!("{transport:?}, killed: {reason}");
    let repeats: Vec<Frame> = (0..5).map(|_| frame(reader.as_mut())).collect();
    in_order(&repeats);
    let ages: Vec<Duration> = repeats.iter().map(|frame| frame.lost.unwrap()).collect();
    assert!(ages.is_sorted() && ages[4] > ages[0], "{ages:?}");
    assert!((brightness(&repeats[4]) - brightness(&first)).abs() < 2.0);

    let camera = Camera::start(CameraOptions {
        port,
        width: 640,
        height: 240,
        fps: 10,
        codec: Codec::Jpeg,
        pattern: "white".into(),
        ..CameraOptions::default()
    });
    let (away, what, mut frames) = back(reader.as_mut());
    let took = camera.since().elapsed();
    println!("{transport:?}: back {:.2} s after the camera listened again, away {away:.2?}", took.as_secs_f64());
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(what.contains("JPEG") && what.contains("640x240"), "{what}");
    assert!(frames.iter().all(|frame| frame.lost.is_some()));
    let fresh = frame(reader.as_mut());
    assert!(fresh.lost.is_none() && away >= ages[4]);
    // Scaled to the first size, with its aspect kept by black borders.
    assert_eq!((fresh.width(), fresh.height()), (320, 240));
    let view = fresh.map().unwrap();
    let luma = view.i420().y;
    assert!(luma.data[luma.stride * 5 + 160] < 40 && luma.data[luma.stride * 120 + 160] > 200);
    drop(view);
    frames.push(fresh);
    frames.extend((0..5).map(|_| frame(reader.as_mut())));
    in_order(&frames);
}

#[test]
fn killed_and_restarted_as_another_over_tcp() {
    restarted(Transport::Tcp);
}

#[test]
fn killed_and_restarted_as_another_over_udp() {
    restarted(Transport::Udp);
}

#[test]
fn stalled_and_going_on() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut camera = Camera::start(CameraOptions::default());
        let mut reader = open(&camera.address(), &over(transport));
        back(reader.as_mut());
        frame(reader.as_mut());
        camera.stop();
        let (reason, _) = lost(reader.as_mut());
        assert!(reason.starts_with("nothing came for 2.0 s") && reason.contains("source.stall_s"), "{reason}");
        // Attempts at a server that takes connections and never answers; the reads stay short.
        let (stopped, mut longest) = (Instant::now(), Duration::ZERO);
        let mut repeats = 0;
        while stopped.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            match reader.read(Duration::from_millis(50)).unwrap() {
                Read::Frame(frame) => repeats += u32::from(frame.lost.is_some()),
                Read::TimedOut => {}
                other => panic!("{other:?}"),
            }
            longest = longest.max(asked.elapsed());
        }
        println!("{transport:?}: {repeats} repeats, longest read {longest:.2?}");
        assert!(repeats > 5 && longest < Duration::from_secs(5), "{repeats} {longest:?}");
        camera.cont();
        let (away, ..) = back(reader.as_mut());
        let took = camera.since().elapsed();
        println!("{transport:?}: back {:.2} s after it went on, away {away:.2?}", took.as_secs_f64());
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(frame(reader.as_mut()).lost.is_none());
    }
}

#[test]
fn h265_and_a_camera_that_takes_only_tcp() {
    let options = CameraOptions { codec: Codec::H265, tcp_only: true, ..CameraOptions::default() };
    let camera = Camera::start(options);
    let mut reader = open(&camera.address(), &over(Transport::Auto));
    let (_, what, _) = back(reader.as_mut());
    assert!(what.contains("H.265"), "{what}");
    frame(reader.as_mut());

    let mut reader = open(&camera.address(), &over(Transport::Udp));
    let (reason, _) = lost(reader.as_mut());
    println!("no UDP: {reason}");

    // A machine without a decoder for it: says so and goes on trying, the camera may be set up otherwise.
    let decoders = gstreamer::ElementFactory::factories_with_type(
        gstreamer::ElementFactoryType::DECODER,
        gstreamer::Rank::MARGINAL,
    );
    let h265 = gstreamer::Caps::new_empty_simple("video/x-h265");
    for decoder in decoders.iter().filter(|decoder| decoder.can_sink_any_caps(&h265)) {
        decoder.set_rank(gstreamer::Rank::NONE);
    }
    let mut reader = open(&camera.address(), &over(Transport::Tcp));
    let (reason, _) = lost(reader.as_mut());
    assert!(reason.contains("H.265") && reason.contains("apt-get install gstreamer1.0-libav"), "{reason}");
    assert!(matches!(reader.read(Duration::from_millis(300)).unwrap(), Read::TimedOut));
}

/// A way to a camera on which UDP gets lost: the ports that the client names are not those that reach the camera.
fn without_udp(camera: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", camera)) else { break };
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(std::net::Shutdown::Both);
            });
            let (mut client, mut server) = (client, server);
            std::thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(count) = client.read(&mut bytes) {
                    // Interleaved packets of the client are not text, and hold no ports.
                    let text = std::str::from_utf8(&bytes[..count]).ok().filter(|text| text.contains("client_port="));
                    let rewritten = text.map(|text| {
                        let (before, after) = text.split_once("client_port=").unwrap();
                        let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
                        format!("{before}client_port=9-10{rest}")
                    });
                    let sent = rewritten.as_ref().map_or(&bytes[..count], |text| text.as_bytes());
                    if count == 0 || server.write_all(sent).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn where_udp_gets_lost_tcp_is_taken() {
    let camera = Camera::start(CameraOptions::default());
    let port = without_udp(camera.port());
    let started = Instant::now();
    let mut reader = open(&format!("rtsp://127.0.0.1:{port}/cam"), &over(Transport::Auto));
    let (away, ..) = back(reader.as_mut());
    println!("over TCP after {:.2?} without anything over UDP, away {away:.2?}", started.elapsed());
    frame(reader.as_mut());
    let mut reader = open(&format!("rtsp://127.0.0.1:{port}/cam"), &over(Transport::Udp));
    assert!(matches!(next(reader.as_mut()), Read::Signal(Signal::Lost { .. })));
}

#[test]
fn passwords_are_checked_and_never_shown() {
    const RIGHT: &str = "r!ght/p@ss";
    const WRONG: &str = "wr0ng:p@ss";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("login");
    let mut shown = String::new();
    for basic in [false, true] {
        let login = Some(("viewer".to_string(), RIGHT.to_string()));
        let camera = Camera::start(CameraOptions { login, basic, ..CameraOptions::default() });

        let mut reader = open(&camera.address_for("viewer:wr0ng%3Ap%40ss"), &over(Transport::Tcp));
        let (reason, _) = lost(reader.as_mut());
        assert_eq!(reason, "401: wrong user or password");
        assert!(matches!(reader.read(Duration::from_millis(300)).unwrap(), Read::TimedOut));
        shown += &reason;

        let mut reader = open(&camera.address(), &over(Transport::Tcp));
        let (reason, _) = lost(reader.as_mut());
        assert!(reason.contains("401") && reason.contains("none are given"), "{reason}");

        let mut reader = open(&camera.address_for("viewer:r!ght%2Fp%40ss"), &over(Transport::Tcp));
        let (_, what, _) = back(reader.as_mut());
        shown += &format!("{what} {:?}", reader.info());

        std::fs::write(&file, format!("viewer:{RIGHT}\n")).unwrap();
        let options = SourceOptions { credentials: Some(file.clone().into()), ..over(Transport::Udp) };
        let mut reader = open(&camera.address(), &options);
        back(reader.as_mut());
        frame(reader.as_mut());
        // What the address says goes first.
        let mut reader = open(&camera.address_for("viewer:wr0ng%3Ap%40ss"), &options);
        lost(reader.as_mut());
    }
    // A wrong host.
    let input = LiveInput::parse("rtsp://viewer:wr0ng%3Ap%40ss@127.0.0.1:9/cam").unwrap().unwrap();
    let mut reader = open_live(&input, &over(Transport::Tcp), 7).unwrap();
    shown += &lost(reader.as_mut()).0;
    shown += &format!("{input} {input:?}");

    std::fs::write(&file, "only-a-secret").unwrap();
    let options = SourceOptions { credentials: Some(file.clone().into()), ..SourceOptions::default() };
    let input = LiveInput::parse("rtsp://127.0.0.1:9/cam").unwrap().unwrap();
    shown += &open_live(&input, &options, 0).err().unwrap().to_string();
    let options = SourceOptions { credentials: Some(folder.path().join("gone").into()), ..SourceOptions::default() };
    assert!(open_live(&input, &options, 0).err().unwrap().to_string().contains("gone"));

    let all = logged() + &shown;
    assert!(all.contains("127.0.0.1:9/cam"), "the log works");
    for secret in [RIGHT, WRONG, "wr0ng", "r!ght", "only-a-secret"] {
        assert!(!all.contains(secret), "{secret} is shown");
    }
}

#[test]
fn waits_for_what_is_not_there() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut reader = open(&format!("rtsp://127.0.0.1:{port}/cam"), &over(Transport::Tcp));
    let (reason, frames) = lost(reader.as_mut());
    assert_eq!(reason, format!("nothing listens at 127.0.0.1 port {port}"));
    assert!(frames.is_empty() && reader.info().is_none());
    assert!(matches!(reader.read(Duration::from_millis(300)).unwrap(), Read::TimedOut));
    let camera = Camera::start(CameraOptions { port, ..CameraOptions::default() });
    let (away, _, frames) = back(reader.as_mut());
    assert!(away > Duration::ZERO && frames.is_empty());
    assert_eq!(frame(reader.as_mut()).running_time, 0);

    let mut reader = open(&camera.address().replace("/cam", "/gone"), &over(Transport::Tcp));
    assert!(lost(reader.as_mut()).0.contains("404"));
    let mut reader = open("v4l2:///dev/video97?width=640&format=mjpeg", &over(Transport::Tcp));
    assert_eq!(lost(reader.as_mut()).0, "there is no device /dev/video97");
    assert!(matches!(reader.read(Duration::from_millis(300)).unwrap(), Read::TimedOut));
}

#[test]
fn servers_that_say_nothing_are_given_up() {
    // As behind a network that is gone: nobody accepts, and what comes next is not even refused.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let knock = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let waiting: Vec<_> = std::iter::from_fn(knock).take(600).collect();
    // And one that accepts, and no more.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap();
    let mut unreachable = open(&format!("rtsp://{address}/cam"), &over(Transport::Tcp));
    let mut mute = open(&format!("rtsp://{silent_address}/cam"), &over(Transport::Tcp));
    let reason = lost(unreachable.as_mut()).0;
    assert!(reason.contains("does not answer") || reason == "the server cannot be reached", "{reason}");
    assert_eq!(lost(mute.as_mut()).0, "the server does not answer");
    drop((waiting, full, silent));
    let _camera = Camera::start(CameraOptions { port: address.port(), ..CameraOptions::default() });
    back(unreachable.as_mut());
}

#[test]
fn certificates_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let camera = Camera::start(CameraOptions { tls: Some((certificate.clone(), key)), ..CameraOptions::default() });
    let mut reader = open(&camera.address(), &over(Transport::Tcp));
    let (reason, _) = lost(reader.as_mut());
    assert!(reason.contains("certificate"), "{reason}");

    let options = SourceOptions { tls_ca: Some(certificate.clone().into()), ..over(Transport::Tcp) };
    back(open(&camera.address(), &options).as_mut());
    let options = SourceOptions { tls_accept_any: true, ..over(Transport::Tcp) };
    back(open(&camera.address(), &options).as_mut());

    let input = LiveInput::parse(&camera.address()).unwrap().unwrap();
    let missing = SourceOptions { tls_ca: Some(folder.path().join("gone.pem").into()), ..SourceOptions::default() };
    assert!(open_live(&input, &missing, 0).err().unwrap().to_string().contains("gone.pem"));

    let plain = Camera::start(CameraOptions::default());
    let mut reader = open(&plain.address().replace("rtsp:", "rtsps:"), &over(Transport::Tcp));
    let (reason, _) = lost(reader.as_mut());
    assert!(reason.starts_with("no encrypted connection"), "{reason}");
}

#[test]
fn a_live_test_pattern() {
    let mut reader = open("test://ball?live=1&width=64&height=48&fps=20&frames=11", &over(Transport::Auto));
    let started = Instant::now();
    let (_, what, _) = back(reader.as_mut());
    assert_eq!(what, "raw I420 64x48, 20 fps");
    let mut frames = Vec::new();
    let end = loop {
        match next(reader.as_mut()) {
            Read::Frame(frame) => frames.push(frame),
            other => break other,
        }
    };
    assert!(matches!(end, Read::End(_)), "{end:?}");
    in_order(&frames);
    // A reader that is held up loses pictures rather than time.
    assert!((2..=11).contains(&frames.len()), "{}", frames.len());
    assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
    assert!(matches!(next(reader.as_mut()), Read::End(_)));

    let input = LiveInput::parse("test://nonsense?live=1").unwrap().unwrap();
    assert!(open_live(&input, &SourceOptions::default(), 0).is_err());
}

#[test]
fn a_file_at_real_time_speed() {
    log();
    let clip = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("realtime-{}.mp4", std::process::id()));
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/street.mp4");
    ffmpeg(&["-i", &sample.to_string_lossy(), "-t", "1.5", "-c", "copy", &clip.to_string_lossy()]);
    let started = Instant::now();
    let mut reader = open_live(&LiveInput::realtime(&clip), &SourceOptions::default(), 7).unwrap();
    let fps = reader.info().unwrap().fps.unwrap();
    back(reader.as_mut());
    let mut frames = Vec::new();
    let end = loop {
        match next(reader.as_mut()) {
            Read::Frame(frame) => frames.push(frame),
            other => break other,
        }
    };
    let took = started.elapsed().as_secs_f64();
    assert!(matches!(&end, Read::End(end) if end.is_clean()), "{end:?}");
    in_order(&frames);
    let lasts = (frames.len() - 1) as f64 / fps;
    println!("{} frames of {fps} a second took {took:.2} s", frames.len());
    assert!(lasts > 1.0 && took > 0.99 * lasts && took < lasts + 20.0, "{lasts} {took}");
    assert!(LiveInput::realtime(&clip).file_name().ends_with(clip.file_name().unwrap()));
    std::fs::remove_file(&clip).unwrap();
    assert!(open_live(&LiveInput::realtime(&clip), &SourceOptions::default(), 0).is_err());
}

fn ffmpeg(arguments: &[&str]) {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).output().expect("ffmpeg runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mjpeg_over_http() {
    let folder = tempfile::tempdir().unwrap();
    // viewer:http-secret
    let web = Web::start(folder.path(), Some("Basic dmlld2VyOmh0dHAtc2VjcmV0"));
    let mut reader = open(&web.address_for("viewer:http-wrong", "mjpeg"), &over(Transport::Auto));
    assert_eq!(lost(reader.as_mut()).0, "401: wrong user or password");
    assert!(web.refused() > 0);

    let mut reader = open(&web.address_for("viewer:http-secret", "mjpeg"), &over(Transport::Auto));
    let (_, what, _) = back(reader.as_mut());
    assert!(what.contains("JPEG") && what.contains("160x120"), "{what}");
    let frames: Vec<Frame> = (0..12).map(|_| frame(reader.as_mut())).collect();
    in_order(&frames);
    let span = frames[11].running_time as f64 / 1e9;
    assert!((0.05..30.0).contains(&span), "{span}");

    web.cut(true);
    println!("MJPEG, cut: {}", lost(reader.as_mut()).0);
    assert!(frame(reader.as_mut()).lost.is_some());
    web.cut(false);
    let (away, _, frames) = back(reader.as_mut());
    println!("MJPEG: away {away:.2?}");
    in_order(&frames);
    assert!(frame(reader.as_mut()).lost.is_none());
    for secret in ["http-secret", "http-wrong"] {
        assert!(!logged().contains(secret), "{secret} is shown");
    }
}

/// A program that goes on until it is dropped.
struct Helper(Child);

impl Helper {
    fn start(program: &str, arguments: &str, folder: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|e| panic!("{program}: {e}")))
    }

    /// Makes a live playlist, with the segments of the last seconds.
    fn live_playlist(folder: &Path) -> Self {
        let arguments = "-v error -nostdin -re -f lavfi -i testsrc=size=160x120:rate=20 -c:v libx264 -preset ultrafast -pix_fmt \
                         yuv420p -g 20 -f hls -hls_time 1 -hls_list_size 4 -hls_flags delete_segments+append_list live.m3u8";
        Self::start("ffmpeg", arguments, folder)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn live_hls_over_https() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, _) = certificate(folder.path());
    let _camera = Helper::live_playlist(folder.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let arguments = format!("s_server -quiet -accept 127.0.0.1:{port} -cert certificate.pem -key key.pem -WWW");
    let _server = Helper::start("openssl", &arguments, folder.path());
    wait_for(40, "a playlist is served", || {
        folder.path().join("live.m3u8").exists() && TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let address = format!("https://127.0.0.1:{port}/live.m3u8");
    // First without: glib-networking resumes a session of this process that was trusted once.
    let (reason, _) = lost(open(&address, &over(Transport::Auto)).as_mut());
    assert!(reason.starts_with("no encrypted connection") && reason.contains("not trusted"), "{reason}");
    let mut reader = open(&address, &SourceOptions { tls_ca: Some(certificate.into()), ..over(Transport::Auto) });
    back(reader.as_mut());
    in_order(&(0..20).map(|_| frame(reader.as_mut())).collect::<Vec<_>>());
}

#[test]
fn live_hls_over_http_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start(folder.path(), None);
    let camera = Helper::live_playlist(folder.path());
    let mut reader = open(&web.address("live.m3u8"), &over(Transport::Auto));
    let mut frames = Vec::new();
    while frames.len() < 60 {
        if let Read::Frame(frame) = next(reader.as_mut()) {
            frames.push(frame);
        }
    }
    in_order(&frames);
    drop(camera);
    let (reason, _) = lost(reader.as_mut());
    println!("live HLS, its maker gone: {reason}");
    let _camera = Helper::live_playlist(folder.path());
    back(reader.as_mut());
    in_order(&(0..20).map(|_| frame(reader.as_mut())).collect::<Vec<_>>());
}

#[test]
fn hls_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> String { PathBuf::from(folder.path()).join(name).to_string_lossy().into_owned() };
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=160x120:rate=20:duration=4",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "20",
        "-hls_time",
        "1",
        "-hls_list_size",
        "0",
        "-hls_segment_filename",
        &at("s%d.ts"),
        &at("live.m3u8"),
    ]);
    let web = Web::start(folder.path(), Some("Basic dmlld2VyOmhscy1zZWNyZXQ="));
    let started = Instant::now();
    let mut reader = open(&web.address_for("viewer:hls-secret", "live.m3u8"), &over(Transport::Auto));
    let (_, what, _) = back(reader.as_mut());
    assert!(what.contains("H.264") && what.contains("160x120"), "{what}");
    let frames: Vec<Frame> = (0..41).map(|_| frame(reader.as_mut())).collect();
    in_order(&frames);
    // Two seconds of pictures, which the server gives in one piece.
    assert!(started.elapsed() >= Duration::from_millis(1900), "{:?}", started.elapsed());
    let (reason, _) = lost(reader.as_mut());
    assert_eq!(reason, "the server closed the stream");
    assert!(!logged().contains("hls-secret"));
}
