//! The RTSP servers of this process: one per address, all on one thread, with a mount for each stream.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glib::translate::{IntoGlib, ToGlibPtr};
use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use rtsp::gio;
use rtsp::gst_rtsp::RTSPLowerTrans;
use rtsp::prelude::*;

use crate::address::Server as Address;
use crate::lock::lock;
use crate::output::publish::clients::{Table, admit, watch};
use crate::output::publish::feed::Feed;
use crate::output::publish::gate::{Acceptor, Gate, MAX_BODY, TICK, Ticket};
use crate::output::publish::mounts::HiddenMounts;
use crate::output::publish::{ServeOptions, secure};
use crate::{Error, Result};

/// Threads for clients' requests, so that one waiting for its first picture does not hold up others.
const CLIENT_THREADS: i32 = 16;
/// Interval between removals of expired sessions.
const CLEANUP: Duration = Duration::from_secs(5);

/// The RTSP servers of this process, shared by its streams. Each exists while a stream is served at its address.
#[derive(Clone)]
pub struct Servers(Arc<ServersState>);

struct ServersState {
    options: ServeOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    thread: Weak<Thread>,
    /// By `HOST:PORT`.
    servers: HashMap<String, Weak<Server>>,
}

impl Servers {
    /// No server yet.
    pub fn new(options: &ServeOptions) -> Self {
        Self(Arc::new(ServersState { options: options.clone(), state: Mutex::default() }))
    }

    /// Serves the packets of `feed` at an address.
    pub(crate) fn mount(&self, address: &Address, feed: &Arc<Feed>) -> Result<Mount> {
        let mut state = lock(&self.0.state);
        state.servers.retain(|_, server| server.strong_count() > 0);
        let server = match state.servers.get(&address.place()).and_then(Weak::upgrade) {
            Some(server) if server.tls != address.tls() => {
                return Err(Error::usage(format!("{address}: port {} is served with and without TLS", address.port))
                    .hint("choose another port for one of them"));
            }
            Some(server) => server,
            None => {
                let thread = match state.thread.upgrade() {
                    Some(thread) => thread,
                    None => Arc::new(Thread::start()?),
                };
                state.thread = Arc::downgrade(&thread);
                let server = Arc::new(Server::start(address, &self.0.options, thread)?);
                state.servers.insert(address.place(), Arc::downgrade(&server));
                server
            }
        };
        server.mount(address.path(), feed).map_err(|e| e.at(address))?;
        Ok(Mount { server, path: address.path().to_owned() })
    }
}

/// A stream served at an address, until it is dropped.
pub(crate) struct Mount {
    server: Arc<Server>,
    path: String,
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.server.unmount(&self.path);
    }
}

/// The thread that accepts connections.
struct Thread {
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start() -> Result<Self> {
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (run, on) = (main_loop.clone(), context.clone());
        let thread = std::thread::Builder::new().name("rtsp-server".to_owned()).spawn(move || {
            // Fails only for a context owned by another thread.
            let _ = on.with_thread_default(|| run.run());
        });
        let thread = thread.map_err(|e| Error::failed(format!("rtsp: no thread for the server: {e}")))?;
        Ok(Self { context, main_loop, thread: Some(thread) })
    }

