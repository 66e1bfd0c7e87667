//! The part of a connection's pipeline that reads from an HTTP server: MJPEG and HLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::Result;
use crate::gst::trust::authorities;
use crate::gst::{element, gst_failed};
use crate::input::live::address::{LiveInput, Server, Source};
use crate::input::live::pipeline::{Life, Recipe, factory, switch};
use crate::input::live::relay::Finding;

/// Largest picture of an MJPEG stream, or junk between two of them, in bytes.
const MAX_PART: usize = 32 * 1024 * 1024;

impl Recipe {
    /// Adds the source of the pictures at `server` to `pipeline`.
    pub(crate) fn http(
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
        let own = match &self.input.source {
            Source::Http(own) => own.clone(),
            _ => server.clone(),
        };
        let (sink, life) = (sink.clone(), Arc::clone(life));
        // HLS fetches its segments with sources of its own.
        pipeline.connect_deep_element_added(move |_, _, element| match factory(element).as_str() {
            "souphttpsrc" => {
                if let Some(login) = &login {
                    // The library would take the login along.
                    element.set_property("automatic-redirect", false);
                    if trusted(element, &own) {
                        element.set_property("user-id", &login.user);
                        element.set_property("user-pw", &login.password);
                    }
                }
                if any {
                    switch(element, "ssl-strict", false);
                }
                // Without it (the file is gone meanwhile) the system's authorities count: no certificate is let through
                // that should not be.
                if let Some(Ok(database)) = trust.as_deref().map(authorities) {
                    element.set_property("tls-database", database);
                }
                watch(element, &life);
            }
            "multipartdemux" => {
                // Or decodebin waits for streams that never come.
                switch(element, "single-stream", true);
                bound_parts(element, &life);
                life.timeless.store(true, Ordering::Release);
                life.paced.store(false, Ordering::Release);
                sink.set_sync(false);
                sink.set_drop(true);
            }
            name if is_other_source(element) => {
                // Before it starts.
                element.set_locked_state(true);
                life.find(Finding::Refused(format!(
                    "the playlist names something that is not HTTP ({name}), which is not read"
                )));
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

/// Whether an element reads from where a server of the user's login reads.
fn trusted(element: &gst::Element, own: &Server) -> bool {
    let location = element.property::<Option<String>>("location").unwrap_or_default();
    match LiveInput::parse(&location) {
        Ok(Some(LiveInput { source: Source::Http(server), .. })) => server.is_trusted_by(own),
        _ => false,
    }
}

/// A source of files or of other protocols.
fn is_other_source(element: &gst::Element) -> bool {
    let class = element.factory().and_then(|f| f.metadata(gst::ELEMENT_METADATA_KLASS).map(str::to_owned));
    !element.is::<gst::Bin>() && class.is_some_and(|class| class.starts_with("Source"))
}

/// Notes what arrives, and where the server says that it is instead.
fn watch(element: &gst::Element, life: &Arc<Life>) {
    let life = Arc::clone(life);
    let Some(pad) = element.static_pad("src") else { return };
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if info.buffer().is_some() {
            life.packet();
        }
        let headers = info.event().and_then(|event| event.structure()).filter(|s| s.name() == "http-headers");
        let response = headers.and_then(|headers| headers.get::<gst::Structure>("response-headers").ok());
        let text = |name: &str| {
            let response = response.as_ref()?;
            let (_, value) = response.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            value.get::<String>().ok()
        };
        if text("Content-Type").is_some_and(|kind| kind.trim_start().starts_with("text/html")) {
            life.find(Finding::Refused(
                "the server sends a web page, not a video: it may want a login, or the address is that of its pages"
                    .to_owned(),
            ));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Ends the connection when nothing comes of what arrives: a part without an end would be held in memory.
fn bound_parts(demuxer: &gst::Element, life: &Arc<Life>) {
    let held = Arc::new(AtomicUsize::new(0));
    let (life, arrived) = (Arc::clone(life), Arc::clone(&held));
    if let Some(pad) = demuxer.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let size = info.buffer().map_or(0, |buffer| buffer.size());
            if arrived.fetch_add(size, Ordering::Relaxed) + size > MAX_PART {
                life.find(Finding::Refused(format!(
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
