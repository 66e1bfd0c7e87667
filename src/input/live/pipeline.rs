//! The GStreamer pipeline of one connection to a live input.
//!
//! ```text
//! relay - rtspsrc (video only)   -+
//! oodstreamhttpsrc               -+-> decodebin ! deinterlace ! videoconvert ! videoflip ! videoscale ! appsink
//! v4l2src ! capsfilter           -+              ^
//! videotestsrc is-live ! capsfilter -------------+
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::Error;
use crate::Result;
use crate::gst::decoder::{self, DecoderChoice, link_pictures};
use crate::gst::element;
use crate::gst::size;
use crate::gst::trust::authorities;
use crate::gst::{gst_failed, link};
use crate::input::live::SourceOptions;
use crate::input::live::address::{LiveInput, LiveSource, Login, Server};
use crate::input::live::connect::Tls;
use crate::input::live::device::Device;
use crate::input::live::login::Trust;
use crate::input::live::pictures::{self, Pictures};
use crate::input::live::relay::{Finding, Report};
use crate::input::live::rtp::{Counters, Packets};
use crate::input::picture::picture_chain;
use crate::input::reader::frame_sink;
use crate::input::test_source::TestSpec;
use crate::lock::lock;

/// Name of the element that reads a local camera.
pub(crate) const CAMERA: &str = "camera";
/// Capacity of the list of arrivals: more than the pictures that may wait for their reader.
const ARRIVALS: usize = 16;

/// The state of a connection, kept by the streaming threads.
pub(crate) struct Activity {
    started: Instant,
    /// Milliseconds from `started` to the last packet, plus one; 0 before the first.
    data: AtomicU64,
    first_data: AtomicU64,
    /// Pictures have no timestamps.
    pub timeless: AtomicBool,
    /// The stream comes in bursts, and the sink waits for the time of each picture.
    pub paced: AtomicBool,
    arrivals: Mutex<Vec<(Option<gst::ClockTime>, Instant)>>,
    pub packets: Packets,
    pub pictures: Arc<Pictures>,
    /// Codecs of tracks that cannot be decoded.
    passed_over: Mutex<Vec<String>>,
    /// A finding that ends the connection.
    finding: Mutex<Option<Finding>>,
}

impl Activity {
    fn new(counters: &Arc<Counters>) -> Self {
        Self {
            started: Instant::now(),
            data: AtomicU64::new(0),
            first_data: AtomicU64::new(0),
            timeless: AtomicBool::new(false),
            paced: AtomicBool::new(false),
            arrivals: Mutex::default(),
            packets: Packets::new(counters),
            pictures: Arc::default(),
            passed_over: Mutex::default(),
            finding: Mutex::default(),
        }
    }

    /// Notes a track that cannot be decoded.
    pub fn pass_over(&self, codec: &str) {
        let mut codecs = lock(&self.passed_over);
        if !codecs.iter().any(|known| known == codec) {
            codecs.push(codec.to_owned());
        }
    }

    /// The codecs of the tracks that cannot be decoded, joined by commas; none without such tracks.
    pub fn passed_over(&self) -> Option<String> {
        let codecs = lock(&self.passed_over);
        (!codecs.is_empty()).then(|| codecs.join(", "))
    }

    /// Ends the connection; the first finding is the reason.
    pub fn find(&self, finding: Finding) {
        lock(&self.finding).get_or_insert(finding);
    }

    pub fn finding(&self) -> Option<Finding> {
        lock(&self.finding).clone()
    }

