//! The packets of one stream on their way into the media of an RTSP server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use rtsp::prelude::*;

use crate::lock::lock;
use crate::output::publish::OutputStatus;
use crate::output::publish::anchor::anchor;
use crate::output::publish::sink_queue::Packet;

/// Capacity in packets: a few seconds.
const ROOM: u64 = 64;
/// Time limit for a media to end.
const GOING: Duration = Duration::from_secs(3);
/// The source's name in the launch line.
const SOURCE: &str = "packets";

/// The packets of one mount; dropped while it has no viewers.
pub(crate) struct Feed {
    /// `h264` or `h265`
    codec: &'static str,
    status: Arc<OutputStatus>,
    /// Set when a viewer waits for a key frame; read by the encoder.
    key: Arc<AtomicBool>,
    ready: AtomicBool,
    media: Mutex<Option<Media>>,
}

struct Media {
    source: gst_app::AppSrc,
    /// Owned by the server; owns the source.
    media: gst::glib::WeakRef<rtsp::RTSPMedia>,
    /// The first key frame has been pushed.
    started: bool,
    /// A packet was dropped; waiting for the next key frame.
    broken: bool,
}

impl Feed {
    pub fn new(parser: &str, status: &Arc<OutputStatus>, key: &Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            codec: if parser == "h265parse" { "h265" } else { "h264" },
            status: Arc::clone(status),
            key: Arc::clone(key),
            ready: AtomicBool::new(false),
            media: Mutex::new(None),
        })
    }

    /// The launch line of a media, in the syntax of `gst-launch-1.0`.
    pub fn launch(&self) -> String {
        let codec = self.codec;
        format!(
            "( appsrc name={SOURCE} is-live=true format=time block=false max-buffers={ROOM} max-bytes=0 max-time=0 \
             ! {codec}parse ! rtp{codec}pay name=pay0 pt=96 config-interval=-1 aggregate-mode=zero-latency )"
        )
    }

    /// Feeds `media` until it is unprepared.
    pub fn attach(feed: &Arc<Self>, media: &rtsp::RTSPMedia) {
        let found = media.element().downcast::<gst::Bin>().ok().and_then(|bin| bin.by_name(SOURCE));
        let Some(source) = found.and_then(|element| element.downcast::<gst_app::AppSrc>().ok()) else { return };
        anchor(&source);
        let (of_media, weak) = (Arc::clone(feed), source.downgrade());
        media.connect_unprepared(move |_| {
            let mut media = of_media.lock();
            // A new media may have replaced it.
            if media.as_ref().is_some_and(|media| weak.upgrade().is_none_or(|source| source == media.source)) {
                *media = None;
            }
        });
        *feed.lock() = Some(Media { source, media: media.downgrade(), started: false, broken: false });
        feed.want_key();
    }

    /// Pushes a packet to the media, if there is one. Never waits.
    pub fn offer(&self, packet: &Packet) {
        self.ready.store(true, Ordering::Release);
        let mut slot = self.lock();
        let Some(media) = slot.as_mut() else { return };
        if packet.key {
            (media.started, media.broken) = (true, false);
        }
        if !media.started {
            return;
        }
        if !media.broken && media.source.current_level_buffers() >= ROOM {
            media.broken = true;
        }
        if media.broken {
            return OutputStatus::count(&self.status.dropped);
        }
        let sample = gst::Sample::builder().buffer(&packet.buffer).caps(&packet.caps).build();
        if media.source.push_sample(&sample).is_err() {
            *slot = None;
        }
    }

    /// Whether a packet has come yet.
    pub fn has_packets(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Waits while a media without clients shuts down: the server would still offer it to a new client, which could not
    /// play it.
    pub fn wait_for_old(&self) {
        let until = Instant::now() + GOING;
        while self.is_going() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_going(&self) -> bool {
        let media = self.lock().as_ref().and_then(|media| media.media.upgrade());
        let status = media.map(|media| media.status());
        matches!(status, Some(rtsp::RTSPMediaStatus::Unpreparing | rtsp::RTSPMediaStatus::Unprepared))
    }

    /// A new viewer needs a key frame.
    pub fn want_key(&self) {
        self.key.store(true, Ordering::Release);
    }

    pub fn set_clients(&self, clients: usize) {
        self.status.clients.store(clients as u64, Ordering::Relaxed);
    }

    /// Ends the feeding; the server disposes of the media.
    pub fn release(&self) {
        *self.lock() = None;
        self.set_clients(0);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Media>> {
        lock(&self.media)
    }
}
