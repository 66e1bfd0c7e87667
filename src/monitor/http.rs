//! The HTTP server, on a thread of its own: its connections and their limits.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(any(test, feature = "internals"))]
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::page::Feed;
use super::routes::{LongLived, Peer, Site, router};
use super::stalled::WriteLimit;
use super::tls;
use crate::config::HttpConfig;
use crate::output::preview::PreviewOptions;
use crate::session::Handle;
use crate::session::board::Board;
use crate::{Error, Result};

/// Most connections at the same time. One more closes the oldest of the address with the most, so that a client that
/// never reads cannot block `/healthz`; those that follow a stream are the last to be closed.
const MAX_CONNECTIONS: usize = 64;
/// Longest wait for a client's next request, after which its connection is closed.
const IDLE: Duration = Duration::from_secs(5);
/// Longest life of a connection that does not follow a stream, even if the client reads nothing.
const MAX_LIFE: Duration = Duration::from_secs(20);
/// Longest time for which a client may read nothing.
const STALLED: Duration = Duration::from_secs(10);
/// What the system may keep for a client that reads slowly, in bytes: pictures are to be new when they arrive.
const SEND_BUFFER: u32 = 256 * 1024;
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Requests of one connection, and the time after which its next answer is its last.
const MAX_REQUESTS: u32 = 1000;
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// Pause after a failure to accept a connection, as when no descriptors are left.
const PAUSE: Duration = Duration::from_millis(500);

