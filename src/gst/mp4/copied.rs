//! Tracks copied unchanged from one MP4 or MOV file to another: time codes, telemetry, text with styles, chapters.
//! GStreamer's demuxer or muxer does not support them.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use super::boxes::{bad, boxes, child, descend, push_box, scale_and_duration, u32_at, u64_at};
use super::index::entries;
use crate::gst::metadata::Chapter;

/// A track and the positions of its samples in the input.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Copied {
    pub id: u32,
    pub handler: [u8; 4],
    /// Payload of its `trak` box.
    trak: Vec<u8>,
    /// Offset and size of each sample.
    samples: Vec<(u64, u32)>,
    movie_scale: u32,
}

/// Handler types of copied tracks.
const HANDLERS: [&[u8; 4]; 8] = [b"tmcd", b"text", b"sbtl", b"subt", b"subp", b"clcp", b"meta", b"data"];

impl Copied {
    /// None if the track is of another type, has no samples (those of fragments are elsewhere), or exceeds `length`,
    /// the size of the file.
    pub fn of(trak: &[u8], movie_scale: u32, length: u64) -> Option<Self> {
        let header = child(trak, b"tkhd")?;
        let id = u32_at(header, if *header.first()? == 1 { 20 } else { 12 }).ok()?;
        let handler: [u8; 4] = descend(trak, &[b"mdia", b"hdlr"])?.payload.get(8..12)?.try_into().ok()?;
        if !HANDLERS.contains(&&handler) || movie_scale == 0 {
            return None;
        }
        let stbl = descend(trak, &[b"mdia", b"minf", b"stbl"])?;
        let mut samples = Vec::new();
        each_sample(stbl.payload, |at, size| samples.push((at, size)))?;
        let whole = samples.iter().all(|(at, size)| at.saturating_add(u64::from(*size)) <= length);
        (whole && !samples.is_empty()).then(|| Self { id, handler, trak: trak.to_vec(), samples, movie_scale })
    }

