//! Timestamps as an output needs them: complete and strictly increasing.
//!
//! Demuxers pass on the timestamps of the file. One equal, decreasing, missing or absurd timestamp must neither end a
//! run nor cost a frame, so each stream passes through a [`Clock`]. Its corrections are counted and reported in a note.

use crate::lock::lock;
use std::sync::{Arc, Mutex};

/// A longer jump, in nanoseconds, is a clock restart in a stream whose clock may restart (transport streams, joined
/// files). FFmpeg has the same limit.
const JOIN: i64 = 10_000_000_000;
/// The longest gap in other files, in nanoseconds: 30 hours.
const ABSURD: i64 = 30 * 3_600_000_000_000;
/// Largest distance of restarts in two streams that count as the same one, in nanoseconds.
const SAME_JOIN: i64 = 2_000_000_000;
/// The assumed distance of two frames where it is unknown, in nanoseconds.
const STEP: i64 = 40_000_000;

/// The clock restarts of a joined input, shared by its streams to keep audio and video in sync: the offsets of its
/// parts, in nanoseconds.
#[derive(Clone, Default)]
pub(crate) struct Joins(Arc<Mutex<Vec<i64>>>);

/// The timestamps of one stream, in nanoseconds.
pub(crate) struct Clock {
    joins: Joins,
    /// Longest accepted forward jump.
    limit: i64,
    /// Number of restarts so far in this stream.
    joined: usize,
    offset: i64,
    paced: bool,
    last: Option<i64>,
    step: i64,
    /// Number of interpolated timestamps.
    missing: u64,
    /// Number of timestamps moved because they did not increase, or jumped too far.
    moved: u64,
}

impl Clock {
    /// `restarts`: the clock of the input may restart within the stream.
    pub fn new(joins: &Joins, restarts: bool) -> Self {
        Self {
            joins: joins.clone(),
            limit: if restarts { JOIN } else { ABSURD },
            joined: 0,
            offset: 0,
            paced: false,
            last: None,
            step: STEP,
            missing: 0,
            moved: 0,
        }
    }

    /// Whether the clock of the input may restart, as that of a transport stream.
    pub fn restarts(&self) -> bool {
        self.limit == JOIN
    }

    /// The corrections, one sentence each. `what` is "frames" or "sound packets".
    pub fn notes(&self, what: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if self.missing > 0 {
            notes.push(format!("{} {what} without a timestamp were given an interpolated one", self.missing));
        }
        if self.moved > 0 {
            notes.push(format!("{} {what} were moved, because their timestamps did not rise", self.moved));
        }
        if self.joined > 0 {
            notes.push(format!("the clock of the {what} restarts {} time(s); the parts are joined", self.joined));
        }
        notes
    }

    /// The time of the last frame or packet.
    pub fn last(&self) -> Option<i64> {
        self.last
    }

    /// The current estimate of the nanoseconds from one frame to the next.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// Sets the nanoseconds from one frame to the next, where the format specifies them.
    pub fn set_step(&mut self, step: i64) {
        if (1..JOIN).contains(&step) {
            self.step = step;
        }
    }

    /// Sets a constant distance of frames, in nanoseconds, whatever the timestamps of the input.
    pub fn pace(&mut self, step: i64) {
        self.set_step(step);
        self.paced = true;
    }

    /// The time of the next frame or packet. `time` is its timestamp from the demuxer, `following` that of the next
    /// one, where it is already known.
    pub fn next(&mut self, time: Option<i64>, following: Option<i64>) -> i64 {
        let now = match self.last {
            _ if self.paced => self.last.map_or(0, |last| last + self.step),
            None => self.first(time, following),
            Some(last) => {
                let now = self.after(last, time, following);
                self.set_step(if now - last < 1_000_000_000 { now - last } else { 0 });
                now
            }
        };
        self.last = Some(now);
        now
    }

    fn first(&mut self, time: Option<i64>, following: Option<i64>) -> i64 {
        let before = following.map(|following| (following - self.step).max(0));
        let Some(time) = time else {
            self.missing += 1;
            return before.unwrap_or(0);
        };
        match (before, following) {
            (Some(before), Some(following)) if following <= time || following - time > ABSURD => {
                self.moved += u64::from(before != time);
                before
            }
            _ => time,
        }
    }

