//! What the tests of live outputs share: a feeder in real time, monitors, plain RTSP requests, and waiting for conditions.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oodstream::gst;
use oodstream::gst::Frame;
use oodstream::input::Read;
use oodstream::output;
use oodstream::output::publish;
use oodstream::output::publish::{OutputStatus, PublishOptions, ServeOptions, Servers, Target};
use oodstream::output::{Encoding, FrameWriter, Written};
use oodstream::{Error, Result};

/// The longest that anything here may take on a loaded machine.
pub const WAIT: Duration = Duration::from_secs(40);

/// One test at a time: descriptors and rates are those of the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    gst::init().unwrap();
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a condition.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < WAIT, "not within {WAIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that nobody has.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn target(text: impl AsRef<str>) -> Target {
    Target::parse(text.as_ref()).unwrap().unwrap()
}

/// The frames of a test pattern.
pub fn frames(spec: &str) -> Vec<Frame> {
    let (mut reader, _) = output::file::open_test(spec, None, &Encoding::default(), 0).unwrap();
    let mut frames = Vec::new();
    loop {
        match reader.read(WAIT).unwrap() {
            Read::Frame(frame) => frames.push(frame),
            Read::End(_) => return frames,
            other => panic!("{other:?}"),
        }
    }
}

/// Frames of one or more test patterns (split by blanks), over and over again, at 25 a second.
pub struct Feeder {
    stop: Arc<AtomicBool>,
    pub written: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Box<dyn FrameWriter>>>>,
    pub statuses: Vec<Arc<OutputStatus>>,
}

pub const FPS: u64 = 25;
pub const PERIOD: u64 = 1_000_000_000 / FPS;

impl Feeder {
    pub fn start(targets: &[Target], servers: &Servers, options: &PublishOptions, spec: &str) -> Result<Self> {
        let (mut writer, statuses) = publish::open(targets, servers, options)?;
        let frames: Vec<_> = spec.split(' ').flat_map(frames).collect();
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            for index in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let mut frame = frames[index as usize % frames.len()].share();
                // Live input is irregular: by up to 3 ms here.
                frame.running_time = index * PERIOD + index % 4 * 1_000_000;
                let due = start + Duration::from_nanos(frame.running_time);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let before = Instant::now();
                assert!(writer.write(frame, Duration::from_secs(5))?.is_none());
                let took = before.elapsed();
                // Starting the encoder is the first write's work; nothing waits after that.
                assert!(index == 0 || took < Duration::from_secs(2), "write took {took:?}");
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(writer)
        });
        Ok(Self { stop, written, thread: Some(thread), statuses })
    }

    /// Serves one stream at `url` with what is left at its default.
    pub fn serve(url: &str, spec: &str) -> Self {
        let servers = Servers::new(&ServeOptions::default());
        Self::start(&[target(url)], &servers, &PublishOptions::default(), spec).unwrap()
    }

    fn stop(&mut self) -> Result<Box<dyn FrameWriter>> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn finish(mut self) -> Result<Written> {
        let writer = self.stop()?;
        let start = Instant::now();
        let written = writer.finish(&|| false);
        println!("finished in {:?}", start.elapsed());
        written
    }

    pub fn abort(mut self) {
        self.stop().unwrap().abort();
    }

    pub fn clients(&self, output: usize) -> u64 {
        self.statuses[output].clients.load(Ordering::SeqCst)
    }

    pub fn is_up(&self, output: usize) -> bool {
        self.statuses[output].up.load(Ordering::SeqCst)
    }

    /// Waits for `more` frames to be written.
    #[track_caller]
    pub fn go_on(&self, more: u64) {
        let from = self.written.load(Ordering::SeqCst);
        until("frames written", || self.written.load(Ordering::SeqCst) >= from + more);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if self.thread.is_some() {
            drop(self.stop());
        }
    }
}

/// ffmpeg as a monitor: decodes, and tells each picture.
pub struct Monitor {
    child: Child,
    frames: Arc<AtomicU64>,
}