    fn sample(&self, file: &mut File, index: usize) -> Option<Vec<u8>> {
        let (at, size) = *self.samples.get(index)?;
        let mut bytes = vec![0; size as usize];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The time code of the first sample, as `01:02:03:04`.
    pub fn timecode(&self, file: &mut File) -> Option<String> {
        let entry = descend(&self.trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
        // Size, type, six reserved bytes and an index, then: reserved, flags, timescale, duration, frames per second.
        let (flags, fps) = (u32_at(entry.payload, 8 + 16 + 4).ok()?, u64::from(*entry.payload.get(8 + 16 + 16)?));
        let number = u64::from(u32_at(&self.sample(file, 0)?, 0).ok()?);
        timecode(number, fps, flags & 1 == 1)
    }

    /// The chapters of a track of chapter titles.
    pub fn chapters(&self, file: &mut File) -> Vec<Chapter> {
        let scale = descend(&self.trak, &[b"mdia", b"mdhd"]).and_then(|mdhd| scale_and_duration(mdhd.payload).ok());
        let Some((scale, ..)) = scale.filter(|(scale, ..)| *scale > 0) else { return Vec::new() };
        let Some(stts) = descend(&self.trak, &[b"mdia", b"minf", b"stbl", b"stts"]) else { return Vec::new() };
        let mut lengths = Vec::new();
        for run in stts.payload.get(8..).unwrap_or_default().chunks_exact(8) {
            let (Ok(count), Ok(length)) = (u32_at(run, 0), u32_at(run, 4)) else { break };
            lengths.extend(std::iter::repeat_n(length, (count as usize).min(self.samples.len())));
        }
        let (mut chapters, mut time) = (Vec::new(), 0u64);
        for (index, length) in lengths.iter().enumerate().take(self.samples.len()) {
            let Some(sample) = self.sample(file, index) else { break };
            let letters = sample.get(..2).map_or(0, |n| usize::from(n[0]) << 8 | usize::from(n[1]));
            let title = String::from_utf8_lossy(sample.get(2..2 + letters).unwrap_or_default()).into_owned();
            let nanoseconds = |ticks: u64| (u128::from(ticks) * 1_000_000_000 / u128::from(scale)) as u64;
            let end = time + u64::from(*length);
            chapters.push(Chapter { start: nanoseconds(time), end: Some(nanoseconds(end)), title });
            time = end;
        }
        chapters
    }

    /// Appends the samples to `out`. Returns the new offset of each.
    pub fn write_samples(&self, source: &mut File, out: &mut File) -> Result<Vec<u64>> {
        let mut places = Vec::with_capacity(self.samples.len());
        for (at, size) in &self.samples {
            places.push(out.stream_position()?);
            source.seek(SeekFrom::Start(*at))?;
            if std::io::copy(&mut source.take(u64::from(*size)), out)? != u64::from(*size) {
                return Err(bad("the input is shorter than it was"));
            }
        }
        Ok(places)
    }

    /// Size of all samples, in bytes.
    pub fn size(&self) -> u64 {
        self.samples.iter().map(|(_, size)| u64::from(*size)).sum()
    }

    /// The payload of the `trak` box in the output, with its number there, the timescale of its movie, and the offsets
    /// of its samples. `number_of` maps track numbers of the input to those of the output.
    pub fn trak(
        &self,
        id: u32,
        movie_scale: u32,
        places: &[u64],
        number_of: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<Vec<u8>> {
        let rescale = |ticks: u64| {
            u64::try_from(u128::from(ticks) * u128::from(movie_scale) / u128::from(self.movie_scale))
                .unwrap_or(u64::MAX)
        };
        let mut out = Vec::new();
        for item in boxes(&self.trak)? {
            let payload = match &item.kind {
                b"tkhd" => header(item.payload, id, rescale)?,
                b"edts" => edits(item.payload, rescale)?,
                b"tref" => references(item.payload, number_of)?,
                b"mdia" => replaced(item.payload, &[b"minf", b"stbl"], &|stbl| tables(stbl, &self.samples, places))?,
                _ => item.payload.to_vec(),
            };
            if !(payload.is_empty() && &item.kind == b"tref") {
                push_box(&mut out, &item.kind, &payload)?;
            }
        }
        Ok(out)
    }
}

/// Calls `take` with offset and size of every sample in a track's tables.
fn each_sample(stbl: &[u8], mut take: impl FnMut(u64, u32)) -> Option<()> {
    let (sizes, runs) = (child(stbl, b"stsz")?, child(stbl, b"stsc")?);
    let (offsets, wide) = match child(stbl, b"co64") {
        Some(offsets) => (offsets, true),
        None => (child(stbl, b"stco")?, false),
    };
    let (size, count) = (u32_at(sizes, 4).ok()?, u32_at(sizes, 8).ok()?);
    let chunks = u32_at(offsets, 4).ok()? as usize;
    let number_of_runs = u32_at(runs, 4).ok()? as usize;
    let (mut sample, mut run) = (0u32, 0usize);
    for chunk in 0..chunks {
        while run + 1 < number_of_runs && u32_at(runs, 8 + (run + 1) * 12).ok()? as usize <= chunk + 1 {
            run += 1;
        }
        let mut at =
            if wide { u64_at(offsets, 8 + chunk * 8).ok()? } else { u32_at(offsets, 8 + chunk * 4).ok()?.into() };
        for _ in 0..u32_at(runs, 8 + run * 12 + 4).ok()? {
            if sample >= count {
                return Some(());
            }
            let bytes = if size > 0 { size } else { u32_at(sizes, 12 + sample as usize * 4).ok()? };
            take(at, bytes);
            at = at.checked_add(bytes.into())?;
            sample += 1;
        }
    }
    Some(())
}

/// The number of a track's samples that end after `length`, and the number of all samples.
pub(super) fn beyond(stbl: &[u8], length: u64) -> Option<(u64, u64)> {
    let (mut lost, mut all) = (0, 0);
    each_sample(stbl, |at, size| {
        all += 1;
        lost += u64::from(at.saturating_add(size.into()) > length);
    })?;
    Some((lost, all))
}

/// `payload` with the box at the end of `path` replaced.
pub(super) fn replaced(
    payload: &[u8],
    path: &[&[u8; 4]],
    change: &dyn Fn(&[u8]) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let Some((first, rest)) = path.split_first() else { return change(payload) };
    let mut out = Vec::new();
    for item in boxes(payload)? {
        let new = if item.kind == **first { replaced(item.payload, rest, change)? } else { item.payload.to_vec() };
        push_box(&mut out, &item.kind, &new)?;
    }
    Ok(out)
}

/// The sample tables of a track with one sample per chunk.
fn tables(stbl: &[u8], samples: &[(u64, u32)], places: &[u64]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for item in boxes(stbl)? {
        if ![b"stsc", b"stsz", b"stz2", b"stco", b"co64"].contains(&&item.kind) {
            push_box(&mut out, &item.kind, item.payload)?;
        }
    }
    let count = u32::try_from(samples.len()).map_err(|_| bad("too many samples"))?;
    let list = |head: &[u32]| head.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    push_box(&mut out, b"stsc", &list(&[0, 1, 1, 1, 1]))?;
    let mut sizes = list(&[0, 0, count]);
    sizes.extend(samples.iter().flat_map(|(_, size)| size.to_be_bytes()));
    push_box(&mut out, b"stsz", &sizes)?;
    let mut offsets = list(&[0, count]);
    offsets.extend(places.iter().flat_map(|place| place.to_be_bytes()));
    push_box(&mut out, b"co64", &offsets)?;
    Ok(out)
}

fn header(tkhd: &[u8], id: u32, rescale: impl Fn(u64) -> u64) -> Result<Vec<u8>> {
    let mut out = tkhd.to_vec();
    let long = *tkhd.first().ok_or_else(|| bad("an empty header"))? == 1;
    let (id_at, duration_at) = if long { (20, 28) } else { (12, 20) };
    let mut put = |at: usize, bytes: &[u8]| -> Result<()> {
        out.get_mut(at..at + bytes.len()).ok_or_else(|| bad("a short header"))?.copy_from_slice(bytes);
        Ok(())
    };
    put(id_at, &id.to_be_bytes())?;
    if long {
        put(duration_at, &rescale(u64_at(tkhd, duration_at)?).to_be_bytes())?;
    } else {
        let duration = rescale(u32_at(tkhd, duration_at)?.into());
        put(duration_at, &u32::try_from(duration).unwrap_or(u32::MAX).to_be_bytes())?;
    }
    Ok(out)
}

fn edits(edts: &[u8], rescale: impl Fn(u64) -> u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for item in boxes(edts)? {
        if &item.kind != b"elst" {
            push_box(&mut out, &item.kind, item.payload)?;
            continue;
        }
        let entries = entries(item.payload)?;
        let mut list = vec![1, 0, 0, 0];
        list.extend((entries.len() as u32).to_be_bytes());
        for (duration, time, rate) in entries {
            list.extend(rescale(duration).to_be_bytes());
            list.extend(time.to_be_bytes());
            list.extend(rate.to_be_bytes());
        }
        push_box(&mut out, b"elst", &list)?;
    }
    Ok(out)
}

fn references(tref: &[u8], number_of: &dyn Fn(u32) -> Option<u32>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for kind in boxes(tref)? {
        let numbers = kind.payload.chunks_exact(4).filter_map(|number| number_of(u32_at(number, 0).ok()?));
        let numbers: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
        if !numbers.is_empty() {
            push_box(&mut out, &kind.kind, &numbers)?;
        }
    }
    Ok(out)
}

/// A frame number as hours, minutes, seconds and frames (SMPTE 12M). Drop-frame time code skips the numbers of the
/// first two frames (at 30 frames/s; four at 60) of each minute except every tenth.
fn timecode(mut number: u64, fps: u64, drops: bool) -> Option<String> {
    if fps == 0 {
        return None;
    }
    if drops {
        let dropped = fps / 15;
        let (minute, ten) = (60 * fps - dropped, 600 * fps - 9 * dropped);
        let (tens, rest) = (number / ten, number % ten);
        number += tens * 9 * dropped + if rest < dropped { 0 } else { (rest - dropped) / minute * dropped };
    }
    let (seconds, frames) = (number / fps, number % fps);
    let mark = if drops { ';' } else { ':' };
    Some(format!("{:02}:{:02}:{:02}{mark}{frames:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_codes_with_and_without_dropped_numbers() {
        assert_eq!(timecode(25 * 3600 + 26, 25, false).unwrap(), "01:00:01:01");
        assert_eq!(timecode(1799, 30, true).unwrap(), "00:00:59;29");
        assert_eq!(timecode(1800, 30, true).unwrap(), "00:01:00;02");
        assert_eq!(timecode(17_982, 30, true).unwrap(), "00:10:00;00");
        assert_eq!(timecode(1, 0, false), None);
    }
}
