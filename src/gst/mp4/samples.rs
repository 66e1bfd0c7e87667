//! The samples of a track of an MP4 or MOV file, where they are and when (ISO/IEC 14496-12, 8.6 to 8.7). Fragments are
//! not looked into.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use super::boxes::{self, bad, boxes, child, descend, scale_and_duration, u32_at, u64_at};

/// Most samples of a track: ten a second for a day.
const MOST: usize = 864_000;
/// Most bytes of an index that is read.
const LARGEST: u64 = 1 << 30;

/// A sample of a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Where it is in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since the start of its track.
    pub time_s: f64,
    /// Seconds until the next one.
    pub duration_s: f64,
}

/// The payload of the index (`moov`).
///
/// # Errors
/// Not an MP4 or MOV file, no index, or one that is cut off.
pub(crate) fn read_index(file: &mut File) -> Result<Vec<u8>> {
    let tops = boxes::top_boxes(file)?;
    let place = tops.iter().find(|top| &top.kind == b"moov").ok_or_else(|| bad("no index"))?;
    let length =
        place.size.checked_sub(place.head).filter(|length| *length < LARGEST).ok_or_else(|| bad("no index"))?;
    let mut moov = vec![0; usize::try_from(length).map_err(|_| bad("too large"))?];
    file.seek(SeekFrom::Start(place.at + place.head))?;
    file.read_exact(&mut moov)?;
    Ok(moov)
}

/// The samples of the first track whose sample entry is of a `wanted` type, with that type.
pub(crate) fn of_first(moov: &[u8], wanted: impl Fn(&[u8; 4]) -> bool) -> Option<([u8; 4], Vec<Sample>)> {
    boxes(moov).ok()?.into_iter().filter(|child| &child.kind == b"trak").find_map(|trak| {
        let mdia = child(trak.payload, b"mdia")?;
        let stbl = descend(mdia, &[b"minf", b"stbl"])?.payload;
        let coding: [u8; 4] = child(stbl, b"stsd")?.get(12..16)?.try_into().ok()?;
        let (scale, ..) = scale_and_duration(child(mdia, b"mdhd")?).ok()?;
        let samples = wanted(&coding).then(|| samples(stbl, f64::from(scale.max(1))).ok())??;
        Some((coding, samples))
    })
}

fn samples(stbl: &[u8], scale: f64) -> Result<Vec<Sample>> {
    let table = |kind: &[u8; 4]| child(stbl, kind).ok_or_else(|| bad("a sample table without a part"));
    let (sizes, runs) = (table(b"stsz")?, table(b"stsc")?);
    let (fixed, count) = (u32_at(sizes, 4)?, u32_at(sizes, 8)? as usize);
    let count = count.min(MOST);
    let size = |n: usize| if fixed > 0 { Ok(u64::from(fixed)) } else { u32_at(sizes, 12 + 4 * n).map(u64::from) };
    let chunks = |n: usize| match (child(stbl, b"stco"), child(stbl, b"co64")) {
        (Some(table), _) => u32_at(table, 8 + 4 * n).map(u64::from),
        (_, Some(table)) => u64_at(table, 8 + 8 * n),
        _ => Err(bad("no chunks")),
    };
    let mut found: Vec<Sample> = Vec::new();
    let (mut chunk, mut run) = (0, 0);
    let entries = u32_at(runs, 4)? as usize;
    while found.len() < count {
        while run + 1 < entries && u32_at(runs, 8 + 12 * (run + 1))? as usize <= chunk + 1 {
            run += 1;
        }
        let mut offset = chunks(chunk)?;
        for _ in 0..(u32_at(runs, 8 + 12 * run + 4)?.max(1) as usize).min(count - found.len()) {
            let size = size(found.len())?;
            found.push(Sample { offset, size, time_s: 0.0, duration_s: 0.0 });
            offset = offset.saturating_add(size);
        }
        chunk += 1;
    }
    let times = table(b"stts")?;
    let (mut at, mut time) = (0usize, 0u64);
    for entry in 0..u32_at(times, 4)? as usize {
        let (length, delta) = (u32_at(times, 8 + 8 * entry)? as usize, u32_at(times, 12 + 8 * entry)?);
        let end = at.saturating_add(length).min(found.len());
        for sample in &mut found[at..end] {
            (sample.time_s, sample.duration_s) = (time as f64 / scale, f64::from(delta) / scale);
            time += u64::from(delta);
        }
        at = end;
    }
    found.truncate(at);
    Ok(found)
}
