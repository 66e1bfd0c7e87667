//! The timestamps of a stream that comes in bursts of a segment, as HLS does, made continuous.
//!
//! After a discontinuity, a restart of the encoder, or a late segment the timestamps are behind the clock or far ahead
//! of it: every later picture would be late and shown at once, or waited for. Here the timestamps of coded pictures, in
//! front of the decoder (which would clamp those that go back), are shifted such that the new ones follow the old ones.

use crate::lock::lock;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstreamer as gst;

/// Steps outside of this range are a new time, in nanoseconds: coded pictures are out of order by less, and a hole of
/// missing segments is waited for.
const MIN_STEP: i64 = -1_000_000_000;
const MAX_STEP: i64 = 10_000_000_000;
/// Lateness from which all times are shifted.
const MAX_LATE: i64 = 500_000_000;
/// Distance of two pictures where it is unknown, and its largest value.
const DISTANCE: i64 = 40_000_000;
const MAX_DISTANCE: i64 = 1_000_000_000;

/// The shift of a stream's times, over all its decoders. Times are running times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Time of the last picture, unshifted.
    last: Option<i64>,
    /// The latest time so far, shifted.
    top: i64,
    /// Added to all times.
    shift: i64,
    /// Distance of two pictures.
    distance: Option<i64>,
}

impl Pace {
    /// The shift of a picture of `time` that comes at `now`.
    fn shift(&mut self, time: i64, now: Option<i64>) -> i64 {
        if let Some(last) = self.last {
            let step = time.saturating_sub(last);
            if !(MIN_STEP..=MAX_STEP).contains(&step) {
                let next = self.top.saturating_add(self.distance.unwrap_or(DISTANCE));
                self.shift = next.max(now.unwrap_or(i64::MIN)).saturating_sub(time);
            } else if (1..=MAX_DISTANCE).contains(&step) {
                self.distance = Some(step);
            }
        }
        if let Some(now) = now.filter(|now| time.saturating_add(self.shift).saturating_add(MAX_LATE) < *now) {
            self.shift = now.saturating_sub(time);
        }
        self.last = Some(time);
        self.top = self.top.max(time.saturating_add(self.shift));
        self.shift
    }
}

/// Shifts the timestamps of what enters `decoder`, while `wanted`.
pub(crate) fn pace(decoder: &gst::Element, pace: &Arc<Mutex<Pace>>, wanted: impl Fn() -> bool + Send + Sync + 'static) {
    let Some(pad) = decoder.static_pad("sink") else { return };
    let (pace, segment) = (Arc::clone(pace), Mutex::new(None::<gst::FormattedSegment<gst::ClockTime>>));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let mut segment = lock(&segment);
        match &mut info.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Segment(new) = event.view() {
                    *segment = new.segment().downcast_ref::<gst::ClockTime>().cloned();
                }
            }
            Some(gst::PadProbeData::Buffer(buffer)) if wanted() => {
                // Not clipped: pictures of a new time are outside of the segment.
                let time = buffer.dts_or_pts().and_then(|time| segment.as_ref()?.to_running_time_full(time));
                if let Some(time) = time {
                    // Before it plays, an element may have a clock without a base time.
                    let element = pad.parent_element().filter(|element| element.current_state() == gst::State::Playing);
                    let now = element.and_then(|element| element.current_running_time());
                    let now = now.map(|now| i64::try_from(now.nseconds()).unwrap_or(i64::MAX));
                    let mut pace = lock(&pace);
                    let shift = pace.shift(signed(time), now);
                    let moved = |time: gst::ClockTime| {
                        gst::ClockTime::from_nseconds(time.nseconds().saturating_add_signed(shift))
                    };
                    let (pts, dts) = (buffer.pts().map(moved), buffer.dts().map(moved));
                    let buffer = buffer.make_mut();
                    buffer.set_pts(pts);
                    buffer.set_dts(dts);
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn signed(time: gst::Signed<gst::ClockTime>) -> i64 {
    match time {
        gst::Signed::Positive(time) => i64::try_from(time.nseconds()).unwrap_or(i64::MAX),
        gst::Signed::Negative(time) => i64::try_from(time.nseconds()).map_or(i64::MIN, |time| -time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// The shifted time, all in milliseconds.
    fn map(pace: &mut Pace, time: i64, now: i64) -> i64 {
        time + pace.shift(time * MS, Some(now * MS)) / MS
    }

    #[test]
    fn holes_are_waited_for_and_new_times_go_on() {
        let mut pace = Pace::default();
        // Out of order, as coded pictures are.
        assert_eq!([0, 100, 50, 150].map(|time| map(&mut pace, time, 0)), [0, 100, 50, 150]);
        // A segment of two seconds is missing.
        assert_eq!([2150, 2200].map(|time| map(&mut pace, time, 200)), [2150, 2200]);
        // The time begins anew, is hours ahead, and goes on.
        assert_eq!([-80, -30].map(|time| map(&mut pace, time, 300)), [2250, 2300]);
        assert_eq!([9_000_000, 9_000_050].map(|time| map(&mut pace, time, 400)), [2350, 2400]);
    }

    #[test]
    fn what_is_late_moves_all_that_follows() {
        let mut pace = Pace::default();
        map(&mut pace, 0, 0);
        assert_eq!(map(&mut pace, 50, 400), 50, "a little late");
        assert_eq!([100, 150, 200].map(|time| map(&mut pace, time, 3000)), [3000, 3050, 3100]);
        // A new time while the last picture is long gone.
        assert_eq!([-9000, -8950].map(|time| map(&mut pace, time, 9000)), [9000, 9050]);
        for time in [i64::MAX, i64::MIN, 0] {
            pace.shift(time, Some(i64::MAX));
            pace.shift(time, None);
        }
    }
}
