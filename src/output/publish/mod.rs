//! Live outputs: the frames of one stream are encoded once, and the packets go to any number of sinks: an RTSP
//! server, HLS, another server, recordings. A slow or broken sink never holds up the others or the pipeline.
//!
//! ```text
//! frame -> appsrc ! encoder ! parser ! appsink -+-> queue -> appsrc ! parser ! muxer ! filesink   recording, HLS
//!                                               +-> queue -> appsrc ! rtspclientsink             push
//!                                               +-> feed -> appsrc ! payloader of an RTSP server's media
//! ```
//! A queue is bounded and has its own thread; a feed is a bounded queue in a media that exists while it has
//! viewers. Nothing waits for either: when a queue is full, packets up to the next key frame are dropped and counted.

mod anchor;
mod chain;
mod clients;
mod clips;
mod display;
mod encode;
mod feed;
mod gate;
mod hls;
mod mounts;
mod push;
mod recording;
mod recordings;
mod secure;
mod server;
mod sink_queue;
mod target;
mod template;
mod writer;
mod xlib;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Deserialize;

pub use clips::ClipFeed;
pub use recordings::{Recordings, VideoFile};
pub use server::Servers;
pub use target::Target;

use crate::address::LocatedPath;
use crate::duration::seconds;
use crate::gst::init;
use crate::output::{Encoding, FrameWriter, encoder};
use crate::{Error, Result};
use feed::Feed;
use sink_queue::{AbortFlag, Sink, SinkQueue};
use writer::{LiveWriter, Parts, Sinks};

/// Capacity of a queue, in packets: a few seconds, so that finishing a file or a slow disk costs none.
const QUEUE_ROOM: usize = 256;
/// Capacity of a display's queue, in frames.
const DISPLAY_ROOM: usize = 2;

/// `[serve]`: the RTSP server.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeOptions {
    /// File with one `user:password` per line; without it anyone may watch.
    pub users: Option<LocatedPath>,
    /// PEM file with the certificate (and its chain), for `rtsps://`.
    pub certificate: Option<LocatedPath>,
    /// PEM file with the certificate's key.
    pub key: Option<LocatedPath>,
    /// File with `user:password` for servers pushed to whose address has none.
    pub push_credentials: Option<LocatedPath>,
    /// PEM file with the certificate authorities of `rtsps://` servers pushed to; default: the system's.
    pub push_tls_ca: Option<LocatedPath>,
}

/// `[record]`: recordings in segments.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordOptions {
    /// Longest segment in seconds.
    #[serde(deserialize_with = "seconds")]
    pub segment_s: u64,
    /// Largest segment in MB; default: no limit.
    pub segment_mb: Option<u64>,
    /// Disk budget of all segments in MB, the oldest are deleted first; default: no limit.
    pub budget_mb: Option<u64>,
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self { segment_s: 300, segment_mb: None, budget_mb: None }
    }
}

/// `[hls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HlsOptions {
    /// Length of a segment in seconds.
    #[serde(deserialize_with = "seconds")]
    pub segment_s: u32,
    /// Segments in the playlist; up to three more are on the disk, including the one being written.
    pub segments: u32,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { segment_s: 2, segments: 6 }
    }
}

/// The state of one output, for `/metrics` and `/healthz`.
#[derive(Debug, Default)]
pub struct OutputStatus {
    /// The address without credentials.
    pub name: String,
    /// Clients of a server; for other outputs 1 while they take packets.
    pub clients: AtomicU64,
    /// Number of frames dropped.
    pub dropped: AtomicU64,
    /// Number of restarts.
    pub restarts: AtomicU64,
    /// Whether it works now.
    pub up: AtomicBool,
    /// The video files that it wrote.
    pub recordings: Recordings,
    /// Whether it writes video files.
    pub records: bool,
    /// The server counts its clients.
    serves: bool,
}

impl OutputStatus {
    fn new(target: &Target) -> Arc<Self> {
        let serves = matches!(target, Target::Serve(_));
        let records = matches!(target, Target::Record(_) | Target::Clips(_));
        Arc::new(Self { name: target.to_string(), serves, records, ..Self::default() })
    }

