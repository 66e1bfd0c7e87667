//! A small HTTP server at the loopback interface: files of a folder, and `/mjpeg` as cameras send it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Size of the pictures of `/mjpeg`.
pub const MJPEG_SIZE: (u32, u32) = (160, 120);

pub struct Web {
    port: u16,
    state: Arc<State>,
}

struct State {
    folder: PathBuf,
    /// `Basic ...`; none: no authorization.
    login: Option<&'static str>,
    cut: AtomicBool,
    refused: AtomicUsize,
    over: AtomicBool,
}

impl Web {
    /// Serves `folder`, to those who send `login` (the value of the header) when there is one.
    pub fn start(folder: &Path, login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            folder: folder.to_path_buf(),
            login,
            cut: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                if shared.over.load(Ordering::Acquire) {
                    break;
                }
                let shared = Arc::clone(&shared);
                // A client that hangs up is none of our business.
                std::thread::spawn(move || answer(stream, &shared).ok());
            }
        });
        Self { port, state }
    }

    pub fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub fn address_for(&self, login: &str, path: &str) -> String {
        format!("http://{login}@127.0.0.1:{}/{path}", self.port)
    }

    /// Ends all `/mjpeg` streams, and refuses new ones until further notice.
    pub fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::Release);
    }

    /// Requests without the right login.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Acquire)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Release);
        // Wakes the accepting thread up; it is gone already when this fails.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut authorized = state.login.is_none();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ") {
                authorized |= name.eq_ignore_ascii_case("authorization") && Some(value) == state.login;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_string();
        let head = request.starts_with("HEAD");
        if !authorized {
            state.refused.fetch_add(1, Ordering::AcqRel);
            let text =
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(text.as_bytes())?;
        } else if path == "mjpeg" {
            return mjpeg(&mut stream, state);
        } else {
            let body = std::fs::read(state.folder.join(&path));
            let status = if body.is_ok() { "200 OK" } else { "404 Not Found" };
            let kind = if path.ends_with("m3u8") { "application/vnd.apple.mpegurl" } else { "video/mp2t" };
            let body = body.unwrap_or_default();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len())?;
            if !head {
                stream.write_all(&body)?;
            }
        }
    }
}

fn mjpeg(stream: &mut TcpStream, state: &State) -> std::io::Result<()> {
    if state.cut.load(Ordering::Acquire) {
        return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n")?;
    let (width, height) = MJPEG_SIZE;
    for shade in (0u8..=255).cycle() {
        if state.cut.load(Ordering::Acquire) || state.over.load(Ordering::Acquire) {
            break;
        }
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .encode(&vec![shade; (width * height * 3) as usize], width, height, image::ExtendedColorType::Rgb8)
            .unwrap();
        write!(stream, "--part\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len())?;
        stream.write_all(&jpeg)?;
        stream.write_all(b"\r\n")?;
        // The pace of the camera.
        std::thread::sleep(Duration::from_millis(40));
    }
    Ok(())
}
