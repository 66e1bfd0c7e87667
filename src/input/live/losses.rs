//! Packet loss over windows of a few seconds.

use std::time::{Duration, Instant};

use crate::input::live::rtp::PacketCounts;

/// Length of a window; doubled up to [`LONGEST`] after each loss, so that a bad network does not fill the log.
const WINDOW: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(600);
/// Least numbers for a judgement.
const MIN_PACKETS: u64 = 100;
const MIN_PICTURES: u64 = 25;

#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// The start of the window, and the counts then.
    window: Option<(Instant, PacketCounts, (u64, u64))>,
    length: Option<Duration>,
}

/// The counts of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub packets: PacketCounts,
    pub pictures: u64,
    pub damaged: u64,
}

impl Seen {
    /// Whether one packet in twenty is lost, or losses damage one picture in four.
    pub fn ruins(&self) -> bool {
        let PacketCounts { received, lost, .. } = self.packets;
        let packets = received + lost >= MIN_PACKETS && lost * 20 >= received + lost;
        let pictures = lost > 0 && self.pictures >= MIN_PICTURES && self.damaged * 4 >= self.pictures;
        packets || pictures
    }
}

impl Losses {
    /// The counts of a window at its end. `pictures`: all so far, and the damaged ones among them.
    pub fn look(&mut self, now: Instant, packets: PacketCounts, pictures: (u64, u64)) -> Option<Seen> {
        if packets.received == 0 {
            return None;
        }
        let (since, before, shown) = *self.window.get_or_insert((now, packets, pictures));
        let length = self.length.unwrap_or(WINDOW);
        if now.saturating_duration_since(since) < length {
            return None;
        }
        self.window = Some((now, packets, pictures));
        let seen = Seen {
            packets: packets.since(&before),
            pictures: pictures.0.saturating_sub(shown.0),
            damaged: pictures.1.saturating_sub(shown.1),
        };
        let noted = seen.packets.lost + seen.packets.reordered > 0;
        self.length = Some(if noted { (length * 2).min(LONGEST) } else { WINDOW });
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(received: u64, lost: u64) -> PacketCounts {
        PacketCounts { received, lost, reordered: 0 }
    }

    #[test]
    fn windows_and_what_ruins() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        assert_eq!(losses.look(at(0), counts(0, 0), (0, 0)), None);
        assert_eq!(losses.look(at(1), counts(10, 0), (0, 0)), None);
        assert_eq!(losses.look(at(2), counts(90, 5), (9, 1)), None);
        let seen = losses.look(at(4), counts(110, 6), (60, 5)).unwrap();
        assert_eq!(seen, Seen { packets: counts(100, 6), pictures: 60, damaged: 5 });
        assert!(seen.ruins());
        assert_eq!(losses.look(at(8), counts(300, 7), (120, 5)), None, "after a loss the next window is longer");
        assert!(!losses.look(at(10), counts(300, 7), (120, 5)).unwrap().ruins());
        let smeared = Seen { packets: counts(1000, 1), pictures: 100, damaged: 25 };
        assert!(smeared.ruins() && !Seen { damaged: 24, ..smeared }.ruins());
    }
}
