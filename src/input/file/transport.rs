//! Transport streams (ISO/IEC 13818-1): the packets before the first tables, scrambled packets.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Length of a packet in bytes.
const PACKET: usize = 188;
/// Length of the arrival time before each packet of an M2TS file (Blu-ray, AVCHD).
const ARRIVAL: usize = 4;
/// Bytes to search for tables.
const REACH: u64 = 4 << 20;
/// Bytes that tell whether it is one: two packets and the byte after them.
const PROBE: u64 = 2 * (ARRIVAL + PACKET) as u64 + 1;
/// The first byte of a packet.
const SYNC: u8 = 0x47;
/// Number of the packets without contents.
const EMPTY: u16 = 0x1fff;

/// What to do about the packets before the first tables: a recording that was cut, or a receiver that joined.
#[derive(Debug, PartialEq)]
pub(super) enum Early {
    /// Patches that put copies of the tables at the start, in the place of packets that hold nothing to decode.
    Patches(Vec<(u64, Vec<u8>)>),
    /// Nothing can be replaced: the demuxer leaves out this many bytes.
    LeftOut(usize),
}

/// The beginning of a transport stream.
pub(super) struct Head(Vec<u8>);

impl Head {
    /// Reads it; none for files of other kinds, of which no more than a few bytes are read.
    pub fn read(file: &mut File) -> Option<Self> {
        let start = read(file, 0, PROBE)?;
        Spacing::of(&start).packets(&start).next()??;
        read(file, 0, REACH).map(Self)
    }

    /// The packets before the first tables. None without audio or video among them.
    pub fn early_tables(&self) -> Option<Early> {
        find_early(&self.0)
    }

    /// The first presentation time of audio and video, in nanoseconds: the least of those that the streams start with.
    pub fn clock_start(&self) -> Option<u64> {
        let (mut seen, mut earliest) = (Vec::new(), None);
        for packet in self.packets() {
            if !seen.contains(&packet.number())
                && let Some(time) = packet.time()
            {
                seen.push(packet.number());
                earliest = Some(earliest.map_or(time, |earliest: u64| earliest.min(time)));
            }
        }
        Some(earliest? * 100_000 / 9)
    }

    /// Nanoseconds from the first program clock reference of `file` to the last one.
    pub fn clock_span(&self, file: &mut File) -> Option<u64> {
        let length = file.metadata().ok()?.len();
        let spacing = Spacing::of(&self.0);
        let step = spacing.at(1) as u64;
        let tail = read(file, length.saturating_sub(REACH) / step * step, REACH)?;
        let first = self.packets().find(|packet| packet.clock().is_some())?;
        let same = |packet: &Packet<'_>| packet.number() == first.number();
        let mut packets = spacing.packets(&tail).flatten().filter(same);
        let last = packets.rfind(|packet| packet.clock().is_some())?.clock()?;
        // 33 bits of 90 kHz.
        let ticks = last.wrapping_sub(first.clock()?) & ((1 << 33) - 1);
        Some(ticks * 100_000 / 9)
    }

    fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        Spacing::of(&self.0).packets(&self.0).map_while(|packet| packet)
    }
}

