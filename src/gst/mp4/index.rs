//! The index (`moov`) of an MP4 or MOV file, read ahead of GStreamer's demuxer, and the patches that the demuxer needs
//! in it.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use super::boxes::{self, TopBox, bad, boxes, child, descend, scale_and_duration, u32_at, u64_at};
use super::copied::beyond;
use super::edit_list::EditList;
use crate::gst::hdr::Light;

/// Top-level boxes of a file that must be complete; others after them are private data of cameras.
const KNOWN: [&[u8; 4]; 5] = [b"moov", b"mdat", b"moof", b"mdat", b"mfra"];

/// The index of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    /// The tracks in file order.
    pub tracks: Vec<IndexTrack>,
    /// Nanoseconds; none where the header has none (fragments).
    pub duration: Option<u64>,
    /// Patches for the demuxer: offset in the file and bytes.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// The missing part of a truncated file, as text; none if its boxes are complete.
    pub cut: Option<String>,
}

/// A track of the index.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct IndexTrack {
    pub id: u32,
    /// Handler type: `vide`, `soun`, `text`, ...
    pub handler: [u8; 4],
    /// Sample entry type, such as `avc1`; `encv` for encrypted video.
    pub coding: [u8; 4],
    /// None: the whole track is shown, or the edit list is left to the demuxer.
    pub edits: Option<EditList>,
    /// The container signals full range.
    pub full_range: bool,
    /// Primaries, transfer and matrix (ITU-T H.273) from the container.
    pub colours: Option<[u8; 3]>,
    /// Pixel aspect ratio from the container, which precedes that of the coded video.
    pub par: Option<(i32, i32)>,
    /// Static HDR metadata from the container, which GStreamer's demuxer does not read.
    pub light: Light,
    /// Orientation of the pictures, as `videoflip` names it; none unless the matrix is one of the eight rotations and
    /// reflections.
    pub direction: Option<&'static str>,
}

impl IndexTrack {
    /// Whether the track is encrypted: ISO/IEC 23001-7 and other schemes.
    pub fn is_encrypted(&self) -> bool {
        matches!(&self.coding, b"encv" | b"enca" | b"enct" | b"encs" | b"drmi" | b"drms")
    }
}

impl Index {
    /// Reads the index of a file.
    ///
    /// # Errors
    /// Not an MP4 or MOV file, no index, or an index that cannot be parsed.
    pub fn read(file: &mut File) -> Result<Self> {
        let length = file.metadata()?.len();
        let tops = boxes::top_boxes(file)?;
        let place = tops.iter().find(|top| &top.kind == b"moov").ok_or_else(|| bad("no index"))?;
        if place.at + place.size > length {
            return Err(bad("an index that is cut off"));
        }
        let start = place.at + place.head;
        let mut moov = vec![0; usize::try_from(place.size - place.head).map_err(|_| bad("too large"))?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut moov)?;
        let mut index = Self::parse(&moov, start, length)?;
        if index.cut.is_none() {
            index.cut = cut(&tops, length);
        }
        Ok(index)
    }

    /// `moov` is the payload of the box, which starts at `start` in a file of `length` bytes.
    fn parse(moov: &[u8], start: u64, length: u64) -> Result<Self> {
        let movie = descend(moov, &[b"mvhd"]).ok_or_else(|| bad("no mvhd"))?;
        let (movie_scale, duration, duration_at) = scale_and_duration(movie.payload)?;
        let known = duration > 0 && duration != u64::MAX && movie_scale > 0;
        let nanoseconds = u128::from(duration) * 1_000_000_000 / u128::from(movie_scale.max(1));
        let mut index = Self { duration: u64::try_from(nanoseconds).ok().filter(|_| known), ..Self::default() };
        // qtdemux treats a track as a preview image, and hides it, if it lasts less than a fifth of the movie; and it
        // ends with the movie, whatever the tracks' durations. Without a duration it does neither.
        let width = if movie.payload[0] == 1 { 8 } else { 4 };
        index.patches.push((start + (movie.at + duration_at) as u64, vec![0; width]));
        for trak in boxes(moov)?.into_iter().filter(|child| &child.kind == b"trak") {
            let at = start + trak.at as u64;
            match index.track(trak.payload, at, movie_scale, length) {
                Ok(track) => index.tracks.push(track),
                Err(error) => tracing::debug!("a track of the index is not understood: {error}"),
            }
        }
        Ok(index)
    }

