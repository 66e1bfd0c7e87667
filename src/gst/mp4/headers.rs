//! Boxes of an index rewritten with other times and names.

use std::io::Result;

use super::boxes::{bad, boxes, push_box, u32_at, u64_at};
use super::index::entries;
use super::metadata::EPOCH;
use crate::gst::hdr::Light;

/// Corrects the Opus header by GStreamer 1.22's muxer: it copies the fields of an Ogg header, whose byte order is the
/// opposite, so that players skip a third of a second.
pub(super) fn correct_opus(trak: &mut [u8]) {
    let Some(at) = trak.windows(4).position(|kind| kind == b"dOps") else { return };
    // Version and channels, then pre-skip, sample rate and gain.
    let Some(fields) = trak.get_mut(at + 6..at + 14) else { return };
    if u32_at(fields, 2).is_ok_and(|rate| rate > 1_000_000) {
        fields[..2].reverse();
        fields[2..6].reverse();
        fields[6..].reverse();
    }
}

/// A sample description whose entries hold the static HDR metadata, which GStreamer 1.22's muxer does not write.
pub(super) fn with_light(stsd: &[u8], light: &Light) -> Result<Vec<u8>> {
    let (head, entries) = stsd.split_at_checked(8).ok_or_else(|| bad("a short sample description"))?;
    let mut out = head.to_vec();
    for entry in boxes(entries)? {
        let mut payload = entry.payload.to_vec();
        for (kind, box_payload) in light.boxes() {
            push_box(&mut payload, &kind, &box_payload)?;
        }
        push_box(&mut out, &entry.kind, &payload)?;
    }
    Ok(out)
}

/// A handler box with another name: length-prefixed in QuickTime, null-terminated in ISO files.
pub(super) fn handler(hdlr: &[u8], name: &str, quicktime: bool) -> Vec<u8> {
    let mut out = hdlr[..hdlr.len().min(24)].to_vec();
    match u8::try_from(name.len()) {
        Ok(letters) if quicktime => {
            out.push(letters);
            out.extend(name.as_bytes());
        }
        _ => {
            out.extend(name.as_bytes());
            out.push(0);
        }
    }
    out
}

/// The shown part of a track, and its start.
pub(super) struct Skip {
    /// Empty edit at the start, in ticks of the movie.
    pub start: u64,
    /// Priming to skip, in ticks of the track.
    pub media: u64,
    /// The same in ticks of the movie.
    pub shown: u64,
    /// Least duration of the shown part, in ticks of the movie.
    pub at_least: u64,
    /// Largest duration of the shown part, in ticks of the movie.
    pub at_most: Option<u64>,
}

/// An edit list of version 0 or 1, written as version 1.
pub(super) fn rewrite_elst(elst: &[u8], skip: &Skip) -> Result<Vec<u8>> {
    let mut entries = entries(elst)?;
    if let Some(shown) = entries.iter_mut().find(|(_, time, _)| *time >= 0) {
        shown.0 = shown.0.saturating_sub(skip.shown).max(skip.at_least).min(skip.at_most.unwrap_or(u64::MAX));
        shown.1 += i64::try_from(skip.media).map_err(|_| bad("too late"))?;
    }
    if skip.start > 0 {
        match entries.first_mut() {
            Some(first) if first.1 < 0 => first.0 += skip.start,
            _ => entries.insert(0, (skip.start, -1, 0x0001_0000)),
        }
    }
    let mut out = vec![1, 0, 0, 0];
    out.extend((entries.len() as u32).to_be_bytes());
    for (duration, time, rate) in entries {
        out.extend(duration.to_be_bytes());
        out.extend(time.to_be_bytes());
        out.extend(rate.to_be_bytes());
    }
    Ok(out)
}

/// An mvhd, tkhd or mdhd box with its creation and modification times set, and its duration raised to `at_least` and
/// then increased by `longer`. `gap` is the number of bytes between those times and the duration: the timescale, or a
/// track number and a reserved word.
pub(super) fn header(payload: &[u8], created: Option<i64>, longer: u64, at_least: u64, gap: usize) -> Result<Vec<u8>> {
    let mut out = payload.to_vec();
    let long = *payload.first().ok_or_else(|| bad("an empty header"))? == 1;
    let width = if long { 8 } else { 4 };
    let duration_at = 4 + 2 * width + gap;
    let mut put = |at: usize, value: u64| -> Result<()> {
        let slot = out.get_mut(at..at + width).ok_or_else(|| bad("a short header"))?;
        if long {
            slot.copy_from_slice(&value.to_be_bytes());
        } else {
            slot.copy_from_slice(&u32::try_from(value).map_err(|_| bad("a time past 2040"))?.to_be_bytes());
        }
        Ok(())
    };
    // The muxer writes the current time; an unknown time is 0.
    let seconds = created.and_then(|s| u64::try_from(s + EPOCH).ok()).unwrap_or(0);
    put(4, seconds)?;
    put(4 + width, seconds)?;
    if longer > 0 || at_least > 0 {
        let duration: u64 = if long { u64_at(payload, duration_at)? } else { u32_at(payload, duration_at)?.into() };
        put(duration_at, duration.max(at_least) + longer)?;
    }
    Ok(out)
}

pub(super) fn scaled(nanoseconds: u64, per_second: u32) -> u64 {
    let ticks = (u128::from(nanoseconds) * u128::from(per_second) + 500_000_000) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
