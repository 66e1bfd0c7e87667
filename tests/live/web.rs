//! HTTP servers as there are: cameras with MJPEG, playlists, pages; what is shown, what is kept, and who sees the login.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oodstream::input::live::SourceOptions;

use crate::peers::{Seen, open, watch};

/// An HTTP server on loopback.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the head of each request; false ends the connection.
    fn start(answer: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let (noted, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(client.try_clone().unwrap());
                    loop {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        noted.lock().unwrap().push(head.clone());
                        if !answer(&head, &mut client) {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    fn address(&self, login: &str, path: &str) -> String {
        format!("http://{login}127.0.0.1:{}/{path}", self.port)
    }

    /// Heads of the requests so far that hold `text`.
    fn requests(&self, text: &str) -> Vec<String> {
        let text = text.to_ascii_lowercase();
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|head| head.to_ascii_lowercase().contains(&text)).cloned().collect()
    }
}

/// Answers with `status`, `headers` (each with its end) and `body`.
fn send(client: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> bool {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    client.write_all(head.as_bytes()).and_then(|()| client.write_all(body)).is_ok()
}

/// `jpeg` as MJPEG, over and over again, until the client hangs up.
fn mjpeg(client: &mut TcpStream, jpeg: &[u8]) -> bool {
    let head = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n";
    let mut sent = client.write_all(head.as_bytes());
    while sent.is_ok() {
        let part = format!("--part\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        sent = client.write_all(&[part.as_bytes(), jpeg, b"\r\n"].concat());
        // The pace of the camera.
        std::thread::sleep(Duration::from_millis(40));
    }
    false
}

fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// `u:secretpw` in base 64.
const LOGIN: &str = "Basic dTpzZWNyZXRwdw==";
const ASK: &str = "WWW-Authenticate: Basic realm=\"cam\"\r\n";

/// Answers 401 to who does not log in.
fn may(head: &str, client: &mut TcpStream) -> bool {
    head.contains(LOGIN) || !send(client, "401 Unauthorized", ASK, b"")
}

#[test]
fn a_login_follows_a_redirection_to_the_same_server_alone() {
    let same = Server::start(|head, client| match path(head) {
        "/x" => may(head, client) && send(client, "302 Found", "Location: /y?token=abcdef\r\n", b""),
        _ => may(head, client) && mjpeg(client, &jpeg()),
    });
    let seen = watch(open(&same.address("u:secretpw@", "x"), SourceOptions::default()).as_mut(), |seen| {
        seen.pictures.len() >= 5
    });
    assert!(seen.reasons.is_empty() && seen.pictures.len() >= 5, "{seen:?}");

    let other = Server::start(|head, client| !may(head, client) && mjpeg(client, &jpeg()));
    let to = other.address("evil:token@", "z?token=abcdef");
    let moved = Server::start(move |_, client| send(client, "302 Found", &format!("Location: {to}\r\n"), b""));
    let seen = watch(open(&moved.address("u:secretpw@", "x"), SourceOptions::default()).as_mut(), |seen| {
        !seen.reasons.is_empty()
    });
    assert!(seen.reasons[0].contains("401: another server"), "{seen:?}");
    assert_eq!((other.requests("GET /z").len(), other.requests("authorization").len()), (1, 0));
    assert!(!format!("{seen:?}").contains("abcdef"));

    let round = Server::start(|_, client| send(client, "302 Found", "Location: /again\r\n", b""));
    let mut reader = open(&round.address("", "x"), SourceOptions::default());
    let seen = watch(reader.as_mut(), |seen| !seen.reasons.is_empty());
    assert!(seen.reasons[0].contains("more than 5 times"), "{seen:?}");
}

#[test]
fn a_wrong_password_over_http_is_tried_once() {
    let server = Server::start(|head, client| may(head, client) && mjpeg(client, &jpeg()));
    let mut reader = open(&server.address("u:wrong@", "x"), SourceOptions::default());
    let start = Instant::now();
    let seen = watch(reader.as_mut(), |_| start.elapsed() > Duration::from_secs(5));
    assert_eq!(seen.reasons, ["401: wrong user or password"]);
    assert_eq!(server.requests("authorization").len(), 1);
}

/// A playlist in `folder` of test pictures, 20 a second in segments of a second; `name` begins their names.
fn playlist(folder: &Path, name: &str, seconds: u32, options: &[&str]) -> String {
    let list = format!("{name}.m3u8");
    let input = format!("testsrc=size=160x120:rate=20:duration={seconds}");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &input, "-c:v", "libx264", "-preset", "ultrafast"])
        .args(["-pix_fmt", "yuv420p", "-g", "20", "-bf", "0", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"])
        .args(options)
        .arg(&list)
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::read_to_string(folder.join(list)).unwrap()
}

/// The lines of a playlist from its first segment to its end.
fn segments(list: &str) -> String {
    list.lines()
        .skip_while(|line| !line.starts_with("#EXTINF") && !line.starts_with("#EXT-X-MAP"))
        .fold(String::new(), |text, line| if line == "#EXT-X-ENDLIST" { text } else { text + line + "\n" })
}

fn files(folder: &Path) -> Server {
    let folder = folder.to_owned();
    Server::start(move |head, client| match std::fs::read(folder.join(path(head).trim_start_matches('/'))) {
        Ok(body) => send(client, "200 OK", "", &body),
        Err(_) => send(client, "404 Not Found", "", b""),
    })
}

/// The pace of a stream of 20 pictures a second: all come, none much before or behind its time.
#[track_caller]
fn is_even(seen: &Seen, count: usize) {
    assert!(seen.reasons.is_empty(), "{:?}", seen.reasons);
    assert!(seen.pictures.len() * 20 >= count * 19, "{} of {count}", seen.pictures.len());
    for half in seen.pictures.windows(10) {
        let took = half[9] - half[0];
        assert!((150..1200).contains(&took.as_millis()), "10 pictures in {took:?}: {:?}", seen.pictures);
    }
}

#[test]
fn hls_keeps_its_pace_behind_a_discontinuity() {
    let head = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n";
    let mp4 = |name: &str| {
        let (first, pieces) = (format!("{name}-init.mp4"), format!("{name}%d.m4s"));
        ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", &first, "-hls_segment_filename", &pieces]
            .map(str::to_owned)
    };
    let ts = |name: &str| ["-hls_segment_filename".to_owned(), format!("{name}%d.ts")];
    for (what, first, second) in
        [("fMP4", mp4("a").to_vec(), mp4("b").to_vec()), ("TS", ts("a").to_vec(), ts("b").to_vec())]
    {
        for mark in ["#EXT-X-DISCONTINUITY\n", ""] {
            let folder = tempfile::tempdir().unwrap();
            let make = |name: &str, options: &[String]| {
                let options: Vec<_> = options.iter().map(String::as_str).collect();
                segments(&playlist(folder.path(), name, 4, &options))
            };
            let (first, second) = (make("a", &first), make("b", &second));
            let list = format!("{head}{first}{mark}{second}#EXT-X-ENDLIST\n");
            std::fs::write(folder.path().join("live.m3u8"), &list).unwrap();
            let server = files(folder.path());
            let mut reader = open(&server.address("", "live.m3u8"), SourceOptions::default());
            let seen = watch(reader.as_mut(), |seen| seen.pictures.len() >= 155 || !seen.reasons.is_empty());
            println!("{what}, {mark:?}: {} pictures in {:?}", seen.pictures.len(), seen.pictures.last());
            is_even(&seen, 155);
        }
    }
}

#[test]
fn a_playlist_reads_http_alone_and_shows_the_login_to_its_own_server_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret.ts"), [0x47; 188 * 4]).unwrap();
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n";
    let secret = folder.path().join("secret.ts").display().to_string();
    for entry in [
        format!("#EXTINF:1,\nfile://{secret}\n"),
        format!("#EXT-X-KEY:METHOD=AES-128,URI=\"file://{secret}\"\n#EXTINF:1,\na.ts\n"),
        format!("#EXT-X-STREAM-INF:BANDWIDTH=9\nfile://{secret}\n"),
    ] {
        let list = format!("{head}{entry}#EXT-X-ENDLIST\n");
        let server = Server::start(move |_, client| send(client, "200 OK", "", list.as_bytes()));
        let mut reader = open(&server.address("", "live.m3u8"), SourceOptions::default());
        let seen = watch(reader.as_mut(), |seen| !seen.reasons.is_empty());
        assert!(seen.pictures.is_empty() && seen.reasons[0].contains("not HTTP"), "{entry}: {seen:?}");
    }

    playlist(folder.path(), "a", 3, &["-hls_segment_filename", "a%d.ts"]);
    let elsewhere = Arc::new(files(folder.path()));
    let shared = Arc::clone(&elsewhere);
    let own = folder.path().to_owned();
    let server = Server::start(move |head, client| {
        if !may(head, client) {
            return true;
        }
        let text = std::fs::read_to_string(own.join("a.m3u8")).unwrap();
        // The second and third segments are on another server.
        let text = text.replace("a1.ts", &shared.address("", "a1.ts")).replace("a2.ts", &shared.address("", "a2.ts"));
        match path(head) {
            "/a.m3u8" => send(client, "200 OK", "", text.as_bytes()),
            _ => send(client, "200 OK", "", &std::fs::read(own.join("a0.ts")).unwrap()),
        }
    });
    let mut reader = open(&server.address("u:secretpw@", "a.m3u8"), SourceOptions::default());
    let seen = watch(reader.as_mut(), |seen| seen.pictures.len() >= 50 || !seen.reasons.is_empty());
    assert!(seen.pictures.len() >= 50, "{seen:?}");
    assert!(server.requests("GET /a0.ts")[0].contains(LOGIN));
    assert!(!elsewhere.requests("GET /a1.ts").is_empty());
    assert_eq!(elsewhere.requests("authorization").len(), 0);
}

/// Peak of the memory of this process, in MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn what_has_no_end_is_not_kept() {
    let part = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n--part\r\n\
                Content-Type: image/jpeg\r\n\r\n\u{1}";
    let head = "HTTP/1.1 200 OK\r\n";
    let list = "HTTP/1.1 200 OK\r\n\r\n#EXTM3U\n";
    for (begin, then, said) in [
        (part, vec![b'a'; 1_000_000], "a picture of more than 32 MB"),
        (head, b"X-Header: value\r\n".repeat(4096), "no valid response"),
        (list, b"#EXTINF:1,\nsegment.ts\n".repeat(4096), "the playlist is larger"),
    ] {
        let before = peak();
        let taken = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&taken);
        let server = Server::start(move |_, client| {
            let mut sent = client.write_all(begin.as_bytes());
            for _ in 0..1500 {
                if sent.is_err() {
                    break;
                }
                sent = client.write_all(&then);
                *counted.lock().unwrap() += then.len();
            }
            false
        });
        let mut reader = open(&server.address("", "x"), SourceOptions::default());
        let seen = watch(reader.as_mut(), |seen| !seen.reasons.is_empty());
        assert!(seen.reasons[0].contains(said), "{seen:?}");
        drop(reader);
        let (grown, taken) = (peak().saturating_sub(before), *taken.lock().unwrap() / 1_000_000);
        println!("{said}: {taken} MB sent, the peak grew by {grown} MB");
        assert!(grown < 150, "{grown} MB");
    }
}

/// A picture of 64x48 as JPEG.
fn jpeg() -> Vec<u8> {
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode(&[90; 64 * 48 * 3], 64, 48, image::ExtendedColorType::Rgb8)
        .unwrap();
    jpeg
}

#[test]
fn a_web_page_is_called_one() {
    let page = b"<!DOCTYPE html>\n<html><head><title>Login</title></head><body><form></form></body></html>\n";
    for kind in ["Content-Type: text/html; charset=utf-8\r\n", ""] {
        let server = Server::start(move |_, client| send(client, "200 OK", kind, page));
        let mut reader = open(&server.address("", "video"), SourceOptions::default());
        let seen = watch(reader.as_mut(), |seen| !seen.reasons.is_empty());
        assert!(seen.pictures.is_empty() && seen.reasons[0].contains("a web page, not a video"), "{kind}: {seen:?}");
    }
}

#[test]
fn a_picture_that_announces_gigabytes_is_refused() {
    let mut jpeg = jpeg();
    // Height and width in the frame header.
    let header = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let side = 30_000u16.to_be_bytes();
    jpeg[header + 5..header + 9].copy_from_slice(&[side, side].concat());
    let server = Server::start(move |_, client| mjpeg(client, &jpeg));
    let before = peak();
    let mut reader = open(&server.address("", "x"), SourceOptions::default());
    let seen = watch(reader.as_mut(), |seen| !seen.reasons.is_empty());
    assert!(seen.reasons[0].contains("30000x30000"), "{seen:?}");
    let grown = peak().saturating_sub(before);
    assert!(grown < 500, "the peak grew by {grown} MB");
}
