//! A relay on loopback between GStreamer's `rtspsrc` and a camera.
//!
//! ```text
//! rtspsrc <-> 127.0.0.1 <-> upstream, downstream <-> camera (TCP or TLS)
//! ```
//! GStreamer sees a well-behaved server without a login; the quirks of cameras and the attacks of impostors are handled
//! here, where requests and responses can be read:
//!
//! - the login: one try per connection, never to another server, never in a weaker scheme than before
//!   ([`login`](crate::input::live::login));
//! - limits on everything announced or sent, and resynchronisation after junk ([`message`]);
//! - keep-alives at half of the announced time-out, with a method that the server offers;
//! - redirections, refusals and their reasons ([`Finding`]);
//! - UDP that is refused, descriptions for another address family, and answers without `interleaved=` ([`camera`]).

mod camera;
mod message;

use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::input::live::address::{Login, Server};
use crate::input::live::connect::{Tls, connect};
use crate::input::live::login::Trust;
use crate::lock::lock;
use crate::{Error, Result};
use camera::{Camera, Out};
use message::{Item, Splitter};

/// Interval of the checks for due keep-alives.
const TICK: Duration = Duration::from_millis(250);
/// Size of a read, in bytes.
const PIECE: usize = 64 * 1024;
/// Time limit of a write to either side.
const WRITE: Duration = Duration::from_secs(10);

/// The settings of a relay.
#[derive(Clone)]
pub(crate) struct Route {
    pub server: Server,
    /// The input, for the log.
    pub name: String,
    pub login: Option<Login>,
    pub trust: Arc<Trust>,
    /// UDP may be replaced by TCP.
    pub may_fall_back: bool,
    pub tls: Tls,
}

/// The reason why a server does not play, in its own words where it has some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// No connection can be made.
    Unreachable(String),
    /// The login is wrong, missing or withheld from this server.
    Denied(String),
    /// It is busy.
    Busy(String),
    /// The stream is at another address.
    Moved(String),
    /// Anything else.
    Refused(String),
}

/// The state of the connection to the server.
#[derive(Default)]
pub(crate) struct Report {
    finding: Mutex<Option<Finding>>,
    last_answer: Mutex<Option<Instant>>,
    connected: AtomicBool,
    /// A session over UDP was set up.
    pub udp: AtomicBool,
    /// UDP was refused.
    pub udp_refused: AtomicBool,
}

impl Report {
    pub fn finding(&self) -> Option<Finding> {
        lock(&self.finding).clone()
    }

    /// Time of the last response, or of the connection.
    pub fn last_answer(&self) -> Option<Instant> {
        *lock(&self.last_answer)
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Keeps the first finding: later ones follow from it.
    pub fn find(&self, finding: Finding) {
        lock(&self.finding).get_or_insert(finding);
    }

    /// The server is connected to.
    pub fn connect(&self) {
        self.connected.store(true, Ordering::Release);
        self.answer();
    }

    /// The server answered.
    pub fn answer(&self) {
        *lock(&self.last_answer) = Some(Instant::now());
    }
}

/// A relay that listens until it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    /// For `rtspsrc`.
    pub location: String,
    pub report: Arc<Report>,
}

impl Relay {
    /// # Errors
    /// No port on loopback or no thread is left.
    pub fn start(route: Route) -> Result<Self> {
        let failed = |e: std::io::Error| Error::failed(format!("no port on loopback for a camera: {e}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // Keeps other users of this machine from watching with this login.
        let secret = secret();
        let base = format!("rtsp://{address}/{secret}");
        let location = format!("{base}{}", route.server.path());
        let (over, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Report::default()));
        let (ended, known) = (Arc::clone(&over), Arc::clone(&report));
        let work = move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    break;
                }
                // `rtspsrc` reconnects to change from UDP to TCP; one connection at a time.
                let Ok(client) = client else { continue };
                // It also repeats what was refused; the reader decides about that.
                if known.finding().is_some() {
                    continue;
                }
                serve(client, &route, &base, &known, &ended);
            }
        };
        std::thread::Builder::new().name("rtsp-relay".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { address, over, location, report })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread; fails if it has ended already.
        let _ = TcpStream::connect_timeout(&self.address, TICK);
    }
}

/// 128 bits from the system's source of random keys.
fn secret() -> String {
    let word = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}

