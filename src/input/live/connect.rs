//! The connection to a server, plain or encrypted.

use crate::address::LocatedPath;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use gstreamer_rtsp_server::gio;
use gstreamer_rtsp_server::gio::prelude::*;

use crate::gst::trust::authorities;
use crate::input::live::address::Server;

/// Time limit for the TCP connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Time limit for the TLS handshake, in seconds.
const HANDSHAKE_S: u32 = 5;
/// Time limit of a write.
const WRITE: Duration = Duration::from_secs(10);

/// The certificates to trust.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// File with certificate authorities; default: the system's.
    pub ca: Option<LocatedPath>,
    /// Accepts any certificate.
    pub accept_any: bool,
}

pub(crate) struct Wire {
    pub reader: Box<dyn Read + Send>,
    pub writer: Box<dyn Write + Send>,
    /// Shuts both halves down.
    pub socket: TcpStream,
    pub peer: IpAddr,
}

/// # Errors
/// Unknown host, connection refused, no TLS; as text.
pub(crate) fn connect(server: &Server, tls: &Tls) -> Result<Wire, String> {
    let socket = tcp(&server.host, server.port)?;
    let broken = |e: io::Error| format!("{} cannot be reached: {e}", server.host);
    let peer = socket.peer_addr().map_err(broken)?.ip();
    socket.set_write_timeout(Some(WRITE)).and(socket.set_nodelay(true)).map_err(broken)?;
    let clone = || socket.try_clone().map_err(broken);
    let (reader, writer): (Box<dyn Read + Send>, Box<dyn Write + Send>) = if server.tls() {
        let streams = encrypt(clone()?, server, tls).map_err(|e| {
            format!(
                "no encrypted connection: there is no TLS at this port, or the certificate is not trusted (name its \
                 authority with tls_ca) [{}]",
                e.message()
            )
        })?;
        (Box::new(streams.0), Box::new(streams.1))
    } else {
        (Box::new(clone()?), Box::new(clone()?))
    };
    Ok(Wire { reader, writer, socket, peer })
}

/// A TCP connection to the first address of `host` that answers.
pub(crate) fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let unknown = || format!("there is no host named {host}");
    let addresses = (host, port).to_socket_addrs().map_err(|_| unknown())?;
    let mut reason = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(e) => {
                reason = Some(match e.kind() {
                    io::ErrorKind::ConnectionRefused => format!("nothing listens at {host} port {port}"),
                    io::ErrorKind::TimedOut => format!("{host} does not answer"),
                    _ => format!("{host} cannot be reached: {e}"),
                });
            }
        }
    }
    Err(reason.unwrap_or_else(unknown))
}

/// One half of an encrypted connection, and the connection, to which its streams hold weak references.
struct Half<T>(T, #[expect(dead_code, reason = "held, not read")] gio::TlsClientConnection);

// SAFETY: GTlsConnection may be read by one thread and written by another at the same time (its documentation, "Thread
// safety"); each half is moved to one thread and used by no other.
unsafe impl<T> Send for Half<T> {}

impl<T: IsA<gio::InputStream>> Read for Half<gio::InputStreamRead<T>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<T: IsA<gio::OutputStream>> Write for Half<gio::OutputStreamWrite<T>> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

type Halves = (Half<gio::InputStreamRead<gio::InputStream>>, Half<gio::OutputStreamWrite<gio::OutputStream>>);

fn encrypt(stream: TcpStream, server: &Server, tls: &Tls) -> Result<Halves, gio::glib::Error> {
    let socket = gio::Socket::from_fd(OwnedFd::from(stream))?;
    socket.set_timeout(HANDSHAKE_S);
    let base = socket.connection_factory_create_connection();
    let identity = gio::NetworkAddress::new(&server.host, server.port);
    let connection = gio::TlsClientConnection::new(&base, Some(&identity))?;
    if tls.accept_any {
        connection.connect_accept_certificate(|_, _, _| true);
    } else if let Some(Ok(database)) = tls.ca.as_deref().map(authorities) {
        // Without it (the file has been removed) the system's authorities count, and nothing else is accepted.
        connection.set_database(Some(&database));
    }
    connection.handshake(None::<&gio::Cancellable>)?;
    socket.set_timeout(0);
    let (input, output) = (connection.input_stream(), connection.output_stream());
    Ok((Half(input.into_read(), connection.clone()), Half(output.into_write(), connection)))
}
