//! Live runs through the binary: cameras that are killed, stalled and changed, monitors that must not notice, health, metrics,
//! reload, the ready pipeline files, and everything that is refused.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::camera::{Camera, CameraOptions, Codec};
use support::common;
use support::common::{Place, through_ffmpeg};
use support::device::Device;
use support::live;
use support::live::{Monitor, evenness, frames_meanwhile, free_port, http, metric, until, until_served};
use support::running::{Live, count, signals};

fn camera_outages(transport: &str) {
    let place = Place::new();
    let events = place.path("e.jsonl");
    let options = CameraOptions { width: 320, height: 192, fps: 15, ..CameraOptions::default() };
    let mut camera = Camera::start(options.clone());
    let port = free_port();
    let is_back = |times: usize, what: &str, camera: &Camera| {
        until("the camera is back", || count(&events, "back") == times);
        let took = camera.since().elapsed();
        println!("{transport}: back {:.2} s after the camera {what}", took.as_secs_f64());
        assert!(took < Duration::from_secs(3), "{took:?} after the camera {what}");
    };
    let mut run = Live::start(
        &place,
        &format!(
            "run {} -o rtsp://127.0.0.1:{port}/front -o events:e.jsonl --json report.json \
             --transport {transport} --set source.stall_s=1.5",
            camera.address()
        ),
    );
    until("the camera is found", || count(&events, "back") == 1);
    until_served(port, "front", "");
    let mut monitor = Monitor::start(&format!("rtsp://127.0.0.1:{port}/front"), "tcp");
    monitor.sees(20);

    // Killed, and started again on the same port with another size.
    let at = camera.port();
    camera.kill();
    until("the loss is told", || count(&events, "lost") == 1);
    monitor.sees(5);
    let mut camera = Camera::start(CameraOptions { port: at, width: 256, height: 160, ..options.clone() });
    is_back(2, "listens again", &camera);
    monitor.sees(20);

    // Stalled.
    camera.stop();
    until("the stall is told", || count(&events, "lost") == 2);
    monitor.sees(5);
    camera.cont();
    is_back(3, "goes on after a stall", &camera);
    monitor.sees(20);

    // Another codec.
    camera.kill();
    until("the loss is told", || count(&events, "lost") == 3);
    let camera = Camera::start(CameraOptions { port: at, codec: Codec::Jpeg, ..options });
    is_back(4, "listens again with another codec", &camera);
    monitor.sees(20);
    assert!(monitor.is_running(), "one connection all the time");

    let took = run.stop(130);
    println!("stopped in {:.2} s", took.as_secs_f64());
    let report: Value = serde_json::from_str(&fs::read_to_string(place.path("report.json")).unwrap()).unwrap();
    let stream = &report["inputs"][0];
    assert_eq!(stream["live"]["reconnects"], 3, "{stream}");
    assert!(stream["live"]["repeats"].as_u64().unwrap() > 0);
    assert!(stream["live"]["latency"]["p95_s"].as_f64().unwrap() > 0.0);
    let told = signals(&events);
    assert!(told.iter().all(|line| line["wall"].as_str().is_some_and(|wall| wall.ends_with('Z'))), "{told:?}");
    assert!(told[2]["format"].as_str().unwrap().contains("256x160"), "{told:?}");
}

#[test]
fn a_camera_over_tcp_is_lost_and_comes_back() {
    camera_outages("tcp");
}

#[test]
fn a_camera_over_udp_is_lost_and_comes_back() {
    camera_outages("udp");
}

/// Options with which a frame takes far longer than a hundredth of a second: without optimisation the small network of the
/// tests does, looked at more than once.
const SLOW: &str = if cfg!(debug_assertions) {
    "--scales 1,2"
} else {
    concat!("-m ", env!("CARGO_MANIFEST_DIR"), "/models/default.onnx")
};

/// The state of the first stream.
fn state(port: u16) -> String {
    let health: Value = serde_json::from_str(&http(port, "GET", "/healthz").1).unwrap_or_default();
    health["streams"][0]["state"].as_str().unwrap_or_default().to_owned()
}

/// Mean brightness of each picture of a video, 0 to 255.
fn brightness(path: &Path) -> Vec<f64> {
    let pixels = through_ffmpeg(path, "-vf scale=32:32 -pix_fmt gray -fps_mode passthrough -f rawvideo -");
    let pictures = pixels.chunks_exact(32 * 32);
    pictures.map(|picture| picture.iter().map(|&value| f64::from(value)).sum::<f64>() / 1024.0).collect()
}

