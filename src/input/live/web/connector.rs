//! The connections of the HTTP client: opened as those of RTSP, with the same trust.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::input::live::address::{LiveInput, LiveSource, Server};
use crate::input::live::connect::{Tls, connect};
use crate::input::live::relay::Report;

/// The reason for a failed connection, as text.
#[derive(Debug)]
pub(super) struct Unreachable(pub String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// Connects as RTSP does, with the same trust.
#[derive(Clone)]
pub(super) struct Connector {
    pub tls: Arc<Tls>,
    pub report: Arc<Report>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Socket>;
    type Error = Unreachable;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unreachable>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { tls, report } = self.clone();
        Box::pin(async move {
            let Ok(Some(LiveInput { source: LiveSource::Http(server), .. })) = LiveInput::parse(&uri.to_string())
            else {
                return Err(Unreachable("the address is malformed".to_owned()));
            };
            let stream = tokio::task::spawn_blocking(move || open(&server, &tls)).await;
            let stream = stream.map_err(|e| Unreachable(e.to_string()))?.map_err(Unreachable)?;
            report.connect();
            Ok(TokioIo::new(stream.register().map_err(|e| Unreachable(e.to_string()))?))
        })
    }
}

/// A connection not registered with the runtime yet.
enum Opened {
    Plain(std::net::TcpStream),
    /// Encrypted by GLib on separate threads, behind a pair of sockets.
    Encrypted(std::os::unix::net::UnixStream),
}

impl Opened {
    fn register(self) -> io::Result<Socket> {
        Ok(Socket(match self {
            Self::Plain(socket) => Box::new(TcpStream::from_std(socket)?),
            Self::Encrypted(socket) => Box::new(UnixStream::from_std(socket)?),
        }))
    }
}

fn open(server: &Server, tls: &Tls) -> Result<Opened, String> {
    let broken = |e: io::Error| format!("{} cannot be reached: {e}", server.host);
    let wire = connect(server, tls)?;
    if !server.tls() {
        wire.socket.set_nonblocking(true).map_err(broken)?;
        return Ok(Opened::Plain(wire.socket));
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
    ours.set_nonblocking(true).map_err(broken)?;
    let (mut sent, mut received) = (theirs.try_clone().map_err(broken)?, theirs);
    let (mut reader, mut writer, socket) = (wire.reader, wire.writer, wire.socket);
    let spawn = |work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name("https".to_owned()).spawn(work).map(drop).map_err(broken)
    };
    spawn(Box::new(move || {
        // Either side ends it.
        let _ = io::copy(&mut reader, &mut received);
        let _ = received.shutdown(std::net::Shutdown::Both);
    }))?;
    spawn(Box::new(move || {
        let _ = io::copy(&mut sent, &mut writer);
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }))?;
    Ok(Opened::Encrypted(ours))
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub(super) struct Socket(Box<dyn Duplex>);

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
