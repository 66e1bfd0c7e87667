//! A pretended RTSP camera on loopback that does what real ones do wrong: written for these tests, over TCP and UDP.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a camera does wrong.
#[derive(Clone)]
pub struct Faults {
    /// The stream, one access unit each with its NAL units; sent over and over again.
    pub units: Arc<Vec<Vec<Vec<u8>>>>,
    /// It is H.265, else H.264.
    pub h265: bool,
    /// Each two access units are shown in the other order: the second one is a B-frame.
    pub pairs: bool,
    /// Time from one access unit to the next.
    pub interval: Duration,
    /// Access units that are sent at once at the start, as from the cache of a server.
    pub burst: usize,
    /// Listens at `::1`, and describes itself with `c=IN IP4` all the same.
    pub ipv6: bool,
    /// Answer to SETUP over UDP; 200 sends over UDP.
    pub udp: u16,
    /// Over UDP one of so many packets is lost.
    pub lose_every: Option<usize>,
    /// Over UDP one of so many packets comes behind the one after it.
    pub swap_every: Option<usize>,
    /// Wants Digest with `qop`; the password is `right`.
    pub login: bool,
    /// Ends a session that asked nothing for so long, in seconds.
    pub timeout: Option<u64>,
    /// Does not offer GET_PARAMETER.
    pub no_parameters: bool,
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
    address: SocketAddr,
    over: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Camera {
    pub fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind((loopback(&faults), 0)).unwrap();
        let address = listener.local_addr().unwrap();
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
        Self { address, over, requests }
    }

    pub fn address(&self, login: &str) -> String {
        format!("rtsp://{login}{}/cam", self.address)
    }

