//! The boxes of MP4 and MOV files (ISO/IEC 14496-12).

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};

/// A box within its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child<'a> {
    pub kind: [u8; 4],
    /// Offset of the payload in the payload of the parent.
    pub at: usize,
    pub payload: &'a [u8],
}

/// A top-level box of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopBox {
    pub kind: [u8; 4],
    /// Offset of the header in the file.
    pub at: u64,
    /// Length of the header.
    pub head: u64,
    /// Size including the header, as announced: it may exceed the file.
    pub size: u64,
}

/// The top-level boxes of the file, up to its end or the first invalid header.
pub(crate) fn top_boxes(file: &mut File) -> Result<Vec<TopBox>> {
    let length = file.metadata()?.len();
    let mut found = Vec::new();
    let mut at = 0;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = [0; 16];
        file.read_exact(&mut bytes[..8])?;
        let kind = [bytes[4], bytes[5], bytes[6], bytes[7]];
        let (mut size, mut head) = (u64::from(u32_at(&bytes, 0)?), 8);
        if size == 1 {
            if file.read_exact(&mut bytes[8..]).is_err() {
                break;
            }
            (size, head) = (u64_at(&bytes, 8)?, 16);
        } else if size == 0 {
            size = length - at;
        }
        if size < head || !kind.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == 0xa9) {
            break;
        }
        found.push(TopBox { kind, at, head, size });
        at = at.checked_add(size).ok_or_else(|| bad("a box without an end"))?;
    }
    Ok(found)
}

/// The boxes in `data`.
pub(crate) fn boxes(data: &[u8]) -> Result<Vec<Child<'_>>> {
    let mut found = Vec::new();
    let mut at = 0;
    while data.len() - at >= 8 {
        let size = u32_at(data, at)? as usize;
        let kind = [data[at + 4], data[at + 5], data[at + 6], data[at + 7]];
        if size < 8 || size > data.len() - at {
            return Err(bad("a box that reaches past its parent"));
        }
        found.push(Child { kind, at: at + 8, payload: &data[at + 8..at + size] });
        at += size;
    }
    Ok(found)
}

/// The box at the end of `path`, with its offset in `payload`; none if it is missing or empty.
pub(crate) fn descend<'a>(payload: &'a [u8], path: &[&[u8; 4]]) -> Option<Child<'a>> {
    let mut place = Child { kind: [0; 4], at: 0, payload };
    for kind in path {
        let inner = boxes(place.payload).ok()?.into_iter().find(|child| child.kind == **kind)?;
        place = Child { at: place.at + inner.at, ..inner };
    }
    (!place.payload.is_empty()).then_some(place)
}

/// The payload of a direct child.
pub(crate) fn child<'a>(payload: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    descend(payload, &[kind]).map(|child| child.payload)
}

pub(crate) fn push_box(out: &mut Vec<u8>, kind: &[u8; 4], payload: &[u8]) -> Result<()> {
    let size = u32::try_from(payload.len() + 8).map_err(|_| bad("too large"))?;
    out.extend(size.to_be_bytes());
    out.extend(kind);
    out.extend(payload);
    Ok(())
}

pub(crate) fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

pub(crate) fn u32_at(data: &[u8], at: usize) -> Result<u32> {
    let bytes = data.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or_else(|| bad("a short box"))?;
    Ok(u32::from_be_bytes(bytes))
}

pub(crate) fn u64_at(data: &[u8], at: usize) -> Result<u64> {
    let bytes = data.get(at..at + 8).and_then(|b| b.try_into().ok()).ok_or_else(|| bad("a short box"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Timescale and duration in an mvhd or mdhd box, and the offset of the duration.
pub(crate) fn scale_and_duration(header: &[u8]) -> Result<(u32, u64, usize)> {
    let long = *header.first().ok_or_else(|| bad("an empty header"))? == 1;
    if long {
        Ok((u32_at(header, 20)?, u64_at(header, 24)?, 24))
    } else {
        let duration = u32_at(header, 16)?;
        Ok((u32_at(header, 12)?, if duration == u32::MAX { u64::MAX } else { duration.into() }, 16))
    }
}