/// One connection of `rtspsrc`, from its first request to its end.
fn serve(mut client: TcpStream, route: &Route, base: &str, report: &Arc<Report>, over: &AtomicBool) {
    let setup =
        client.set_read_timeout(Some(TICK)).and(client.set_write_timeout(Some(WRITE))).and(client.set_nodelay(true));
    let mut splitter = Splitter::default();
    // Without the secret, the connection is closed before the camera is involved.
    let Some(first) = setup.ok().and_then(|()| first_request(&mut client, &mut splitter, over)) else { return };
    if !first.request().is_some_and(|(_, uri)| {
        uri.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }) {
        return;
    }
    let wire = match connect(&route.server, &route.tls) {
        Ok(wire) => wire,
        Err(words) => return report.find(Finding::Unreachable(words)),
    };
    report.connect();
    let (Ok(mut back), socket) = (client.try_clone(), wire.socket) else { return };
    let camera = Arc::new(Mutex::new(Camera::new(route, base, wire.writer, wire.peer, Arc::clone(report))));
    let (shared, known) = (Arc::clone(&camera), Arc::clone(report));
    let (mut reader, hang_up) = (wire.reader, socket.try_clone());
    let downstream = std::thread::Builder::new().name("rtsp-relay-down".to_owned()).spawn(move || {
        if let Err(words) = downstream(reader.as_mut(), &mut back, &shared) {
            known.find(Finding::Refused(words));
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    if lock(&camera).request(first).is_ok() {
        upstream(&mut client, &mut splitter, &camera, over);
    }
    let _ = client.shutdown(Shutdown::Both);
    // The last request (TEARDOWN) was sent; its response is not needed.
    for socket in [Some(socket), hang_up.ok()].into_iter().flatten() {
        let _ = socket.shutdown(Shutdown::Both);
    }
    if let Ok(downstream) = downstream {
        let _ = downstream.join();
    }
}

fn first_request(client: &mut TcpStream, splitter: &mut Splitter, over: &AtomicBool) -> Option<message::Message> {
    let (mut piece, until) = (vec![0; PIECE], Instant::now() + WRITE);
    while Instant::now() < until && !over.load(Ordering::Acquire) {
        match client.read(&mut piece) {
            Ok(0) => return None,
            Ok(count) => splitter.push(&piece[..count]),
            Err(e) if is_pause(&e) => {}
            Err(_) => return None,
        }
        match splitter.next(&|_| true) {
            Ok(Some(Item::Message(message))) => return Some(message),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    None
}

fn is_pause(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted)
}

/// From `rtspsrc` to the camera, until either closes the connection.
fn upstream(client: &mut TcpStream, splitter: &mut Splitter, camera: &Mutex<Camera>, over: &AtomicBool) {
    let mut piece = vec![0; PIECE];
    while !over.load(Ordering::Acquire) {
        loop {
            let sent = match splitter.next(&|_| true) {
                Ok(Some(Item::Message(message))) => lock(camera).request(message),
                Ok(Some(Item::Packet(packet))) => lock(camera).packet(&packet),
                Ok(None) => break,
                Err(_) => return,
            };
            if sent.is_err() {
                return;
            }
        }
        match client.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => splitter.push(&piece[..count]),
            Err(e) if is_pause(&e) => {}
            Err(_) => return,
        }
        if lock(camera).keep_alive(Instant::now()).is_err() {
            return;
        }
    }
}

/// From the camera to `rtspsrc`, until either closes the connection.
///
/// # Errors
/// The camera does not speak RTSP, or exceeds a limit; as text.
fn downstream(
    reader: &mut dyn Read,
    client: &mut TcpStream,
    camera: &Mutex<Camera>,
) -> std::result::Result<(), String> {
    let (mut piece, mut splitter, mut out) = (vec![0; PIECE], Splitter::default(), Vec::new());
    let mut reported = false;
    loop {
        let count = match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if is_pause(&e) => continue,
            Err(_) => return Ok(()),
        };
        splitter.push(&piece[..count]);
        out.clear();
        {
            let mut camera = lock(camera);
            let channels = camera.channels();
            while let Some(item) = splitter.next(&|channel| channels.holds(channel))? {
                match item {
                    Item::Packet(mut packet) => {
                        packet[1] = channels.translate(packet[1]);
                        out.extend_from_slice(&packet);
                    }
                    Item::Message(message) => match camera.message(message) {
                        Out::Pass(message) => message.write(&mut out),
                        Out::Nothing => {}
                        Out::End => return Ok(()),
                    },
                }
            }
            if splitter.skipped() > 0 && !std::mem::replace(&mut reported, true) {
                tracing::warn!("{}: bytes between the packets are skipped", camera.name());
            }
        }
        if client.write_all(&out).is_err() {
            return Ok(());
        }
    }
}
