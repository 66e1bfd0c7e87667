//! The times of a stream as an output needs them: known and strictly rising.
//!
//! Demuxers hand on what files say. One equal, earlier, missing or absurd time must neither end a run nor cost a frame, so
//! each stream passes through a [`Clock`]. What it changed is counted, and becomes a note.

use std::sync::{Arc, Mutex, PoisonError};

/// A jump further than this, in nanoseconds, in a stream whose clock may be set anew at any time (transport streams, joined
/// files) is such a new start. FFmpeg has the same limit.
const JOIN: i64 = 10_000_000_000;
/// In other files a gap may last hours, but no more than a day and a bit.
const ABSURD: i64 = 30 * 3_600_000_000_000;
/// How far the new starts of two streams may lie apart and still be one.
const SAME_JOIN: i64 = 2_000_000_000;
/// Nanoseconds between frames where nothing else is known.
const STEP: i64 = 40_000_000;

/// Where the parts of a joined input start anew, shared by its streams so that sound stays with the pictures: what to add
/// to their times, in nanoseconds.
#[derive(Clone, Default)]
pub(crate) struct Joins(Arc<Mutex<Vec<i64>>>);

/// The times of one stream, in nanoseconds.
pub(crate) struct Clock {
    joins: Joins,
    /// How far a forward jump may go.
    limit: i64,
    /// New starts so far in this stream.
    joined: usize,
    offset: i64,
    paced: bool,
    last: Option<i64>,
    step: i64,
    /// Times given to what had none.
    missing: u64,
    /// Times moved because they did not rise, or rose too far.
    moved: u64,
}

impl Clock {
    /// `restarts`: the clock of the input may start anew on its way.
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

    /// Whether the clock of the input may start anew on its way, as that of a transport stream.
    pub fn restarts(&self) -> bool {
        self.limit == JOIN
    }

    /// What was changed, in words. `what` are frames or packets.
    pub fn notes(&self, what: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if self.missing > 0 {
            notes.push(format!("{} {what} without a time were given one between their neighbours", self.missing));
        }
        if self.moved > 0 {
            notes.push(format!("{} {what} were moved, as their times did not rise", self.moved));
        }
        if self.joined > 0 {
            notes.push(format!("the clock of the {what} jumps {} time(s); the parts follow one another", self.joined));
        }
        notes
    }

    /// Nanoseconds from one frame to the next, as far as is known.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// Nanoseconds from one frame to the next, where the format says.
    pub fn set_step(&mut self, step: i64) {
        if (1..JOIN).contains(&step) {
            self.step = step;
        }
    }

    /// From now on every step is as long as this, in nanoseconds, whatever the input says.
    pub fn pace(&mut self, step: i64) {
        self.set_step(step);
        self.paced = true;
    }

    /// The time of the next frame or packet. `time` is what the demuxer says, `following` the same of the one after it,
    /// where that is known already.
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
        // The usual step, or halfway where that does not fit.
        let between = match after {
            Some(after) if last + self.step >= after => last + ((after - last) / 2).max(1),
            _ => last + self.step,
        };
        let Some(time) = time else {
            self.missing += 1;
            return between;
        };
        let now = time + self.offset;
        // Of two that do not rise the second is out of place, unless the first one leaps.
        let leaps = now - last > 2 * self.step && after.is_some_and(|after| after <= now);
        if goes_on(last, now) && !leaps {
            return now;
        }
        // Far away, and what follows is there too.
        let far = now - last > self.limit || last - now > JOIN;
        if far && following.is_none_or(|following| after.is_none() && (following - time).abs() <= self.limit) {
            self.join(time, last);
            return (time + self.offset).max(last + 1);
        }
        self.moved += 1;
        between
    }

    /// The stream starts anew at `time` behind `last`.
    fn join(&mut self, time: i64, last: i64) {
        let wanted = last + self.step - time;
        let mut joins = self.joins.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        /// Times in, times out, interpolated, nudged.
        type Case<'a> = (&'a [Option<i64>], &'a [i64], u64, u64);
        let cases: [Case<'_>; 6] = [
            (&[Some(0), Some(40), Some(40), Some(120)], &[0, 40, 80, 120], 0, 1),
            (&[Some(0), Some(40), Some(0), Some(120)], &[0, 40, 80, 120], 0, 1),
            (&[Some(0), Some(40), None, Some(120), None], &[0, 40, 80, 120, 160], 2, 0),
            (&[None, None, None], &[0, 40, 80], 3, 0),
            (&[Some(0), Some(40), Some(999_999_999), Some(120)], &[0, 40, 80, 120], 0, 1),
            // A gap of three hours is one.
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
        // Its second part starts 20 ms before the video's, its third 30 ms behind it.
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