#[test]
fn a_lost_camera_is_shown_and_reported() {
    let place = Place::new();
    let options = CameraOptions { width: 320, height: 192, pattern: "white".to_owned(), ..CameraOptions::default() };
    let mut camera = Camera::start(options);
    let (port, http_port) = (free_port(), free_port());
    let mut run = Live::start(
        &place,
        &format!(
            "run {} -o x.mkv -o rtsp://127.0.0.1:{port}/x --http {http_port} --set detect.threshold=1e9",
            camera.address()
        ),
    );
    until("it is up", || state(http_port) == "up");
    until_served(port, "x", "");
    let monitor = Monitor::start(&format!("rtsp://127.0.0.1:{port}/x"), "udp");
    monitor.sees(10);
    let clients = format!("oodstream_output_clients{{stream=\"127-0-0-1-cam\",output=\"rtsp://127.0.0.1:{port}/x\"}}");
    assert_eq!(metric(http_port, &clients), 1.0);
    camera.kill();
    until("repeats go out", || metric(http_port, "oodstream_frames_repeated_total{stream=\"127-0-0-1-cam\"}") > 5.0);
    assert_eq!(state(http_port), "down");
    monitor.sees(3);
    run.interrupt(130);
    let seen = brightness(&place.path("x.mkv"));
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    println!("brightness {first:.0} with the camera, {last:.0} without");
    assert!(first > 180.0 && last < 0.7 * first && last > 20.0, "{first} {last}");
}

#[test]
fn an_output_that_does_not_work_degrades_its_stream() {
    let place = Place::new();
    let (port, http_port) = (free_port(), free_port());
    let mut run = Live::start(
        &place,
        &format!(
            "run test://ball?live=1&width=160&height=96 -o x.mkv -o rtsp+push://127.0.0.1:{port}/x --http {http_port}"
        ),
    );
    until("it is told", || {
        let (status, health) = http(http_port, "GET", "/healthz");
        status == 200 && health.contains("degraded") && health.contains("the output rtsp+push:")
    });
    // Nobody but this machine can reach it.
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let places: Vec<_> = sockets.lines().filter(|line| line.contains(&format!(":{http_port:04X} 00000000:"))).collect();
    assert!(places.len() == 1 && places[0].contains("0100007F:"), "{places:?}");
    run.stop(130);
}

#[test]
fn frames_older_than_the_limit_are_left_out() {
    let place = Place::new();
    let port = free_port();
    let mut run = Live::start(
        &place,
        &format!(
            "run test://ball?live=1&width=160&height=96&fps=500 {SLOW} --policy drop-oldest --max-latency 0.03 --set live.queue=64 -o none \
             --http {port}"
        ),
    );
    let left_out = || metric(port, "oodstream_frames_dropped_total{stream=\"test\",reason=\"stale\"}");
    until("frames are left out", || left_out() > 5.0);
    until("others are not", || metric(port, "oodstream_frames_out_total{stream=\"test\"}") > 5.0);
    run.stop(130);
}

#[test]
fn passwords_are_nowhere() {
    let place = Place::new();
    let secret = "hunter2-S3cret";
    let camera = Camera::start(CameraOptions { login: Some(("me".into(), secret.into())), ..CameraOptions::default() });
    fs::write(place.path("users"), format!("watcher:{secret}\n")).unwrap();
    let (http_port, port) = (free_port(), free_port());
    let mut run = Live::start(
        &place,
        &format!(
            "-vv run {} {} -o rtsp://127.0.0.1:{port}/{{name}} -o events:e.jsonl --json r.json --http {http_port} --set serve.users=users",
            camera.address_for(&format!("me:{secret}")),
            camera.address_for(&format!("me:wrong-{secret}"))
        ),
    );
    until("one is up and the other one is refused", || {
        let log = place.path("e.jsonl");
        count(&log, "back") == 1
            && signals(&log).iter().any(|line| line["reason"].as_str().is_some_and(|r| r.contains("password")))
    });
    let (status, health) = http(http_port, "GET", "/healthz");
    assert_eq!(status, 503);
    let (_, metrics) = http(http_port, "GET", "/metrics");
    run.stop(130);
    let texts = ["e.jsonl", "r.json", "log.txt"].map(|name| fs::read_to_string(place.path(name)).unwrap());
    for text in texts.iter().chain([&health, &metrics]) {
        assert!(!text.contains(secret), "the password is in: {text}");
    }
}

