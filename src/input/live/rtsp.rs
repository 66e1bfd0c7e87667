//! The part of a connection's pipeline that reads from an RTSP server: `rtspsrc` behind a
//! [`relay`](crate::input::live::relay).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils as gst_pbutils;

use crate::Result;
use crate::gst::doctor::package_for_description;
use crate::gst::{element, gst_failed};
use crate::input::live::Transport;
use crate::input::live::address::Server;
use crate::input::live::pipeline::{Activity, ConnectionSettings, factory, ignore, pad, switch};
use crate::input::live::relay::{Relay, Route};
use crate::lock::lock;

/// Time without data over UDP after which TCP is tried, in microseconds.
const UDP_PATIENCE: u64 = 2_500_000;

impl ConnectionSettings {
    /// Adds the source of the pictures at `server` to `pipeline`.
    pub(crate) fn rtsp(
        &self,
        pipeline: &gst::Pipeline,
        server: &Server,
        decoder: &gst::Element,
        activity: &Arc<Activity>,
    ) -> Result<Relay> {
        let transport = if self.tcp_only || server.tls() { Transport::Tcp } else { self.options.transport };
        let relay = Relay::start(Route {
            server: server.clone(),
            name: self.input.to_string(),
            login: self.login_for(server).cloned(),
            trust: Arc::clone(&self.trust),
            may_fall_back: transport == Transport::Auto,
            tls: self.tls(),
        })?;
        let source = element("rtspsrc")?;
        source.set_property("location", &relay.location);
        source.set_property_from_str(
            "protocols",
            match transport {
                Transport::Auto => "tcp+udp",
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            },
        );
        source.set_property("latency", self.options.jitter_ms);
        // Late pictures are dropped after decoding: a packet dropped here may belong to the key frame.
        source.set_property("drop-on-latency", false);
        // Not the buffering mode for recordings.
        source.set_property_from_str("buffer-mode", "slave");
        // For the change from UDP to TCP alone; losses are the watchdog's business.
        source.set_property("timeout", if transport == Transport::Auto { UDP_PATIENCE } else { 0 });
        // The relay sends keep-alives, over TCP as well.
        source.set_property("do-rtsp-keep-alive", false);
        choose(&source, activity);
        let packets = Arc::clone(activity);
        source.connect("new-manager", false, move |values| {
            if let Some(manager) = values.get(1).and_then(|value| value.get::<gst::Element>().ok()) {
                count(&manager, &packets);
            }
            None
        });
        let entry = pad(decoder, "sink")?;
        let activity = Arc::clone(activity);
        let weak = pipeline.downgrade();
        source.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let activity = Arc::clone(&activity);
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
                activity.packet();
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
                // Streams with intra refresh have no key frames to wait for; the decoder detects that.
                switch(element, "wait-for-keyframe", false);
                switch(element, "request-keyframe", true);
            }
        });
        Ok(relay)
    }
}

/// Selects the first video track that can be decoded, and no other.
fn choose(source: &gst::Element, activity: &Arc<Activity>) {
    let chosen: Mutex<Option<u32>> = Mutex::new(None);
    let activity = Arc::clone(activity);
    source.connect("select-stream", false, move |values| {
        let number = values.get(1).and_then(|value| value.get::<u32>().ok());
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let mut chosen = lock(&chosen);
        let take = match (number, caps) {
            (Some(number), Some(caps)) if is_video(&caps) => {
                let codec = encoding(&caps);
                if is_decodable(&caps) {
                    let first = *chosen.get_or_insert(number) == number;
                    if first {
                        activity.packets.slices.store(matches!(codec.as_str(), "H264" | "H265"), Ordering::Relaxed);
                    }
                    first
                } else {
                    activity.pass_over(&missing(&caps, &codec));
                    false
                }
            }
            _ => false,
        };
        Some(take.to_value())
    });
}

fn is_video(caps: &gst::Caps) -> bool {
    caps.structure(0).and_then(|s| s.get::<String>("media").ok()).is_some_and(|media| media == "video")
}

fn encoding(caps: &gst::Caps) -> String {
    let name = caps.structure(0).and_then(|s| s.get::<String>("encoding-name").ok()).unwrap_or_default();
    name.chars().filter(|c| c.is_ascii_graphic()).take(20).collect::<String>().to_ascii_uppercase()
}

/// The caps of packets with their media type, which `rtspsrc` sets only later.
fn named(caps: &gst::Caps) -> gst::Caps {
    let mut caps = caps.clone();
    if let Some(packets) = caps.make_mut().structure_mut(0) {
        packets.set_name("application/x-rtp");
    }
    caps
}

/// Whether there are a depayloader and a decoder for these packets.
fn is_decodable(caps: &gst::Caps) -> bool {
    let caps = named(caps);
    let depayloaders =
        gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DEPAYLOADER, gst::Rank::MARGINAL);
    let decoders = gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
    depayloaders.iter().filter(|factory| factory.can_sink_any_caps(&caps)).any(|factory| {
        factory
            .static_pad_templates()
            .iter()
            .filter(|template| template.direction() == gst::PadDirection::Src)
            .any(|template| decoders.iter().any(|decoder| decoder.can_sink_any_caps(&template.caps())))
    })
}

/// Why packets of `codec` cannot be decoded, and what to do about it.
fn missing(caps: &gst::Caps, codec: &str) -> String {
    let depayloaders =
        gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DEPAYLOADER, gst::Rank::MARGINAL);
    let made = depayloaders.iter().filter(|factory| factory.can_sink_any_caps(&named(caps))).find_map(|factory| {
        let template = factory.static_pad_templates().into_iter().find(|t| t.direction() == gst::PadDirection::Src)?;
        let shape = gst::Caps::new_empty_simple(template.caps().structure(0)?.name());
        Some(gst_pbutils::pb_utils_get_codec_description(&shape))
    });
    match made {
        Some(description) => {
            let decoder = format!("{description} decoder");
            format!("the {decoder} is missing (apt-get install {})", package_for_description(&decoder))
        }
        None => format!("{codec} is an unknown codec"),
    }
}

/// Passes everything that enters the RTP session through [`Packets`](crate::input::live::rtp::Packets).
fn count(manager: &gst::Element, activity: &Arc<Activity>) {
    let activity = Arc::clone(activity);
    manager.connect_pad_added(move |_, pad| {
        let name = pad.name();
        if name.starts_with("recv_rtp_sink") {
            let activity = Arc::clone(&activity);
            change(pad, move |packet| {
                if activity.packets.rtp(packet) {
                    activity.pictures.lose();
                }
            });
        } else if name.starts_with("recv_rtcp_sink") {
            let activity = Arc::clone(&activity);
            change(pad, move |packet| activity.packets.rtcp(packet));
        }
    });
}

fn change(pad: &gst::Pad, work: impl Fn(&mut [u8]) + Send + Sync + 'static) {
    let work = move |buffer: &mut gst::BufferRef| {
        if let Ok(mut map) = buffer.map_writable() {
            work(&mut map);
        }
    };
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => work(buffer.make_mut()),
            Some(gst::PadProbeData::BufferList(list)) => {
                let list = list.make_mut();
                for index in 0..list.len() {
                    if let Some(buffer) = list.get_mut(index) {
                        work(buffer);
                    }
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}