    pub fn packet(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.data.store(now, Ordering::Release);
        let _ = self.first_data.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    fn picture(&self, pts: Option<gst::ClockTime>) {
        let mut arrivals = lock(&self.arrivals);
        if arrivals.len() == ARRIVALS {
            arrivals.remove(0);
        }
        arrivals.push((pts, Instant::now()));
    }

    /// The arrival of a picture at the sink; of those with equal times, the latest.
    pub fn arrival(&self, pts: Option<gst::ClockTime>) -> Option<Instant> {
        let arrivals = lock(&self.arrivals);
        arrivals.iter().rfind(|(time, _)| *time == pts).map(|(_, arrival)| *arrival)
    }

    /// The times of the first and the last packet.
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
    /// The pad where decoded pictures enter the last part, in their original size and format.
    pub entry: gst::Pad,
    pub activity: Arc<Activity>,
    /// Findings about the server; none for local sources.
    pub report: Option<Arc<Report>>,
    /// The client of the server, to be dropped after the pipeline.
    pub link: Option<Box<dyn Send>>,
}

/// The settings of every connection of an input, and what earlier connections found.
pub(crate) struct ConnectionSettings {
    pub input: LiveInput,
    pub options: SourceOptions,
    /// UDP is unusable.
    pub tcp_only: bool,
    /// TCP was tried instead of UDP, and failed too.
    pub tcp_failed: bool,
    /// Caps of the first picture: later ones are scaled to its size, with borders.
    pub size: Option<gst::Caps>,
    /// The server that a redirection named.
    pub moved: Option<Server>,
    pub trust: Arc<Trust>,
    /// Packets of all connections.
    pub counters: Arc<Counters>,
}

impl ConnectionSettings {
    /// # Errors
    /// A file named in the options cannot be used, or an element is missing.
    pub fn new(input: &LiveInput, options: &SourceOptions) -> Result<Self> {
        let mut input = input.clone();
        if let Some(path) = &options.credentials {
            input.log_in(Login::read(path)?);
        }
        options.tls_ca.as_deref().map(authorities).transpose()?;
        let mut needed = vec!["videoconvert", "videoscale", "deinterlace", "videoflip", "appsink"];
        needed.extend(match &input.source {
            LiveSource::Rtsp(_) => &["rtspsrc", "decodebin"][..],
            LiveSource::Http(_) => &["decodebin", "multipartdemux", "hlsdemux"],
            LiveSource::Device(_) => &["v4l2src", "decodebin"],
            LiveSource::Test(_) => &["videotestsrc"],
            LiveSource::File(_) => &["filesrc", "parsebin", "decodebin"],
        });
        for name in needed {
            element(name)?;
        }
        if let LiveSource::Test(spec) = &input.source {
            spec.elements()?;
        }
        Ok(Self {
            input,
            options: options.clone(),
            tcp_only: false,
            tcp_failed: false,
            size: None,
            moved: None,
            trust: Arc::default(),
            counters: Arc::default(),
        })
    }

    /// The login for `server`: that of the input is for its own server alone.
    pub fn login_for(&self, server: &Server) -> Option<&Login> {
        let (LiveSource::Rtsp(own) | LiveSource::Http(own)) = &self.input.source else { return None };
        self.input.login.as_ref().filter(|_| server.is_trusted_by(own))
    }

    /// The certificates to trust.
    pub fn tls(&self) -> Tls {
        Tls { ca: self.options.tls_ca.clone(), accept_any: self.options.tls_accept_any }
    }

    /// # Errors
    /// An element cannot be created or linked.
    pub fn assemble(&self) -> Result<Assembly> {
        let pipeline = gst::Pipeline::new();
        // One clock for all connections, instead of one that comes and goes with a source.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        size::bound(&pipeline, self.options.max_size, "source.max_size");
        let sink = frame_sink();
        sink.set_drop(true);
        if let Some(size) = &self.size {
            sink.set_caps(Some(size));
        }
        let chain = picture_chain(&sink)?;
        link(&pipeline, &chain)?;
        let entry = pad(&chain[0], "sink")?;
        let activity = Arc::new(Activity::new(&self.counters));
        let choice = self.options.decoders();
        let seen = Arc::clone(&activity);
        pad(sink.upcast_ref(), "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            seen.picture(info.buffer().and_then(|buffer| buffer.pts()));
            gst::PadProbeReturn::Ok
        });
        let (mut report, mut link) = (None, None::<Box<dyn Send>>);
        match &self.input.source {
            LiveSource::Test(spec) => test(&pipeline, spec, &chain[0], &activity)?,
            LiveSource::Rtsp(server) => {
                let decoder = decoder(&pipeline, &entry, &activity, &choice)?;
                pictures::filter(&entry, Arc::clone(&activity.pictures), self.options.damaged);
                let relay = self.rtsp(&pipeline, self.moved.as_ref().unwrap_or(server), &decoder, &activity)?;
                report = Some(Arc::clone(&relay.report));
                link = Some(Box::new(relay));
            }
            LiveSource::Http(server) => {
                let decoder = decoder(&pipeline, &entry, &activity, &choice)?;
                let known = Arc::<Report>::default();
                let fetcher = self.http(&pipeline, server, &decoder, &sink, &activity, &known)?;
                (report, link) = (Some(known), Some(Box::new(fetcher) as _));
            }
            LiveSource::Device(device) => {
                let decoder = decoder(&pipeline, &entry, &activity, &choice)?;
                camera(&pipeline, device, &decoder, &activity)?;
            }
            LiveSource::File(path) => return Err(Error::failed(format!("{}: not a live input", path.display()))),
        }
        Ok(Assembly { pipeline, sink, entry, activity, report, link })
    }
}