#[test]
fn health_metrics_and_reload() {
    let place = Place::new();
    fs::write(place.path("p.toml"), "[detect]\nthreshold = 1e9\n").unwrap();
    let port = free_port();
    let mut run =
        Live::start(&place, &format!("run test://ball?live=1&width=160&height=96 -o x.mkv -c p.toml --http {port}"));
    until("it is ready", || http(port, "GET", "/readyz").0 == 200);
    until("it is up", || state(port) == "up");
    // Started anew in itself, under its own name, for a heap that does not grow.
    let of_process = |file: &str| fs::read(format!("/proc/{}/{file}", run.id())).unwrap();
    assert_eq!(of_process("comm"), b"oodstream\n");
    assert!(String::from_utf8_lossy(&of_process("environ")).contains("G_SLICE=always-malloc"));
    until("frames are counted", || metric(port, "oodstream_frames_out_total{stream=\"test\"}") > 10.0);
    let (_, text) = http(port, "GET", "/metrics");
    for line in [
        "oodstream_frames_in_total{stream=\"test\"}",
        "oodstream_frames_dropped_total{stream=\"test\",reason=\"crowded\"}",
        "oodstream_latency_seconds_bucket{le=\"0.5\",stream=\"test\"}",
        "oodstream_stage_busy_seconds{stage=\"infer\",quantile=\"0.95\"}",
        "oodstream_stream_state{stream=\"test\",state=\"up\"} 1",
        "oodstream_reconnects_total{stream=\"test\"} 0",
        "oodstream_resident_memory_bytes ",
        "oodstream_heap_in_use_bytes ",
        "oodstream_queue_length{stage=\"infer\"}",
        "oodstream_frames_waiting{stream=\"test\"}",
        "# EOF",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    assert_eq!(metric(port, "oodstream_ood_share{stream=\"test\"}"), 0.0);

    // A lower threshold marks everything, without a gap.
    let heat = "[draw]\nview = \"heatmap\"\nopacity = 0.9\n";
    fs::write(place.path("p.toml"), format!("[detect]\nthreshold = -1e9\n{heat}")).unwrap();
    let (status, body) = http(port, "PUT", "/reload");
    assert_eq!(status, 200, "{body}");
    until("everything is marked", || metric(port, "oodstream_ood_share{stream=\"test\"}") == 1.0);
    // A broken file changes nothing.
    fs::write(place.path("p.toml"), "[detect]\nthreshold = \"low\"\n").unwrap();
    let (status, body) = http(port, "PUT", "/reload");
    assert!(status == 400 && body.contains("threshold"), "{status} {body}");
    fs::write(place.path("p.toml"), "[source]\ncredentials = \"rtsp://me:pa55@host/x\n").unwrap();
    let (status, body) = http(port, "PUT", "/reload");
    assert!(status == 400 && body.contains("p.toml, line 2") && !body.contains("pa55"), "{status} {body}");
    // SIGHUP does the same as the request.
    fs::write(place.path("p.toml"), "[detect]\nthreshold = 1e9\n").unwrap();
    run.signal("-HUP");
    until("nothing is marked", || metric(port, "oodstream_ood_share{stream=\"test\"}") == 0.0);
    fs::write(place.path("p.toml"), "[draw]\nview = \"side-by-side\"\n").unwrap();
    let (status, body) = http(port, "PUT", "/reload");
    assert!(status == 400 && body.contains("restart"), "{status} {body}");
    assert_eq!(http(port, "GET", "/nothing").0, 404);
    run.stop(130);
    // The heat map is seen, darker than the picture that it covers, in one recording that went on.
    let seen = brightness(&place.path("x.mkv"));
    let (dark, bright) = seen.iter().fold((f64::MAX, 0.0f64), |(low, high), &mean| (low.min(mean), high.max(mean)));
    assert!(bright > dark + 10.0 && (seen[0] - seen[seen.len() - 1]).abs() < 10.0, "{dark} {bright}");
}

#[test]
fn idle_connections_and_a_lack_of_descriptors_end_nothing() {
    let place = Place::new();
    let port = free_port();
    let mut run = Live::start(&place, &format!("run test://ball?live=1&width=160&height=96 -o none --http {port}"));
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    let limit = run.descriptors() + 10;
    let limited = Command::new("prlimit").args([format!("--pid={}", run.id()), format!("--nofile={limit}")]).status();
    assert!(limited.unwrap().success());
    let frames = || metric(port, "oodstream_frames_out_total{stream=\"test\"}");
    let before = frames();
    let idle: Vec<_> = (0..30).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    until("no descriptors are left", || run.descriptors() >= limit);
    // They stay open on this side.
    until("it answers again", || frames() > before);
    drop(idle);
    run.stop(130);
}

#[test]
fn four_streams_take_turns_and_the_stall_or_end_of_one_is_not_felt() {
    let place = Place::new();
    let mut doomed = Camera::start(CameraOptions { width: 160, height: 96, fps: 100, ..CameraOptions::default() });
    // Far more frames come than go: what each stream gets is its turn.
    let pattern = "test://ball?live=1&width=160&height=96&fps=100";
    let port = free_port();
    let mut run = Live::start(
        &place,
        &format!(
            "run {pattern} {pattern} {pattern} {} {SLOW} -o none -o events:e.jsonl --http {port} --json r.json",
            doomed.address()
        ),
    );
    until("all are up", || http(port, "GET", "/healthz").0 == 200);
    let (four, _) = frames_meanwhile(port, &["test", "test-2", "test-3", "127-0-0-1-cam"], 30.0);
    assert!(evenness(&four) >= 0.9, "{four:?}");
    let others_go_on = |losses: usize| {
        until("the loss is told", || count(&place.path("e.jsonl"), "lost") == losses);
        let (three, _) = frames_meanwhile(port, &["test", "test-2", "test-3"], 30.0);
        assert!(evenness(&three) >= 0.9, "{three:?}");
    };
    doomed.stop();
    others_go_on(1);
    doomed.cont();
    until("it is back", || metric(port, "oodstream_stream_state{stream=\"127-0-0-1-cam\",state=\"up\"}") == 1.0);
    doomed.kill();
    others_go_on(2);
    run.stop(130);
    let report: Value = serde_json::from_str(&fs::read_to_string(place.path("r.json")).unwrap()).unwrap();
    let left_out = |n: usize| report["inputs"][n]["dropped"].as_u64().unwrap();
    assert!((0..4).all(|n| left_out(n) > 0), "the network was never the slowest: {report}");
    assert!(report["inputs"][3]["error"].is_null());
}

#[test]
fn the_ready_pipeline_files_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for (name, inputs, streams) in [
        ("camera.toml", &["/dev/video0"][..], 1),
        ("rtsp-monitor.toml", &["rtsp://127.0.0.1:8555/camera"], 1),
        ("multi-camera.toml", &["rtsp://127.0.0.1:8555/front", "rtsp://127.0.0.1:8555/rear"], 3),
    ] {
        let place = Place::new();
        let (port, http_port) = (free_port(), free_port());
        let device = Device::new(&place);
        let mut cameras = Vec::new();
        let mut text = fs::read_to_string(folder.join(name)).unwrap();
        for input in inputs {
            assert!(text.contains(input), "{name}: {input}");
            let there = if input.starts_with("rtsp") {
                cameras.push(Camera::start(CameraOptions { width: 160, height: 96, ..CameraOptions::default() }));
                cameras[cameras.len() - 1].address()
            } else {
                device.path()
            };
            text = text.replace(input, &there);
        }
        let sample = folder.parent().unwrap().join("samples/street.mp4");
        text = text
            .replace("../samples/street.mp4", &sample.to_string_lossy())
            .replace("127.0.0.1:8554", &format!("127.0.0.1:{port}"))
            .replace("listen = \"9090\"", &format!("listen = \"{http_port}\""));
        fs::write(place.path("p.toml"), text).unwrap();
        let extra = if name == "rtsp-monitor.toml" { format!("--http {http_port}") } else { String::new() };
        let arguments = format!("run -c p.toml --json r.json -o events:e.jsonl {extra}");
        let mut run = Live::start_with(&place, device.program(), &arguments);
        until("all are up", || http(http_port, "GET", "/healthz").0 == 200);
        until("every stream has put out a frame", || {
            let (_, text) = http(http_port, "GET", "/metrics");
            let counts = text.lines().filter_map(|line| line.strip_prefix("oodstream_frames_out_total{"));
            counts.filter(|count| !count.ends_with(" 0")).count() == streams
        });
        run.stop(130);
        let report: Value = serde_json::from_str(&fs::read_to_string(place.path("r.json")).unwrap()).unwrap();
        let ran = report["inputs"].as_array().unwrap();
        assert_eq!(ran.len(), streams, "{name}");
        assert!(ran.iter().all(|stream| stream["frames_out"].as_u64() > Some(0)), "{name}: {report}");
        if name == "camera.toml" {
            assert!(place.path("live/live.m3u8").exists());
            assert_eq!(fs::read_dir(place.path("recordings")).unwrap().count(), 1);
        }
    }
}

