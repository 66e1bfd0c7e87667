//! What is lost on the network, what is counted of it, and what is served at encrypted addresses.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use oodstream::input::live::SourceOptions;
use oodstream::input::{FrameReader, LiveInput, Read, Signal, open_live};
use support::common::Place;
use support::live::{free_port, metric, until};
use support::pretended::{Camera, Faults, h264};
use support::running::Live;

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(40);

pub fn open(address: &str, options: SourceOptions) -> Box<dyn FrameReader> {
    open_live(&LiveInput::parse(address).unwrap().unwrap(), &options, 0).unwrap()
}

/// What came of a stream.
#[derive(Debug, Default)]
pub struct Seen {
    /// When each picture came, since the first one.
    pub pictures: Vec<Duration>,
    pub reasons: Vec<String>,
}

/// Reads until `enough` is true of what came, or for [`PATIENCE`].
pub fn watch(reader: &mut dyn FrameReader, enough: impl Fn(&Seen) -> bool) -> Seen {
    let (start, mut first, mut seen) = (Instant::now(), None, Seen::default());
    while start.elapsed() < PATIENCE && !enough(&seen) {
        match reader.read(Duration::from_millis(50)).unwrap() {
            Read::Frame(frame) if frame.lost.is_none() => {
                let now = Instant::now();
                seen.pictures.push(now - *first.get_or_insert(now));
            }
            Read::Signal(Signal::Lost { reason }) => seen.reasons.push(reason),
            _ => {}
        }
    }
    seen
}

#[test]
fn ruinous_loss_over_udp_ends_in_tcp_and_a_little_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let units = h264(folder.path(), 50, "keyint=25:bitrate=2000");
    let camera = Camera::start(Faults { udp: 200, lose_every: Some(6), ..Faults::none(&units) });
    let mut reader = open(&camera.address(""), SourceOptions::default());
    let given_up = |seen: &Seen| seen.reasons.iter().any(|reason| reason.contains("lost over UDP; TCP is tried"));
    let seen = watch(reader.as_mut(), given_up);
    assert!(given_up(&seen), "{seen:?}");
    let after = watch(reader.as_mut(), |seen| seen.pictures.len() >= 50);
    assert!(after.pictures.len() >= 50 && after.reasons.is_empty(), "{after:?}");
    assert!(camera.requests("SETUP").last().unwrap().contains("TCP"));

    // A loss damages the four pictures that follow at most.
    let units = h264(folder.path(), 50, "keyint=5:bitrate=2000");
    let camera = Camera::start(Faults { udp: 200, lose_every: Some(300), ..Faults::none(&units) });
    let mut reader = open(&camera.address(""), SourceOptions::default());
    let seen = watch(reader.as_mut(), |seen| seen.pictures.len() >= 250);
    assert!(seen.reasons.is_empty() && !camera.requests("SETUP").iter().any(|head| head.contains("TCP")), "{seen:?}");
    let packets = reader.packets().unwrap();
    assert!(packets.lost > 0 && packets.lost * 50 < packets.received, "{packets:?}");
}

#[test]
fn losses_are_metrics_a_line_in_the_log_and_in_the_report() {
    let place = Place::new();
    let units = h264(&place.path("."), 50, "keyint=25:bitrate=2000");
    let faults = Faults { udp: 200, lose_every: Some(40), swap_every: Some(30), ..Faults::none(&units) };
    let camera = Camera::start(faults);
    let port = free_port();
    let address = camera.address("");
    let mut run = Live::start(&place, &format!("-v run {address} -o none --transport udp --http {port} --json r.json"));
    let of = |name: &str| metric(port, &format!("oodstream_packets_{name}_total{{stream=\"127-0-0-1-cam\"}}"));
    until("losses are counted", || of("lost") > 3.0 && of("reordered") > 3.0 && of("received") > 200.0);
    until("they are logged", || run.log().contains("came out of order"));
    run.interrupt(130);
    assert!(run.log().contains("packets lost"), "{}", run.log());
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(place.path("r.json")).unwrap()).unwrap();
    let packets = &report["inputs"][0]["live"]["packets"];
    assert!(packets["lost"].as_u64().unwrap() > 3 && packets["reordered"].as_u64().unwrap() > 3, "{report}");
}

#[test]
fn encrypted_servers_have_the_same_limits() {
    let place = Place::new();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"])
        .args(["-keyout", "k.pem", "-out", "c.pem"])
        .current_dir(place.path("."))
        .output()
        .unwrap();
    assert!(made.status.success());
    let port = free_port();
    let mut run = Live::start(
        &place,
        &format!(
            "run test://ball?live=1&width=160&height=96 -o rtsps://127.0.0.1:{port}/x --set serve.certificate=\"c.pem\" \
             --set serve.key=\"k.pem\""
        ),
    );
    until("it serves", || run.log().contains("encoded by"));
    let before = run.descriptors();
    let clients: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let closed = |mut client: &TcpStream| {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        !matches!(client.read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(closed(clients.last().unwrap()), "more than 64 of one address");
    assert!(closed(&clients[0]), "it said nothing");
    until("the server holds none of them", || run.descriptors() < before + 10);
    run.stop(130);
}
