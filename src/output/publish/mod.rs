//! Live outputs: the frames of one stream are encoded once, and the packets go to any number of places: an RTSP server,
//! HLS, another server, recordings. A place that is slow or gone never holds up the others or the pipeline.
//!
//! ```text
//! frame -> appsrc ! encoder ! parser ! appsink -+-> lane -> appsrc ! parser ! muxer ! filesink   recording, HLS
//!                                               +-> lane -> appsrc ! rtspclientsink             push
//!                                               +-> feed -> appsrc ! payloader of an RTSP server's media
//! ```
//! A lane is a bounded queue with a thread of its own; a feed is a bounded queue in a media that lives while somebody
//! watches. Neither is ever waited for: what has no room is dropped up to the next key frame, and counted.

mod anchor;
mod chain;
mod display;
mod encode;
mod feed;
mod gate;
mod hls;
mod lane;
mod mounts;
mod push;
mod recording;
mod secure;
mod server;
mod target;
mod template;
mod writer;
mod xlib;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Deserialize;

pub use server::Servers;
pub use target::Target;

use crate::address::LocatedPath;
use crate::duration::seconds;
use crate::gst::init;
use crate::output::{Encoding, FrameWriter, encoder};
use crate::{Error, Result};
use feed::Feed;
use lane::{Lane, Order, Sink};
use writer::{LiveWriter, Parts, Sinks};

/// Packets that wait for a lane: some seconds of them, so that the end of a file or a slow disk costs nothing.
const LANE_ROOM: usize = 256;
/// Frames that wait for a display.
const DISPLAY_ROOM: usize = 2;

/// `[serve]`: the RTSP server.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeOptions {
    /// File with one `user:password` a line; without it everybody may watch.
    pub users: Option<LocatedPath>,
    /// PEM file with the certificate (and its chain), for `rtsps://`.
    pub certificate: Option<LocatedPath>,
    /// PEM file with the certificate's key.
    pub key: Option<LocatedPath>,
    /// File with `user:password` for the servers that are pushed to, for addresses without any.
    pub push_credentials: Option<LocatedPath>,
    /// PEM file with the authorities of the `rtsps://` servers that are pushed to; the system's when left out.
    pub push_tls_ca: Option<LocatedPath>,
}

/// `[record]`: recordings in segments.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordOptions {
    /// Longest segment in seconds.
    #[serde(deserialize_with = "seconds")]
    pub segment_s: u64,
    /// Largest segment in MB; no limit when left out.
    pub segment_mb: Option<u64>,
    /// Most that all segments may take in MB, the oldest are deleted first; no limit when left out.
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
    /// Segments in the playlist; up to three more are on the disk, the one being written among them.
    pub segments: u32,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { segment_s: 2, segments: 6 }
    }
}

/// How one output does, for `/metrics` and `/healthz`.
#[derive(Debug, Default)]
pub struct OutputStatus {
    /// The address without credentials.
    pub name: String,
    /// Clients of a server; 1 for the others while they take packets.
    pub clients: AtomicU64,
    /// Frames that it did not take.
    pub dropped: AtomicU64,
    /// How often it had to be started again.
    pub restarts: AtomicU64,
    /// Whether it works now.
    pub up: AtomicBool,
    /// Its clients are counted by somebody else.
    serves: bool,
}

impl OutputStatus {
    fn new(target: &Target) -> Arc<Self> {
        let serves = matches!(target, Target::Serve(_));
        Arc::new(Self { name: target.to_string(), serves, ..Self::default() })
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

/// What all outputs of a run share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PublishOptions {
    /// How frames are encoded.
    pub encoding: Encoding,
    /// Recordings.
    pub record: RecordOptions,
    /// HLS.
    pub hls: HlsOptions,
    /// File with `user:password` for the servers that are pushed to, for addresses without any.
    pub push_credentials: Option<LocatedPath>,
    /// See [`ServeOptions::push_tls_ca`].
    pub push_tls_ca: Option<LocatedPath>,
}

/// A writer to all outputs of a stream, and how each of them does, in their order.
pub type Published = (Box<dyn FrameWriter>, Vec<Arc<OutputStatus>>);

/// Opens the outputs of one stream. The encoder starts with the first frame.
///
/// The writer never waits: see [`FrameWriter::write`]'s timeout as zero. [`Written::path`](crate::output::Written::path) names all
/// places, joined by commas.
///
/// # Errors
/// A port in use, a bad certificate, a folder that cannot be written, an output that exists, an encoder that is not there,
/// no display.
pub fn open(targets: &[Target], servers: &Servers, options: &PublishOptions) -> Result<Published> {
    init()?;
    if let Some(twice) = targets.iter().enumerate().find(|(i, target)| targets[..*i].contains(target)) {
        return Err(Error::usage(format!("{}: this output is given twice", twice.1)));
    }
    // Found out now rather than with the first frame.
    let encode = encoder::choose(options.encoding.encoder.as_deref())?;
    encoder::configure(&encode, &options.encoding, 0.0, encoder::Purpose::Live)?;
    let parser = encoder::parser_of(&encode);

    let order = Arc::new(Order::default());
    let key = Arc::new(AtomicBool::new(false));
    let statuses: Vec<_> = targets.iter().map(OutputStatus::new).collect();
    let mut key_every = crate::output::file::writer::KEY_FRAMES;
    let (mut places, mut display, mut mounts) = (Sinks::default(), None, Vec::new());
    for (target, status) in targets.iter().zip(&statuses) {
        let place: Box<dyn Sink> = match target {
            Target::Serve(address) => {
                let feed = Feed::new(parser, status, &key);
                mounts.push(servers.mount(address, &feed)?);
                status.set_up(true);
                places.feeds.push(feed);
                continue;
            }
            Target::Display => {
                let place = Box::new(display::Display::open(&order)?);
                display = Some(Lane::start(place, DISPLAY_ROOM, status, &order, "display")?);
                continue;
            }
            Target::Push(server, login) => Box::new(push::Push::open(server, login.as_ref(), options, &order)?),
            Target::Hls(folder) => {
                // Segments end at key frames.
                key_every = key_every.min(u64::from(options.hls.segment_s.max(1)) * 1_000_000_000);
                Box::new(hls::Hls::open(folder, &options.hls, &order)?)
            }
            Target::Record(path) => Box::new(recording::Recorder::open(path, options, &order)?),
        };
        let thread = target.kind();
        places.lanes.push(Lane::start(place, LANE_ROOM, status, &order, thread)?);
    }
    let encoded = targets.iter().zip(&statuses).filter(|(target, _)| **target != Target::Display);
    let writer = LiveWriter::new(Parts {
        encoding: options.encoding.clone(),
        encoder_name: encoder::name_of(&encode),
        places,
        display,
        mounts,
        encoded: encoded.map(|(_, status)| Arc::clone(status)).collect(),
        order,
        name: targets.iter().map(Target::to_string).collect::<Vec<_>>().join(", "),
        key,
        key_every,
    });
    Ok((Box::new(writer), statuses))
}
