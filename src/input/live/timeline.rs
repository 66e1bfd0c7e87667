//! The capture time of a live picture, and its running time.

use std::time::{Duration, Instant};

/// Largest distance of a picture's time from its arrival. Beyond it the sender's clock has jumped or restarted, and the
/// arrival counts.
const MOST_APART: u64 = 1_000_000_000;
/// Least time between two pictures, in nanoseconds: containers count in milliseconds.
const STEP: u64 = 1_000_000;

/// Running times from 0 at the first picture, strictly increasing over all connections of an input.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    first: Option<Instant>,
    last: Option<u64>,
    /// Apparent age of this connection's pictures on arrival, in nanoseconds.
    shift: i64,
    /// Age of the last picture on arrival.
    age: Duration,
}

impl Timeline {
    /// A new connection: forgets the sender's clock.
    pub fn connect(&mut self) {
        self.shift = 0;
    }

    /// The capture time (never after `arrival`) and the running time of a picture that arrived at `arrival` and was
    /// then `age` nanoseconds old by its own timestamp; without an age, it was captured on arrival.
    pub fn place(&mut self, arrival: Instant, age: Option<i64>) -> (Instant, u64) {
        let apart = age.map_or(0, |age| age.saturating_sub(self.shift));
        let apart = if apart.unsigned_abs() > MOST_APART {
            self.shift = self.shift.saturating_add(apart);
            tracing::debug!("a picture's time is {:.3} s off: its arrival counts", apart as f64 / 1e9);
            0
        } else {
            apart
        };
        self.age = Duration::from_nanos(u64::try_from(apart).unwrap_or(0));
        let captured = arrival.checked_sub(self.age).unwrap_or(arrival);
        (captured, self.next(captured))
    }

    /// The running time of a repeat of the last picture at `now`.
    pub fn repeat(&mut self, now: Instant) -> u64 {
        self.next(now.checked_sub(self.age).unwrap_or(now))
    }

    fn next(&mut self, at: Instant) -> u64 {
        let first = *self.first.get_or_insert(at);
        let time = u64::try_from(at.saturating_duration_since(first).as_nanos()).unwrap_or(u64::MAX);
        let time = self.last.map_or(time, |last| time.max(last.saturating_add(STEP)));
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn follows_capture_not_arrival() {
        let (mut line, start) = (Timeline::default(), at(Instant::now(), 1000));
        // Captured every 40 ms, arriving 50 to 90 ms later.
        for (n, late) in [50, 90, 70].into_iter().enumerate() {
            let captured = at(start, 40 * n as u64);
            let (seen, time) = line.place(captured + Duration::from_millis(late), Some(late as i64 * MS));
            assert_eq!((seen, time), (captured, 40_000_000 * n as u64));
        }
    }

    #[test]
    fn never_in_the_future_and_never_backwards() {
        let (mut line, start) = (Timeline::default(), at(Instant::now(), 1000));
        let (seen, time) = line.place(start, Some(-300 * MS));
        assert_eq!((seen, time), (start, 0));
        // Two at one moment, and one from before.
        assert_eq!(line.place(start, Some(0)).1, STEP);
        assert_eq!(line.place(at(start, 1), Some(200 * MS)).1, 2 * STEP);
    }

    #[test]
    fn jumps_are_anchored_at_the_arrival() {
        let (mut line, start) = (Timeline::default(), at(Instant::now(), 1000));
        assert_eq!(line.place(start, Some(0)).1, 0);
        // The sender's clock jumps an hour back, and goes on from there.
        assert_eq!(line.place(at(start, 40), Some(3_600_000 * MS)).1, 40 * MS as u64);
        assert_eq!(line.place(at(start, 100), Some(3_600_020 * MS)).1, 80 * MS as u64);
        // And an hour ahead.
        assert_eq!(line.place(at(start, 120), Some(-3_600_000 * MS)).1, 120 * MS as u64);
        // A new connection begins without what was learned; the time does not.
        line.connect();
        assert_eq!(line.place(at(start, 9000), Some(10 * MS)).1, 8990 * MS as u64);
        assert_eq!(line.place(at(start, 9040), None).1, 9040 * MS as u64);
        assert_eq!(line.repeat(at(start, 9240)), 9240 * MS as u64);
    }

    #[test]
    fn no_time_overflows() {
        let (mut line, start) = (Timeline::default(), Instant::now());
        for age in [i64::MIN, i64::MAX, 0, i64::MIN, i64::MIN] {
            line.place(start, Some(age));
        }
    }
}