    fn track(&mut self, trak: &[u8], at: u64, movie_scale: u32, length: u64) -> Result<IndexTrack> {
        let header = child(trak, b"tkhd").ok_or_else(|| bad("no tkhd"))?;
        let id = u32_at(header, if header[0] == 1 { 20 } else { 12 })?;
        let mdia = descend(trak, &[b"mdia"]).ok_or_else(|| bad("no mdia"))?;
        let (media_scale, ..) = scale_and_duration(child(mdia.payload, b"mdhd").ok_or_else(|| bad("no mdhd"))?)?;
        let handler = child(mdia.payload, b"hdlr").and_then(|h| h.get(8..12)?.try_into().ok()).unwrap_or_default();
        let mut track = IndexTrack { id, handler, direction: direction(header), ..IndexTrack::default() };
        if let Some(elst) = descend(trak, &[b"edts", b"elst"])
            && let Some(edits) = EditList::new(&entries(elst.payload)?, movie_scale, media_scale)
        {
            track.edits = Some(edits);
            self.patches.push((at + elst.at as u64, open_ended(elst.payload[0])));
        }
        let path: &[&[u8; 4]] = &[b"minf", b"stbl"];
        let Some(stbl) = descend(mdia.payload, path) else { return Ok(track) };
        if let Some(stsd) = descend(stbl.payload, &[b"stsd"]) {
            track.coding = stsd.payload.get(12..16).and_then(|kind| kind.try_into().ok()).unwrap_or_default();
            let stsd_at = at + (mdia.at + stbl.at + stsd.at) as u64;
            if &handler == b"vide" {
                track.colours = colours(stsd.payload);
                track.par = par(stsd.payload);
                track.light = light(stsd.payload).unwrap_or_default();
            }
            if &handler == b"vide"
                && let Some(colr) = full_range(stsd.payload)
            {
                track.full_range = true;
                // qtdemux reads the full range flag from the byte before it, and would signal limited range; without
                // the box, the coded stream decides.
                self.patches.push((stsd_at + colr as u64, b"free".to_vec()));
            }
        }
        if &handler == b"soun"
            && has_no_samples(stbl.payload)
            && let Some(hdlr) = descend(mdia.payload, &[b"hdlr"])
        {
            // qtdemux divides by the size of a sample: it must not take the track for sound.
            self.patches.push((at + (mdia.at + hdlr.at) as u64 + 8, b"free".to_vec()));
        }
        if matches!(&handler, b"vide" | b"soun")
            && let Some((lost, all)) = beyond(stbl.payload, length)
            && lost > 0
        {
            let what = if &handler == b"vide" { "frames" } else { "sound packets" };
            let words = format!("{lost} of {all} {what} lie after the end of the file");
            self.cut = Some(self.cut.take().map_or(words.clone(), |before| format!("{before}, {words}")));
        }
        Ok(track)
    }
}

/// The missing part of a file whose last box exceeds it, as text.
fn cut(tops: &[TopBox], length: u64) -> Option<String> {
    let last = tops.last().filter(|last| KNOWN.contains(&&last.kind))?;
    let missing = (last.at + last.size).checked_sub(length).filter(|missing| *missing > 0)?;
    Some(format!("the last {missing} bytes of its `{}` box are missing", String::from_utf8_lossy(&last.kind)))
}

/// The entries of an edit list: duration, start, rate.
pub(crate) fn entries(elst: &[u8]) -> Result<Vec<(u64, i64, u32)>> {
    let long = *elst.first().ok_or_else(|| bad("an empty elst"))? == 1;
    let (count, width) = (u32_at(elst, 4)? as usize, if long { 20 } else { 12 });
    let mut entries = Vec::with_capacity(count.min(elst.len() / width));
    for index in 0..count {
        let at = 8 + index * width;
        entries.push(if long {
            (u64_at(elst, at)?, u64_at(elst, at + 8)? as i64, u32_at(elst, at + 16)?)
        } else {
            (u32_at(elst, at)?.into(), i64::from(u32_at(elst, at + 4)? as i32), u32_at(elst, at + 8)?)
        });
    }
    Ok(entries)
}

/// The orientation in the matrix of a `tkhd` box, of which GStreamer's demuxer knows only the rotations: a picture's
/// (x, y) is shown at (ax + cy, bx + dy).
fn direction(tkhd: &[u8]) -> Option<&'static str> {
    let at = if *tkhd.first()? == 1 { 52 } else { 40 };
    let entry = |index: usize| Some((u32_at(tkhd, at + 4 * index).ok()? as i32).signum());
    Some(match (entry(0)?, entry(1)?, entry(3)?, entry(4)?) {
        (1, 0, 0, 1) => "identity",
        (0, 1, -1, 0) => "90r",
        (-1, 0, 0, -1) => "180",
        (0, -1, 1, 0) => "90l",
        (-1, 0, 0, 1) => "horiz",
        (1, 0, 0, -1) => "vert",
        (0, 1, 1, 0) => "ul-lr",
        (0, -1, -1, 0) => "ur-ll",
        _ => return None,
    })
}

