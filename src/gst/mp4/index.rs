//! What the index (`moov`) of an MP4 or MOV file says, read before GStreamer's demuxer reads it, and what that demuxer
//! has to find there instead.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use super::boxes::{self, TopBox, bad, boxes, child, descend, scale_and_duration, u32_at, u64_at};
use super::copied::beyond;
use super::edit_list::EditList;

/// Boxes of a whole file; others behind them are what cameras put there.
const KNOWN: [&[u8; 4]; 5] = [b"moov", b"mdat", b"moof", b"mdat", b"mfra"];

/// The index of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    /// In their order in the file.
    pub tracks: Vec<IndexTrack>,
    /// Nanoseconds; none where the header does not say (fragments).
    pub duration: Option<u64>,
    /// What the demuxer has to read instead: position in the file and bytes.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Whether the file ends before its boxes do: what is missing, in words.
    pub cut: Option<String>,
}

/// A track of the index.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct IndexTrack {
    pub id: u32,
    /// `vide`, `soun`, `text`, ...
    pub handler: [u8; 4],
    /// How its samples are coded, such as `avc1`; `encv` where they are encrypted.
    pub coding: [u8; 4],
    /// None: it is shown from its start to its end, or the demuxer's own support has to do.
    pub edits: Option<EditList>,
    /// The whole range of code values is in use, says the container.
    pub full_range: bool,
    /// Primaries, transfer and matrix (ITU-T H.273), says the container.
    pub colours: Option<[u8; 3]>,
    /// How to turn the pictures, as `videoflip` names it; none where the matrix is none of the eight that turn and mirror.
    pub direction: Option<&'static str>,
}

impl IndexTrack {
    /// Digital rights management, ISO/IEC 23001-7 and others.
    pub fn is_encrypted(&self) -> bool {
        matches!(&self.coding, b"encv" | b"enca" | b"enct" | b"encs" | b"drmi" | b"drms")
    }
}

impl Index {
    /// Reads the index of a file.
    ///
    /// # Errors
    /// It is no MP4 or MOV file, has no index, or one that is not understood.
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
        // qtdemux takes a track for a preview image, and hides it, if it lasts less than a fifth of the movie; and it ends
        // with the movie, whatever the tracks say. Without a duration it does neither.
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
            }
            if &handler == b"vide"
                && let Some(colr) = full_range(stsd.payload)
            {
                track.full_range = true;
                // qtdemux reads the flag of the range from the byte before it, so it would say limited range for certain;
                // without the box it leaves the question to the coded stream.
                self.patches.push((stsd_at + colr as u64, b"free".to_vec()));
            }
        }
        if matches!(&handler, b"vide" | b"soun")
            && let Some((lost, all)) = beyond(stbl.payload, length)
            && lost > 0
        {
            let what = if &handler == b"vide" { "frames" } else { "sound packets" };
            let words = format!("{lost} of {all} {what} lie behind the end of the file");
            self.cut = Some(self.cut.take().map_or(words.clone(), |before| format!("{before}, {words}")));
        }
        Ok(track)
    }
}

/// What is missing at the end of a file whose last box reaches past it.
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

/// By the matrix in a `tkhd` box, of which GStreamer's demuxer knows the turns alone: a picture's (x, y) is shown at
/// (ax + cy, bx + dy).
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

/// The start of an edit list of one edit that shows all of the media: a duration of 0 has no end in qtdemux.
fn open_ended(version: u8) -> Vec<u8> {
    let mut list = vec![version, 0, 0, 0, 0, 0, 0, 1];
    list.resize(8 + if version == 1 { 16 } else { 8 }, 0);
    list.extend(0x0001_0000u32.to_be_bytes());
    list
}

/// The colours that a `colr` box names.
fn colours(stsd: &[u8]) -> Option<[u8; 3]> {
    let entry = boxes(stsd.get(8..)?).ok()?.into_iter().next()?;
    let colr = descend(entry.payload.get(78..)?, &[b"colr"])?.payload;
    let named = colr.starts_with(b"nclx") || colr.starts_with(b"nclc");
    // Two bytes each, of which the first is 0.
    named.then_some([*colr.get(5)?, *colr.get(7)?, *colr.get(9)?])
}

/// Where the kind of the `colr` box is that says full range, counted from the start of the payload of `stsd`.
fn full_range(stsd: &[u8]) -> Option<usize> {
    // One entry, with 78 bytes of a visual sample entry before its boxes.
    let (entry, before) = (boxes(stsd.get(8..)?).ok()?.into_iter().next()?, 78);
    let colr = descend(entry.payload.get(before..)?, &[b"colr"])?;
    let full = colr.payload.starts_with(b"nclx") && colr.payload.get(10)? & 0x80 != 0;
    full.then_some(8 + entry.at + before + colr.at - 4)
}

/// Why nothing of an MP4 or MOV file can be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Cameras write the index last: the recording was cut off.
    NoIndex,
    /// The index comes first, and the file ends inside of it.
    IndexCut,
    /// A fragment of a stream without its first part, which says what it holds.
    NoStart,
    /// The pictures are encrypted.
    Encrypted,
}

/// Looks for what GStreamer's demuxer tells too late, too vaguely or, while streams are still being looked for, not at all.
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
