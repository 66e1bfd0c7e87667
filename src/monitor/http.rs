//! The HTTP server, on a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, oneshot};

use super::health::{State, health};
use super::metrics;
use crate::session::Handle;
use crate::{Error, Result};

/// Connections at the same time; more wait until one of these is done.
const MOST_CONNECTIONS: usize = 32;
/// How long a client may take for its next request. It frees what a client that vanished or forgot holds.
const IDLE: Duration = Duration::from_secs(5);
/// Pause after a connection could not be taken: there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers until it is dropped.
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
    /// `address` is malformed, not to be found or in use.
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
        let listener = TcpListener::bind(addresses.as_slice())
            .map_err(|error| failed(&error).hint("another program may have the port; choose another one"))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        if !address.ip().is_loopback() {
            tracing::warn!("{place}: everybody who can reach {address} can read the metrics and ask for a reload");
        }
        listener.set_nonblocking(true).map_err(|error| failed(&error))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // An open connection is no reason to go on: no graceful end.
                    tokio::select! {
                        Err(error) = serve(listener, router(session)) => tracing::error!("http: {error}"),
                        _ = stopped => {}
                    }
                });
            })
            .map_err(|error| failed(&error))?;
        tracing::info!("http://{address}/healthz /readyz /metrics /reload");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
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

async fn serve(listener: TcpListener, router: Router) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(IDLE);
            // Whatever goes wrong with a client is its own matter.
            let _ = http.serve_connection(TokioIo::new(connection), service).await;
        });
    }
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
    json(status, &serde_json::json!({ "streams": streams }))
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