fn read(file: &mut File, at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at)).ok()?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn find_early(bytes: &[u8]) -> Option<Early> {
    let spacing = Spacing::of(bytes);
    let packets: Vec<Packet<'_>> = spacing.packets(bytes).map_while(|packet| packet).collect();
    let programs = packets.iter().position(|packet| packet.number() == 0 && packet.starts())?;
    let program = packets[programs].section(0)?.get(8..)?.chunks_exact(4).find(|entry| entry[..2] != [0, 0])?;
    let number = u16::from_be_bytes([program[2], program[3]]) & EMPTY;
    let map = packets.iter().position(|packet| packet.number() == number && packet.starts())?;
    let streams = streams(packets[map].section(2)?)?;
    let kind = |packet: &Packet<'_>| streams.iter().find(|(known, _)| *known == packet.number()).map(|(_, kind)| *kind);
    let early = &packets[..map];
    if !early.iter().any(|packet| kind(packet).is_some()) {
        return None;
    }
    // The rest of a video frame whose start was cut off, or of an audio packet, or nothing.
    let free = |packet: &&(usize, &Packet<'_>)| match kind(packet.1) {
        Some(Kind::Video) => true,
        Some(Kind::Audio) => !packet.1.starts(),
        None => packet.1.number() == EMPTY,
    };
    let numbered: Vec<_> = early.iter().enumerate().collect();
    let mut slots = numbered.iter().filter(free).map(|(index, _)| *index);
    let (Some(first), Some(second)) = (slots.next(), slots.next()) else {
        return Some(Early::LeftOut(spacing.at(map)));
    };
    // In front of them, nothing may begin that could be decoded.
    if early[..=second].iter().any(|packet| packet.is_entry() || (kind(packet) == Some(Kind::Audio) && packet.starts()))
    {
        return Some(Early::LeftOut(spacing.at(map)));
    }
    let copy = |slot: usize, table: usize| ((spacing.at(slot) + spacing.lead) as u64, packets[table].0.to_vec());
    Some(Early::Patches(vec![copy(first, programs), copy(second, map)]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Video,
    Audio,
}

/// Numbers and kinds of the audio and video streams in a program map section.
fn streams(section: &[u8]) -> Option<Vec<(u16, Kind)>> {
    let mut at = 12 + usize::from(u16::from_be_bytes([*section.get(10)?, *section.get(11)?]) & 0xfff);
    let mut found = Vec::new();
    while let Some(entry) = section.get(at..at + 5) {
        let kind = match entry[0] {
            0x01 | 0x02 | 0x10 | 0x1b | 0x24 | 0x33 | 0x42 | 0xea => Some(Kind::Video),
            0x03 | 0x04 | 0x06 | 0x0f | 0x11 | 0x80..=0x87 => Some(Kind::Audio),
            _ => None,
        };
        found.extend(kind.map(|kind| (u16::from_be_bytes([entry[1], entry[2]]) & EMPTY, kind)));
        at += 5 + usize::from(u16::from_be_bytes([entry[3], entry[4]]) & 0xfff);
    }
    Some(found)
}

/// How the packets follow one another.
#[derive(Clone, Copy)]
struct Spacing {
    /// Bytes before each packet.
    lead: usize,
}

impl Spacing {
    fn of(bytes: &[u8]) -> Self {
        let starts = |at: usize| bytes.get(at).is_none_or(|byte| *byte == SYNC);
        let plain = starts(0) && starts(PACKET);
        Self { lead: if !plain && starts(ARRIVAL) && starts(2 * ARRIVAL + PACKET) { ARRIVAL } else { 0 } }
    }

    /// The place of what belongs to a packet, in bytes.
    fn at(self, index: usize) -> usize {
        index * (self.lead + PACKET)
    }

    /// The packets of `bytes`, which begin with one or with what is before it; none for what is no packet.
    fn packets(self, bytes: &[u8]) -> impl DoubleEndedIterator<Item = Option<Packet<'_>>> {
        bytes.chunks_exact(self.lead + PACKET).map(move |chunk| Packet::new(&chunk[self.lead..]))
    }
}

struct Packet<'a>(&'a [u8]);

impl<'a> Packet<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes[0] == SYNC).then_some(Self(bytes))
    }

    fn number(&self) -> u16 {
        u16::from_be_bytes([self.0[1], self.0[2]]) & EMPTY
    }

    /// Whether a section or an elementary packet starts in it.
    fn starts(&self) -> bool {
        self.0[1] & 0x40 != 0
    }

    fn is_scrambled(&self) -> bool {
        self.0[3] & 0xc0 != 0
    }

    /// Whether decoding can begin at it (the random access indicator of the adaptation field).
    fn is_entry(&self) -> bool {
        self.0[3] & 0x20 != 0 && self.0[4] > 0 && self.0[5] & 0x40 != 0
    }

    /// The program clock reference, in ticks of 90 kHz.
    fn clock(&self) -> Option<u64> {
        let has = self.0[3] & 0x20 != 0 && self.0[4] >= 7 && self.0[5] & 0x10 != 0;
        has.then(|| self.0[6..11].iter().fold(0, |clock, byte| clock << 8 | u64::from(*byte)) >> 7)
    }

    /// What follows the header.
    fn payload(&self) -> Option<&'a [u8]> {
        self.0.get(if self.0[3] & 0x20 != 0 { 5 + usize::from(self.0[4]) } else { 4 }..)
    }

    /// The presentation time of the audio or video packet that starts in it, in ticks of 90 kHz.
    fn time(&self) -> Option<u64> {
        let packet = self.payload().filter(|packet| self.starts() && packet.starts_with(&[0, 0, 1]))?;
        if !matches!(packet.get(3)?, 0xbd | 0xc0..=0xef | 0xfd) || packet.get(7)? & 0x80 == 0 {
            return None;
        }
        let stamp = packet.get(9..14)?;
        let bits = |at: usize, mask: u8| u64::from(stamp[at] & mask);
        Some(bits(0, 0x0e) << 29 | bits(1, 0xff) << 22 | bits(2, 0xfe) << 14 | bits(3, 0xff) << 7 | bits(4, 0xfe) >> 1)
    }

    /// The section that starts in the packet, without its checksum; none if it has another kind or goes on in the next
    /// packet.
    fn section(&self, kind: u8) -> Option<&'a [u8]> {
        let payload = self.payload()?;
        let section = payload.get(1 + usize::from(*payload.first()?)..)?;
        let length = usize::from(u16::from_be_bytes([*section.get(1)?, *section.get(2)?]) & 0xfff);
        section.get(..(3 + length).checked_sub(4)?).filter(|section| section.first() == Some(&kind))
    }
}

