//! The clients of an RTSP server: their admission, their logins, and what they watch.

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use glib::translate::{FromGlibPtrNone, ToGlibPtr};
use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use rtsp::gio;
use rtsp::gst_rtsp::RTSPStatusCode;
use rtsp::prelude::*;

use crate::descriptors;
use crate::lock::lock;
use crate::output::publish::feed::Feed;
use crate::output::publish::gate::{Gate, Ticket};
use crate::output::publish::mounts::holds;

/// Seconds that a connection stays open after its last session, which expires a minute after the client's last message.
const AFTER_SESSION_S: i32 = 10;

/// The mounts of a server, and the clients that play them.
#[derive(Default)]
pub(crate) struct Table {
    /// By path.
    pub mounts: HashMap<String, Arc<Feed>>,
    /// The path that each client plays.
    pub clients: HashMap<rtsp::RTSPClient, String>,
}

impl Table {
    /// The mount of a request, whose address may end with the name of a track.
    fn mount_of(&self, context: &rtsp::RTSPContext) -> Option<(&String, &Arc<Feed>)> {
        let uri = context.uri()?.request_uri();
        let (_, rest) = uri.split_once("://")?;
        let path = &rest[rest.find('/')?..];
        let path = path.split(['?', '#']).next().unwrap_or(path);
        self.mounts.iter().filter(|(mount, _)| holds(mount, path)).max_by_key(|(mount, _)| mount.len())
    }

    fn count(&self) {
        for (path, feed) in &self.mounts {
            feed.set_clients(self.clients.values().filter(|playing| *playing == path).count());
        }
    }
}

/// A socket held to be closed later.
struct Held(gio::Socket);

// SAFETY: references of GObject are counted atomically; the socket is used once, after its client has stopped reading
// and writing.
unsafe impl Send for Held {}

/// The slot of a client that GStreamer's server has accepted itself; without one it is closed.
pub(crate) fn admit(gate: &Arc<Gate>, client: &rtsp::RTSPClient) -> Option<Ticket> {
    // SAFETY: the connection belongs to the client, which lives through this call; the socket is taken with a
    // reference.
    let socket: gio::Socket = unsafe {
        let connection = rtsp::ffi::gst_rtsp_client_get_connection(client.to_glib_none().0);
        let socket = rtsp::gst_rtsp::ffi::gst_rtsp_connection_get_read_socket(connection);
        Option::<gio::Socket>::from_glib_none(socket)?
    };
    let ticket = ticket_of(gate, &socket);
    if ticket.is_none() {
        // Fails if it is closed already.
        let _ = socket.shutdown(true, true);
    }
    // GStreamer 1.22 keeps a reference to the socket of an encrypted connection, and with it the descriptor.
    let held = Mutex::new(Some(Held(socket)));
    client.connect_closed(move |_| {
        if let Some(Held(socket)) = lock(&held).take() {
            let _ = socket.close();
        }
    });
    ticket
}

fn ticket_of(gate: &Arc<Gate>, socket: &gio::Socket) -> Option<Ticket> {
    let peer = socket.remote_address().ok()?.downcast::<gio::InetSocketAddress>().ok()?;
    let address = peer.address().to_str().parse().ok()?;
    // SAFETY: the descriptor is open as long as the socket, which the caller holds.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }.try_clone_to_owned().ok()?;
    gate.admit(&TcpStream::from(descriptor), address, descriptors::left(), Instant::now())
}

/// The status code of a response; none for a request.
fn status_of(message: &glib::Value) -> Option<u32> {
    let mut code = 0;
    // SAFETY: the value holds a message (the signal's documentation), which lives as long as the value; it is only
    // read.
    unsafe {
        let message: *mut rtsp::gst_rtsp::ffi::GstRTSPMessage = if message.type_().is_a(glib::Type::POINTER) {
            glib::gobject_ffi::g_value_get_pointer(message.to_glib_none().0).cast()
        } else if message.type_().is_a(glib::Type::BOXED) {
            glib::gobject_ffi::g_value_get_boxed(message.to_glib_none().0).cast()
        } else {
            return None;
        };
        if message.is_null() || (*message).type_ != rtsp::gst_rtsp::ffi::GST_RTSP_MESSAGE_RESPONSE {
            return None;
        }
        rtsp::gst_rtsp::ffi::gst_rtsp_message_parse_response(
            message,
            &raw mut code,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    }
    u32::try_from(code).ok()
}

/// Connects to the signals of a client.
pub(crate) fn watch(client: &rtsp::RTSPClient, table: &Arc<Mutex<Table>>, ticket: Option<Ticket>, protected: bool) {
    let ticket = Arc::new(Mutex::new(ticket));
    let with = |ticket: &Arc<Mutex<Option<Ticket>>>, work: fn(&Ticket)| {
        if let Some(ticket) = lock(ticket).as_ref() {
            work(ticket);
        }
    };
    let of_client = Arc::clone(&ticket);
    client.connect_new_session(move |_, _| with(&of_client, Ticket::has_session));
    let of_client = Arc::clone(&ticket);
    client.connect_describe_request(move |_, _| with(&of_client, Ticket::allowed));
    let of_client = Arc::clone(&ticket);
    client.connect("send-message", false, move |values| {
        if values.get(2).and_then(status_of) == Some(401) {
            with(&of_client, Ticket::denied);
        }
        None
    });
    client.connect_closed(move |_| drop(lock(&ticket).take()));
    // Otherwise the connection of a client that vanished (power, network) would stay open for ever: over UDP nothing is
    // sent on it that could fail.
    client.set_property("post-session-timeout", AFTER_SESSION_S);
    let of_table = Arc::clone(table);
    client.connect_pre_describe_request(move |_, context| {
        // Refused later with 401, whether the path exists or not.
        if protected && context.token().is_none() {
            return RTSPStatusCode::Ok;
        }
        // The stream cannot be described before its first picture; the client asks again.
        let feed = lock(&of_table).mount_of(context).map(|(_, feed)| Arc::clone(feed));
        match feed {
            Some(feed) if !feed.has_packets() => return RTSPStatusCode::ServiceUnavailable,
            Some(feed) => feed.wait_for_old(),
            None => {}
        }
        RTSPStatusCode::Ok
    });
    let of_table = Arc::clone(table);
    client.connect_play_request(move |client, context| {
        let mut table = lock(&of_table);
        if let Some((path, feed)) = table.mount_of(context) {
            feed.want_key();
            let path = path.clone();
            table.clients.insert(client.clone(), path);
            table.count();
        }
    });
    let gone = |table: &Arc<Mutex<Table>>| {
        let table = Arc::clone(table);
        move |client: &rtsp::RTSPClient| {
            let mut table = lock(&table);
            table.clients.remove(client);
            table.count();
        }
    };
    let stopped = gone(table);
    client.connect_teardown_request(move |client, _| stopped(client));
    client.connect_closed(gone(table));
}
