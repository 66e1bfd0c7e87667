//! Completes the index (`moov`) of an MP4 or MOV file finished by GStreamer's muxer: time and location of the
//! recording, encoder priming to skip, a start later than zero. Box names are those of ISO/IEC 14496-12.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::path::Path;

use super::boxes::{self, bad, child, descend, push_box, u32_at, u64_at};
use super::copied::{Copied, replaced};
use super::headers::{Skip, correct_opus, handler, header, rewrite_elst, scaled, with_light};
use super::index::entries;
use super::metadata::{keys_of, user_data_of};
use crate::gst::hdr::Light;
use crate::gst::metadata::{Metadata, Original, TrackEdits, TrackMetadata};

/// The changes to a finished file.
#[derive(Debug, Clone)]
pub(crate) struct Edits<'a> {
    /// The metadata of the input.
    pub metadata: &'a Metadata,
    /// Write names as QuickTime does.
    pub quicktime: bool,
    /// Running time of the first frame or packet of all streams, in nanoseconds; the muxer starts at zero.
    pub start: u64,
    /// Time from the start of the first frame to the end of the last one of the first track, in nanoseconds. The muxer
    /// adds up the differences of decoding times: with B-frames and a falling frame rate, that sum ends before the last
    /// frames.
    pub shown: u64,
    /// The tracks in the muxer's order.
    pub tracks: Vec<TrackEdits>,
    /// The static HDR metadata of the first track.
    pub light: Light,
    /// The input, if tracks unknown to GStreamer are to be copied from it.
    pub copy_from: Option<&'a Path>,
}

impl Edits<'_> {
    fn source_of(&self, track: usize) -> Option<&TrackMetadata> {
        self.metadata.track(self.tracks.get(track)?.source?)
    }

    /// The tracks copied from the input.
    fn copied(&self) -> &[Copied] {
        match &self.metadata.original {
            Original::Mp4(original) if self.copy_from.is_some() => &original.tracks,
            _ => &[],
        }
    }

    /// Whether a track is enabled by default: one flagged in the input, or the first one if none is.
    fn is_default(&self, track: usize) -> bool {
        let Some(own) = self.source_of(track) else { return true };
        let same = |other: &usize| self.source_of(*other).is_some_and(|other| other.kind == own.kind);
        let mut marked = (0..self.tracks.len())
            .filter(same)
            .filter(|other| self.source_of(*other).is_some_and(|other| other.default));
        own.default || (marked.next().is_none() && (0..self.tracks.len()).find(same) == Some(track))
    }
}

/// Rewrites the index of a finished file, preceded by the samples copied from the input. Everything else keeps its
/// offset.
///
/// # Errors
/// A file cannot be read or written, or the index is not at the end or cannot be parsed.
pub(crate) fn apply(file: &mut File, edits: &Edits) -> Result<()> {
    let (at, size) = find_moov(file)?;
    let mut moov = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.read_to_end(&mut moov)?;
    let tail = moov.split_off(size);
    if boxes(&tail)?.iter().any(|(kind, _)| kind == b"mdat" || kind == b"moof") {
        return Err(bad("media data behind the index"));
    }
    // A complete trial before the file is changed: an error leaves it as it is.
    rewrite_moov(&moov, edits, &[])?;
    file.seek(SeekFrom::Start(at))?;
    let places = copy_samples(file, edits).and_then(|places| rewrite_moov(&moov, edits, &places));
    let new = match &places {
        Ok(new) => new,
        Err(_) => {
            file.seek(SeekFrom::Start(at))?;
            &moov
        }
    };
    file.write_all(new)?;
    file.write_all(&tail)?;
    let end = file.stream_position()?;
    file.set_len(end)?;
    places.map(|_| ())
}

/// Appends the samples of copied tracks in an `mdat` box. Returns the offset of each sample.
fn copy_samples(file: &mut File, edits: &Edits) -> Result<Vec<Vec<u64>>> {
    let copied = edits.copied();
    let (Some(path), false) = (edits.copy_from, copied.is_empty()) else { return Ok(Vec::new()) };
    let mut source = File::open(path)?;
    let size = 16 + copied.iter().map(Copied::size).sum::<u64>();
    file.write_all(&[0, 0, 0, 1, b'm', b'd', b'a', b't'])?;
    file.write_all(&size.to_be_bytes())?;
    copied.iter().map(|track| track.write_samples(&mut source, file)).collect()
}

/// Position and size of the `moov` box.
fn find_moov(file: &mut File) -> Result<(u64, usize)> {
    let length = file.metadata()?.len();
    let tops = boxes::top_boxes(file)?;
    let moov = tops.iter().find(|top| &top.kind == b"moov").ok_or_else(|| bad("no index"))?;
    if moov.at + moov.size > length {
        return Err(bad("an index that is cut off"));
    }
    // The index of a day of video is some tens of megabytes.
    usize::try_from(moov.size).map(|size| (moov.at, size)).map_err(|_| bad("too large"))
}