impl Monitor {
    pub fn start(url: &str, transport: &str) -> Self {
        let mut child = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-loglevel", "fatal", "-rtsp_transport", transport])
            .args(["-analyzeduration", "200000", "-fflags", "nobuffer", "-i", url])
            .args(["-an", "-f", "framecrc", "-flush_packets", "1", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ffmpeg runs");
        let frames = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&frames);
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(|line| line.ok()) {
                if !line.starts_with('#') {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { child, frames }
    }

    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::SeqCst)
    }

    /// Waits for `more` frames.
    #[track_caller]
    pub fn sees(&self, more: u64) {
        let from = self.frames();
        until("frames arrive", || self.frames() >= from + more);
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain RTSP client: requests over a connection of its own.
pub struct Rtsp {
    stream: BufReader<TcpStream>,
    sequence: u32,
    /// Goes into every request.
    pub header: String,
}

pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Rtsp {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        Self { stream: BufReader::new(stream), sequence: 0, header: String::new() }
    }

    pub fn ask(&mut self, method: &str, url: &str, header: &str) -> Answer {
        self.sequence += 1;
        let request = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{}{header}\r\n", self.sequence, self.header);
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut headers = String::new();
        loop {
            // Packets of the stream may come between.
            let first = self.stream.fill_buf().unwrap().first().copied();
            if first == Some(b'$') {
                self.packet();
                continue;
            }
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "closed after {headers}");
            if line.trim().is_empty() {
                break;
            }
            headers.push_str(&line);
        }
        let status = headers.split_whitespace().nth(1).unwrap().parse().unwrap();
        let length = headers.lines().find_map(|line| line.strip_prefix("Content-Length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }

    /// Reads one packet of the stream.
    pub fn packet(&mut self) -> Vec<u8> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0], b'$');
        let mut data = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        self.stream.read_exact(&mut data).unwrap();
        data
    }

    /// Asks for the stream over this connection.
    pub fn play(port: u16, name: &str) -> Self {
        Self::play_over(port, name, "RTP/AVP/TCP;unicast;interleaved=0-1")
    }

    /// Asks for the stream, `transport` is the header of that name; again while the answer is 503, which GStreamer's server
    /// gives while it takes down the pipeline of the client that was the last to leave.
    pub fn play_over(port: u16, name: &str, transport: &str) -> Self {
        let url = format!("rtsp://127.0.0.1:{port}/{name}");
        let mut client = Self::connect(port);
        let mut described = client.ask("DESCRIBE", &url, "");
        until("the stream is described", || {
            if described.status == 503 {
                client = Self::connect(port);
                described = client.ask("DESCRIBE", &url, "");
            }
            described.status != 503
        });
        assert_eq!(described.status, 200, "{}", described.headers);
        let control = described.body.lines().filter_map(|line| line.strip_prefix("a=control:")).next_back().unwrap();
        let track = if control.contains("://") { control.to_owned() } else { format!("{url}/{control}") };
        let set = client.ask("SETUP", &track, &format!("Transport: {transport}\r\n"));
        assert_eq!(set.status, 200, "{}", set.headers);
        let session = set.headers.lines().find_map(|line| line.strip_prefix("Session:")).unwrap();
        client.header = format!("Session: {}\r\n", session.split(';').next().unwrap().trim());
        assert_eq!(client.ask("PLAY", &url, "").status, 200);
        client
    }
}

/// Status and body of a plain HTTP request.
pub fn http(port: u16, method: &str, path: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return (0, String::new()) };
    stream.set_read_timeout(Some(WAIT)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// The values of the metrics' lines that begin with `lines`, all of one moment.
pub fn metrics(port: u16, lines: &[&str]) -> Vec<f64> {
    let (_, text) = http(port, "GET", "/metrics");
    let value = |line| text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(f64::NAN);
    lines.iter().map(|line| value(*line)).collect()
}

/// The value of a metric's line that begins with `line`.
pub fn metric(port: u16, line: &str) -> f64 {
    metrics(port, &[line])[0]
}

/// Frames of each of `streams` that went on to its outputs, all counted at one moment.
pub fn frames_out(port: u16, streams: &[&str]) -> Vec<f64> {
    let lines: Vec<_> = streams.iter().map(|name| format!("oodstream_frames_out_total{{stream=\"{name}\"}}")).collect();
    metrics(port, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits until 25 more frames of `stream` went on to its outputs.
#[track_caller]
pub fn goes_on(port: u16, stream: &str) {
    let out = || frames_out(port, &[stream])[0];
    let before = out();
    until("the stream goes on", || out() > before + 25.0);
}

/// How many frames each of `streams` gets while the slowest of them gets `least` more, and how long that takes.
#[track_caller]
pub fn frames_meanwhile(port: u16, streams: &[&str], least: f64) -> (Vec<f64>, Duration) {
    let (start, from) = (Instant::now(), frames_out(port, streams));
    let mut more = Vec::new();
    until("frames come from every stream", || {
        more = frames_out(port, streams).iter().zip(&from).map(|(now, from)| now - from).collect();
        more.iter().all(|more| *more >= least)
    });
    (more, start.elapsed())
}

/// The least of several rates as a share of the greatest.
pub fn evenness(rates: &[f64]) -> f64 {
    let (low, high) = rates.iter().fold((f64::MAX, 0.0f64), |(low, high), &rate| (low.min(rate), high.max(rate)));
    low / high
}

/// Waits until a stream can be asked for.
#[track_caller]
pub fn until_served(port: u16, name: &str, header: &str) {
    let url = format!("rtsp://127.0.0.1:{port}/{name}");
    until("the stream is served", || Rtsp::connect(port).ask("DESCRIBE", &url, header).status == 200);
}

/// Frames that ffprobe decodes from a file; none when it cannot be played.
pub fn decoded(path: &Path) -> u64 {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames"])
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split([',', '\n']).find_map(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// Names in a folder, sorted, hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of this process in kB.
pub fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a failing open says.
#[track_caller]
pub fn refused(targets: &[Target], options: &ServeOptions) -> Error {
    let opened = publish::open(targets, &Servers::new(options), &PublishOptions::default());
    let error = opened.map(drop).unwrap_err();
    println!("{error}");
    error
}