    /// Whether it works now.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
        if !self.serves {
            self.clients.store(u64::from(up), Ordering::Relaxed);
        }
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Options shared by all outputs of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PublishOptions {
    /// How frames are encoded.
    pub encoding: Encoding,
    /// Recordings.
    pub record: RecordOptions,
    /// HLS.
    pub hls: HlsOptions,
    /// File with `user:password` for servers pushed to whose address has none.
    pub push_credentials: Option<LocatedPath>,
    /// See [`ServeOptions::push_tls_ca`].
    pub push_tls_ca: Option<LocatedPath>,
}

/// A writer to all outputs of a stream, and the state of each, in order.
pub type Published = (Box<dyn FrameWriter>, Vec<Arc<OutputStatus>>);

/// Opens the outputs of one stream. The encoder starts with the first frame.
///
/// The writer never waits: the timeout of [`FrameWriter::write`] counts as zero.
/// [`Written::path`](crate::output::Written::path) lists all outputs, joined by commas.
///
/// # Errors
/// A port in use, a bad certificate, a folder that cannot be written, an existing output, a missing encoder, no
/// display.
pub fn open(targets: &[Target], servers: &Servers, options: &PublishOptions) -> Result<Published> {
    init()?;
    if let Some(twice) = targets.iter().enumerate().find(|(i, target)| targets[..*i].contains(target)) {
        return Err(Error::usage(format!("{}: this output is given twice", twice.1)));
    }
    // Fails now rather than at the first frame.
    let encode = encoder::choose(options.encoding.encoder.as_deref(), options.encoding.hardware)?;
    encoder::configure(&encode, &options.encoding, 0.0, encoder::Purpose::Live)?;
    let parser = encoder::parser_of(&encode);

    let abort = Arc::new(AbortFlag::default());
    let key = Arc::new(AtomicBool::new(false));
    let statuses: Vec<_> = targets.iter().map(OutputStatus::new).collect();
    let mut key_every = crate::output::file::writer::KEY_FRAMES;
    let (mut sinks, mut display, mut mounts) = (Sinks::default(), None, Vec::new());
    for (target, status) in targets.iter().zip(&statuses) {
        let sink: Box<dyn Sink> = match target {
            Target::Serve(address) => {
                let feed = Feed::new(parser, status, &key);
                mounts.push(servers.mount(address, &feed)?);
                status.set_up(true);
                sinks.feeds.push(feed);
                continue;
            }
            Target::Display => {
                let sink = Box::new(display::Display::open(&abort)?);
                display = Some(SinkQueue::start(sink, DISPLAY_ROOM, status, &abort, "display")?);
                continue;
            }
            Target::Push(server, login) => Box::new(push::Push::open(server, login.as_ref(), options, &abort)?),
            Target::Hls(folder) => {
                // Segments end at key frames.
                key_every = key_every.min(u64::from(options.hls.segment_s.max(1)) * 1_000_000_000);
                Box::new(hls::Hls::open(folder, &options.hls, &abort)?)
            }
            Target::Record(path) => Box::new(recording::Recorder::open(path, options, status, &abort)?),
            Target::Clips(feed) => Box::new(clips::ClipSink::new(feed, status)),
        };
        let thread = target.kind();
        sinks.queues.push(SinkQueue::start(sink, QUEUE_ROOM, status, &abort, thread)?);
    }
    let encoded = targets.iter().zip(&statuses).filter(|(target, _)| **target != Target::Display);
    let writer = LiveWriter::new(Parts {
        encoding: options.encoding.clone(),
        encoder_name: encoder::name_of(&encode),
        sinks,
        display,
        mounts,
        encoded: encoded.map(|(_, status)| Arc::clone(status)).collect(),
        abort,
        name: targets.iter().map(Target::to_string).collect::<Vec<_>>().join(", "),
        key,
        key_every,
    });
    Ok((Box::new(writer), statuses))
}