fn test(pipeline: &gst::Pipeline, spec: &TestSpec, next: &gst::Element, activity: &Arc<Activity>) -> Result<()> {
    let [source, filter] = spec.elements()?;
    link(pipeline, &[source, filter.clone()])?;
    note_packets(&filter, activity);
    filter.link(next).map_err(gst_failed)
}

fn camera(pipeline: &gst::Pipeline, device: &Device, decoder: &gst::Element, activity: &Arc<Activity>) -> Result<()> {
    let source = element("v4l2src")?;
    source.set_property("name", CAMERA);
    source.set_property("device", &device.path);
    let filter = element("capsfilter")?;
    filter.set_property("caps", device.caps());
    link(pipeline, &[source, filter.clone()])?;
    note_packets(&filter, activity);
    filter.link(decoder).map_err(gst_failed)
}

/// Notes the packets that leave `element`.
pub(crate) fn note_packets(element: &gst::Element, activity: &Arc<Activity>) {
    let Some(pad) = element.static_pad("src") else { return };
    let activity = Arc::clone(activity);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        activity.packet();
        gst::PadProbeReturn::Ok
    });
}

/// A decodebin whose first video stream is linked to `entry`.
fn decoder(
    pipeline: &gst::Pipeline,
    entry: &gst::Pad,
    activity: &Arc<Activity>,
    choice: &DecoderChoice,
) -> Result<gst::Element> {
    let decoder = element("decodebin")?;
    choice.apply(&decoder);
    pipeline.add(&decoder).map_err(gst_failed)?;
    let (weak, entry) = (pipeline.downgrade(), entry.clone());
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
        if !video || entry.is_linked() {
            ignore(&pipeline, pad);
        } else if let Err(error) = link_pictures(&pipeline, pad, &entry) {
            tracing::warn!("{error}");
            ignore(&pipeline, pad);
        }
    });
    let shown = Arc::clone(&activity.pictures);
    pipeline.connect_deep_element_added(move |_, _, element| {
        if factory(element).starts_with("avdec_") {
            // Grey pictures before the first key frame and smeared ones after a loss are marked as corrupt, see
            // `pictures`.
            switch(element, "output-corrupt", true);
        }
        if is_video_decoder(element) {
            pictures::watch_coded(element, &shown);
        }
    });
    Ok(decoder)
}

pub(crate) fn is_video_decoder(element: &gst::Element) -> bool {
    element.factory().is_some_and(|factory| decoder::is_video_decoder(&factory))
}

/// Discards a stream: left unlinked, it would stop the others.
pub(crate) fn ignore(pipeline: &gst::Pipeline, pad: &gst::Pad) {
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

/// Sets a property, if the element has it.
pub(crate) fn switch(element: &gst::Element, name: &str, value: bool) {
    if element.has_property(name) {
        element.set_property(name, value);
    }
}

pub(crate) fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad> {
    element.static_pad(name).ok_or_else(|| Error::failed(format!("{} without a {name} pad", element.name())))
}

pub(crate) fn factory(element: &gst::Element) -> String {
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
            let settings = ConnectionSettings::new(&input, &SourceOptions::default()).unwrap();
            let assembly = settings.assemble().unwrap();
            let weak = assembly.pipeline.downgrade();
            // Most of them cannot play, which does not matter here.
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
        let options = SourceOptions { tls_ca: Some(ca.into()), ..SourceOptions::default() };
        assert!(ConnectionSettings::new(&input, &options).err().unwrap().to_string().contains("ca.pem"));
    }
}
