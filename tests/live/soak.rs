//! Long runs, not part of the suite. Each prints what it measured.
//!
//! ```text
//! cargo test --release --test live soak::soak -- --ignored --nocapture        30 minutes, or OODSTREAM_SOAK_MINUTES,
//!                                                                             in turns of 30 s, or OODSTREAM_SOAK_TURN_S
//! cargo test --release --test live soak::overload -- --ignored --nocapture    5 minutes
//! cargo test --release --test live soak::stalled -- --ignored --nocapture     1 minute
//! cargo test --release --test live soak::four -- --ignored --nocapture        1 minute
//! ```

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use support::camera::{Camera, CameraOptions};
use support::common::Place;
use support::live;
use support::live::{Monitor, evenness, frames_meanwhile, free_port, http, metric, until};
use support::running::Live;

/// Least squares: slope and twice its standard error. Neighbouring samples say almost the same, so they count as n (1 - r) /
/// (1 + r) independent ones, r the correlation of neighbouring residuals (Santer et al. 2000, J. Geophys. Res. 105, 7337).
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let (mx, my) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let xx: f64 = points.iter().map(|(x, _)| (x - mx).powi(2)).sum();
    let slope = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / xx;
    let residuals: Vec<f64> = points.iter().map(|(x, y)| y - my - slope * (x - mx)).collect();
    let squares: f64 = residuals.iter().map(|residual| residual.powi(2)).sum();
    if squares == 0.0 {
        return (slope, 0.0);
    }
    let r = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / squares;
    let independent = n * (1.0 - r) / (1.0 + r);
    (slope, if independent > 2.0 { 2.0 * (squares / (independent - 2.0) / xx).sqrt() } else { f64::INFINITY })
}

#[test]
fn a_slope_and_its_error() {
    // A saw tooth: neighbours go against each other, so that they say more than independent ones.
    let saw: Vec<_> = (0..100).map(|i| (f64::from(i), 2.0 * f64::from(i) + f64::from(i % 2))).collect();
    let (steep, small) = slope(&saw);
    assert!((steep - 2.0).abs() < 1e-3 && small < 1e-3, "{steep} {small}");
    // Four steps of twenty-five samples: little is known about the slope, though there are a hundred points.
    let steps: Vec<_> = (0..100).map(|i| (f64::from(i), f64::from(i / 25 % 2))).collect();
    assert!(slope(&steps).1 > 0.01, "{:?}", slope(&steps));
    assert_eq!(slope(&[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)]), (0.0, 0.0));
}

/// What is sampled, and its unit.
const SAMPLED: [(&str, &str); 3] = [("resident memory", "MB"), ("allocated memory", "MB"), ("descriptors", "")];

/// The values of [`SAMPLED`], as the program itself tells them.
fn usage(http: u16) -> [f64; 3] {
    let bytes = |name: &str| metric(http, name) / 1_048_576.0;
    [
        bytes("oodstream_resident_memory_bytes"),
        bytes("oodstream_heap_in_use_bytes"),
        metric(http, "oodstream_open_descriptors"),
    ]
}

fn start(place: &Place, arguments: &str) -> Live {
    let mut program = place.program();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default.onnx");
    program.env("OODSTREAM_MODEL", model);
    Live::start_with(place, program, arguments)
}

#[test]
#[ignore = "takes 30 minutes"]
fn soak() {
    let setting =
        |name: &str, default: f64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let minutes = setting("OODSTREAM_SOAK_MINUTES", 30.0);
    let turn_length = Duration::from_secs_f64(setting("OODSTREAM_SOAK_TURN_S", 30.0));
    let place = Place::new();
    fs::create_dir(place.path("rec")).unwrap();
    let (port, http) = (free_port(), free_port());
    let options = CameraOptions { width: 640, height: 360, fps: 10, ..CameraOptions::default() };
    let mut camera = Camera::start(options.clone());
    let at = camera.port();
    let mut run = start(
        &place,
        &format!(
            "run {} -o rtsp://127.0.0.1:{port}/front -o hls:hls -o rec/%Y%m%d-%H%M%S.mp4 -o events:e.jsonl --json r.json --http {http} \
             --set record.segment_s=20 --set record.budget_mb=20",
            camera.address()
        ),
    );
    let address = format!("rtsp://127.0.0.1:{port}/front");
    until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    live::until_served(port, "front", "");
    let mut watching = Monitor::start(&address, "tcp");
    let (start, mut samples) = (Instant::now(), Vec::new());
    println!("minute  resident MB  allocated MB  descriptors  frames seen by one monitor");
    let mut turn = 0u32;
    while start.elapsed().as_secs_f64() < minutes * 60.0 {
        // In each turn clients come, are killed and are stopped; every tenth turn the camera is killed.
        let killed = Monitor::start(&address, if turn.is_multiple_of(2) { "udp" } else { "tcp" });
        killed.sees(1);
        let stopped = Monitor::start(&address, "tcp");
        stopped.sees(1);
        stopped.signal("-STOP");
        drop(killed);
        if turn % 10 == 5 {
            camera.kill();
            camera = Camera::start(CameraOptions { port: at, ..options.clone() });
        }
        let until_next = start.elapsed() + turn_length;
        while start.elapsed() < until_next {
            samples.push((start.elapsed().as_secs_f64() / 3600.0, usage(http)));
            std::thread::sleep(turn_length.min(Duration::from_secs(2)));
        }
        drop(stopped);
        assert!(run.is_running(), "it ended");
        assert!(watching.is_running(), "the monitor was disconnected");
        if let Some((time, [resident, allocated, descriptors])) = samples.last() {
            println!("{:6.1}  {resident:11.1}  {allocated:12.2}  {descriptors:11}  {}", time * 60.0, watching.frames());
        }
        turn += 1;
    }
    println!("stopped in {:.2} s", run.stop(130).as_secs_f64());
    assert!(samples.iter().all(|(_, values)| values.iter().all(|value| value.is_finite())), "a sample is missing");
    // Warm after a sixth of the time.
    let warm: Vec<_> = samples.into_iter().filter(|sample| sample.0 > minutes / 360.0).collect();
    let mut growing = Vec::new();
    for (index, (what, unit)) in SAMPLED.into_iter().enumerate() {
        let points: Vec<_> = warm.iter().map(|(time, values)| (*time, values[index])).collect();
        let (slope, error) = slope(&points);
        let (low, high) = points.iter().fold((f64::MAX, f64::MIN), |(a, b), p| (a.min(p.1), b.max(p.1)));
        println!("{what}: {low:.1} to {high:.1} {unit}, slope {slope:+.2} +- {error:.2} {unit} per hour");
        growing.extend((slope > error).then_some(what));
    }
    println!("segments on the disk: {} files", live::names(&place.path("rec")).len());
    println!("{}", fs::read_to_string(place.path("r.json")).unwrap());
    assert!(growing.is_empty(), "{growing:?} grow by more than the error of their slopes");
}