/// The beginning of an edit list with one edit of all the media: qtdemux treats a duration of 0 as unlimited.
fn open_ended(version: u8) -> Vec<u8> {
    let mut list = vec![version, 0, 0, 0, 0, 0, 0, 1];
    list.resize(8 + if version == 1 { 16 } else { 8 }, 0);
    list.extend(0x0001_0000u32.to_be_bytes());
    list
}

/// The boxes in the first visual sample entry.
fn visual(stsd: &[u8]) -> Option<&[u8]> {
    boxes(stsd.get(8..)?).ok()?.into_iter().next()?.payload.get(78..)
}

/// The pixel aspect ratio of a `pasp` box.
fn par(stsd: &[u8]) -> Option<(i32, i32)> {
    let pasp = child(visual(stsd)?, b"pasp")?;
    let side = |at: usize| i32::try_from(u32_at(pasp, at).ok()?).ok().filter(|side| *side > 0);
    Some((side(0)?, side(4)?))
}

/// The colour description of a `colr` box.
fn colours(stsd: &[u8]) -> Option<[u8; 3]> {
    let colr = child(visual(stsd)?, b"colr")?;
    let named = colr.starts_with(b"nclx") || colr.starts_with(b"nclc");
    // Two bytes each, the first of them 0.
    named.then_some([*colr.get(5)?, *colr.get(7)?, *colr.get(9)?])
}

/// The static HDR metadata of a sample entry.
fn light(stsd: &[u8]) -> Option<Light> {
    let inner = visual(stsd)?;
    Some(Light::of_boxes(child(inner, b"mdcv"), child(inner, b"clli")))
}

/// Whether a sound description states neither channels nor bits.
fn has_no_samples(stbl: &[u8]) -> bool {
    // Entry count, then the entry: 8 bytes of header, 8 of every entry, 8 of version and vendor.
    child(stbl, b"stsd").and_then(|stsd| stsd.get(8 + 24..8 + 28)).is_some_and(|fields| fields == [0; 4])
}

/// Offset of the type of a `colr` box with the full range flag, in the payload of `stsd`.
fn full_range(stsd: &[u8]) -> Option<usize> {
    // One entry; 78 bytes of the visual sample entry precede its boxes.
    let (entry, before) = (boxes(stsd.get(8..)?).ok()?.into_iter().next()?, 78);
    let colr = descend(entry.payload.get(before..)?, &[b"colr"])?;
    let full = colr.payload.starts_with(b"nclx") && colr.payload.get(10)? & 0x80 != 0;
    full.then_some(8 + entry.at + before + colr.at - 4)
}

/// The reason why an MP4 or MOV file cannot be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No index. Cameras write it last: the recording was interrupted.
    NoIndex,
    /// The index comes first, and the file ends within it.
    IndexCut,
    /// A fragment without the initialisation segment of its stream.
    NoStart,
    /// The video is encrypted.
    Encrypted,
}

/// Finds faults that GStreamer's demuxer reports too late, too vaguely or, while it still searches for streams, never.
pub(crate) fn fault(file: &mut File) -> Option<Fault> {
    let mut head = [0; 8];
    file.read_exact(&mut head).ok()?;
    if !matches!(&head[4..], b"ftyp" | b"styp" | b"moof" | b"moov" | b"mdat" | b"wide") {
        return None;
    }
    let (length, tops) = (file.metadata().ok()?.len(), boxes::top_boxes(file).ok()?);
    let has = |kind: &[u8; 4]| tops.iter().find(|top| &top.kind == kind);
    match has(b"moov") {
        None if has(b"moof").is_some() => return Some(Fault::NoStart),
        None => return Some(Fault::NoIndex),
        Some(moov) if moov.at + moov.size > length => return Some(Fault::IndexCut),
        Some(_) => {}
    }
    let index = Index::read(file).ok()?;
    let mut pictures = index.tracks.iter().filter(|track| &track.handler == b"vide").peekable();
    (pictures.peek().is_some() && pictures.all(IndexTrack::is_encrypted)).then_some(Fault::Encrypted)
}
