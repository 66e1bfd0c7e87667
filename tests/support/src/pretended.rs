//! A pretended RTSP camera on loopback that does what real ones do wrong: written for these tests, over TCP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a camera does wrong.
#[derive(Clone)]
pub struct Faults {
    /// The H.264 stream, one access unit each with its slices; sent over and over again.
    pub units: Arc<Vec<Vec<Vec<u8>>>>,
    /// Answer to SETUP over UDP.
    pub udp: u16,
    /// Wants Digest with `qop`; the password is `right`.
    pub login: bool,
    /// Ends a session that asked nothing for so long, in seconds.
    pub timeout: Option<u64>,
    /// A marker on each slice.
    pub markers: bool,
    /// A new SSRC with each so many access units.
    pub ssrc_every: Option<usize>,
    /// Bytes that belong to nothing behind each access unit.
    pub junk: Vec<u8>,
    /// No `interleaved=` in the answer to SETUP.
    pub silent_setup: bool,
    /// A video track of an unknown codec before the other one.
    pub unknown_first: bool,
    /// Answer to DESCRIBE instead of a description.
    pub describe: Option<String>,
}

/// A running camera, until it is dropped.
pub struct Camera {
    port: u16,
    over: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Camera {
    pub fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ended, noted) = (Arc::clone(&over), Arc::clone(&requests));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (faults, ended, noted) = (faults.clone(), Arc::clone(&ended), Arc::clone(&noted));
                // Clients hang up as they like.
                std::thread::spawn(move || serve(client, &faults, &ended, &noted).ok());
            }
        });
        Self { port, over, requests }
    }

    pub fn address(&self, login: &str) -> String {
        format!("rtsp://{login}127.0.0.1:{}/cam", self.port)
    }

    /// Heads of the requests so far that hold `text`.
    pub fn requests(&self, text: &str) -> Vec<String> {
        self.requests.lock().unwrap().iter().filter(|head| head.contains(text)).cloned().collect()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// `frames` frames of a test picture as H.264, by access units; `options` go to x264.
pub fn h264(folder: &Path, frames: u32, options: &str) -> Arc<Vec<Vec<Vec<u8>>>> {
    let path = folder.join("stream.h264");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-frames:v"])
        .arg(frames.to_string())
        .args(["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-bf", "0"])
        .args(["-x264-params", &format!("repeat-headers=1:sliced-threads=0:scenecut=0:{options}")])
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(made.success());
    let bytes = std::fs::read(path).unwrap();
    let starts: Vec<usize> = (3..bytes.len()).filter(|at| bytes[at - 3..*at] == [0, 0, 1]).collect();
    let (mut units, mut unit, mut sliced) = (Vec::new(), Vec::new(), false);
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(bytes.len(), |next| next - 3);
        let nal = bytes[*start..end].to_vec();
        let nal: Vec<u8> = nal[..nal.iter().rposition(|byte| *byte != 0).unwrap() + 1].to_vec();
        let slice = matches!(nal[0] & 31, 1 | 5);
        // `first_mb_in_slice` is 0.
        if sliced && (!slice || nal[1] & 0x80 != 0) {
            units.push(std::mem::take(&mut unit));
            sliced = false;
        }
        sliced |= slice;
        unit.push(nal);
    }
    units.push(unit);
    Arc::new(units)
}

impl Faults {
    /// None; a stream of `units`.
    pub fn none(units: &Arc<Vec<Vec<Vec<u8>>>>) -> Self {
        Self {
            units: Arc::clone(units),
            udp: 461,
            login: false,
            timeout: None,
            markers: false,
            ssrc_every: None,
            junk: Vec::new(),
            silent_setup: false,
            unknown_first: false,
            describe: None,
        }
    }
}

fn serve(mut client: TcpStream, faults: &Faults, over: &AtomicBool, noted: &Mutex<Vec<String>>) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_millis(5)))?;
    let (mut bytes, mut asked, mut stream) = (Vec::new(), Instant::now(), None::<Stream>);
    while !over.load(Ordering::SeqCst) {
        let mut piece = [0; 4096];
        match client.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
        loop {
            if bytes.first() == Some(&b'$') {
                let length = bytes.get(2..4).map_or(usize::MAX, |l| 4 + usize::from(u16::from_be_bytes([l[0], l[1]])));
                if bytes.len() < length {
                    break;
                }
                bytes.drain(..length);
                continue;
            }
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { break };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            asked = Instant::now();
            let answer = answer(&head, faults);
            noted.lock().unwrap().push(head.clone());
            client.write_all(answer.as_bytes())?;
            if head.starts_with("PLAY") {
                stream = Some(Stream::default());
            }
        }
        if faults.timeout.is_some_and(|timeout| stream.is_some() && asked.elapsed() > Duration::from_secs(timeout)) {
            return Ok(());
        }
        if let Some(stream) = &mut stream {
            let packets = stream.due(faults);
            client.write_all(&packets)?;
        }
    }
    Ok(())
}

