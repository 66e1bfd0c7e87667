//! The page of a live run through the binary: pictures, the feed, settings in force at once and saved, logins, and
//! everything that is refused.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::camera::{Camera, CameraOptions};
use support::common::Place;
use support::live::{WAIT, free_port, goes_on, metric, until};
use support::onnx;
use support::running::Live;

const BALL: &str = "test://ball?live=1&width=160&height=96";

/// An answer: status, head and body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request and its whole answer; status 0 when there is none. `headers` are whole lines.
fn request(port: u16, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let nothing = Answer { status: 0, head: String::new(), body: Vec::new() };
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return nothing };
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let text = format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    // The server may answer before it has read everything.
    let _ = stream.write_all(text.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return nothing };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

fn get(port: u16, path: &str) -> Answer {
    request(port, "GET", path, "", "")
}

fn post(port: u16, path: &str, body: &Value) -> Answer {
    request(port, "POST", path, "", &body.to_string())
}

/// The next picture of a stream after `after`, and its number.
fn picture(port: u16, stream: &str, after: u64) -> Option<(image::GrayImage, u64)> {
    let answer = get(port, &format!("/api/streams/{stream}/picture?after={after}"));
    let number = answer.header("x-picture")?.parse().ok()?;
    Some((image::load_from_memory(&answer.body).ok()?.into_luma8(), number))
}

fn mean(picture: &image::GrayImage) -> f64 {
    picture.pixels().map(|pixel| f64::from(pixel.0[0])).sum::<f64>() / f64::from(picture.width() * picture.height())
}

/// The messages of the feed, one after the other.
struct Feed(BufReader<TcpStream>);

