//! The GStreamer pipeline of one connection to a live input.
//!
//! ```text
//! rtspsrc (video only)           -+
//! souphttpsrc                    -+-> decodebin ! deinterlace ! videoconvert ! videoflip ! videoscale ! appsink
//! v4l2src ! capsfilter           -+              ^
//! videotestsrc is-live ! capsfilter -------------+
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server::gio;

use crate::Error;
use crate::Result;
use crate::gst::element;
use crate::gst::trust::authorities;
use crate::gst::{gst_failed, link};
use crate::input::live::address::{LiveInput, Login, Server, Source};
use crate::input::live::device::Device;
use crate::input::live::{SourceOptions, Transport};
use crate::input::picture::picture_chain;
use crate::input::reader::frame_sink;
use crate::input::test_source::TestSpec;

/// How long nothing may come over UDP before TCP is tried, in microseconds.
const UDP_PATIENCE: u64 = 2_500_000;
/// Name of the element that reads a camera at this machine.
pub(crate) const CAMERA: &str = "camera";
/// Arrivals remembered: more than pictures may wait for their reader.
const ARRIVALS: usize = 16;

/// What the streaming threads tell about a connection.
pub(crate) struct Life {
    started: Instant,
    /// Milliseconds from `started` to the last packet, plus one; 0 before the first.
    data: AtomicU64,
    first_data: AtomicU64,
    /// Pictures carry no time of their own.
    pub timeless: AtomicBool,
    /// The sink waits for the time of each picture: the stream comes in bursts.
    pub paced: AtomicBool,
    arrivals: Mutex<Vec<(Option<gst::ClockTime>, Instant)>>,
}

impl Life {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            data: AtomicU64::new(0),
            first_data: AtomicU64::new(0),
            timeless: AtomicBool::new(false),
            paced: AtomicBool::new(false),
            arrivals: Mutex::default(),
        }
    }

    fn packet(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.data.store(now, Ordering::Release);
        let _ = self.first_data.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    fn picture(&self, pts: Option<gst::ClockTime>) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() == ARRIVALS {
            arrivals.remove(0);
        }
        arrivals.push((pts, Instant::now()));
    }

    /// When a picture reached the sink; the latest of those that have one time.
    pub fn arrival(&self, pts: Option<gst::ClockTime>) -> Option<Instant> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.iter().rfind(|(time, _)| *time == pts).map(|(_, arrival)| *arrival)
    }

    /// When the first and the last packet came.
    pub fn data(&self) -> Option<(Instant, Instant)> {
        let at = |slot: &AtomicU64| {
            let ms = slot.load(Ordering::Acquire).checked_sub(1)?;
            self.started.checked_add(Duration::from_millis(ms))
        };
        at(&self.first_data).zip(at(&self.data))
    }
}

/// A pipeline, not started yet.
pub(crate) struct Assembly {
    pub pipeline: gst::Pipeline,
    pub sink: gst_app::AppSink,
    /// Where decoded pictures enter the last part, in the size and format they came in.
    pub entry: gst::Pad,
    pub life: Arc<Life>,
}

/// What every connection of an input is made with.
pub(crate) struct Recipe {
    pub input: LiveInput,
    pub options: SourceOptions,
    /// UDP brings nothing here.
    pub tcp_only: bool,
    /// Caps of the first picture: later ones are scaled to its size, with borders.
    pub size: Option<gst::Caps>,
}

impl Recipe {
    /// # Errors
    /// A file that is named in the options cannot be used, or an element is missing.
    pub fn new(input: &LiveInput, options: &SourceOptions) -> Result<Self> {
        let mut input = input.clone();
        if let Some(path) = &options.credentials {
            input.log_in(Login::read(path)?);
        }
        options.tls_ca.as_deref().map(authorities).transpose()?;
        let mut needed = vec!["videoconvert", "videoscale", "deinterlace", "videoflip", "appsink"];
        needed.extend(match &input.source {
            Source::Rtsp(_) => &["rtspsrc", "decodebin"][..],
            Source::Http(_) => &["souphttpsrc", "decodebin", "multipartdemux", "hlsdemux"],
            Source::Device(_) => &["v4l2src", "decodebin"],
            Source::Test(_) => &["videotestsrc"],
            Source::File(_) => &["filesrc", "parsebin", "decodebin"],
        });
        for name in needed {
            element(name)?;
        }
        if let Source::Test(spec) = &input.source {
            spec.elements()?;
        }
        Ok(Self { input, options: options.clone(), tcp_only: false, size: None })
    }

