//! Maps the running times of a stream to the clock of a pipeline that started in its middle.

use crate::lock::lock;
use std::sync::Mutex;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// Lateness of a packet, relative to the earliest ones, from which all times are shifted; in nanoseconds.
const LATE: u64 = 1_000_000_000;

/// Maps times so that the packet with the least delay is due at once and the others keep their distance from it: no
/// packet is held back, none is due much before it arrived, and the order is kept.
#[derive(Debug, Default)]
pub(crate) struct Anchor {
    /// Added to a packet's time.
    offset: Option<i64>,
    last: Option<u64>,
}

impl Anchor {
    /// The due time of a packet of `time` that arrived at `now`.
    pub fn map(&mut self, time: u64, now: u64) -> u64 {
        let here = now as i64 - time as i64;
        let offset = match self.offset {
            Some(offset) if here >= offset && here - offset <= LATE as i64 => offset,
            _ => here,
        };
        self.offset = Some(offset);
        let due = u64::try_from(time as i64 + offset).unwrap_or(0);
        let due = self.last.map_or(due, |last| due.max(last + 1));
        self.last = Some(due);
        due
    }
}

/// Restamps the packets of a live `source` with times of its pipeline's clock.
pub(crate) fn anchor(source: &gst_app::AppSrc) {
    let Some(pad) = source.static_pad("src") else { return };
    let anchor = Mutex::new(Anchor::default());
    // A live source pushes nothing before its pipeline plays, so there is a clock by now.
    let element = source.downgrade();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let now = element.upgrade().and_then(|source| source.current_running_time());
        if let (Some(buffer), Some(now)) = (info.buffer_mut(), now)
            && let Some(time) = buffer.pts()
        {
            let mut anchor = lock(&anchor);
            let due = anchor.map(time.nseconds(), now.nseconds());
            let buffer = buffer.make_mut();
            buffer.set_pts(gst::ClockTime::from_nseconds(due));
            buffer.set_dts(None);
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn nothing_is_due_in_the_future_and_distances_stay() {
        let mut anchor = Anchor::default();
        // The first packet was slow (it was a key frame).
        assert_eq!(anchor.map(5000 * MS, 100 * MS), 100 * MS);
        assert_eq!(anchor.map(5040 * MS, 110 * MS), 110 * MS);
        // From here on late ones keep their distance.
        assert_eq!(anchor.map(5080 * MS, 170 * MS), 150 * MS);
        assert_eq!(anchor.map(5120 * MS, 190 * MS), 190 * MS);
    }

    #[test]
    fn a_long_pause_of_the_clock_moves_all_times() {
        let mut anchor = Anchor::default();
        anchor.map(0, 0);
        assert_eq!(anchor.map(40 * MS, 2000 * MS), 2000 * MS);
        assert_eq!(anchor.map(80 * MS, 2040 * MS), 2040 * MS);
        // Times that go back do not turn the order.
        assert_eq!(anchor.map(0, 2041 * MS), 2040 * MS + 1);
        assert_eq!(anchor.map(1, 2041 * MS), 2040 * MS + 2);
    }
}