/// The server, which runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    encrypted: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `config.listen`, which is a port on loopback or `HOST:PORT`, and answers for `session`. Settings are
    /// saved to `file`, the pipeline file of the run.
    ///
    /// # Errors
    /// The address is malformed, unknown or in use; it is not on loopback, and neither a password nor a token protects
    /// it; the hash, the token or the certificate cannot be used.
    pub fn start(config: &HttpConfig, session: Handle, file: Option<&Path>) -> Result<Self> {
        let listen = config.listen.as_deref().unwrap_or("0");
        let place = format!("http.listen = {listen}");
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("{place}: {error}"));
        let wanted = match listen.parse::<u16>() {
            Ok(port) => format!("127.0.0.1:{port}"),
            Err(_) => listen.to_owned(),
        };
        let addresses: Vec<SocketAddr> = wanted
            .to_socket_addrs()
            .map_err(|error| {
                Error::usage(format!("{place}: {error}")).hint("a port, or HOST:PORT such as 127.0.0.1:9090")
            })?
            .collect();
        let name = wanted.rsplit_once(':').map_or(wanted.as_str(), |(host, _)| host).to_owned();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        let mut access = Access::new(config)?;
        let tls = tls::acceptor(config)?;
        let encrypted = tls.is_some();
        let listener = bind(&runtime, &addresses)
            .map_err(|error| failed(&error).hint("another program may have the port; choose another one"))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        access.name_cookie(address.port());
        if !address.ip().is_loopback() && access.is_open() {
            return Err(Error::usage(format!(
                "{place}: anyone who reaches {address} could see the streams and change the settings"
            ))
            .hint("set http.password_hash (`oodstream password` makes one) or http.token, or listen on loopback"));
        }
        if !address.ip().is_loopback() && !encrypted {
            tracing::warn!(
                "{place}: without http.certificate, passwords and pictures can be read on their way through the network"
            );
        }
        let preview = PreviewOptions { width: config.video_width, fps: config.video_fps };
        let site = Arc::new(Site {
            board: session.show_on(Board::new(preview)),
            session,
            access,
            hosts: config.hosts.iter().cloned().chain([name]).collect(),
            file: file.map(Path::to_path_buf),
            encrypted,
            feed: Feed::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // Open connections must not delay the end: no graceful shutdown.
                    tokio::select! {
                        Err(error) = serve(listener, site, tls) => tracing::error!("http: {error}"),
                        _ = stopped => {}
                    }
                });
                // A password may still be checked.
                runtime.shutdown_background();
            })
            .map_err(|error| failed(&error))?;
        Ok(Self { address, encrypted, stop: Some(stop), thread: Some(thread) })
    }

    /// The address of its page.
    pub fn url(&self) -> String {
        format!("{}://{}/", if self.encrypted { "https" } else { "http" }, self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Listens at the first of `addresses` that is free.
fn bind(runtime: &Runtime, addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let _guard = runtime.enter();
    let mut result = Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such address"));
    for address in addresses {
        result = listen(*address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Of every connection.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection that may still be open.
struct Open {
    address: IpAddr,
    task: AbortHandle,
    /// Whether it follows a stream.
    follows: Arc<AtomicBool>,
}

/// Closes connections until there is room for one more. `open` is ordered by start.
fn make_room(open: &mut Vec<Open>) {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() < MAX_CONNECTIONS {
        return;
    }
    let count = |address: IpAddr| open.iter().filter(|other| other.address == address).count();
    let most = open.iter().map(|connection| count(connection.address)).max();
    let greedy = |connection: &Open| Some(count(connection.address)) == most;
    let idle = open.iter().position(|one| greedy(one) && !one.follows.load(Ordering::Relaxed));
    if let Some(oldest) = idle.or_else(|| open.iter().position(greedy)) {
        open.remove(oldest).task.abort();
    }
}

async fn serve(listener: TcpListener, site: Arc<Site>, tls: Option<TlsAcceptor>) -> io::Result<Infallible> {
    tokio::spawn(Feed::run(Arc::downgrade(&site)));
    let router = router(Arc::clone(&site));
    let mut open = Vec::new();
    loop {
        let Ok((connection, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        make_room(&mut open);
        let follows = Arc::new(AtomicBool::new(false));
        let client = ClientConnection { peer: peer.ip(), router: router.clone(), follows: Arc::clone(&follows) };
        let connection = WriteLimit::new(connection, STALLED);
        let task = match tls.clone() {
            None => tokio::spawn(client.serve(connection)),
            Some(tls) => tokio::spawn(async move {
                // Errors of a single client are ignored.
                if let Ok(Ok(connection)) = tokio::time::timeout(IDLE, tls.accept(connection)).await {
                    client.serve(connection).await;
                }
            }),
        };
        open.push(Open { address: peer.ip(), task: task.abort_handle(), follows });
    }
}

/// The connection of one client.
struct ClientConnection {
    peer: IpAddr,
    router: Router,
    follows: Arc<AtomicBool>,
}

impl ClientConnection {
    /// Answers the requests on one connection.
    async fn serve(self, connection: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { peer, router, follows } = self;
        let router = TowerToHyperService::new(router);
        let (requests, start) = (AtomicU32::new(0), Instant::now());
        let following = Arc::clone(&follows);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
            let last = number >= MAX_REQUESTS || start.elapsed() > LAST_ANSWER;
            request.extensions_mut().insert(Peer(peer));
            let (router, following) = (router.clone(), Arc::clone(&following));
            async move {
                let mut response = router.call(request).await?;
                if last {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                if response.extensions().get::<LongLived>().is_some() {
                    following.store(true, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
        // A client may end its side once it has sent its request.
        http.half_close(true);
        let life = async {
            tokio::time::sleep(MAX_LIFE).await;
            while follows.load(Ordering::Relaxed) {
                tokio::time::sleep(MAX_LIFE).await;
            }
        };
        tokio::select! {
            // Errors of a single client are ignored.
            _ = http.serve_connection(TokioIo::new(connection), service) => {}
            () = life => {}
        }
    }
}

/// The server's answer to `bytes` on one connection, without a network.
///
/// # Errors
/// No runtime can be started.
#[cfg(any(test, feature = "internals"))]
pub fn answer(session: Handle, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let access = Access::new(&HttpConfig::default()).map_err(io::Error::other)?;
    let site = Arc::new(Site {
        board: session.show_on(Board::new(PreviewOptions { width: 64, fps: 1.0 })),
        session,
        access,
        hosts: Vec::new(),
        file: None,
        encrypted: false,
        feed: Feed::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(MAX_HEAD);
        let peer = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let served = ClientConnection { peer, router: router(site), follows: Arc::default() }.serve(server);
        let (mut received, mut to) = (Vec::new(), bytes);
        let exchange = async {
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            // The server may hang up before it has read everything.
            let send = async {
                let _ = tokio::io::copy(&mut to, &mut writer).await;
                let _ = writer.shutdown().await;
            };
            let receive = reader.read_to_end(&mut received);
            let _ = tokio::join!(send, receive);
        };
        // What it follows has no end: what came by then is the answer.
        let _ = tokio::time::timeout(IDLE, async { tokio::join!(served, exchange) }).await;
        Ok(received)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn server() -> Server {
        Server::start(&HttpConfig::default(), Handle::default(), None).unwrap()
    }

    #[test]
    fn clients_that_never_read_do_not_block_the_health_check() {
        let server = server();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
        let silent: Vec<_> = (0..3 * MAX_CONNECTIONS)
            .map(|_| {
                let mut client = TcpStream::connect(server.address).unwrap();
                client.write_all(&request).unwrap();
                client
            })
            .collect();
        let mut client = TcpStream::connect(server.address).unwrap();
        // Less than what a silent client is given.
        client.set_read_timeout(Some(STALLED * 4 / 5)).unwrap();
        write!(client, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 503"), "{text}");
        drop(silent);
    }

    #[test]
    fn a_connection_is_answered_without_a_network() {
        for (path, status) in [("/readyz", "503"), ("/nothing", "404")] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let text = String::from_utf8(answer(Handle::default(), request.as_bytes()).unwrap()).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {text}");
        }
        let text = answer(Handle::default(), b"\0\xff").unwrap();
        assert!(text.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn nothing_is_ready_before_the_streams_are_there() {
        let server = server();
        for (request, answer) in [
            ("GET /readyz", "503 Service Unavailable"),
            ("GET /healthz", "503 Service Unavailable"),
            ("PUT /reload", "503 Service Unavailable"),
            ("GET /nothing", "404 Not Found"),
        ] {
            let mut client = TcpStream::connect(server.address).unwrap();
            write!(client, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {answer}")), "{request}: {text}");
        }
    }
}
