//! Admission to an RTSP server. GStreamer's server accepts every connection and reads whatever it is sent; here
//! connections are accepted, counted and watched, so that viewers never harm recordings:
//!
//! - limits per address and in total, with file descriptors reserved for outputs ([`Gate::admit`]);
//! - connections without a session are closed after [`IDLE`], and those that flood the server at once;
//! - an address that tries passwords waits longer with each try ([`Tries`]).

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::descriptors;
use crate::lock::lock;
use crate::{Error, Result};

/// Limits of connections per address, and in total.
const MAX_OF_ADDRESS: usize = 64;
const MAX_CONNECTIONS: usize = 256;
/// Descriptors reserved for recordings, segments and cameras.
const RESERVED: u64 = 128;
/// Time limit of a connection without a session.
const IDLE: Duration = Duration::from_secs(10);
/// Largest body of a request, in bytes; enforced by GStreamer's server.
pub(crate) const MAX_BODY: u32 = 16 * 1024;
/// Limit of bytes received per [`TICK`]: requests and receiver reports take some hundred.
const MAX_BYTES: u64 = 256 * 1024;
/// Interval between checks of the connections.
pub(crate) const TICK: Duration = Duration::from_millis(200);
/// Pause after a failed `accept`.
const PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about the same problem.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Refusals without a delay: a client's first request has no login.
const FREE_TRIES: u32 = 5;
/// The longest delay after refused logins.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Capacity of the table of addresses.
const MAX_ADDRESSES: usize = 4096;

/// The connections of a server.
pub(crate) struct Gate {
    state: Mutex<State>,
    /// For the log.
    name: String,
}

#[derive(Default)]
struct State {
    connections: HashMap<u64, Connection>,
    next: u64,
    tries: HashMap<IpAddr, Tries>,
    /// Time of the last log line about refused connections, and their number since.
    said: Option<Instant>,
    refused: u64,
}

struct Connection {
    address: IpAddr,
    /// A second handle, to close it with.
    socket: TcpStream,
    since: Instant,
    session: bool,
    received: u64,
}

/// Consecutive refused logins of an address.
#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    last: Instant,
    said: Option<Instant>,
}

impl Tries {
    /// Delay after the last try.
    fn delay(self) -> Duration {
        match self.count.checked_sub(FREE_TRIES) {
            None | Some(0) => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(6)).min(MAX_DELAY),
        }
    }
}

/// The slot of one connection; released on drop.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    id: u64,
    address: IpAddr,
}

impl Ticket {
    /// A session was set up.
    pub fn has_session(&self) {
        if let Some(connection) = self.gate.lock().connections.get_mut(&self.id) {
            connection.session = true;
        }
    }

    /// A request was refused with 401.
    pub fn denied(&self) {
        self.gate.denied(self.address, self.id, Instant::now());
    }

    /// The login was accepted.
    pub fn allowed(&self) {
        self.gate.lock().tries.remove(&self.address);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.lock().connections.remove(&self.id);
    }
}

impl Gate {
    pub fn new(name: String) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), name })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Admits a connection, unless there are too many. `left`: descriptors that can still be opened.
    pub fn admit(
        self: &Arc<Self>,
        socket: &TcpStream,
        address: IpAddr,
        left: Option<u64>,
        now: Instant,
    ) -> Option<Ticket> {
        let mut state = self.lock();
        let of_address = state.connections.values().filter(|connection| connection.address == address).count();
        let waits =
            state.tries.get(&address).is_some_and(|tries| now.saturating_duration_since(tries.last) < tries.delay());
        let full = of_address >= MAX_OF_ADDRESS || state.connections.len() >= MAX_CONNECTIONS;
        let scarce = left.is_some_and(|left| left < RESERVED);
        // Not logged here: `denied` does.
        if waits {
            return None;
        }
        let second = if full || scarce { None } else { socket.try_clone().ok() };
        let Some(socket) = second else {
            state.refused += 1;
            if state.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
                state.said = Some(now);
                let refused = std::mem::take(&mut state.refused);
                let why = if scarce { "few descriptors are left" } else { "too many are open" };
                tracing::warn!("{}: {refused} connections refused, the last from {address}: {why}", self.name);
            }
            return None;
        };
        state.next += 1;
        let id = state.next;
        state.connections.insert(id, Connection { address, socket, since: now, session: false, received: 0 });
        Some(Ticket { gate: Arc::clone(self), id, address })
    }

    /// Closes connections that are idle or flood the server.
    pub fn look(&self, now: Instant) {
        for connection in self.lock().connections.values_mut() {
            let received = received(&connection.socket).unwrap_or(connection.received);
            let flood = received.saturating_sub(connection.received) > MAX_BYTES;
            connection.received = received;
            let idle = !connection.session && now.saturating_duration_since(connection.since) > IDLE;
            if flood || idle {
                tracing::debug!("{}: closed the connection of {}", self.name, connection.address);
                // Fails if it is closed already.
                let _ = connection.socket.shutdown(Shutdown::Both);
            }
        }
    }

    fn denied(&self, address: IpAddr, id: u64, now: Instant) {
        let mut state = self.lock();
        if state.tries.len() >= MAX_ADDRESSES {
            state.tries.retain(|_, tries| now.saturating_duration_since(tries.last) < MAX_DELAY);
        }
        let tries = state.tries.entry(address).or_insert(Tries { count: 0, last: now, said: None });
        if now.saturating_duration_since(tries.last) > MAX_DELAY * 2 {
            tries.count = 0;
        }
        (tries.count, tries.last) = (tries.count.saturating_add(1), now);
        if tries.delay().is_zero() {
            return;
        }
        if tries.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
            tries.said = Some(now);
            let (count, delay) = (tries.count, tries.delay().as_secs());
            tracing::warn!("{}: {address} was refused {count} times for its login and must wait {delay} s", self.name);
        }
        if let Some(connection) = state.connections.get(&id) {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
    }
}