#[test]
#[ignore = "takes a minute"]
fn stalled_for_twenty_seconds() {
    for transport in ["tcp", "udp"] {
        let place = Place::new();
        let events = place.path("e.jsonl");
        let reported = |what: &str| fs::read_to_string(&events).unwrap_or_default().matches(what).count();
        let mut camera = Camera::start(CameraOptions { width: 640, height: 360, fps: 10, ..CameraOptions::default() });
        let port = free_port();
        let mut run = start(
            &place,
            &format!(
                "run {} --transport {transport} -o rtsp://127.0.0.1:{port}/front -o events:e.jsonl --json r.json",
                camera.address()
            ),
        );
        until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        live::until_served(port, "front", "");
        let mut watching = Monitor::start(&format!("rtsp://127.0.0.1:{port}/front"), "tcp");
        watching.sees(20);
        camera.stop();
        let stopped = Instant::now();
        until("the loss is reported", || reported("\"lost\"") == 1);
        println!("{transport}: lost {:.1} s after the last picture", stopped.elapsed().as_secs_f64());
        while stopped.elapsed() < Duration::from_secs(20) {
            watching.sees(1);
        }
        camera.cont();
        let on = Instant::now();
        until("it is back", || reported("\"back\"") == 2);
        let away = on.elapsed();
        println!("{transport}: back {:.2} s after a stall of 20 s", away.as_secs_f64());
        assert!(away < Duration::from_secs(3), "{away:?}");
        watching.sees(20);
        assert!(watching.is_running());
        run.stop(130);
    }
}

#[test]
#[ignore = "takes 5 minutes"]
fn overload() {
    let place = Place::new();
    // What the machine can do, and then three times that.
    let mut run =
        start(&place, "run test://ball?live=1&width=640&height=360&fps=200 -o none --for 10s --json can.json");
    run.ends(0);
    let report = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(place.path(name)).unwrap()).unwrap()
    };
    let can = report("can.json")["inputs"][0]["frames_out"].as_f64().unwrap() / 10.0;
    let fps = (3.0 * can).ceil();
    let port = free_port();
    println!("the machine does {can:.1} frames/s; fed with {fps} for 5 minutes");
    let mut run = start(
        &place,
        &format!(
            "run test://ball?live=1&width=640&height=360&fps={fps} -o rtsp://127.0.0.1:{port}/x --for 5m --json r.json"
        ),
    );
    run.ends(0);
    let report = report("r.json");
    let stream = &report["inputs"][0];
    println!("{stream:#}");
    assert!(stream["dropped"].as_u64().unwrap() > 0, "{stream:#}");
    println!("inference p95: {} s", report["stages"]["infer"]["busy_p95_s"]);
    let inference = report["stages"]["infer"]["busy_p95_s"].as_f64().unwrap();
    let figure = |name: &str| stream["live"]["latency"][name].as_f64().unwrap();
    assert!(figure("p95_s") < 0.5 + inference && figure("growth_s_per_min") < 0.01, "{stream:#}");
}

#[test]
#[ignore = "takes a minute"]
fn four_streams() {
    // What the machine can do for all of them, and several times that.
    for fps in [4, 25] {
        let place = Place::new();
        let size = CameraOptions { width: 640, height: 360, fps, ..CameraOptions::default() };
        let mut doomed = Camera::start(size);
        let pattern = format!("test://ball?live=1&width=640&height=360&fps={fps}");
        let port = free_port();
        let mut run = start(
            &place,
            &format!("run {pattern} {pattern} {pattern} {} -o none --http {port} --json r.json", doomed.address()),
        );
        until("all are up", || http(port, "GET", "/healthz").0 == 200);
        let rates = |streams: &[&str]| {
            let (frames, time) = frames_meanwhile(port, streams, 60.0);
            frames.iter().map(|frames| frames / time.as_secs_f64()).collect::<Vec<_>>()
        };
        let four = rates(&["test", "test-2", "test-3", "127-0-0-1-cam"]);
        doomed.kill();
        until("the loss is felt", || {
            metric(port, "oodstream_stream_state{stream=\"127-0-0-1-cam\",state=\"up\"}") == 0.0
        });
        let three = rates(&["test", "test-2", "test-3"]);
        println!("four at {fps} frames/s: {four:.2?} frames/s out; one killed: {three:.2?}");
        assert!(evenness(&four) >= 0.9 && evenness(&three) >= 0.9);
        assert!(three.iter().zip(&four).all(|(after, before)| *after >= 0.9 * before));
        run.stop(130);
    }
}
