//! The number of alarms, and of what was seen for as long and raised none.

use serde::Serialize;

use super::track::Seen;

/// The alarms of a stream so far, and what was seen for as long and raised none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct AlarmCounts {
    /// Alarms raised.
    pub raised: u64,
    /// Unusual members of the classes of `events.known`.
    pub known: u64,
    /// Things off the road or cut off by the lower edge of the picture, which `events.road_gate` withholds.
    pub off_road: u64,
    /// Things on the road below the level that they need, because the network is certain of their class or because much
    /// of the picture stands out.
    pub below_level: u64,
    /// Alarms withheld by `events.max_per_minute`.
    pub over_limit: u64,
}

impl AlarmCounts {
    /// Counts a thing as kept back by `now` in place of `before`.
    pub(super) fn keep_back(&mut self, before: &mut Seen, now: Seen) {
        if let Some(count) = self.kept_back(std::mem::replace(before, now)) {
            *count -= 1;
        }
        if let Some(count) = self.kept_back(now) {
            *count += 1;
        }
    }

    fn kept_back(&mut self, by: Seen) -> Option<&mut u64> {
        match by {
            Seen::BelowLevel => Some(&mut self.below_level),
            Seen::OffRoad => Some(&mut self.off_road),
            Seen::No | Seen::Unusual | Seen::Alarm => None,
        }
    }
}
