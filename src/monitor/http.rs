//! The HTTP server, on a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::health::{State, health, output_health};
use super::metrics;
use crate::session::Handle;
use crate::{Error, Result};

/// Most connections at the same time. One more closes the oldest of the address with the most, so that a client that
/// never reads cannot block `/healthz`.
const MAX_CONNECTIONS: usize = 32;
/// Longest wait for a client's next request, after which its connection is closed.
const IDLE: Duration = Duration::from_secs(5);
/// Longest life of a connection, even if the client reads nothing.
const MAX_LIFE: Duration = Duration::from_secs(20);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Requests of one connection.
const MAX_REQUESTS: u32 = 100;
/// Pause after a failure to accept a connection, as when no descriptors are left.
const PAUSE: Duration = Duration::from_millis(500);

/// The server, which runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address`, which is a port on loopback or `HOST:PORT`, and answers for `session`.
    ///
    /// # Errors
    /// `address` is malformed, unknown or in use.
    pub fn start(address: &str, session: Handle) -> Result<Self> {
        let place = format!("http.listen = {address}");
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("{place}: {error}"));
        let wanted = match address.parse::<u16>() {
            Ok(port) => format!("127.0.0.1:{port}"),
            Err(_) => address.to_owned(),
        };
        let addresses: Vec<SocketAddr> = wanted
            .to_socket_addrs()
            .map_err(|error| {
                Error::usage(format!("{place}: {error}")).hint("a port, or HOST:PORT such as 127.0.0.1:9090")
            })?
            .collect();
        let host = wanted.rsplit_once(':').map_or(wanted.as_str(), |(host, _)| host).to_owned();
        let listener = TcpListener::bind(addresses.as_slice())
            .map_err(|error| failed(&error).hint("another program may have the port; choose another one"))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        if !address.ip().is_loopback() {
            tracing::warn!("{place}: anyone who can reach {address} can read the metrics and request a reload");
        }
        listener.set_nonblocking(true).map_err(|error| failed(&error))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // Open connections must not delay the end: no graceful shutdown.
                    tokio::select! {
                        Err(error) = serve(listener, router(session), host) => tracing::error!("http: {error}"),
                        _ = stopped => {}
                    }
                });
            })
            .map_err(|error| failed(&error))?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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

/// A connection that may still be open.
struct Open {
    address: IpAddr,
    task: AbortHandle,
}

/// Closes connections until there is room for one more. `open` is ordered by start.
fn make_room(open: &mut Vec<Open>) {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() < MAX_CONNECTIONS {
        return;
    }
    let count = |address: IpAddr| open.iter().filter(|other| other.address == address).count();
    let most = open.iter().map(|connection| count(connection.address)).max();
    if let Some(oldest) = open.iter().position(|connection| Some(count(connection.address)) == most) {
        open.remove(oldest).task.abort();
    }
}

