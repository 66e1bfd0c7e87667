//! A relay at the loopback interface between GStreamer's `rtspsrc` and a camera.
//!
//! ```text
//! rtspsrc <-> 127.0.0.1 <-> upstream, downstream <-> camera (TCP or TLS)
//! ```
//! GStreamer sees a well-behaved server without a login; what cameras and those who stand in for them do otherwise is
//! met here, where requests and answers can be read:
//!
//! - the login, in one try per connection, never to another server and never in a weaker scheme than before ([`login`]);
//! - bounds on everything that is announced or sent, and a new start behind junk ([`message`]);
//! - signs of life at half of the announced time-out, with the method that the server offers;
//! - redirections, refusals and their reasons ([`Finding`]);
//! - UDP that is refused, descriptions for another address family, and answers without `interleaved=` ([`camera`]).

mod camera;
mod connect;
mod login;
mod message;

use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::LocatedPath;
use crate::input::live::address::{Login, Server};
use crate::{Error, Result};
use camera::{Camera, Out};
pub(crate) use connect::tcp;
pub(crate) use login::Trust;
use message::{Item, Splitter};

/// How often it is looked whether a sign of life is due.
const TICK: Duration = Duration::from_millis(250);
/// Bytes read at once.
const PIECE: usize = 64 * 1024;
/// How long a write to either side may take.
const WRITE: Duration = Duration::from_secs(10);

/// What a connection is made with.
#[derive(Clone)]
pub(crate) struct Route {
    pub server: Server,
    /// The input, for the log.
    pub name: String,
    pub login: Option<Login>,
    pub trust: Arc<Trust>,
    /// UDP may be given up for TCP.
    pub may_fall_back: bool,
    pub tls_ca: Option<LocatedPath>,
    pub tls_accept_any: bool,
}

/// Why a camera does not play, in its own words where it has some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// No connection can be made.
    Unreachable(String),
    /// The login is wrong, missing or not shown to this server.
    Denied(String),
    /// It has no room now.
    Busy(String),
    /// The stream is at another address.
    Moved(String),
    /// Anything else.
    Refused(String),
}

/// What the relay knows of the connection to the camera.
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
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the camera last answered, or was connected to.
    pub fn last_answer(&self) -> Option<Instant> {
        *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// The first finding is the reason, later ones follow from it.
    fn find(&self, finding: Finding) {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(finding);
    }

    fn answer(&self) {
        *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// Listens until it is dropped.
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
        // Other users of this machine shall not watch with this login.
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
                // `rtspsrc` connects again when it goes from UDP to TCP; one connection at a time.
                let Ok(client) = client else { continue };
                // It also tries once more what was refused; the reader decides when that is done.
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
        // Wakes the thread; it is gone already when this fails.
        let _ = TcpStream::connect_timeout(&self.address, TICK);
    }
}

/// 128 bits from the system's source of random keys.
fn secret() -> String {
    let word = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}

fn lock(camera: &Mutex<Camera>) -> std::sync::MutexGuard<'_, Camera> {
    camera.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection of `rtspsrc`, from its first request to its end.
fn serve(mut client: TcpStream, route: &Route, base: &str, report: &Arc<Report>, over: &AtomicBool) {
    let setup =
        client.set_read_timeout(Some(TICK)).and(client.set_write_timeout(Some(WRITE))).and(client.set_nodelay(true));
    let mut splitter = Splitter::default();
    // Whoever does not know the secret is hung up on before the camera hears of it.
    let Some(first) = setup.ok().and_then(|()| first_request(&mut client, &mut splitter, over)) else { return };
    if !first.request().is_some_and(|(_, uri)| {
        uri.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }) {
        return;
    }
    let wire = match connect::connect(route) {
        Ok(wire) => wire,
        Err(words) => return report.find(Finding::Unreachable(words)),
    };
    report.connected.store(true, Ordering::Release);
    report.answer();
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
    // What was asked last (a goodbye) is answered in the time that the camera has for it.
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

/// From `rtspsrc` to the camera, until either hangs up.
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

/// From the camera to `rtspsrc`, until either hangs up.
///
/// # Errors
/// The camera does what nothing can be made of; in words.
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
                tracing::warn!("{}: bytes between the packets belong to none and are skipped", camera.name());
            }
        }
        if client.write_all(&out).is_err() {
            return Ok(());
        }
    }
}