#[test]
fn every_frame_of_a_file_in_real_time_or_the_newest_result_on_each() {
    let place = Place::new();
    place.moving("a.mp4", 50);
    place.run("run a.mp4 --realtime -o out.mp4 --json r.json --policy wait").code(0);
    assert_eq!(live::decoded(&place.path("out.mp4")), 50);
    place.run("run a.mp4 --realtime --sync newest -o newest.mkv --json n.json").code(0);
    let report: Value = serde_json::from_str(&fs::read_to_string(place.path("n.json")).unwrap()).unwrap();
    assert_eq!(report["inputs"][0]["frames_in"], 50);
    assert!(report["wall_s"].as_f64().unwrap() > 1.5, "played too fast");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port();
    let busy = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let busy_port = busy.local_addr().unwrap().port().to_string();
    let _ = taken;
    fs::write(place.path("bad.pem"), "not a certificate\n").unwrap();
    fs::write(place.path("twice.toml"), "[[stream]]\nname = \"a\"\ninput = \"test://ball?live=1\"\n[[stream]]\nname = \"a\"\ninput = \"test://ball?live=1\"\n").unwrap();
    fs::write(place.path("same.toml"), "[[stream]]\ninput = \"test://ball?live=1\"\noutput = [\"rtsp://127.0.0.1:9/x\"]\n[[stream]]\ninput = \"test://ball?live=1\"\noutput = [\"rtsp://127.0.0.1:9/x\"]\n").unwrap();
    let live = "run test://ball?live=1";
    for (arguments, code, words) in [
        (live.to_owned(), 2, &["output", "rtsp://"][..]),
        (format!("{live} a.mp4 -o none"), 2, &["a.mp4", "--realtime"]),
        (format!("{live} {} -o x.mp4", "test://ball?live=1"), 2, &["{name}"]),
        (format!("{live} -o none --policy never"), 2, &["policy", "latest"]),
        (format!("{live} -o none --policy wait --sync newest"), 2, &["live.sync", "live.policy"]),
        (format!("{live} -o none --max-latency 0"), 2, &["live.max_latency_s"]),
        (format!("{live} -o none --http nowhere"), 2, &["http.listen", "nowhere"]),
        (format!("{live} -o none --http {busy_port}"), 1, &["http.listen", &busy_port]),
        (format!("{live} -o rtsp://127.0.0.1:{busy_port}/x"), 1, &[&busy_port]),
        (format!("{live} -o rtsps://127.0.0.1:{}/x", free_port()), 2, &["certificate"]),
        (
            format!(
                "{live} -o rtsps://127.0.0.1:{}/x --set serve.certificate=bad.pem --set serve.key=bad.pem",
                free_port()
            ),
            1,
            &["bad.pem"],
        ),
        ("run rtsp://127.0.0.1:1/x -o none --credentials gone.txt".to_owned(), 1, &["gone.txt"]),
        (format!("{live} -o hls:"), 2, &["hls:"]),
        (format!("{live} -o display:"), 1, &["display:"]),
        ("run a.mp4 -o rtsp://127.0.0.1:8554/x".to_owned(), 2, &["--realtime"]),
        ("run -c twice.toml -o none".to_owned(), 2, &["`a`", "taken"]),
        ("run -c same.toml".to_owned(), 2, &["{name}"]),
        ("run v4l2://".to_owned(), 2, &["v4l2"]),
    ] {
        let ended: common::Ended = place
            .program()
            .args(arguments.split_whitespace())
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .output()
            .unwrap()
            .into();
        eprintln!("{arguments}");
        ended.code(code).says(words);
    }
}

#[test]
fn a_camera_that_is_not_there_is_waited_for() {
    let place = Place::new();
    let (camera_port, port) = (free_port(), free_port());
    let mut run = Live::start(
        &place,
        &format!("run rtsp://127.0.0.1:{camera_port}/cam -o none -o events:e.jsonl --http {port} --json r.json"),
    );
    until("the loss is told", || count(&place.path("e.jsonl"), "lost") == 1);
    assert_eq!(http(port, "GET", "/readyz").0, 200);
    let (status, health) = http(port, "GET", "/healthz");
    assert!(status == 503 && health.contains("down"), "{status} {health}");
    let _camera = Camera::start(CameraOptions { port: camera_port, ..CameraOptions::default() });
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    run.stop(130);
}