    /// # Errors
    /// An element cannot be made, or is not what it was.
    pub fn assemble(&self) -> Result<Assembly> {
        let pipeline = gst::Pipeline::new();
        // One clock for all connections, not one that a source brings and takes away.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let sink = frame_sink();
        sink.set_drop(true);
        if let Some(size) = &self.size {
            sink.set_caps(Some(size));
        }
        let chain = picture_chain(&sink)?;
        link(&pipeline, &chain)?;
        let entry = pad(&chain[0], "sink")?;
        let life = Arc::new(Life::new());
        let seen = Arc::clone(&life);
        pad(sink.upcast_ref(), "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            seen.picture(info.buffer().and_then(|buffer| buffer.pts()));
            gst::PadProbeReturn::Ok
        });
        match &self.input.source {
            Source::Test(spec) => test(&pipeline, spec, &chain[0], &life)?,
            Source::Rtsp(server) => {
                let decoder = decoder(&pipeline, &entry)?;
                self.rtsp(&pipeline, server, &decoder, &life)?;
            }
            Source::Http(server) => {
                let decoder = decoder(&pipeline, &entry)?;
                self.http(&pipeline, server, &decoder, &sink, &life)?;
            }
            Source::Device(device) => {
                let decoder = decoder(&pipeline, &entry)?;
                camera(&pipeline, device, &decoder, &life)?;
            }
            Source::File(path) => return Err(Error::failed(format!("{}: not a live input", path.display()))),
        }
        Ok(Assembly { pipeline, sink, entry, life })
    }

    fn rtsp(&self, pipeline: &gst::Pipeline, server: &Server, decoder: &gst::Element, life: &Arc<Life>) -> Result<()> {
        let source = element("rtspsrc")?;
        source.set_property("location", &server.location);
        if let Some(login) = &self.input.login {
            source.set_property("user-id", &login.user);
            source.set_property("user-pw", &login.password);
        }
        let transport = if self.tcp_only { Transport::Tcp } else { self.options.transport };
        source.set_property_from_str(
            "protocols",
            match transport {
                Transport::Auto => "tcp+udp",
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            },
        );
        source.set_property("latency", self.options.jitter_ms);
        // A packet that comes later than that is of no use: old pictures are worse than a gap.
        source.set_property("drop-on-latency", true);
        // Never the buffering meant for recordings.
        source.set_property_from_str("buffer-mode", "slave");
        // The watchdog decides when it is over; this one is for going from UDP to TCP.
        source.set_property("timeout", if transport == Transport::Auto { UDP_PATIENCE } else { 0 });
        if self.options.tls_accept_any {
            source.set_property("tls-validation-flags", gio::TlsCertificateFlags::empty());
        }
        if let Some(path) = &self.options.tls_ca {
            source.set_property("tls-database", authorities(path)?);
        }
        // Sound and metadata are not even asked for.
        let chosen: Mutex<Option<u32>> = Mutex::new(None);
        source.connect("select-stream", false, move |values| {
            let number = values.get(1).and_then(|value| value.get::<u32>().ok());
            let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
            let video =
                caps.and_then(|caps| caps.structure(0)?.get::<String>("media").ok()).is_some_and(|m| m == "video");
            let mut chosen = chosen.lock().unwrap_or_else(PoisonError::into_inner);
            Some((video && number.is_some_and(|number| *chosen.get_or_insert(number) == number)).to_value())
        });
        let entry = pad(decoder, "sink")?;
        let life = Arc::clone(life);
        let weak = pipeline.downgrade();
        source.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let life = Arc::clone(&life);
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
                life.packet();
                gst::PadProbeReturn::Ok
            });
            if entry.is_linked() || pad.link(&entry).is_err() {
                ignore(&pipeline, pad);
            }
        });
        pipeline.add(&source).map_err(gst_failed)?;
        pipeline.connect_deep_element_added(|_, _, element| {
            let name = factory(element);
            if name == "rtph264depay" || name == "rtph265depay" {
                // What comes after a loss and before the next key frame is not a picture of the road.
                switch(element, "wait-for-keyframe", true);
                switch(element, "request-keyframe", true);
            }
        });
        Ok(())
    }

    fn http(
        &self,
        pipeline: &gst::Pipeline,
        server: &Server,
        decoder: &gst::Element,
        sink: &gst_app::AppSink,
        life: &Arc<Life>,
    ) -> Result<()> {
        // HLS comes in bursts of a segment: its pictures wait for their time. MJPEG has no time at all.
        life.paced.store(true, Ordering::Release);
        sink.set_drop(false);
        sink.set_sync(true);
        sink.set_async(true);
        let (login, trust, any) = (self.input.login.clone(), self.options.tls_ca.clone(), self.options.tls_accept_any);
        let (sink, life) = (sink.clone(), Arc::clone(life));
        // HLS fetches its playlists and segments with sources of its own.
        pipeline.connect_deep_element_added(move |_, _, element| match factory(element).as_str() {
            "souphttpsrc" => {
                if let Some(login) = &login {
                    element.set_property("user-id", &login.user);
                    element.set_property("user-pw", &login.password);
                }
                if any {
                    switch(element, "ssl-strict", false);
                }
                // Without it (the file is gone meanwhile) the system's authorities count: no certificate is let through
                // that should not be.
                if let Some(Ok(database)) = trust.as_deref().map(authorities) {
                    element.set_property("tls-database", database);
                }
                let life = Arc::clone(&life);
                if let Some(pad) = element.static_pad("src") {
                    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                        life.packet();
                        gst::PadProbeReturn::Ok
                    });
                }
            }
            "multipartdemux" => {
                // Or decodebin waits for streams that never come.
                switch(element, "single-stream", true);
                life.timeless.store(true, Ordering::Release);
                life.paced.store(false, Ordering::Release);
                sink.set_sync(false);
                sink.set_drop(true);
            }
            _ => {}
        });
        let source = element("souphttpsrc")?;
        source.set_property("location", &server.location);
        source.set_property("retries", 0);
        pipeline.add(&source).map_err(gst_failed)?;
        source.link(decoder).map_err(gst_failed)
    }
}