    /// Heads of the requests so far that hold `text`.
    pub fn requests(&self, text: &str) -> Vec<String> {
        self.requests.lock().unwrap().iter().filter(|head| head.contains(text)).cloned().collect()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn loopback(faults: &Faults) -> IpAddr {
    if faults.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

/// `frames` frames of a test picture as H.264, by access units; `options` go to x264.
pub fn h264(folder: &Path, frames: u32, options: &str) -> Arc<Vec<Vec<Vec<u8>>>> {
    let options = format!("repeat-headers=1:sliced-threads=0:scenecut=0:{options}");
    let encoder =
        ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-bf", "0", "-x264-params", &options];
    // A slice is the first of its picture where `first_mb_in_slice` is 0.
    units(&elementary(&folder.join("stream.h264"), frames, &encoder), |nal| {
        matches!(nal[0] & 31, 1 | 5).then(|| nal[1] & 0x80 != 0)
    })
}

/// The same as H.265, its parameter sets within the stream alone; `options` go to x265.
pub fn h265(folder: &Path, frames: u32, options: &str) -> Arc<Vec<Vec<Vec<u8>>>> {
    let options = format!("log-level=none:repeat-headers=1:bframes=0:scenecut=0:{options}");
    let encoder = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", &options, "-f", "hevc"];
    // `first_slice_segment_in_pic_flag` tells the same here.
    units(&elementary(&folder.join("stream.h265"), frames, &encoder), |nal| {
        (nal[0] >> 1 & 63 < 32).then(|| nal[2] & 0x80 != 0)
    })
}

fn elementary(path: &Path, frames: u32, encoder: &[&str]) -> Vec<u8> {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-pix_fmt", "yuv420p"])
        .args(["-frames:v", &frames.to_string()])
        .args(encoder)
        .arg(path)
        .status()
        .expect("ffmpeg runs");
    assert!(made.success());
    std::fs::read(path).unwrap()
}

/// The NAL units of a stream by access units; `slice` tells of a slice whether it is the first of its picture.
fn units(bytes: &[u8], slice: impl Fn(&[u8]) -> Option<bool>) -> Arc<Vec<Vec<Vec<u8>>>> {
    let starts: Vec<usize> = (3..bytes.len()).filter(|at| bytes[at - 3..*at] == [0, 0, 1]).collect();
    let (mut units, mut unit, mut sliced) = (Vec::new(), Vec::new(), false);
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(bytes.len(), |next| next - 3);
        let nal = bytes[*start..end].to_vec();
        let nal: Vec<u8> = nal[..nal.iter().rposition(|byte| *byte != 0).unwrap() + 1].to_vec();
        let first = slice(&nal);
        if sliced && first != Some(false) {
            units.push(std::mem::take(&mut unit));
            sliced = false;
        }
        sliced |= first.is_some();
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
            h265: false,
            pairs: false,
            interval: Duration::from_millis(40),
            burst: 0,
            ipv6: false,
            udp: 461,
            lose_every: None,
            swap_every: None,
            login: false,
            timeout: None,
            no_parameters: false,
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
    let (mut over_tcp, mut sent) = (false, 0);
    let udp = UdpSocket::bind((loopback(faults), 0))?;
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
            if head.starts_with("SETUP") {
                let ports = head.split("client_port=").nth(1).and_then(|ports| ports.split('-').next()?.parse().ok());
                match ports.filter(|_| faults.udp == 200) {
                    Some(port) => udp.connect((loopback(faults), port))?,
                    None => over_tcp = true,
                }
            }
            if head.starts_with("PLAY") {
                stream = Some(Stream::default());
            }
        }
        if faults.timeout.is_some_and(|timeout| stream.is_some() && asked.elapsed() > Duration::from_secs(timeout)) {
            return Ok(());
        }
        if let Some(stream) = &mut stream {
            let packets = stream.due(faults);
            if over_tcp {
                client.write_all(&interleaved(&packets, &faults.junk))?;
            } else {
                sent = send(&udp, &packets, sent, faults);
            }
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
        "OPTIONS" => {
            let more = if faults.no_parameters { "" } else { ", GET_PARAMETER" };
            done("200 OK", &format!("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN{more}\r\n"), "")
        }
        "DESCRIBE" => match &faults.describe {
            Some(answer) => answer.replace("SEQUENCE", sequence),
            None => {
                let unknown = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 AV9/90000\r\na=control:track0\r\n";
                let before = if faults.unknown_first { unknown } else { "" };
                let (codec, format) =
                    if faults.h265 { ("H265", "") } else { ("H264", "a=fmtp:96 packetization-mode=1\r\n") };
                let body = format!(
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n{before}\
                     m=video 0 RTP/AVP 96\r\na=rtpmap:96 {codec}/90000\r\n{format}a=control:track1\r\n"
                );
                done("200 OK", "Content-Type: application/sdp\r\n", &body)
            }
        },
        "SETUP" if !head.contains("TCP") && faults.udp == 200 => {
            let ports = head.split("client_port=").nth(1).unwrap_or_default().split([';', '\r']).next().unwrap();
            done(
                "200 OK",
                &format!("Session: 1\r\nTransport: RTP/AVP;unicast;client_port={ports};server_port=9-9\r\n"),
                "",
            )
        }
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
    /// Those of the access units that are due; an empty one behind each unit.
    fn due(&mut self, faults: &Faults) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let start = *self.start.get_or_insert_with(Instant::now);
        while start.elapsed() >= faults.interval * self.sent.saturating_sub(faults.burst) as u32 {
            let unit = &faults.units[self.sent % faults.units.len()];
            let ssrc = 0x1234 + faults.ssrc_every.map_or(0, |every| self.sent / every) as u32;
            if faults.ssrc_every.is_some_and(|every| self.sent.is_multiple_of(every)) {
                self.sequence = self.sequence.wrapping_mul(31).wrapping_add(777);
            }
            let shown = if faults.pairs { self.sent ^ 1 } else { self.sent };
            // At 90 kHz.
            let ticks = faults.interval.as_millis() as u32 * 90;
            for (index, nal) in unit.iter().enumerate() {
                let pieces = fragments(nal, faults.h265);
                for (piece, payload) in pieces.iter().enumerate() {
                    let last = piece + 1 == pieces.len();
                    let marker = last && (faults.markers || index + 1 == unit.len());
                    let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
                    packet.extend(self.sequence.to_be_bytes());
                    packet.extend((shown as u32 * ticks).to_be_bytes());
                    packet.extend(ssrc.to_be_bytes());
                    packet.extend(payload);
                    self.sequence = self.sequence.wrapping_add(1);
                    out.push(packet);
                }
            }
            out.push(Vec::new());
            self.sent += 1;
        }
        out
    }
}

/// RFC 2326, 10.12, with `junk` behind each access unit.
fn interleaved(packets: &[Vec<u8>], junk: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets {
        if packet.is_empty() {
            out.extend(junk);
        } else {
            out.extend([b'$', 0]);
            out.extend((packet.len() as u16).to_be_bytes());
            out.extend(packet);
        }
    }
    out
}

/// Sends packets over UDP, `sent` of which went before; gives how many there were then.
fn send(udp: &UdpSocket, packets: &[Vec<u8>], mut sent: usize, faults: &Faults) -> usize {
    let mut packets: Vec<_> = packets.iter().filter(|packet| !packet.is_empty()).collect();
    for index in 1..packets.len() {
        if faults.swap_every.is_some_and(|every| (sent + index).is_multiple_of(every)) {
            packets.swap(index - 1, index);
        }
    }
    for packet in packets {
        sent += 1;
        if faults.lose_every.is_none_or(|every| !sent.is_multiple_of(every)) {
            // The other end may be closed already.
            let _ = udp.send(packet);
        }
    }
    sent
}

/// A NAL unit, or its fragments: FU-A of RFC 6184 for H.264, FU of RFC 7798 for H.265.
fn fragments(nal: &[u8], h265: bool) -> Vec<Vec<u8>> {
    if nal.len() <= 1200 {
        return vec![nal.to_vec()];
    }
    let (header, kind) = if h265 {
        (vec![nal[0] & 0x81 | 49 << 1, nal[1]], nal[0] >> 1 & 63)
    } else {
        (vec![nal[0] & 0xe0 | 28], nal[0] & 31)
    };
    let chunks: Vec<&[u8]> = nal[header.len()..].chunks(1200).collect();
    let last = chunks.len() - 1;
    let fragment = |(index, chunk): (usize, &&[u8])| {
        let ends = u8::from(index == 0) << 7 | u8::from(index == last) << 6;
        [&header[..], &[ends | kind], *chunk].concat()
    };
    chunks.iter().enumerate().map(fragment).collect()
}