    /// Runs `work` on the thread and waits for it.
    fn run(&self, work: impl FnOnce() + Send + 'static) {
        let (done, wait) = mpsc::channel();
        self.context.invoke(move || {
            work();
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(Duration::from_secs(2));
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let main_loop = self.main_loop.clone();
        // From within, so that a loop that has not started yet is stopped too.
        self.context.invoke(move || main_loop.quit());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    /// Ends first.
    acceptor: Option<Acceptor>,
    server: rtsp::RTSPServer,
    mounts: rtsp::RTSPMountPoints,
    /// The same mounts, where unknown paths are hidden.
    hidden: Option<HiddenMounts>,
    table: Arc<Mutex<Table>>,
    sources: Vec<glib::Source>,
    thread: Arc<Thread>,
    tls: bool,
}

impl Server {
    fn start(address: &Address, options: &ServeOptions, thread: Arc<Thread>) -> Result<Self> {
        let auth = secure::auth(address, options)?;
        let warn = warn_if_open(address, options);
        let listener = listen(address)?;
        let server = rtsp::RTSPServer::new();
        server.set_content_length_limit(MAX_BODY);
        server.set_auth(auth.as_ref());
        let pool = rtsp::RTSPThreadPool::new();
        pool.set_max_threads(CLIENT_THREADS);
        server.set_thread_pool(Some(&pool));
        let hidden = options.users.is_some().then(HiddenMounts::new);
        let mounts = hidden.clone().map_or_else(rtsp::RTSPMountPoints::new, |hidden| hidden.upcast());
        server.set_mount_points(Some(&mounts));
        let protected = hidden.is_some();
        let table = Arc::new(Mutex::new(Table::default()));
        let gate = Gate::new(address.to_string());
        // The connection being handed over: GStreamer makes its client within the call.
        let arriving: Arc<Mutex<Option<Ticket>>> = Arc::default();
        let (of_server, arrived, of_clients) = (Arc::clone(&table), Arc::clone(&arriving), Arc::clone(&gate));
        server.connect_client_connected(move |_, client| {
            let handed_over = lock(&arrived).take();
            let ticket = handed_over.or_else(|| admit(&of_clients, client));
            watch(client, &of_server, ticket, protected);
        });
        let sessions = server.session_pool();
        let (looked, mut cleaned) = (Arc::clone(&gate), Instant::now());
        let cleanup = glib::timeout_source_new(TICK, None, glib::Priority::DEFAULT, move || {
            let now = Instant::now();
            looked.look(now);
            if let Some(sessions) = sessions.as_ref().filter(|_| now.saturating_duration_since(cleaned) >= CLEANUP) {
                sessions.cleanup();
                cleaned = now;
            }
            glib::ControlFlow::Continue
        });
        cleanup.attach(Some(&thread.context));
        let mut sources = vec![cleanup];
        let acceptor = if address.tls() {
            sources.push(accept_encrypted(listener, &server, &thread.context).map_err(|e| e.at(address))?);
            None
        } else {
            let (context, to) = (thread.context.clone(), server.clone());
            Some(Acceptor::start(listener, gate, move |socket, peer, ticket| {
                let (server, arriving) = (to.clone(), Arc::clone(&arriving));
                context.invoke(move || hand_over(&server, &arriving, socket, peer, ticket));
            })?)
        };
        if let Some(warning) = warn {
            tracing::warn!("{warning}");
        }
        Ok(Self { acceptor, server, mounts, hidden, table, sources, thread, tls: address.tls() })
    }

    fn mount(&self, path: &str, feed: &Arc<Feed>) -> Result<()> {
        let mut table = lock(&self.table);
        if table.mounts.contains_key(path) {
            return Err(Error::usage("another stream has this address").hint("give each stream a name of its own"));
        }
        let factory = rtsp::RTSPMediaFactory::new();
        factory.set_launch(&feed.launch());
        // One pipeline for all clients of the mount.
        factory.set_shared(true);
        factory.set_protocols(RTSPLowerTrans::TCP | RTSPLowerTrans::UDP);
        // A client over UDP that closes its connection is gone.
        factory.set_stop_on_disconnect(true);
        factory.set_latency(0);
        secure::permit(&factory);
        let fed = Arc::clone(feed);
        factory.connect_media_configure(move |_, media| Feed::attach(&fed, media));
        self.mounts.add_factory(path, factory);
        if let Some(hidden) = &self.hidden {
            hidden.set_served(path, true);
        }
        table.mounts.insert(path.to_owned(), Arc::clone(feed));
        Ok(())
    }

    fn unmount(&self, path: &str) {
        self.mounts.remove_factory(path);
        if let Some(hidden) = &self.hidden {
            hidden.set_served(path, false);
        }
        let table = Arc::clone(&self.table);
        let (server, path) = (self.server.clone(), path.to_owned());
        self.thread.run(move || {
            let watching: Vec<_> = {
                let mut table = lock(&table);
                table.mounts.remove(&path);
                table
                    .clients
                    .iter()
                    .filter(|(_, playing)| **playing == path)
                    .map(|(client, _)| client.clone())
                    .collect()
            };
            // Without the lock: closing a client calls back.
            server.client_filter(Some(&mut |_, client| {
                if watching.contains(client) { rtsp::RTSPFilterResult::Remove } else { rtsp::RTSPFilterResult::Keep }
            }));
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acceptor = None;
        let (server, sources) = (self.server.clone(), std::mem::take(&mut self.sources));
        self.thread.run(move || {
            for source in &sources {
                source.destroy();
            }
            server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
            drop(sources);
        });
    }
}

/// Has GStreamer's server accept the connections of `listener`: it encrypts only those it has accepted itself.
fn accept_encrypted(
    listener: TcpListener,
    server: &rtsp::RTSPServer,
    context: &glib::MainContext,
) -> Result<glib::Source> {
    let socket = gio::Socket::from_fd(OwnedFd::from(listener))
        .map_err(|e| Error::failed(format!("the server does not start: {e}")))?;
    // A client that is gone again must not hold up the thread.
    socket.set_blocking(false);
    let (server, cancellable) = (server.clone(), None::<&gio::Cancellable>);
    let source = SocketExtManual::create_source(
        &socket,
        glib::IOCondition::IN,
        cancellable,
        Some("rtsp-accept"),
        glib::Priority::DEFAULT,
        move |socket, condition| {
            // SAFETY: the function to attach to a listening socket of this server, called as a source calls it, with
            // both objects alive.
            let goes_on = unsafe {
                rtsp::ffi::gst_rtsp_server_io_func(
                    socket.to_glib_none().0,
                    condition.into_glib(),
                    server.to_glib_none().0,
                )
            };
            if goes_on == glib::ffi::GFALSE { glib::ControlFlow::Break } else { glib::ControlFlow::Continue }
        },
    );
    source.attach(Some(context));
    Ok(source)
}

/// Hands a connection to GStreamer's server; runs on the server's thread.
fn hand_over(
    server: &rtsp::RTSPServer,
    arriving: &Mutex<Option<Ticket>>,
    socket: OwnedFd,
    peer: SocketAddr,
    ticket: Ticket,
) {
    *lock(arriving) = Some(ticket);
    let given = gio::Socket::from_fd(socket).map_err(|e| e.to_string()).and_then(|socket| {
        let ip = peer.ip().to_string();
        server.transfer_connection(socket, &ip, i32::from(peer.port()), None).map_err(|e| e.to_string())
    });
    if let Err(e) = given {
        tracing::debug!("a connection of {} was not accepted: {e}", peer.ip());
    }
    // Still there if no client was made of it.
    lock(arriving).take();
}

/// The warning for a server that anyone on the network may watch.
fn warn_if_open(address: &Address, options: &ServeOptions) -> Option<String> {
    let mut found = (address.host.as_str(), address.port).to_socket_addrs().ok()?;
    let open = options.users.is_none() && found.any(|found| !found.ip().is_loopback());
    open.then(|| {
        format!("{address}: anyone on the network may watch; name a file of users in serve.users to change that")
    })
}

/// # Errors
/// The port is in use or may not be opened, or the address is not one of this machine.
fn listen(address: &Address) -> Result<TcpListener> {
    let failed = |e: &std::io::Error| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::failed(format!("{address}: port {} is in use", address.port))
            .hint("another program or another run uses it; choose another port"),
        std::io::ErrorKind::PermissionDenied => {
            Error::failed(format!("{address}: port {} may not be opened by this user", address.port))
                .hint("choose one above 1023, such as 8554")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            Error::failed(format!("{address}: {} is not an address of this machine", address.host))
                .hint("0.0.0.0 is all of its addresses, 127.0.0.1 is this machine only")
        }
        _ => Error::failed(format!("{address}: cannot be served: {e}")),
    };
    TcpListener::bind((address.host.as_str(), address.port)).map_err(|e| failed(&e))
}
