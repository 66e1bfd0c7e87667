//! RTP packets of one stream (RFC 3550, 5.1), counted and normalised before they reach GStreamer's session.
//!
//! Some cameras change their SSRC in mid-stream, even with each group of pictures. To a session that is a new sender,
//! with its own buffers and latency. Here the first SSRC is kept, and the sequence numbers continue.
//!
//! Some cameras set the marker, which ends a picture, on each slice. The marker of H.264 and H.265 is used only after
//! it was right for several pictures; until then the depayloader finds the end of a picture from the slices.

use crate::lock::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

/// Length of the fixed header.
const HEADER: usize = 12;
/// Number of pictures with a right marker after which it is used.
const BELIEVE_AFTER: u32 = 8;
/// A larger step of the sequence number is a restart, not a loss.
const MAX_STEP: i16 = 3000;
const MIN_STEP: i16 = -MAX_STEP;

/// The packets of a stream over RTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PacketCounts {
    /// Packets that arrived.
    pub received: u64,
    /// Packets that never arrived.
    pub lost: u64,
    /// Packets that arrived after later ones.
    pub reordered: u64,
}

impl PacketCounts {
    /// The difference to `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received.saturating_sub(before.received),
            lost: self.lost.saturating_sub(before.lost),
            reordered: self.reordered.saturating_sub(before.reordered),
        }
    }
}

/// Counts over all connections of an input.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    received: AtomicU64,
    lost: AtomicU64,
    reordered: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> PacketCounts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PacketCounts { received: value(&self.received), lost: value(&self.lost), reordered: value(&self.reordered) }
    }
}

#[derive(Debug, Default)]
struct Sender {
    payload_type: u8,
    /// The SSRC that the session knows, and the one on the wire.
    known: u32,
    actual: u32,
    /// Added to the sequence numbers on the wire.
    offset: u16,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    /// Consecutive pictures with one marker, on their last packet.
    right: u32,
    wrong: bool,
}

/// The packets of one stream.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    sender: Mutex<Option<Sender>>,
    /// The marker ends an access unit of slices.
    pub slices: AtomicBool,
    counters: Arc<Counters>,
}

impl Packets {
    pub fn new(counters: &Arc<Counters>) -> Self {
        Self { counters: Arc::clone(counters), ..Self::default() }
    }

    pub fn counts(&self) -> PacketCounts {
        self.counters.read()
    }