/// Whether a transport stream is scrambled, by the flags of most of its packets.
pub(super) fn scrambled(file: &mut File) -> bool {
    let Some(bytes) = read(file, 0, 1 << 20) else { return false };
    let packets = Spacing::of(&bytes).packets(&bytes).map_while(|packet| packet);
    let (all, locked) =
        packets.fold((0, 0), |(all, locked), packet| (all + 1, locked + usize::from(packet.is_scrambled())));
    all > 10 && locked * 2 > all
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: u16 = 256;
    const AUDIO: u16 = 257;
    const MAP: u16 = 4096;

    fn packet(number: u16, starts: bool, payload: &[u8]) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        let mut bytes = vec![0x47, high | if starts { 0x40 } else { 0 }, low, 0x10];
        bytes.extend(payload);
        bytes.resize(PACKET, 0xff);
        bytes
    }

    fn tables() -> [Vec<u8>; 2] {
        let programs = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 9, 9, 9, 9];
        let map = [
            0, 2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 0x0f, 0xe1, 1, 0xf0, 0, 9, 9,
            9, 9,
        ];
        [packet(0, true, &programs), packet(MAP, true, &map)]
    }

    #[test]
    fn tables_take_the_place_of_what_cannot_be_decoded() {
        let [programs, map] = tables();
        let rest = [packet(VIDEO, false, &[]), packet(AUDIO, false, &[]), packet(AUDIO, true, &[])];
        let stream = [rest.concat(), programs.clone(), map.clone()].concat();
        let found = find_early(&stream);
        assert_eq!(found, Some(Early::Patches(vec![(0, programs.clone()), (PACKET as u64, map.clone())])));
        // Sound that starts first is not overwritten.
        let stream = [rest[2].clone(), rest.concat(), programs.clone(), map.clone()].concat();
        assert_eq!(find_early(&stream), Some(Early::LeftOut(5 * PACKET)));
        // Nor is a frame that can be decoded.
        let mut key = packet(VIDEO, true, &[7, 0x40]);
        key[3] = 0x30;
        let stream = [key, rest.concat(), programs.clone(), map.clone()].concat();
        assert_eq!(find_early(&stream), Some(Early::LeftOut(5 * PACKET)));
        // The same with arrival times between the packets.
        let stamped: Vec<u8> = [rest.concat(), programs.clone(), map.clone()]
            .concat()
            .chunks(PACKET)
            .flat_map(|packet| [[SYNC, 0, 0, 0].as_slice(), packet].concat())
            .collect();
        let found = find_early(&stamped);
        let second = (ARRIVAL + PACKET + ARRIVAL) as u64;
        assert_eq!(found, Some(Early::Patches(vec![(ARRIVAL as u64, programs.clone()), (second, map.clone())])));
        // A description of the service may come before the tables.
        let stream = [packet(17, true, &[0x42]), programs, map].concat();
        assert_eq!(find_early(&stream), None);
        for end in 0..stream.len() {
            let _ = find_early(&stream[..end]);
        }
    }
}