impl Feed {
    fn follow(port: u16, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        write!(stream, "GET /api/feed HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next message of that name for which `is` holds.
    #[track_caller]
    fn until(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let (mut line, mut event) = (String::new(), String::new());
        while start.elapsed() < WAIT {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the feed has ended");
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ")
                && event == name
            {
                let value: Value = serde_json::from_str(data).unwrap();
                if is(&value) {
                    return value;
                }
            }
        }
        panic!("no such message: {name}");
    }
}

fn up(place: &Place, arguments: &str) -> (Live, u16) {
    let port = free_port();
    let run = Live::start(place, &format!("run {arguments} --http {port}"));
    until("it is up", || get(port, "/healthz").status == 200);
    (run, port)
}

#[test]
fn the_page_and_its_files_are_there_with_a_strict_policy() {
    let place = Place::new();
    let (mut run, port) = up(&place, &format!("{BALL} -o none"));
    let page = get(port, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    let files: Vec<_> = text.split(['"', '\'']).filter(|word| word.starts_with('/') && word.contains('.')).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let answer = get(port, file);
        assert_eq!((answer.status, answer.header("x-content-type-options")), (200, Some("nosniff")), "{file}");
        assert!(!answer.body.is_empty(), "{file}");
    }
    for path in [
        "/../Cargo.toml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.js/../../x",
        "/api/streams/..%2f..%2fx/video",
    ] {
        assert_eq!(get(port, path).status, 404, "{path}");
    }
    run.stop(130);
}

#[test]
fn pictures_move_and_settings_are_in_force_at_once_and_saved() {
    let place = Place::new();
    let file = "# the ball\n[detect]\nthreshold = 1e9 # nothing\n\n[[stream]]\nname = \"ball\"\n\
                input = \"test://ball?live=1&width=160&height=96\"\n";
    fs::write(place.path("p.toml"), file).unwrap();
    let (mut run, port) = up(&place, "-c p.toml -o none");
    let (first, number) = picture(port, "ball", 0).unwrap();
    assert_eq!(first.dimensions(), (160, 96));
    until("the ball moves", || picture(port, "ball", number).is_some_and(|(next, _)| next != first));
    assert_eq!(get(port, "/api/streams/other/picture").status, 404);

    let mut feed = Feed::follow(port, "");
    let hello = feed.until("hello", |_| true);
    assert_eq!(hello["settings"]["threshold"], 1e9, "{hello}");
    let views = hello["settings"]["views"].as_array().unwrap();
    assert!(views.contains(&json!("mask")) && !views.contains(&json!("side-by-side")), "{views:?}");

    // All of it is marked, and white in the view of the mask.
    let change =
        post(port, "/api/settings", &json!({ "threshold": -1e9, "view": "mask", "opacity": 1.0, "legend": false }));
    assert_eq!(change.status, 200, "{}", change.text());
    until("the mask is white", || picture(port, "ball", 0).is_some_and(|(picture, _)| mean(&picture) > 240.0));
    let sent = feed.until("settings", |settings| settings["view"] == "mask");
    assert_eq!((sent["threshold"].as_f64(), sent["opacity"].as_f64()), (Some(-1e9), Some(1.0)));
    feed.until("sample", |sample| sample["streams"][0]["share"] == 1.0);
    // A threshold that marks nothing is black again.
    assert_eq!(post(port, "/api/settings", &json!({ "threshold": 1e9 })).status, 200);
    until("the mask is black", || picture(port, "ball", 0).is_some_and(|(picture, _)| mean(&picture) < 10.0));

    for (body, word) in [
        (r#"{"opacity": 2}"#, "opacity"),
        (r#"{"view": "side-by-side"}"#, "restart"),
        (r#"{"treshold": 2}"#, "treshold"),
        (r#"{"threshold": 1e39}"#, "finite"),
        (r#"{"ignore": ["/etc/passwd"]}"#, "poly:"),
        ("", "EOF"),
    ] {
        let refused = request(port, "POST", "/api/settings", "", body);
        assert!(
            refused.status == 400 && refused.text().contains(word),
            "{body}: {} {}",
            refused.status,
            refused.text()
        );
    }
    let polygon = "poly:0,0.5 1,0.5 1,1 0,1";
    let now = post(port, "/api/settings", &json!({ "ignore": [polygon] })).json();
    assert_eq!((&now["ignore"], &now["threshold"]), (&json!([polygon]), &json!(1e9)));
    let saved = post(port, "/api/save", &json!({}));
    assert_eq!(saved.status, 200, "{}", saved.text());
    let text = fs::read_to_string(place.path("p.toml")).unwrap();
    assert!(text.starts_with("# the ball\n[detect]\nthreshold = 1000000000.0 # nothing\n"), "{text}");
    assert!(text.contains("view = \"mask\"") && text.contains(polygon), "{text}");
    run.stop(130);
    // What was saved is what a new run begins with.
    let (mut run, port) = up(&place, "-c p.toml -o none");
    let settings = get(port, "/api/settings").json();
    assert_eq!((&settings["view"], &settings["ignore"]), (&json!("mask"), &json!([polygon])));
    run.stop(130);
}

#[test]
fn an_ignored_part_raises_no_event_from_then_on() {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    fs::write(place.path("model.toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    let rules = "--method max-logit --threshold 1.5 --set events.settle_s=0 --set events.road_gate=false";
    let port = free_port();
    let mut run =
        Live::start(&place, &format!("run test://ball?live=1&width=320&height=180 {rules} -o none --http {port}"));
    until("it listens", || get(port, "/readyz").status == 200);
    let mut feed = Feed::follow(port, "");
    let begun = feed.until("event", |event| event["type"] == "start");
    assert_eq!((begun["stream"].as_str(), &begun["picture"]), (Some("test"), &json!(true)), "{begun}");
    let shown = get(port, &format!("/api/events/{}/picture", begun["id"].as_str().unwrap()));
    let shown = image::load_from_memory(&shown.body).unwrap();
    assert_eq!((shown.width(), shown.height()), (320, 180));
    for unknown in ["0123456789abcdef", "..%2f..%2fetc%2fpasswd"] {
        assert_eq!(get(port, &format!("/api/events/{unknown}/picture")).status, 404);
    }
    let whole = json!({ "ignore": ["poly:0,0 1,0 1,1 0,1"] });
    assert_eq!(post(port, "/api/settings", &whole).status, 200);
    feed.until("event", |event| event["type"] == "end");
    // Half a minute of video would have brought many more.
    let mut quiet = Feed::follow(port, "");
    let before = quiet.until("hello", |_| true)["events"].as_array().unwrap().len();
    goes_on(port, "test");
    goes_on(port, "test");
    let after = Feed::follow(port, "").until("hello", |_| true)["events"].as_array().unwrap().len();
    assert_eq!(before, after);
    run.stop(130);
}

#[test]
fn the_loss_and_the_return_of_a_stream_are_reported() {
    let place = Place::new();
    let mut camera = Camera::start(CameraOptions { width: 160, height: 96, ..CameraOptions::default() });
    let (mut run, port) = up(&place, &format!("{} -o none --transport tcp --set source.stall_s=1", camera.address()));
    let mut feed = Feed::follow(port, "");
    feed.until("sample", |sample| sample["streams"][0]["state"] == "up");
    camera.stop();
    let lost = feed.until("sample", |sample| sample["streams"][0]["state"] == "down");
    assert!(lost["streams"][0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{lost}");
    // The sign of the lost signal is seen.
    let name = lost["streams"][0]["name"].as_str().unwrap();
    assert!(picture(port, name, 0).is_some());
    camera.cont();
    feed.until("sample", |sample| sample["streams"][0]["state"] == "up");
    run.stop(130);
}

#[test]
fn a_browser_that_stops_reading_is_dropped_and_costs_nothing() {
    let place = Place::new();
    // Noise, so that pictures are large.
    let (mut run, port) = up(
        &place,
        "test://snow?live=1&width=640&height=360 -o none --set http.video_fps=60 --set http.video_width=1920",
    );
    let mut video = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(video, "GET /api/streams/test/video HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 300];
    video.read_exact(&mut head).unwrap();
    assert!(String::from_utf8_lossy(&head).contains("multipart/x-mixed-replace"));
    let before = run.descriptors();
    let start = Instant::now();
    // It is dropped while this side keeps the connection open.
    until("the silent browser is dropped", || run.descriptors() < before);
    println!("dropped after {:.1} s", start.elapsed().as_secs_f64());
    goes_on(port, "test");
    assert!(picture(port, "test", 0).is_some());
    drop(video);
    run.stop(130);
}

#[test]
fn other_sites_and_unknown_hosts_are_refused() {
    let place = Place::new();
    let (mut run, port) = up(&place, &format!("{BALL} -o none --set http.hosts=['cam.example']"));
    let body = json!({ "opacity": 0.1 }).to_string();
    for (headers, status) in [
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Host: evil.example\r\n", 403),
        ("Host: evil.example\r\nOrigin: http://evil.example\r\n", 403),
        ("Host: cam.example\r\nOrigin: http://cam.example\r\n", 200),
        ("Origin: http://localhost\r\n", 200),
    ] {
        for path in ["/api/settings", "/reload"] {
            let answer = request(port, "POST", path, headers, if path == "/reload" { "" } else { &body });
            assert_eq!(answer.status, status, "{path} {headers}");
        }
        let read = request(port, "GET", "/api/settings", headers, "");
        assert_eq!(read.status, status, "{headers}");
    }
    // A page of another name that leads here by DNS sees nothing, and Prometheus still asks by any name.
    assert_eq!(request(port, "GET", "/", "Host: evil.example\r\n", "").status, 403);
    assert_eq!(request(port, "GET", "/metrics", "Host: oodstream\r\n", "").status, 200);
    // A link on another page leads to the page.
    assert_eq!(request(port, "GET", "/", "Sec-Fetch-Site: cross-site\r\n", "").status, 200);
    run.stop(130);
}

/// The hash of `password`, by the command.
fn hash(place: &Place, password: &str) -> String {
    fs::write(place.path("password"), format!("{password}\n")).unwrap();
    let mut command = place.program();
    let input = fs::File::open(place.path("password")).unwrap();
    let made = command.arg("password").stdin(input).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

#[test]
fn another_address_needs_a_password_or_a_token() {
    let place = Place::new();
    let port = free_port();
    let run = format!("run {BALL} -o none --http 0.0.0.0:{port}");
    place.run(&run).code(2).says(&["http.listen", "oodstream password", "http.token"]);
    fs::write(place.path("bad.toml"), "[http]\npassword_hash = 'open sesame'\n").unwrap();
    let refused = place.run(&format!("{run} -c bad.toml")).code(2).says(&["http.password_hash"]);
    assert!(!refused.stderr.contains("sesame"), "{}", refused.stderr);
    for set in
        ["http.password_hash=sesame --set draw.opacity=9", "http.pasword_hash=sesame", "http.password_hash:sesame"]
    {
        let refused = place.run(&format!("{run} --set {set}")).code(2).says(&["--set "]);
        assert!(!refused.stderr.contains("sesame"), "{}", refused.stderr);
    }
    let refused = place.run(&format!("run {BALL} --webhook-header sesame")).code(2).says(&["--webhook-header"]);
    assert!(!refused.stderr.contains("sesame"), "{}", refused.stderr);
    fs::write(place.path("short"), "tiny\n").unwrap();
    let refused = place.run(&format!("{run} --set http.token=short")).code(2).says(&["http.token", "shorter"]);
    assert!(!refused.stderr.contains("tiny"), "{}", refused.stderr);
    place.run(&format!("{run} --set http.token=gone")).code(1).says(&["http.token gone"]);
    place.run(&format!("{run} --set http.certificate=gone.pem")).code(2).says(&["http.key"]);
    let short = place.program().arg("password").stdin(fs::File::open(place.path("short")).unwrap()).output().unwrap();
    assert_eq!(short.status.code(), Some(2));
}

#[test]
fn ten_thousand_wrong_passwords_are_refused_and_the_right_one_opens_the_page() {
    let place = Place::new();
    let port = free_port();
    let hash = hash(&place, "open sesame");
    fs::write(place.path("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(place.path("p.toml"), format!("[http]\npassword_hash = '{hash}'\ntoken = 'token'\n")).unwrap();
    let mut run = Live::start(&place, &format!("run {BALL} -o none -c p.toml --http 0.0.0.0:{port}"));
    until("it is up", || get(port, "/healthz").status == 200);
    assert_eq!(get(port, "/").status, 200, "the page is empty without what it asks for");
    assert_eq!(get(port, "/healthz").json(), json!({}), "names are for those who have logged in");
    for path in
        ["/api/feed", "/api/settings", "/api/streams/test/video", "/api/streams/test/picture", "/metrics", "/nothing"]
    {
        assert_eq!(get(port, path).status, 401, "{path}");
    }
    for path in ["/reload", "/api/settings", "/api/save"] {
        assert_eq!(post(port, path, &json!({})).status, 401, "{path}");
    }
    let token = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    assert_eq!(request(port, "GET", "/metrics", token, "").status, 200);

    let wrong = json!({ "password": "guess" }).to_string();
    let mut statuses = std::collections::BTreeMap::new();
    let start = Instant::now();
    let mut left = 10_000;
    while left > 0 {
        // Many on one connection, as a program that guesses does it.
        let batch = left.min(500);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let one = format!("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", wrong.len());
        let mut writer = stream.try_clone().unwrap();
        let text: String = (1..=batch)
            .map(|number| format!("{one}{}\r\n{wrong}", if number == batch { "Connection: close\r\n" } else { "" }))
            .collect();
        let writing = std::thread::spawn(move || writer.write_all(text.as_bytes()));
        let mut answers = String::new();
        let _ = stream.read_to_string(&mut answers);
        let _ = writing.join().unwrap();
        let lines: Vec<_> = answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).collect();
        assert!(!lines.is_empty());
        left -= lines.len().min(left);
        for line in lines {
            *statuses.entry(line[..3].to_owned()).or_insert(0) += 1;
        }
    }
    println!("{statuses:?} in {:.1} s", start.elapsed().as_secs_f64());
    // Five tries a minute.
    let checked = statuses["401"];
    assert!((5..=5 * (1 + start.elapsed().as_secs() as i32 / 60)).contains(&checked), "{statuses:?}");
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    let right = json!({ "password": "open sesame" }).to_string();
    let later = request(port, "POST", "/login", "", &right);
    assert!(later.status == 429 && later.header("retry-after").is_some());
    goes_on_with(port, token);

    // From another address it opens the page.
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), port);
    write!(
        other,
        "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{right}",
        right.len()
    )
    .unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(request(port, "GET", "/api/settings", &session, "").status, 200);
    Feed::follow(port, &session).until("hello", |_| true);
    assert_eq!(request(port, "POST", "/logout", &session, "").status, 204);
    // The session is over, and this address still has to wait.
    assert_eq!(request(port, "GET", "/api/settings", &session, "").status, 429);
    run.stop(130);
    let log = run.log();
    assert!(!log.contains(&hash) && !log.contains("sesame") && !log.contains("0123456789abcdef"), "{log}");
}

/// A client with another address of the loopback.
fn connect_from(address: Ipv4Addr, port: u16) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::V4(SocketAddrV4::new(address, 0))).unwrap();
        socket.connect(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))).await.unwrap()
    });
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

/// Waits until more frames went out, with a token.
fn goes_on_with(port: u16, token: &str) {
    let out = || {
        let text = request(port, "GET", "/metrics", token, "").text();
        let line = text.lines().find_map(|line| line.strip_prefix("oodstream_frames_out_total{stream=\"test\"} "));
        line.and_then(|count| count.trim().parse::<f64>().ok())
    };
    // The token cannot be tried from an address that guesses.
    assert_eq!(out(), None);
    assert_eq!(get(port, "/healthz").status, 200);
}

#[test]
fn oversized_requests_and_idle_connections_end_nothing() {
    let place = Place::new();
    let (mut run, port) = up(&place, &format!("{BALL} -o none"));
    let long = "x".repeat(100_000);
    for (headers, body, status) in [
        (format!("X-Long: {long}\r\n"), String::new(), 431),
        (String::new(), format!("{{\"ignore\": [\"{long}\"]}}"), 413),
        ("Content-Type: text/plain\r\n".to_owned(), "{".to_owned(), 400),
    ] {
        let answer = request(port, "POST", "/api/settings", &headers, &body);
        assert!(answer.status == status || answer.status == 0 && status != 400, "{status}: {}", answer.status);
    }
    assert_eq!(get(port, &format!("/{}", "y".repeat(100_000))).status / 100 % 4, 0, "414, 431 or none");
    let mut feed = Feed::follow(port, "");
    feed.until("hello", |_| true);
    let before = run.descriptors();
    let idle: Vec<_> = (0..500).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    assert_eq!(idle.len(), 500);
    assert_eq!(get(port, "/healthz").status, 200);
    // Who follows the feed is not closed for those who do nothing.
    feed.until("sample", |_| true);
    until("idle connections are closed", || run.descriptors() <= before);
    drop(idle);
    goes_on(port, "test");
    run.stop(130);
}

#[test]
fn two_hundred_loads_leave_memory_and_descriptors_as_they_were() {
    let place = Place::new();
    let (mut run, port) = up(&place, &format!("{BALL} -o none"));
    let load = || {
        for path in ["/", "/page.css", "/page.js", "/chart.js", "/events.js", "/icon.svg", "/api/settings"] {
            assert_eq!(get(port, path).status, 200, "{path}");
        }
        Feed::follow(port, "").until("sample", |_| true);
        assert!(picture(port, "test", 0).is_some());
    };
    (0..20).for_each(|_| load());
    let heap = || metric(port, "oodstream_heap_in_use_bytes");
    let (memory, descriptors) = (heap(), run.descriptors());
    (0..200).for_each(|_| load());
    let after = heap();
    println!("heap {memory} -> {after} bytes, descriptors {descriptors} -> {}", run.descriptors());
    until("descriptors are as before", || run.descriptors() <= descriptors);
    // The history of five minutes grows meanwhile, by some 100 bytes a sample.
    assert!(after < memory + 2e6, "{memory} -> {after}");
    run.stop(130);
}

#[test]
fn the_page_is_encrypted_with_a_certificate() {
    let place = Place::new();
    let made = Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout key.pem -out cert.pem".split(' '))
        .current_dir(place.path("."))
        .output()
        .expect("openssl runs");
    assert!(made.status.success());
    let port = free_port();
    let tls = "--set http.certificate=cert.pem --set http.key=key.pem";
    let mut run = Live::start(&place, &format!("run {BALL} -o none --http {port} {tls}"));
    let page = || {
        let output = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-CAfile", "cert.pem"])
            .current_dir(place.path("."))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .and_then(|mut child| {
                write!(
                    child.stdin.as_mut().unwrap(),
                    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )?;
                child.wait_with_output()
            });
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    until("the page comes over TLS", || page().contains("<title>oodstream</title>"));
    // Without encryption there is nothing.
    assert_eq!(get(port, "/").status, 0);
    let mut silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0, "a handshake that never comes is not waited for");
    run.stop(130);
    place
        .run(&format!("run {BALL} -o none --http {port} --set http.certificate=key.pem --set http.key=key.pem"))
        .code(1)
        .says(&["http.certificate"]);
}

#[test]
fn recordings_are_served_in_ranges_by_the_rules_of_the_page() {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    fs::write(place.path("model.toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    fs::write(place.path("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let token = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    let port = free_port();
    let mut run = Live::start(
        &place,
        &format!(
            "run test://ball?live=1&width=320&height=180 --method max-logit --threshold 1.5 --set events.settle_s=0 \
             --set events.road_gate=false -o x.mkv --http {port} --set http.token=token"
        ),
    );
    until("it is up", || get(port, "/healthz").status == 200);
    let ask = |path: &str, headers: &str| request(port, "GET", path, &format!("{token}{headers}"), "");
    let begun = Feed::follow(port, token).until("event", |event| event["type"] == "start");
    assert_eq!(begun["recorded"], true, "{begun}");
    let found = format!("/api/events/{}/recording", begun["id"].as_str().unwrap());
    until("it is recorded", || ask(&found, "").status == 200);
    let found = ask(&found, "").json();
    assert_eq!(found["file"], "x.mkv", "no path of the machine: {found}");
    let video = found["video"].as_str().unwrap();
    until("something is written", || ask(video, "").body.len() > 2000);
    let whole = ask(video, "");
    assert_eq!(whole.header("content-type"), Some("video/x-matroska"));
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(whole.body[..4], [0x1a, 0x45, 0xdf, 0xa3], "it is Matroska");
    let part = ask(video, "Range: bytes=100-299\r\n");
    assert_eq!((part.status, part.body.len()), (206, 200));
    assert_eq!(part.body, whole.body[100..300]);
    assert!(part.header("content-range").unwrap().starts_with("bytes 100-299/"));
    assert_eq!(ask(video, "Range: bytes=999999999-\r\n").status, 416);
    assert_eq!(request(port, "HEAD", video, token, "").status, 200);
    for path in [
        "/api/recordings/0",
        "/api/recordings/18446744073709551616",
        "/api/recordings/x.mkv",
        "/api/recordings/..%2fx.mkv",
        "/api/recordings/..%2f..%2f..%2fetc%2fpasswd",
        "/api/recordings/%2fetc%2fpasswd",
        "/api/recordings/1/../../x.mkv",
        "/api/events/0123456789abcdef/recording",
        "/api/events/..%2f..%2fetc%2fpasswd/recording",
    ] {
        assert_eq!(ask(path, "").status, 404, "{path}");
    }
    for path in [video, "/api/recordings/0", "/api/events/0123456789abcdef/recording"] {
        assert_eq!(get(port, path).status, 401, "{path}");
    }
    assert_eq!(ask(video, "Sec-Fetch-Site: cross-site\r\n").status, 403);
    run.stop(130);
}

/// What an open page asks for: the feed, and one picture after the other.
pub struct Reader {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    pictures: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Reader {
    pub fn open(port: u16, stream: &str) -> Self {
        use std::sync::atomic::Ordering;
        let reader = Self { stop: Default::default(), pictures: Default::default() };
        let (stop, stream) = (reader.stop.clone(), stream.to_owned());
        let mut feed = Feed::follow(port, "");
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !stop.load(Ordering::SeqCst) && feed.0.read(&mut bytes).is_ok_and(|read| read > 0) {}
        });
        let (stop, pictures) = (reader.stop.clone(), reader.pictures.clone());
        std::thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = get(port, &format!("/api/streams/{stream}/picture?after={number}"));
                number = answer.header("x-picture").and_then(|number| number.parse().ok()).unwrap_or(number);
                pictures.fetch_add(u64::from(answer.status == 200), Ordering::SeqCst);
            }
        });
        reader
    }

    pub fn pictures(&self) -> u64 {
        self.pictures.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
