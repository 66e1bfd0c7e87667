//! What serves monitors, through the program: floods of connections, tries of passwords, names and labels of any text.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use support::common::Place;
use support::live::{WAIT, frames_out, free_port, goes_on, http, names, until};
use support::running::Live;

const BALL: &str = "test://ball?live=1&width=160&height=96";

/// Starts the program with `limit` descriptors, which it cannot raise.
fn start_limited(place: &Place, limit: u32, arguments: &str) -> Live {
    let program = place.program();
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={limit}:{limit}")).arg(program.get_program()).current_dir(place.path("."));
    for (name, value) in program.get_envs() {
        value.map(|value| limited.env(name, value));
    }
    Live::start_with(place, limited, arguments)
}

#[test]
fn a_thousand_connections_disturb_no_recording() {
    let place = Place::new();
    let (rtsp, port) = (free_port(), free_port());
    let outputs = format!("-o rtsp://127.0.0.1:{rtsp}/x -o x-%Y%m%d-%H%M%S.mkv -o hls:h --http {port}");
    let small = "--set record.segment_s=1 --set hls.segment_s=1";
    // Fewer descriptors than connections.
    let mut run = start_limited(&place, 256, &format!("run {BALL} {outputs} {small}"));
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    let clients: Vec<_> = (0..1000).filter_map(|_| TcpStream::connect(("127.0.0.1", rtsp)).ok()).collect();
    assert!(run.descriptors() < 256 - 32, "some are left for outputs: {} are open", run.descriptors());
    let recorded = || names(&place.path(".")).iter().filter(|name| name.starts_with("x-2")).count();
    let playlist = || fs::read_to_string(place.path("h/live.m3u8")).unwrap_or_default();
    let (before, list) = (recorded(), playlist());
    goes_on(port, "test");
    until("a new recording is begun and the playlist goes on", || recorded() > before && playlist() != list);
    assert_eq!(http(port, "GET", "/healthz").0, 200);
    assert!(run.log().contains("connections refused"), "{}", run.log());
    drop(clients);
    run.stop(130);
}

#[test]
fn refused_logins_are_a_line_in_the_log_and_no_more() {
    let place = Place::new();
    fs::write(place.path("users"), "ann:secret\n").unwrap();
    let (rtsp, port) = (free_port(), free_port());
    let serve = format!("-o rtsp://127.0.0.1:{rtsp}/x --set serve.users=\"users\" --http {port}");
    let mut run = Live::start(&place, &format!("run {BALL} {serve}"));
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    for _ in 0..50 {
        let mut client = TcpStream::connect(("127.0.0.1", rtsp)).unwrap();
        client.set_read_timeout(Some(WAIT)).unwrap();
        // `ann:wrong` in base 64.
        let login = "Authorization: Basic YW5uOndyb25n\r\n";
        let request = format!("DESCRIBE rtsp://127.0.0.1:{rtsp}/x RTSP/1.0\r\nCSeq: 1\r\n{login}\r\n");
        // The server hangs up on who must wait.
        let _ = client.write_all(request.as_bytes()).and_then(|()| client.read(&mut [0; 64]));
    }
    let log = run.log();
    assert_eq!(log.matches("was refused").count(), 1, "{log}");
    assert!(log.contains("127.0.0.1 was refused") && !log.contains("YW5u") && !log.contains("wrong"), "{log}");
    run.stop(130);
}

#[test]
fn another_site_cannot_reload() {
    let place = Place::new();
    fs::write(place.path("p.toml"), "[detect]\nthreshold = 1e9\n").unwrap();
    let port = free_port();
    let mut run = Live::start(&place, &format!("run {BALL} -o none -c p.toml --http {port}"));
    until("it is ready", || http(port, "GET", "/readyz").0 == 200);
    for (headers, status) in [
        ("Host: localhost", "200"),
        ("Host: evil.example", "403"),
        ("Host: localhost\r\nOrigin: http://evil.example", "403"),
    ] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(WAIT)).unwrap();
        write!(client, "POST /reload HTTP/1.1\r\n{headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
    }
    run.stop(130);
}

/// The labels of a line of metrics by the text format of OpenMetrics; none where it is malformed.
fn labels(line: &str) -> Option<Vec<(String, String)>> {
    let (_, mut rest) = line.split_once('{')?;
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let (mut value, mut characters) = (String::new(), after.chars());
        loop {
            match characters.next()? {
                '\\' => value.push(match characters.next()? {
                    'n' => '\n',
                    other @ ('\\' | '"') => other,
                    _ => return None,
                }),
                '"' => break,
                other => value.push(other),
            }
        }
        labels.push((name.to_owned(), value));
        rest = characters.as_str();
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.strip_prefix("} ")?.parse::<f64>().ok().map(|_| labels),
        }
    }
}

#[test]
fn quotes_and_backslashes_in_names_leave_the_metrics_whole() {
    let place = Place::new();
    let port = free_port();
    let folder = r#"a"b\c,d="e"#;
    let mut run = Live::start(&place, &format!("run {BALL} -o hls:{folder} --http {port}"));
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    let (_, text) = http(port, "GET", "/metrics");
    let mut named = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && line.contains('{')) {
        let labels = labels(line).unwrap_or_else(|| panic!("malformed: {line}"));
        named += usize::from(labels.iter().any(|(_, value)| *value == format!("hls:{folder}")));
    }
    assert!(named > 0, "{text}");
    assert!(frames_out(port, &["test"])[0] >= 0.0);
    run.stop(130);
    assert!(place.path(folder).join("live.m3u8").exists());
}

#[test]
fn a_name_of_a_stream_stays_in_its_folder() {
    let place = Place::new();
    fs::create_dir(place.path("in")).unwrap();
    for name in ["..", ".", "", "a/b", "../x", "a\\\"b", "a b", "/etc"] {
        let config = format!("[[stream]]\nname = \"{name}\"\ninput = \"{BALL}\"\noutput = [\"hls:in/{{name}}\"]\n");
        fs::write(place.path("p.toml"), config).unwrap();
        place.run("run -c p.toml").code(2).says(&["[[stream]] number 1", "the name", "letters, digits"]);
    }
    assert_eq!(names(&place.path("in")), Vec::<String>::new());
    assert_eq!(place.names(), ["in", "model.onnx", "p.toml"]);
}