async fn serve(listener: TcpListener, router: Router, name: String) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut open = Vec::new();
    loop {
        let Ok((connection, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        make_room(&mut open);
        let task = tokio::spawn(serve_connection(connection, router.clone(), name.clone()));
        open.push(Open { address: peer.ip(), task: task.abort_handle() });
    }
}

/// Answers the requests on one connection.
async fn serve_connection(connection: impl AsyncRead + AsyncWrite + Unpin, router: Router, name: String) {
    let router = TowerToHyperService::new(router);
    let requests = AtomicU32::new(0);
    let service = service_fn(move |request: Request<Incoming>| {
        let last = requests.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_REQUESTS;
        let foreign = request.uri().path() == "/reload" && is_foreign(request.headers(), &name);
        let router = router.clone();
        async move {
            let mut response = if foreign {
                let error = "the request comes from another site, or is for another host";
                json(StatusCode::FORBIDDEN, &serde_json::json!({ "error": error }))
            } else {
                router.call(request).await?
            };
            if last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
    // A client may end its side once it has sent its request.
    http.half_close(true);
    // Errors of a single client are ignored.
    let _ = tokio::time::timeout(MAX_LIFE, http.serve_connection(TokioIo::new(connection), service)).await;
}

/// The server's answer to `bytes` on one connection, without a network.
///
/// # Errors
/// No runtime can be started.
#[cfg(any(test, feature = "internals"))]
pub fn answer(session: Handle, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(MAX_HEAD);
        let served = serve_connection(server, router(session), "localhost".to_owned());
        let (mut received, mut to) = (Vec::new(), bytes);
        let talk = async {
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            // The server may hang up before it has read everything.
            let send = async {
                let _ = tokio::io::copy(&mut to, &mut writer).await;
                let _ = writer.shutdown().await;
            };
            let receive = reader.read_to_end(&mut received);
            let _ = tokio::join!(send, receive);
        };
        tokio::join!(served, talk);
        Ok(received)
    })
}

/// Whether a page of another site sent the request through a browser: by `Origin` or `Sec-Fetch-Site`, or by a `Host`
/// (DNS rebinding) that is neither an IP address, nor `localhost`, nor `name`, the name on which the server listens.
fn is_foreign(headers: &HeaderMap, name: &str) -> bool {
    let text = |key: HeaderName| headers.get(key).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let Some(host) = text(header::HOST) else { return true };
    let bare =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host.as_str(), |(bare, _)| bare);
    let number = bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let known = number || bare == "localhost" || bare.eq_ignore_ascii_case(name);
    let other_origin =
        text(header::ORIGIN).is_some_and(|origin| origin.split_once("://").is_none_or(|(_, of)| of != host));
    let cross =
        text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin" && site != "none");
    !known || other_origin || cross
}

fn router(session: Handle) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/reload", put(reload).post(reload))
        .with_state(session)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

async fn healthz(Shared(session): Shared<Handle>) -> Response {
    let streams: Vec<_> = session.streams().iter().map(health).collect();
    let down = streams.is_empty() || streams.iter().any(|stream| stream.state == State::Down);
    let status = if down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let outputs: Vec<_> = session.messages().iter().map(|status| output_health(status)).collect();
    json(status, &serde_json::json!({ "streams": streams, "outputs": outputs }))
}

async fn readyz(Shared(session): Shared<Handle>) -> Response {
    let ready = session.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &serde_json::json!({ "ready": ready }))
}

async fn metrics(Shared(session): Shared<Handle>) -> Response {
    match metrics::text(&session) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({ "error": error.to_string() })),
    }
}

async fn reload(Shared(session): Shared<Handle>) -> Response {
    if !session.is_ready() {
        return json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "error": "not ready yet" }));
    }
    match session.reload() {
        Ok(now) => json(StatusCode::OK, &serde_json::json!({ "reloaded": now })),
        Err(error) => json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error.to_string() })),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn requests_of_other_sites_are_foreign() {
        let foreign = |list: &[(&'static str, &'static str)]| {
            let headers =
                list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_foreign(&headers.collect(), "cam.local")
        };
        for fine in [
            vec![("host", "127.0.0.1:9090")],
            vec![("host", "[::1]:9090")],
            vec![("host", "localhost")],
            vec![("host", "cam.local:80"), ("origin", "http://cam.local:80")],
            vec![("host", "10.0.0.1"), ("origin", "http://10.0.0.1"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(!foreign(&fine), "{fine:?}");
        }
        for wrong in [
            vec![],
            vec![("host", "evil.example:9090")],
            vec![("host", "localhost"), ("origin", "http://evil.example")],
            vec![("host", "localhost"), ("origin", "null")],
            vec![("host", "localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(foreign(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn who_never_reads_keeps_nobody_from_the_health() {
        let server = Server::start("127.0.0.1:0", Handle::default()).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
        let silent: Vec<_> = (0..3 * MAX_CONNECTIONS)
            .map(|_| {
                let mut client = TcpStream::connect(server.address()).unwrap();
                client.write_all(&request).unwrap();
                client
            })
            .collect();
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
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
        let server = Server::start("127.0.0.1:0", Handle::default()).unwrap();
        for (request, answer) in [
            ("GET /readyz", "503 Service Unavailable"),
            ("GET /healthz", "503 Service Unavailable"),
            ("PUT /reload", "503 Service Unavailable"),
            ("GET /nothing", "404 Not Found"),
        ] {
            let mut client = TcpStream::connect(server.address()).unwrap();
            write!(client, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {answer}")), "{request}: {text}");
        }
    }
}
