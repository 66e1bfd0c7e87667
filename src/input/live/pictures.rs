//! The choice of decoded pictures to show after a loss, and before the first intact one.

use crate::lock::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use serde::{Deserialize, Serialize};

/// What to show after packet loss, until the next key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damaged {
    /// The damaged pictures.
    #[default]
    Show,
    /// The last intact picture.
    Freeze,
}

/// Time limit for the first intact picture: two cycles of an intra refresh.
const FIRST: Duration = Duration::from_secs(4);
/// Longest freeze: a damaged picture is better than an old one.
const LONGEST: Duration = Duration::from_secs(8);

/// The decoded pictures of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    damaged_now: AtomicBool,
    shown: AtomicU64,
    damaged: AtomicU64,
    /// Start of the time in which pictures are held back.
    held: Mutex<Option<Instant>>,
    whole_once: AtomicBool,
}

impl Pictures {
    /// Packets were lost.
    pub fn lose(&self) {
        self.damaged_now.store(true, Ordering::Release);
    }

    /// Decoded pictures so far, and those of them that are damaged.
    pub fn counts(&self) -> (u64, u64) {
        (self.shown.load(Ordering::Relaxed), self.damaged.load(Ordering::Relaxed))
    }

    /// A picture enters the decoder.
    fn coded(&self, buffer: &gst::BufferRef) {
        if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            self.damaged_now.store(false, Ordering::Release);
        }
    }

    /// A picture left the decoder. Returns whether to show it.
    fn decoded(&self, corrupt: bool, policy: Damaged, now: Instant) -> bool {
        self.shown.fetch_add(1, Ordering::Relaxed);
        let damaged = corrupt || self.damaged_now.load(Ordering::Acquire);
        let mut held = lock(&self.held);
        if !damaged {
            self.whole_once.store(true, Ordering::Release);
            *held = None;
            return true;
        }
        self.damaged.fetch_add(1, Ordering::Relaxed);
        let patience = match (self.whole_once.load(Ordering::Acquire), policy) {
            (false, _) => FIRST,
            (true, Damaged::Freeze) => LONGEST,
            (true, Damaged::Show) => return true,
        };
        now.saturating_duration_since(*held.get_or_insert(now)) >= patience
    }
}

/// Watches a decoder's input.
pub(crate) fn watch_coded(decoder: &gst::Element, pictures: &Arc<Pictures>) {
    let Some(pad) = decoder.static_pad("sink") else { return };
    let pictures = Arc::clone(pictures);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            pictures.coded(buffer);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Drops the pictures at `pad` that are not to be shown.
pub(crate) fn filter(pad: &gst::Pad, pictures: Arc<Pictures>, policy: Damaged) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let corrupt = info.buffer().is_some_and(|buffer| buffer.flags().contains(gst::BufferFlags::CORRUPTED));
        if pictures.decoded(corrupt, policy, Instant::now()) {
            gst::PadProbeReturn::Ok
        } else {
            gst::PadProbeReturn::Handled
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_shown_or_frozen_and_never_for_ever() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        for policy in [Damaged::Show, Damaged::Freeze] {
            let pictures = Pictures::default();
            // Before the first whole picture.
            assert!(!pictures.decoded(true, policy, at(0)));
            assert!(pictures.decoded(true, policy, at(4)), "no stream without key frames stays black");
            assert!(pictures.decoded(false, policy, at(5)));
            pictures.lose();
            assert_eq!(pictures.decoded(false, policy, at(6)), policy == Damaged::Show);
            assert!(pictures.decoded(false, policy, at(14)));
            pictures.damaged_now.store(false, Ordering::Release);
            assert!(pictures.decoded(false, policy, at(15)));
            assert_eq!(pictures.counts(), (6, 4));
        }
    }
}