type Box4<'a> = ([u8; 4], &'a [u8]);

/// The boxes in `data`: type and payload.
fn boxes(data: &[u8]) -> Result<Vec<Box4<'_>>> {
    Ok(boxes::boxes(data)?.into_iter().map(|child| (child.kind, child.payload)).collect())
}

/// Rebuilds a box from its children, each through `change`.
fn map_children(payload: &[u8], mut change: impl FnMut(&[u8; 4], &[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    for (kind, child) in boxes(payload)? {
        push_box(&mut out, &kind, &change(&kind, child)?)?;
    }
    Ok(out)
}

/// `places`: offsets of the samples of copied tracks; tracks without offsets are left out.
fn rewrite_moov(moov: &[u8], edits: &Edits, places: &[Vec<u64>]) -> Result<Vec<u8>> {
    let (_, payload) = boxes(moov)?.into_iter().next().ok_or_else(|| bad("no index"))?;
    let movie = child(payload, b"mvhd").ok_or_else(|| bad("no mvhd"))?;
    let movie_scale = u32_at(movie, if movie[0] == 1 { 20 } else { 12 })?;
    let start = scaled(edits.start, movie_scale);
    let shown = scaled(edits.shown, movie_scale);
    let mut numbers = Vec::new();
    for trak in boxes(payload)?.iter().filter(|(kind, _)| kind == b"trak") {
        let header = child(trak.1, b"tkhd").ok_or_else(|| bad("no tkhd"))?;
        numbers.push(u32_at(header, if header[0] == 1 { 20 } else { 12 })?);
    }
    let next = numbers.iter().max().map_or(1, |number| number + 1);
    let number_of = |source: u32| {
        let muxed = edits.tracks.iter().position(|track| track.source == Some(source.into()));
        let copied = || edits.copied().iter().take(places.len()).position(|track| track.id == source);
        muxed.and_then(|track| numbers.get(track).copied()).or_else(|| Some(next + copied()? as u32))
    };
    let (mut body, mut track) = (Vec::new(), 0);
    for (kind, child) in boxes(payload)? {
        match &kind {
            b"mvhd" => {
                let mut new = header(child, edits.metadata.created, start, shown, 4)?;
                if let Some(at) = new.len().checked_sub(4) {
                    new[at..].copy_from_slice(&(next + places.len() as u32).to_be_bytes());
                }
                push_box(&mut body, &kind, &new)?;
            }
            b"trak" => {
                let TrackEdits { priming, heard, .. } = edits.tracks.get(track).copied().unwrap_or_default();
                let at_least = if track == 0 { shown } else { 0 };
                let at_most = heard.map(|heard| scaled(heard, movie_scale));
                let skip = Skip { start, media: 0, shown: scaled(priming, movie_scale), at_least, at_most };
                // A stream without packets has no sample description, and players would refuse the file.
                if has_description(child) {
                    let mut new = rewrite_trak(child, edits, track, skip, priming)?;
                    correct_opus(&mut new);
                    if track == 0 {
                        if !edits.light.is_empty() {
                            let path: [&[u8; 4]; 4] = [b"mdia", b"minf", b"stbl", b"stsd"];
                            new = replaced(&new, &path, &|stsd| with_light(stsd, &edits.light))?;
                        }
                        push_references(&mut new, edits, &number_of)?;
                    }
                    push_box(&mut body, &kind, &new)?;
                }
                track += 1;
            }
            b"udta" | b"meta" => {}
            _ => push_box(&mut body, &kind, child)?,
        }
    }
    for (index, (copied, places)) in edits.copied().iter().zip(places).enumerate() {
        push_box(&mut body, b"trak", &copied.trak(next + index as u32, movie_scale, places, &number_of)?)?;
    }
    for (kind, payload) in [(b"udta", user_data_of(edits.metadata)?), (b"meta", keys_of(edits.metadata)?)] {
        if !payload.is_empty() {
            push_box(&mut body, kind, &payload)?;
        }
    }
    set_durations(&mut body)?;
    let mut out = Vec::new();
    push_box(&mut out, b"moov", &body)?;
    Ok(out)
}

fn has_description(trak: &[u8]) -> bool {
    let stsd = descend(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]);
    stsd.is_none_or(|stsd| u32_at(stsd.payload, 4).is_ok_and(|count| count > 0))
}

/// Adds the references of the video track: its time code, its chapters.
fn push_references(trak: &mut Vec<u8>, edits: &Edits, number_of: &dyn Fn(u32) -> Option<u32>) -> Result<()> {
    let Original::Mp4(original) = &edits.metadata.original else { return Ok(()) };
    let mut kinds = Vec::new();
    for (kind, sources) in &original.references {
        let numbers: Vec<u8> =
            sources.iter().filter_map(|source| number_of(*source)).flat_map(u32::to_be_bytes).collect();
        if !numbers.is_empty() {
            push_box(&mut kinds, kind, &numbers)?;
        }
    }
    if kinds.is_empty() { Ok(()) } else { push_box(trak, b"tref", &kinds) }
}

fn rewrite_trak(trak: &[u8], edits: &Edits, track: usize, skip: Skip, priming: u64) -> Result<Vec<u8>> {
    let media = child(trak, b"mdia").and_then(|mdia| child(mdia, b"mdhd")).ok_or_else(|| bad("no mdhd"))?;
    let scale = u32_at(media, if media[0] == 1 { 20 } else { 12 })?;
    let edited = child(trak, b"edts").is_some();
    let skip = Skip { media: scaled(priming, scale), ..skip };
    if !edited && (skip.start > 0 || priming > 0) {
        return Err(bad("a track without an edit list"));
    }
    let (created, source) = (edits.metadata.created, edits.source_of(track));
    let mut new = map_children(trak, |kind, payload| match kind {
        b"tkhd" => {
            let mut new = header(payload, created, skip.start, skip.at_least, 8)?;
            if !edits.is_default(track) {
                new[3] &= !1;
            }
            Ok(new)
        }
        b"mdia" => {
            map_children(payload, |kind, payload| match (kind, source.and_then(|source| source.name.as_ref())) {
                (b"mdhd", _) => header(payload, created, 0, 0, 4),
                (b"hdlr", Some(name)) => Ok(handler(payload, name, edits.quicktime)),
                _ => Ok(payload.to_vec()),
            })
        }
        b"edts" => map_children(payload, |kind, payload| match kind {
            b"elst" => rewrite_elst(payload, &skip),
            _ => Ok(payload.to_vec()),
        }),
        _ => Ok(payload.to_vec()),
    })?;
    if let Some(udta) =
        source.map(|source| &source.udta).filter(|udta| !udta.is_empty() && child(trak, b"udta").is_none())
    {
        push_box(&mut new, b"udta", udta)?;
    }
    Ok(new)
}

/// Sets the duration of each track to the sum of its edits, and that of the movie to the longest one. `moov` is the
/// payload of the index.
fn set_durations(moov: &mut [u8]) -> Result<()> {
    let mut longest = 0;
    let mut writes = Vec::new();
    for trak in boxes::boxes(moov)?.into_iter().filter(|child| &child.kind == b"trak") {
        let header = descend(trak.payload, &[b"tkhd"]).ok_or_else(|| bad("no tkhd"))?;
        let long = header.payload[0] == 1;
        let Some(elst) = descend(trak.payload, &[b"edts", b"elst"]) else {
            longest = longest.max(if long { u64_at(header.payload, 28)? } else { u32_at(header.payload, 20)?.into() });
            continue;
        };
        let shown: u64 = entries(elst.payload)?.iter().map(|(duration, ..)| duration).sum();
        longest = longest.max(shown);
        writes.push((trak.at + header.at + if long { 28 } else { 20 }, long, shown));
    }
    let movie = descend(moov, &[b"mvhd"]).ok_or_else(|| bad("no mvhd"))?;
    let long = movie.payload[0] == 1;
    writes.push((movie.at + if long { 24 } else { 16 }, long, longest));
    for (at, long, value) in writes.into_iter().filter(|(_, _, value)| *value > 0) {
        let bytes = if long {
            value.to_be_bytes().to_vec()
        } else {
            u32::try_from(value).map_err(|_| bad("a duration of more than 32 bits"))?.to_be_bytes().to_vec()
        };
        moov.get_mut(at..at + bytes.len()).ok_or_else(|| bad("a short header"))?.copy_from_slice(&bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::metadata::EPOCH;
    use super::*;

    /// A movie of one track: 1000 ticks a second in the movie, 48000 in the track, one edit of two seconds.
    fn movie() -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        let nest = |kind: &[u8; 4], children: &[(&[u8; 4], Vec<u8>)]| {
            let mut payload = Vec::new();
            for (kind, child) in children {
                push_box(&mut payload, kind, child).unwrap();
            }
            let mut out = Vec::new();
            push_box(&mut out, kind, &payload).unwrap();
            out
        };
        let elst = nest(b"edts", &[(b"elst", words(&[0, 1, 2000, 0, 0x0001_0000]))]);
        let mdia = nest(b"mdia", &[(b"mdhd", words(&[0, 1, 1, 48_000, 96_000, 0]))]);
        let mut trak = Vec::new();
        push_box(&mut trak, b"tkhd", &words(&[0, 1, 1, 1, 0, 2000, 0])).unwrap();
        trak.extend(elst);
        trak.extend(mdia);
        nest(b"moov", &[(b"mvhd", words(&[0, 1, 1, 1000, 2000, 0])), (b"trak", trak)])
    }

    fn get<'a>(moov: &'a [u8], path: &[&[u8; 4]]) -> &'a [u8] {
        path.iter().fold(&moov[8..], |payload, kind| child(payload, kind).unwrap())
    }

    #[test]
    fn times_place_priming_and_start() {
        let metadata = Metadata {
            created: Some(0),
            tags: vec![("location".to_owned(), "+01.0000+002.0000/".to_owned())],
            ..Metadata::default()
        };
        let edits = Edits {
            metadata: &metadata,
            quicktime: false,
            start: 500_000_000,
            shown: 0,
            tracks: vec![TrackEdits { source: None, priming: 21_333_333, heard: None }],
            light: Light::default(),
            copy_from: None,
        };
        let new = rewrite_moov(&movie(), &edits, &[]).unwrap();
        assert_eq!(u32_at(&new, 0).unwrap() as usize, new.len());
        let (mvhd, tkhd) = (get(&new, &[b"mvhd"]), get(&new, &[b"trak", b"tkhd"]));
        assert_eq!((u32_at(mvhd, 4).unwrap(), u32_at(mvhd, 16).unwrap()), (EPOCH as u32, 2479));
        // The sum of its edits (ISO/IEC 14496-12, 8.3.2): the start, and the two seconds less the priming.
        assert_eq!((u32_at(tkhd, 4).unwrap(), u32_at(tkhd, 20).unwrap()), (EPOCH as u32, 2479));
        let mdhd = get(&new, &[b"trak", b"mdia", b"mdhd"]);
        assert_eq!((u32_at(mdhd, 8).unwrap(), u32_at(mdhd, 16).unwrap()), (EPOCH as u32, 96_000));
        let elst = get(&new, &[b"trak", b"edts", b"elst"]);
        assert_eq!(u32_at(elst, 4).unwrap(), 2);
        assert_eq!((u64_at(elst, 8).unwrap(), u64_at(elst, 16).unwrap() as i64), (500, -1));
        assert_eq!((u64_at(elst, 28).unwrap(), u64_at(elst, 36).unwrap()), (1979, 1024));
        assert!(get(&new, &[b"udta", b"\xa9xyz"]).ends_with(b"+01.0000+002.0000/"));
    }

    #[test]
    fn an_unknown_date_is_none_and_damage_is_refused() {
        let metadata = Metadata::default();
        let edits = Edits { metadata: &metadata, ..plain() };
        let same = rewrite_moov(&movie(), &edits, &[]).unwrap();
        assert_eq!(same.len(), movie().len() + 8, "only the edit list is wider");
        assert_eq!(
            (u32_at(get(&same, &[b"mvhd"]), 4).unwrap(), u32_at(get(&same, &[b"mvhd"]), 16).unwrap()),
            (0, 2000)
        );
        let mut broken = movie();
        broken[8] = 0xff;
        assert!(rewrite_moov(&broken, &edits, &[]).is_err());
        for length in 0..movie().len() {
            // Must return, not panic.
            let _ = rewrite_moov(&movie()[..length], &edits, &[]);
        }
    }

    #[test]
    fn a_track_without_a_description_is_left_out() {
        let metadata = Metadata::default();
        let mut moov = movie();
        let mut nested = Vec::new();
        push_box(&mut nested, b"stsd", &[0; 8]).unwrap();
        for kind in [b"stbl", b"minf", b"mdia"] {
            let mut outer = Vec::new();
            push_box(&mut outer, kind, &nested).unwrap();
            nested = outer;
        }
        let mut trak = Vec::new();
        push_box(&mut trak, b"tkhd", &[0; 28]).unwrap();
        trak.extend(nested);
        push_box(&mut moov, b"trak", &trak).unwrap();
        let size = moov.len() as u32;
        moov[..4].copy_from_slice(&size.to_be_bytes());
        let new = rewrite_moov(&moov, &Edits { metadata: &metadata, ..plain() }, &[]).unwrap();
        assert_eq!(boxes(&new[8..]).unwrap().iter().filter(|(kind, _)| kind == b"trak").count(), 1);
    }

    fn plain() -> Edits<'static> {
        static NOTHING: std::sync::OnceLock<Metadata> = std::sync::OnceLock::new();
        let metadata = NOTHING.get_or_init(Metadata::default);
        Edits {
            metadata,
            quicktime: false,
            start: 0,
            shown: 0,
            tracks: Vec::new(),
            light: Light::default(),
            copy_from: None,
        }
    }
}