    /// Normalises an RTP packet. True if packets before it are missing.
    pub fn rtp(&self, packet: &mut [u8]) -> bool {
        if packet.len() < HEADER || packet[0] >> 6 != 2 {
            return false;
        }
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let (ssrc, timestamp) = (word(8), word(4));
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let (payload_type, marker) = (packet[1] & 0x7f, packet[1] & 0x80 != 0);
        let mut sender = lock(&self.sender);
        let Some(sender) = sender.as_mut() else {
            *sender = Some(Sender {
                payload_type,
                known: ssrc,
                actual: ssrc,
                sequence,
                timestamp,
                marker,
                ..Sender::default()
            });
            self.clear_marker(packet, false);
            return false;
        };
        if payload_type != sender.payload_type {
            // Another payload type in the same session: neither counted nor changed.
            return false;
        }
        if ssrc != sender.actual {
            sender.actual = ssrc;
            sender.offset = sender.sequence.wrapping_add(1).wrapping_sub(sequence);
            // The timestamps restart, so the marker cannot be judged.
            (sender.timestamp, sender.marker) = (timestamp.wrapping_sub(1), true);
        }
        let sequence = sequence.wrapping_add(sender.offset);
        let step = sequence.wrapping_sub(sender.sequence).cast_signed();
        let lost = step > 1 && step < MAX_STEP;
        match step {
            1 => {}
            2..MAX_STEP => {
                self.counters.lost.fetch_add(u64::from(step.unsigned_abs()) - 1, Ordering::Relaxed);
            }
            MIN_STEP..=-1 => {
                self.counters.reordered.fetch_add(1, Ordering::Relaxed);
                let _ =
                    self.counters.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lost| lost.checked_sub(1));
            }
            _ => {}
        }
        if step == 1 {
            if timestamp == sender.timestamp {
                if sender.marker {
                    (sender.wrong, sender.right) = (true, 0);
                }
            } else if sender.marker {
                sender.right = sender.right.saturating_add(1);
            }
        }
        if !(MIN_STEP..=0).contains(&step) {
            (sender.sequence, sender.timestamp, sender.marker) = (sequence, timestamp, marker);
        }
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[8..12].copy_from_slice(&sender.known.to_be_bytes());
        self.clear_marker(packet, !sender.wrong && sender.right >= BELIEVE_AFTER);
        lost
    }

    /// Normalises a compound RTCP packet: sender reports get the SSRC that the session knows.
    pub fn rtcp(&self, packet: &mut [u8]) {
        let sender = lock(&self.sender);
        let Some(sender) = sender.as_ref().filter(|sender| sender.known != sender.actual) else { return };
        let mut at = 0;
        while let Some(&[first, _, high, low]) = packet.get(at..at + 4) {
            if first >> 6 != 2 {
                break;
            }
            if let Some(ssrc) = packet.get_mut(at + 4..at + 8)
                && *ssrc == sender.actual.to_be_bytes()
            {
                ssrc.copy_from_slice(&sender.known.to_be_bytes());
            }
            at += 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        }
    }

    fn clear_marker(&self, packet: &mut [u8], believed: bool) {
        if !believed && self.slices.load(Ordering::Relaxed) {
            packet[1] &= 0x7f;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32, marker: bool, ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.push(1);
        packet
    }

    /// Sequence number, marker and SSRC of the normalised packet.
    fn through(packets: &Packets, sequence: u16, timestamp: u32, marker: bool, ssrc: u32) -> (u16, bool, u32) {
        let mut packet = packet(sequence, timestamp, marker, ssrc);
        packets.rtp(&mut packet);
        let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
        (u16::from_be_bytes([packet[2], packet[3]]), packet[1] & 0x80 != 0, ssrc)
    }

    #[test]
    fn a_new_ssrc_goes_on_as_the_first_one() {
        let packets = Packets::default();
        assert_eq!(through(&packets, 65_534, 0, true, 7), (65_534, true, 7));
        assert_eq!(through(&packets, 65_535, 1, true, 7), (65_535, true, 7));
        assert_eq!(through(&packets, 400, 9, true, 8), (0, true, 7));
        assert_eq!(through(&packets, 401, 9, true, 8), (1, true, 7));
        assert_eq!(through(&packets, 9, 9, true, 9), (2, true, 7));
        assert_eq!(packets.counts(), PacketCounts { received: 5, lost: 0, reordered: 0 });
        let mut report = vec![0x80, 200, 0, 1, 0, 0, 0, 9, 0x81, 202, 0, 1, 0, 0, 0, 9];
        packets.rtcp(&mut report);
        assert_eq!(report, [0x80, 200, 0, 1, 0, 0, 0, 7, 0x81, 202, 0, 1, 0, 0, 0, 7]);
    }

    #[test]
    fn the_marker_is_believed_once_it_was_right() {
        let packets = Packets::default();
        packets.slices.store(true, Ordering::Relaxed);
        let markers: Vec<bool> = (0..12).map(|n| through(&packets, n, n.into(), true, 7).1).collect();
        assert_eq!(markers, [[false; 8].as_slice(), &[true; 4]].concat());
        // A second one in the same picture.
        assert!(!through(&packets, 12, 11, true, 7).1);
        assert!((13..40).all(|n| !through(&packets, n, n.into(), true, 7).1));
        let whole = Packets::default();
        assert!(through(&whole, 0, 0, true, 7).1, "of a picture in one piece it is the end");
    }

    #[test]
    fn what_is_lost_and_what_is_late() {
        let packets = Packets::default();
        for sequence in [10, 11, 14, 13, 15, 9000, 9001] {
            through(&packets, sequence, 0, false, 7);
        }
        assert_eq!(packets.counts(), PacketCounts { received: 7, lost: 1, reordered: 1 });
    }

    proptest::proptest! {
        #[test]
        fn no_packet_breaks_it(list in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..40), 0..20)) {
            let packets = Packets::default();
            for mut packet in list {
                packets.rtp(&mut packet);
                packets.rtcp(&mut packet);
            }
        }
    }
}