    fn after(&mut self, last: i64, time: Option<i64>, following: Option<i64>) -> i64 {
        let goes_on = |from: i64, to: i64| to > from && to - from <= self.limit;
        let after = following.map(|following| following + self.offset).filter(|after| goes_on(last, *after));
        // The usual step, or the midpoint where the step does not fit.
        let between = match after {
            Some(after) if last + self.step >= after => last + ((after - last) / 2).max(1),
            _ => last + self.step,
        };
        let Some(time) = time else {
            self.missing += 1;
            return between;
        };
        let now = time + self.offset;
        // Of two timestamps that do not increase the second is wrong, unless the first one jumps.
        let leaps = now - last > 2 * self.step && after.is_some_and(|after| after <= now);
        if goes_on(last, now) && !leaps {
            return now;
        }
        // A long jump, confirmed by the next timestamp.
        let far = now - last > self.limit || last - now > JOIN;
        if far && following.is_none_or(|following| after.is_none() && (following - time).abs() <= self.limit) {
            self.join(time, last);
            return (time + self.offset).max(last + 1);
        }
        self.moved += 1;
        between
    }

    /// Restarts the clock at `time`, which follows `last`.
    fn join(&mut self, time: i64, last: i64) {
        let wanted = last + self.step - time;
        let mut joins = lock(&self.joins.0);
        match joins.get(self.joined) {
            Some(shared) if (shared - wanted).abs() < SAME_JOIN => self.offset = *shared,
            _ => {
                self.offset = wanted;
                joins.truncate(self.joined);
                joins.push(wanted);
            }
        }
        self.joined += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn run(clock: &mut Clock, times: &[Option<i64>]) -> Vec<i64> {
        let at = |index: usize| times.get(index).copied().flatten().map(|t| t * MS);
        (0..times.len()).map(|index| clock.next(at(index), at(index + 1)) / MS).collect()
    }

    #[test]
    fn equal_backward_missing_and_absurd_times() {
        /// Input times, output times, number interpolated, number moved.
        type Case<'a> = (&'a [Option<i64>], &'a [i64], u64, u64);
        let cases: [Case<'_>; 6] = [
            (&[Some(0), Some(40), Some(40), Some(120)], &[0, 40, 80, 120], 0, 1),
            (&[Some(0), Some(40), Some(0), Some(120)], &[0, 40, 80, 120], 0, 1),
            (&[Some(0), Some(40), None, Some(120), None], &[0, 40, 80, 120, 160], 2, 0),
            (&[None, None, None], &[0, 40, 80], 3, 0),
            (&[Some(0), Some(40), Some(999_999_999), Some(120)], &[0, 40, 80, 120], 0, 1),
            // A gap of three hours is valid.
            (&[Some(0), Some(40), Some(10_800_000), Some(10_800_040)], &[0, 40, 10_800_000, 10_800_040], 0, 0),
        ];
        for (times, expected, missing, moved) in cases {
            let mut clock = Clock::new(&Joins::default(), false);
            assert_eq!(run(&mut clock, times), expected, "{times:?}");
            assert_eq!((clock.missing, clock.moved, clock.joined), (missing, moved, 0), "{times:?}");
        }
    }

    #[test]
    fn joined_parts_follow_one_another_and_sound_stays_with_pictures() {
        let joins = Joins::default();
        let mut video = Clock::new(&joins, true);
        let times = [0, 40, 80, 500_000, 500_040, 100, 140].map(Some);
        assert_eq!(run(&mut video, &times), [0, 40, 80, 120, 160, 200, 240]);
        assert_eq!((video.joined, video.moved), (2, 0));
        let mut sound = Clock::new(&joins, true);
        // Its second part starts 20 ms before that of the video, its third 30 ms after it.
        let times = [0, 50, 499_980, 500_010, 130, 150].map(Some);
        assert_eq!(run(&mut sound, &times), [0, 50, 100, 130, 230, 250]);
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_goes_on() {
        let mut clock = Clock::new(&Joins::default(), false);
        let times = [0, 40, 80, 20, 60, 100].map(Some);
        let got = run(&mut clock, &times);
        assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "{got:?}");
        assert_eq!(got.len(), 6);
    }
}