fn answer(head: &str, faults: &Faults) -> String {
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let sequence = header("CSeq:");
    let done = |status: &str, headers: &str, body: &str| {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        format!("RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{headers}{length}\r\n{body}")
    };
    let authorization = header("Authorization:");
    let method = head.split(' ').next().unwrap_or_default();
    if faults.login
        && method != "OPTIONS"
        && !(authorization.contains("qop=") && digest_is_right(authorization, method))
    {
        let asks = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"4711\", qop=\"auth\", algorithm=SHA-256\r\n";
        return done("401 Unauthorized", asks, "");
    }
    match method {
        "OPTIONS" => done("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n", ""),
        "DESCRIBE" => match &faults.describe {
            Some(answer) => answer.replace("SEQUENCE", sequence),
            None => {
                let unknown = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 AV9/90000\r\na=control:track0\r\n";
                let body = format!(
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n{}m=video 0 RTP/AVP 96\r\n\
                     a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n",
                    if faults.unknown_first { unknown } else { "" }
                );
                done("200 OK", "Content-Type: application/sdp\r\n", &body)
            }
        },
        "SETUP" if !head.contains("TCP") => done(&format!("{} No UDP", faults.udp), "", ""),
        "SETUP" => {
            let timeout = faults.timeout.map_or(String::new(), |timeout| format!(";timeout={timeout}"));
            let channels = if faults.silent_setup { "" } else { ";interleaved=0-1" };
            done("200 OK", &format!("Session: 1{timeout}\r\nTransport: RTP/AVP/TCP;unicast{channels}\r\n"), "")
        }
        _ => done("200 OK", "Session: 1\r\n", ""),
    }
}

/// RFC 7616 with SHA-256.
fn digest_is_right(authorization: &str, method: &str) -> bool {
    use sha2::{Digest, Sha256};
    let hash = |text: String| Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let field = |name: &str| {
        let start = authorization.find(&format!("{name}="))? + name.len() + 1;
        let rest = &authorization[start..];
        Some(rest.strip_prefix('"').map_or_else(|| rest.split(',').next(), |rest| rest.split('"').next())?.to_owned())
    };
    let field = |name: &str| field(name).unwrap_or_default();
    let (user, request) = (hash("user:cam:right".to_owned()), hash(format!("{method}:{}", field(" uri"))));
    let parts = [user, field(" nonce"), field(" nc"), field("cnonce"), field("qop"), request];
    field("response") == hash(parts.join(":"))
}

/// The packets of one client.
#[derive(Default)]
struct Stream {
    start: Option<Instant>,
    sent: usize,
    sequence: u16,
}

impl Stream {
    /// Those of the access units that are due at 25 a second.
    fn due(&mut self, faults: &Faults) -> Vec<u8> {
        let mut out = Vec::new();
        let start = *self.start.get_or_insert_with(Instant::now);
        while start.elapsed() >= Duration::from_millis(40) * self.sent as u32 {
            let unit = &faults.units[self.sent % faults.units.len()];
            let ssrc = 0x1234 + faults.ssrc_every.map_or(0, |every| self.sent / every) as u32;
            if faults.ssrc_every.is_some_and(|every| self.sent.is_multiple_of(every)) {
                self.sequence = self.sequence.wrapping_mul(31).wrapping_add(777);
            }
            for (index, nal) in unit.iter().enumerate() {
                let pieces = fragments(nal);
                for (piece, payload) in pieces.iter().enumerate() {
                    let last = piece + 1 == pieces.len();
                    let marker = last && (faults.markers || index + 1 == unit.len());
                    let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
                    packet.extend(self.sequence.to_be_bytes());
                    packet.extend((self.sent as u32 * 3600).to_be_bytes());
                    packet.extend(ssrc.to_be_bytes());
                    packet.extend(payload);
                    self.sequence = self.sequence.wrapping_add(1);
                    out.extend([b'$', 0]);
                    out.extend((packet.len() as u16).to_be_bytes());
                    out.extend(packet);
                }
            }
            out.extend(&faults.junk);
            self.sent += 1;
        }
        out
    }
}

/// RFC 6184: a NAL unit, or its fragments (FU-A).
fn fragments(nal: &[u8]) -> Vec<Vec<u8>> {
    if nal.len() <= 1200 {
        return vec![nal.to_vec()];
    }
    let chunks: Vec<&[u8]> = nal[1..].chunks(1200).collect();
    let last = chunks.len() - 1;
    let fragment = |(index, chunk): (usize, &&[u8])| {
        let ends = u8::from(index == 0) << 7 | u8::from(index == last) << 6;
        [&[nal[0] & 0xe0 | 28, ends | nal[0] & 31], *chunk].concat()
    };
    chunks.iter().enumerate().map(fragment).collect()
}
