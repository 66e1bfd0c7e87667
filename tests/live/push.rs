//! Streams pushed to another RTSP server, which comes and goes.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use oodstream::output::publish::{PublishOptions, ServeOptions, Servers};
use rtsp::gio;
use rtsp::prelude::*;
use support::camera;
use support::live::*;

const BALL: &str = "test://ball?width=160&height=90&frames=50";

fn servers() -> Servers {
    Servers::new(&ServeOptions::default())
}

/// An RTSP server that takes what is pushed to `/in`, on a thread of its own.
struct Receiver {
    server: rtsp::RTSPServer,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    listen: Option<glib::Source>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    fn start(
        port: u16,
        user: Option<(&str, &str)>,
        tls: Option<&gio::TlsCertificate>,
        packets: &Arc<AtomicU64>,
    ) -> Self {
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&port.to_string());
        let factory = rtsp::RTSPMediaFactory::new();
        factory.set_launch("( rtph264depay name=depay0 ! h264parse ! fakesink name=end sync=false async=false )");
        factory.set_transport_mode(rtsp::RTSPTransportMode::RECORD);
        let role = gst::Structure::builder("sender")
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
            .build();
        factory.add_role_from_structure(&role);
        if let Some((user, password)) = user {
            let auth = rtsp::RTSPAuth::new();
            let token = rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "sender").build();
            auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
            auth.set_tls_certificate(tls);
            server.set_auth(Some(&auth));
        }
        let packets = Arc::clone(packets);
        factory.connect_media_configure(move |_, media| {
            let end = media.element().downcast::<gst::Bin>().unwrap().by_name("end").unwrap();
            let packets = Arc::clone(&packets);
            end.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                packets.fetch_add(1, Ordering::SeqCst);
                gst::PadProbeReturn::Ok
            });
        });
        server.mount_points().unwrap().add_factory("/in", factory);
        let context = glib::MainContext::new();
        let id = server.attach(Some(&context)).unwrap();
        let listen = context.find_source_by_id(&id);
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let run = main_loop.clone();
        let thread = Some(std::thread::spawn(move || run.run()));
        Self { server, context, main_loop, listen, thread }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let (server, main_loop, listen) = (self.server.clone(), self.main_loop.clone(), self.listen.take());
        self.context.invoke(move || {
            listen.unwrap().destroy();
            server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
            main_loop.quit();
        });
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn pushed_to_a_server_that_goes_and_comes_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let packets = Arc::new(AtomicU64::new(0));
    let file = folder.path().join("credentials");
    fs::write(&file, "# for the relay\nme:se cret\n").unwrap();
    let options = PublishOptions { push_credentials: Some(file), ..PublishOptions::default() };
    let out = folder.path().join("out.mp4");
    // The server is not there yet; one that takes connections and says nothing never will be.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    let targets = [
        target(format!("rtsp+push://127.0.0.1:{port}/in")),
        target(format!("rtsp+push://me:se%20cret@127.0.0.1:{mute_port}/in")),
        target(out.to_str().unwrap()),
    ];
    let feeder = Feeder::start(&targets, &servers(), &options, BALL).unwrap();
    until("a first try failed", || feeder.statuses[0].restarts.load(Ordering::SeqCst) >= 1);
    let receiver = Receiver::start(port, Some(("me", "se cret")), None, &packets);
    let arrive = |what: &str| {
        let from = packets.load(Ordering::SeqCst);
        until(what, || packets.load(Ordering::SeqCst) >= from + 20);
        until("it is up", || feeder.is_up(0));
    };
    arrive("packets arrive");
    drop(receiver);
    until("it is down", || !feeder.is_up(0));
    let receiver = Receiver::start(port, Some(("me", "se cret")), None, &packets);
    arrive("packets arrive again");
    assert!(!feeder.is_up(1), "nobody took the stream there");
    for status in &feeder.statuses {
        assert!(!status.name.contains("cret"), "{}", status.name);
    }
    let start = Instant::now();
    // The silent one holds up neither the end of the others nor the program.
    let (frames, ended) = (feeder.written.load(Ordering::SeqCst), feeder.finish());
    println!("{:?} after {:?}", ended.as_ref().map(|_| ()), start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(decoded(&out) >= frames - 5);
    drop(receiver);
}

#[test]
fn pushed_with_tls_to_a_server_that_is_trusted() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = camera::certificate(folder.path());
    let tls = gio::TlsCertificate::from_files(&certificate, &key).unwrap();
    let (port, packets) = (free_port(), Arc::new(AtomicU64::new(0)));
    let _receiver = Receiver::start(port, Some(("me", "secret")), Some(&tls), &packets);
    let url = [target(format!("rtsps+push://me:secret@127.0.0.1:{port}/in"))];
    let push = |trust: Option<PathBuf>| {
        let options = PublishOptions { push_tls_ca: trust, ..PublishOptions::default() };
        Feeder::start(&url, &servers(), &options, BALL)
    };
    assert!(push(Some(folder.path().join("none.pem"))).err().unwrap().to_string().contains("none.pem"));
    let unknown = push(None).unwrap();
    until("it is refused", || unknown.statuses[0].restarts.load(Ordering::SeqCst) >= 1);
    assert_eq!(packets.load(Ordering::SeqCst), 0);
    unknown.abort();
    let known = push(Some(certificate)).unwrap();
    until("packets arrive", || packets.load(Ordering::SeqCst) >= 20);
    until("it is up", || known.is_up(0));
    known.abort();
}