fn test(pipeline: &gst::Pipeline, spec: &TestSpec, next: &gst::Element, life: &Arc<Life>) -> Result<()> {
    let [source, filter] = spec.elements()?;
    link(pipeline, &[source, filter.clone()])?;
    note_packets(&filter, life)?;
    filter.link(next).map_err(gst_failed)
}

fn camera(pipeline: &gst::Pipeline, device: &Device, decoder: &gst::Element, life: &Arc<Life>) -> Result<()> {
    let source = element("v4l2src")?;
    source.set_property("name", CAMERA);
    source.set_property("device", &device.path);
    let filter = element("capsfilter")?;
    filter.set_property("caps", device.caps());
    link(pipeline, &[source, filter.clone()])?;
    note_packets(&filter, life)?;
    filter.link(decoder).map_err(gst_failed)
}

fn note_packets(element: &gst::Element, life: &Arc<Life>) -> Result<()> {
    let life = Arc::clone(life);
    pad(element, "src")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        life.packet();
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// A decodebin whose first video goes to `entry`.
fn decoder(pipeline: &gst::Pipeline, entry: &gst::Pad) -> Result<gst::Element> {
    let decoder = element("decodebin")?;
    pipeline.add(&decoder).map_err(gst_failed)?;
    let (weak, entry) = (pipeline.downgrade(), entry.clone());
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
        if !video || entry.is_linked() || pad.link(&entry).is_err() {
            ignore(&pipeline, pad);
        }
    });
    pipeline.connect_deep_element_added(|_, _, element| {
        if factory(element).starts_with("avdec_") {
            // Grey pictures before the first key frame, and smeared ones after a loss.
            switch(element, "output-corrupt", false);
        }
    });
    Ok(decoder)
}

/// Lets a stream run into nothing: left unlinked it would stop the others.
fn ignore(pipeline: &gst::Pipeline, pad: &gst::Pad) {
    let linked = element("fakesink").and_then(|sink| {
        sink.set_property("sync", false);
        sink.set_property("async", false);
        pipeline.add(&sink).map_err(gst_failed)?;
        sink.sync_state_with_parent().map_err(gst_failed)?;
        let entry = self::pad(&sink, "sink")?;
        pad.link(&entry).map_err(|e| Error::failed(e.to_string()))
    });
    if let Err(e) = linked {
        tracing::debug!("a stream is left unlinked: {e}");
    }
}

/// Sets a property that not every element of a kind has.
fn switch(element: &gst::Element, name: &str, value: bool) {
    if element.has_property(name) {
        element.set_property(name, value);
    }
}

fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad> {
    element.static_pad(name).ok_or_else(|| Error::failed(format!("{} without a {name} pad", element.name())))
}

fn factory(element: &gst::Element) -> String {
    element.factory().map(|factory| factory.name().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_freed() {
        crate::gst::init().unwrap();
        for address in ["rtsp://127.0.0.1:9/x", "http://127.0.0.1:9/x", "v4l2:///dev/video97", "test://ball?live=1"] {
            let input = LiveInput::parse(address).unwrap().unwrap();
            let recipe = Recipe::new(&input, &SourceOptions::default()).unwrap();
            let assembly = recipe.assemble().unwrap();
            let weak = assembly.pipeline.downgrade();
            // Most of them cannot play, which is no matter here.
            let _ = assembly.pipeline.set_state(gst::State::Playing);
            assembly.pipeline.set_state(gst::State::Null).unwrap();
            drop(assembly);
            assert!(weak.upgrade().is_none(), "{address}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_at_once() {
        crate::gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, "no certificate").unwrap();
        let input = LiveInput::parse("rtsps://127.0.0.1:9/x").unwrap().unwrap();
        let options = SourceOptions { tls_ca: Some(ca), ..SourceOptions::default() };
        assert!(Recipe::new(&input, &options).err().unwrap().to_string().contains("ca.pem"));
    }
}
