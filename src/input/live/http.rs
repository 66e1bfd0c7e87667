//! The part of a connection's pipeline that reads from an HTTP server: MJPEG and HLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use url::Url;

use crate::gst::gst_failed;
use crate::input::live::address::Server;
use crate::input::live::pace::pace;
use crate::input::live::pipeline::{Activity, ConnectionSettings, factory, is_video_decoder, note_packets, switch};
use crate::input::live::relay::{Finding, Report};
use crate::input::live::web::{FACTORY, Fetcher, Origin};
use crate::{Error, Result};

/// Largest part of an MJPEG stream, or junk between two parts, in bytes.
const MAX_PART: usize = 32 * 1024 * 1024;

impl ConnectionSettings {
    /// Adds the source of the pictures at `server` to `pipeline`.
    pub(crate) fn http(
        &self,
        pipeline: &gst::Pipeline,
        server: &Server,
        decoder: &gst::Element,
        sink: &gst_app::AppSink,
        activity: &Arc<Activity>,
        report: &Arc<Report>,
    ) -> Result<Arc<Fetcher>> {
        // HLS comes in bursts of a segment: its pictures wait for their time. MJPEG has no timestamps.
        activity.paced.store(true, Ordering::Release);
        sink.set_drop(false);
        sink.set_sync(true);
        sink.set_async(true);
        let (sink, seen) = (sink.clone(), Arc::clone(activity));
        let shift = Arc::default();
        pipeline.connect_deep_element_added(move |_, _, element| match factory(element).as_str() {
            FACTORY => note_packets(element, &seen),
            "multipartdemux" => {
                // Otherwise decodebin waits for further streams.
                switch(element, "single-stream", true);
                bound_parts(element, &seen);
                seen.timeless.store(true, Ordering::Release);
                seen.paced.store(false, Ordering::Release);
                sink.set_sync(false);
                sink.set_drop(true);
            }
            _ if is_video_decoder(element) => {
                let paced = Arc::clone(&seen);
                pace(element, &shift, move || paced.paced.load(Ordering::Acquire));
            }
            name if is_other_source(element) => {
                // Before it starts.
                element.set_locked_state(true);
                seen.find(Finding::Refused(format!("something that is not HTTP ({name}) is named, which is not read")));
            }
            _ => {}
        });
        let url = Url::parse(&server.location)
            .map_err(|e| Error::usage(format!("{}: the address is malformed: {e}", self.input)))?;
        let origin = Origin {
            server: server.clone(),
            name: self.input.to_string(),
            login: self.login_for(server).cloned(),
            trust: Arc::clone(&self.trust),
        };
        let fetcher = Fetcher::start(origin, self.tls(), Arc::clone(report))?;
        let source = gst::Element::make_from_uri(gst::URIType::Src, &fetcher.location(&url), None)
            .map_err(|e| Error::failed(format!("GStreamer: {e}")))?;
        pipeline.add(&source).map_err(gst_failed)?;
        source.link(decoder).map_err(gst_failed)?;
        Ok(fetcher)
    }
}

/// A source of files or of other protocols.
fn is_other_source(element: &gst::Element) -> bool {
    let class = element.factory().and_then(|f| f.metadata(gst::ELEMENT_METADATA_KLASS).map(str::to_owned));
    !element.is::<gst::Bin>() && class.is_some_and(|class| class.starts_with("Source"))
}

/// Bounds the bytes between two pictures, which the demuxer holds in memory.
fn bound_parts(demuxer: &gst::Element, activity: &Arc<Activity>) {
    let held = Arc::new(AtomicUsize::new(0));
    let (activity, arrived) = (Arc::clone(activity), Arc::clone(&held));
    if let Some(pad) = demuxer.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let size = info.buffer().map_or(0, |buffer| buffer.size());
            if arrived.fetch_add(size, Ordering::Relaxed) + size > MAX_PART {
                activity.find(Finding::Refused(format!(
                    "a picture of more than {} MB is announced",
                    MAX_PART / 1024 / 1024
                )));
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
    }
    demuxer.connect_pad_added(move |_, pad| {
        let held = Arc::clone(&held);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            held.store(0, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    });
}
