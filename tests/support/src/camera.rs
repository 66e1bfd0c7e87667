//! An RTSP camera at the loopback interface, in a process of its own that can be killed and stopped: the test binary
//! itself, run again for its ignored test `camera_process`, which calls [`serve`].

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use serde::{Deserialize, Serialize};

const OPTIONS: &str = "OODSTREAM_TEST_CAMERA";
/// Before the port on standard output.
const READY: &str = "camera at port ";

/// What a camera sends, and to whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraOptions {
    /// 0: any free one.
    pub port: u16,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub codec: Codec,
    /// A pattern of videotestsrc.
    pub pattern: String,
    /// A stream of sound beside the pictures.
    pub sound: bool,
    /// User and password; none: everybody may watch.
    pub login: Option<(String, String)>,
    /// Basic instead of digest.
    pub basic: bool,
    /// UDP is refused.
    pub tcp_only: bool,
    /// PEM files with certificate and key, for `rtsps://`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// After that many packets the camera's clock (90 kHz) jumps by that many ticks.
    pub jump: Option<(u32, i32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    H264,
    H265,
    Jpeg,
}

impl Default for CameraOptions {
    fn default() -> Self {
        Self {
            port: 0,
            width: 320,
            height: 240,
            fps: 25,
            codec: Codec::H264,
            pattern: "ball".to_string(),
            sound: false,
            login: None,
            basic: false,
            tcp_only: false,
            tls: None,
            jump: None,
        }
    }
}

/// A running camera; killed when dropped.
pub struct Camera {
    child: Child,
    port: u16,
    tls: bool,
    since: Instant,
}

impl Camera {
    /// Starts one and waits until it listens.
    #[track_caller]
    pub fn start(options: CameraOptions) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "camera_process", "--nocapture"])
            .env(OPTIONS, serde_json::to_string(&options).unwrap())
            // Its end is the end of the camera: none outlives a test that is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| line.ok()?.split_once(READY)?.1.trim().parse().ok());
        let port = port.unwrap_or_else(|| panic!("the camera did not start: {:?}", child.wait()));
        // The harness has a word to say of tests that take long, and ends where nobody listens.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port, tls: options.tls.is_some(), since: Instant::now() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, without credentials.
    pub fn address(&self) -> String {
        format!("{}://127.0.0.1:{}/cam", if self.tls { "rtsps" } else { "rtsp" }, self.port)
    }

    /// Its address with credentials.
    pub fn address_for(&self, login: &str) -> String {
        self.address().replace("://", &format!("://{login}@"))
    }

    /// Since when it listens, or since when it goes on.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Gone at once, as without power.
    pub fn kill(&mut self) {
        // Gone already when this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Hangs: connections stay open, nothing is answered.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Goes on after [`Camera::stop`].
    pub fn cont(&mut self) {
        self.signal("-CONT");
        self.since = Instant::now();
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A certificate for 127.0.0.1 and its key, made with openssl.
pub fn certificate(folder: &std::path::Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

/// Waits for a condition, for at most `seconds`.
#[track_caller]
pub fn wait_for(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn launch(options: &CameraOptions) -> String {
    let CameraOptions { width, height, fps, pattern, .. } = options;
    let coded = match options.codec {
        Codec::H264 => format!(
            "x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} ! rtph264pay config-interval=1 name=pay0"
        ),
        Codec::H265 => format!(
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} ! rtph265pay config-interval=1 name=pay0"
        ),
        Codec::Jpeg => "jpegenc ! rtpjpegpay name=pay0".to_string(),
    };
    // GStreamer's server lets go of tracks that nobody asked for when it starts those that somebody did. What they bring in the
    // next moment has nowhere to go, which would end the whole stream if the source heard of it.
    let sound = if options.sound {
        "audiotestsrc is-live=true ! errorignore ignore-notlinked=true convert-to=ok ! alawenc ! rtppcmapay name=pay1"
    } else {
        ""
    };
    format!(
        "( videotestsrc is-live=true pattern={pattern} ! video/x-raw,format=I420,width={width},height={height},\
         framerate={fps}/1 ! {coded} {sound} )"
    )
}

/// Makes the times in the RTP headers of a payloader jump once.
fn jump(pad: &gst::Pad, after: u32, ticks: i32) {
    let packets = AtomicU32::new(0);
    let change = move |buffer: &mut gst::BufferRef| {
        if packets.fetch_add(1, Ordering::Relaxed) >= after {
            let mut map = buffer.map_writable().unwrap();
            let time = u32::from_be_bytes(map[4..8].try_into().unwrap()).wrapping_add_signed(ticks);
            map[4..8].copy_from_slice(&time.to_be_bytes());
        }
    };
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => change(buffer.make_mut()),
            Some(gst::PadProbeData::BufferList(list)) => {
                let list = list.make_mut();
                (0..list.len()).for_each(|index| change(list.get_mut(index).unwrap()));
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// The camera itself, until its standard input ends. Returns at once when no [`Camera`] has started this process.
pub fn serve() {
    let Ok(options) = std::env::var(OPTIONS) else { return };
    let options: CameraOptions = serde_json::from_str(&options).unwrap();
    gst::init().unwrap();
    let server = rtsp::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&options.port.to_string());
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(&launch(&options));
    factory.set_shared(true);
    if let Some((after, ticks)) = options.jump {
        factory.connect_media_configure(move |_, media| {
            let payloader = media.element().downcast::<gst::Bin>().unwrap().by_name("pay0").unwrap();
            jump(&payloader.static_pad("src").unwrap(), after, ticks);
        });
    }
    if options.tcp_only {
        factory.set_protocols(rtsp::gst_rtsp::RTSPLowerTrans::TCP);
    }
    if options.login.is_some() || options.tls.is_some() {
        let auth = rtsp::RTSPAuth::new();
        let token = rtsp::RTSPToken::builder().field("media.factory.role", "viewer").build();
        if let Some((user, password)) = &options.login {
            if options.basic {
                auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
            } else {
                auth.set_supported_methods(rtsp::gst_rtsp::RTSPAuthMethod::Digest);
                auth.add_digest(user, password, &token);
            }
        } else {
            auth.set_default_token(Some(&mut token.copy()));
        }
        if let Some((certificate, key)) = &options.tls {
            auth.set_tls_certificate(Some(&rtsp::gio::TlsCertificate::from_files(certificate, key).unwrap()));
        }
        factory.add_role_from_structure(
            &gst::Structure::builder("viewer")
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build(),
        );
        server.set_auth(Some(&auth));
    }
    server.mount_points().unwrap().add_factory("/cam", factory);
    let main = rtsp::glib::MainLoop::new(None, false);
    let _source = server.attach(None).expect("the port is free");
    println!("{READY}{}", server.bound_port());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0; 16]);
        std::process::exit(0);
    });
    main.run();
}