/// Number of bytes received on a connection.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn received(socket: &TcpStream) -> Option<u64> {
    use std::os::fd::AsRawFd;
    /// Offset of `tcpi_bytes_received` in `struct tcp_info` (linux/tcp.h), since Linux 4.1.
    const AT: usize = 128;
    let mut info = [0u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, and how many into `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let bytes = info.get(AT..AT + 8).filter(|_| result == 0 && length as usize >= AT + 8)?;
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn received(_: &TcpStream) -> Option<u64> {
    None
}

/// The thread that accepts connections.
pub(crate) struct Acceptor {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Calls `hand_over` with each admitted connection.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        listener: TcpListener,
        gate: Arc<Gate>,
        hand_over: impl Fn(OwnedFd, SocketAddr, Ticket) + Send + 'static,
    ) -> Result<Self> {
        let failed = |e: std::io::Error| Error::failed(format!("rtsp: no thread for the server: {e}"));
        let address = listener.local_addr().map_err(failed)?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let work = move || {
            loop {
                let accepted = listener.accept();
                if ended.load(Ordering::Acquire) {
                    break;
                }
                let Ok((socket, peer)) = accepted else {
                    std::thread::sleep(PAUSE);
                    continue;
                };
                // A connection that is not admitted is closed here.
                if let Some(ticket) = gate.admit(&socket, peer.ip(), descriptors::left(), Instant::now()) {
                    hand_over(OwnedFd::from(socket), peer, ticket);
                }
            }
        };
        let thread = std::thread::Builder::new().name("rtsp-accept".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { address, over, thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let mut to = self.address;
        if to.ip().is_unspecified() {
            to.set_ip(if to.is_ipv4() {
                IpAddr::from([127, 0, 0, 1])
            } else {
                IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1])
            });
        }
        // Wakes the thread from `accept`.
        let woken = TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn connections_are_bounded_for_each_address_and_in_all() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, socket) = pair(&listener);
        let (gate, now) = (Gate::new("x".to_owned()), Instant::now());
        let admit = |last: u8, left| gate.admit(&socket, IpAddr::from([10, 0, 0, last]), left, now);
        assert!(admit(1, Some(RESERVED - 1)).is_none(), "descriptors are kept for outputs");
        let mut tickets: Vec<_> = (0..MAX_OF_ADDRESS).map(|_| admit(1, Some(9000)).unwrap()).collect();
        assert!(admit(1, None).is_none());
        tickets.extend((0..MAX_CONNECTIONS - MAX_OF_ADDRESS).map(|n| admit(2 + (n / 60) as u8, None).unwrap()));
        assert!(admit(99, None).is_none());
        tickets.remove(0);
        assert!(admit(99, None).is_some());
    }

    #[test]
    fn trying_passwords_takes_longer_each_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, socket) = pair(&listener);
        let (gate, address, start) = (Gate::new("x".to_owned()), IpAddr::from([10, 0, 0, 1]), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        for _ in 0..FREE_TRIES {
            gate.denied(address, 0, start);
        }
        assert!(gate.admit(&socket, address, None, start).is_some());
        gate.denied(address, 0, start);
        assert!(gate.admit(&socket, address, None, at(1)).is_none());
        assert!(gate.admit(&socket, IpAddr::from([10, 0, 0, 2]), None, at(1)).is_some());
        let ticket = gate.admit(&socket, address, None, at(3)).unwrap();
        for _ in 0..20 {
            gate.denied(address, 0, at(3));
        }
        assert!(gate.admit(&socket, address, None, at(60)).is_none());
        assert!(gate.admit(&socket, address, None, at(64)).is_some());
        ticket.allowed();
        assert!(gate.admit(&socket, address, None, at(4)).is_some());
    }

    #[test]
    fn idle_and_flooding_connections_are_closed() {
        use std::io::{Read as _, Write as _};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (gate, now) = (Gate::new("x".to_owned()), Instant::now());
        let address = IpAddr::from([10, 0, 0, 1]);
        let mut ends = [pair(&listener), pair(&listener), pair(&listener)];
        let tickets: Vec<_> = ends.iter().map(|(_, socket)| gate.admit(socket, address, None, now).unwrap()).collect();
        tickets[0].has_session();
        tickets[1].has_session();
        let (client, server) = &mut ends[1];
        let mut room = vec![0; 3 * MAX_BYTES as usize];
        std::thread::scope(|scope| {
            scope.spawn(|| client.write_all(&vec![0; 3 * MAX_BYTES as usize]).unwrap());
            server.read_exact(&mut room).unwrap();
        });
        gate.look(now + IDLE + TICK);
        let closed = |end: &mut TcpStream| {
            end.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            matches!(end.read(&mut [0; 1]), Ok(0))
        };
        assert_eq!(ends.each_mut().map(|(client, _)| closed(client)), [false, true, true]);
    }
}
