//! What GStreamer's muxer leaves out of a finished MP4 or MOV file, put into its index (`moov`): when and where it was
//! recorded, encoder priming that players must skip, a start later than zero. ISO/IEC 14496-12 box names.

use std::fs::File;
use std::io::{Error, Read, Result, Seek, SeekFrom, Write};

use super::boxes::{self, bad, child, descend, push_box, u32_at, u64_at};
use super::mp4_index::entries;

/// What to put in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Edits {
    /// Seconds since 1970.
    pub created: Option<i64>,
    /// Boxes for the movie's user data: where it was recorded.
    pub places: Vec<UserData>,
    /// When the first frame or packet of all streams is due, in nanoseconds; the muxer starts at zero.
    pub start: u64,
    /// Nanoseconds at the start of each track, in the muxer's order, that are decoded and not shown.
    pub priming: Vec<u64>,
    /// From the first frame to the end of the last one of the first track, in nanoseconds. The muxer adds up what lies
    /// between decoding times: with B-frames and a frame rate that falls, that ends before the last frames are shown.
    pub shown: u64,
}

/// A box of the movie's user data: kind and payload.
pub(crate) type UserData = ([u8; 4], Vec<u8>);

/// Boxes that say where a file was recorded: QuickTime's and 3GPP's.
const PLACES: [&[u8; 4]; 2] = [b"\xa9xyz", b"loci"];

/// The place as QuickTime's box, which players read in MP4 files as well: a string in ISO 6709 form
/// (`+37.7749-122.4194/`) with its length and language.
pub(crate) fn place(iso6709: &str) -> UserData {
    let length = u16::try_from(iso6709.len()).unwrap_or(0);
    let mut payload = length.to_be_bytes().to_vec();
    payload.extend(0x55c4u16.to_be_bytes()); // "und", five bits a letter
    payload.extend(&iso6709.as_bytes()[..length.into()]);
    (*PLACES[0], payload)
}

/// The boxes of an MP4 or MOV file that say where it was recorded; none if it is no such file.
pub(crate) fn places(file: &mut File) -> Vec<UserData> {
    let read = |file: &mut File| {
        let (at, size) = find_moov(file)?;
        let mut moov = vec![0; size];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut moov)?;
        let udta = boxes(&moov)?.first().and_then(|(_, payload)| child(payload, b"udta")).map(<[u8]>::to_vec);
        Ok::<_, Error>(udta.unwrap_or_default())
    };
    let udta = read(file).unwrap_or_default();
    let found = boxes(&udta).unwrap_or_default().into_iter().filter(|(kind, _)| PLACES.contains(&kind));
    found.map(|(kind, payload)| (kind, payload.to_vec())).collect()
}

/// Seconds from 1904, where these files count from, to 1970.
const EPOCH: i64 = 2_082_844_800;

/// Rewrites the index of a finished file. Everything but the index stays where it is.
///
/// # Errors
/// The file cannot be read or written, or its index is not at the end or not understood.
pub(crate) fn apply(file: &mut File, edits: &Edits) -> Result<()> {
    if *edits == Edits::default() {
        return Ok(());
    }
    let (at, size) = find_moov(file)?;
    let mut moov = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.read_to_end(&mut moov)?;
    let tail = moov.split_off(size);
    if boxes(&tail)?.iter().any(|(kind, _)| kind == b"mdat" || kind == b"moof") {
        return Err(bad("media data behind the index"));
    }
    let new = rewrite_moov(&moov, edits)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&new)?;
    file.write_all(&tail)?;
    let end = file.stream_position()?;
    file.set_len(end)
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

/// The boxes in `data`: kind and payload.
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

fn rewrite_moov(moov: &[u8], edits: &Edits) -> Result<Vec<u8>> {
    let (_, payload) = boxes(moov)?.into_iter().next().ok_or_else(|| bad("no index"))?;
    let movie = child(payload, b"mvhd").ok_or_else(|| bad("no mvhd"))?;
    let movie_scale = u32_at(movie, if movie[0] == 1 { 20 } else { 12 })?;
    let start = scaled(edits.start, movie_scale);
    let mut track = 0;
    let mut located = false;
    let mut body = map_children(payload, |kind, child| match kind {
        b"mvhd" => header(child, edits.created, start, scaled(edits.shown, movie_scale), 4),
        b"trak" => {
            let priming = edits.priming.get(track).copied().unwrap_or(0);
            let at_least = if track == 0 { scaled(edits.shown, movie_scale) } else { 0 };
            track += 1;
            rewrite_trak(child, edits, Skip { start, media: 0, shown: scaled(priming, movie_scale), at_least }, priming)
        }
        b"udta" => {
            located = true;
            let mut udta = child.to_vec();
            for (kind, payload) in &edits.places {
                push_box(&mut udta, kind, payload)?;
            }
            Ok(udta)
        }
        _ => Ok(child.to_vec()),
    })?;
    if !located && !edits.places.is_empty() {
        let mut udta = Vec::new();
        for (kind, payload) in &edits.places {
            push_box(&mut udta, kind, payload)?;
        }
        push_box(&mut body, b"udta", &udta)?;
    }
    set_durations(&mut body)?;
    let mut out = Vec::new();
    push_box(&mut out, b"moov", &body)?;
    Ok(out)
}

fn rewrite_trak(trak: &[u8], edits: &Edits, skip: Skip, priming: u64) -> Result<Vec<u8>> {
    let media = child(trak, b"mdia").and_then(|mdia| child(mdia, b"mdhd")).ok_or_else(|| bad("no mdhd"))?;
    let scale = u32_at(media, if media[0] == 1 { 20 } else { 12 })?;
    let edited = child(trak, b"edts").is_some();
    let skip = Skip { media: scaled(priming, scale), ..skip };
    if !edited && (skip.start > 0 || priming > 0) {
        return Err(bad("a track without an edit list"));
    }
    map_children(trak, |kind, payload| match kind {
        b"tkhd" => header(payload, edits.created, skip.start, skip.at_least, 8),
        b"mdia" => map_children(payload, |kind, payload| match kind {
            b"mdhd" => header(payload, edits.created, 0, 0, 4),
            _ => Ok(payload.to_vec()),
        }),
        b"edts" => map_children(payload, |kind, payload| match kind {
            b"elst" => rewrite_elst(payload, &skip),
            _ => Ok(payload.to_vec()),
        }),
        _ => Ok(payload.to_vec()),
    })
}

/// Makes every track as long as its edits, and the movie as long as the longest track. `moov` is the payload of the index.
fn set_durations(moov: &mut [u8]) -> Result<()> {
    let mut longest = 0;
    let mut writes = Vec::new();
    for trak in boxes::boxes(moov)?.into_iter().filter(|child| &child.kind == b"trak") {
        let Some(elst) = descend(trak.payload, &[b"edts", b"elst"]) else { return Ok(()) };
        let shown: u64 = entries(elst.payload)?.iter().map(|(duration, ..)| duration).sum();
        longest = longest.max(shown);
        let header = descend(trak.payload, &[b"tkhd"]).ok_or_else(|| bad("no tkhd"))?;
        let long = header.payload[0] == 1;
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

struct Skip {
    /// Nothing is shown for so long, in ticks of the movie.
    start: u64,
    /// So much is decoded and not shown, in ticks of the track...
    media: u64,
    /// ...and in ticks of the movie.
    shown: u64,
    /// What is shown lasts for at least so long, in ticks of the movie.
    at_least: u64,
}

/// An edit list of version 0 or 1, written as version 1.
fn rewrite_elst(elst: &[u8], skip: &Skip) -> Result<Vec<u8>> {
    let mut entries = entries(elst)?;
    if let Some(shown) = entries.iter_mut().find(|(_, time, _)| *time >= 0) {
        shown.0 = shown.0.saturating_sub(skip.shown).max(skip.at_least);
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

/// mvhd, tkhd or mdhd with its creation and modification time set, and its duration raised to `at_least` and then made
/// `longer`. `gap` is the number of bytes between those times and the duration: the timescale, or a track's number and a
/// reserved word.
fn header(payload: &[u8], created: Option<i64>, longer: u64, at_least: u64, gap: usize) -> Result<Vec<u8>> {
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
    if let Some(seconds) = created.and_then(|s| u64::try_from(s + EPOCH).ok()) {
        put(4, seconds)?;
        put(4 + width, seconds)?;
    }
    if longer > 0 || at_least > 0 {
        let duration: u64 = if long { u64_at(payload, duration_at)? } else { u32_at(payload, duration_at)?.into() };
        put(duration_at, duration.max(at_least) + longer)?;
    }
    Ok(out)
}

fn scaled(nanoseconds: u64, per_second: u32) -> u64 {
    let ticks = (u128::from(nanoseconds) * u128::from(per_second) + 500_000_000) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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
        let edits = Edits {
            created: Some(0),
            places: vec![place("+01.0000+002.0000/")],
            start: 500_000_000,
            priming: vec![21_333_333],
            shown: 0,
        };
        let new = rewrite_moov(&movie(), &edits).unwrap();
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
    fn duration_and_places_of_a_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\0\0\0\x0cftypisom").unwrap();
        let with_place = Edits { places: vec![place("+01.0000+002.0000/")], ..Edits::default() };
        file.write_all(&rewrite_moov(&movie(), &with_place).unwrap()).unwrap();
        assert_eq!(places(&mut file), with_place.places);
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(b"this is no such file at all").unwrap();
        assert_eq!(places(&mut other), Vec::new());
    }

    #[test]
    fn nothing_to_put_in_changes_nothing_and_damage_is_refused() {
        let same = rewrite_moov(&movie(), &Edits::default()).unwrap();
        assert_eq!(same.len(), movie().len() + 8, "only the edit list is wider");
        for path in [&[b"mvhd"][..], &[b"trak", b"tkhd"], &[b"trak", b"mdia", b"mdhd"]] {
            assert_eq!(get(&same, path), get(&movie(), path));
        }
        let mut broken = movie();
        broken[8] = 0xff;
        assert!(rewrite_moov(&broken, &Edits::default()).is_err());
        for length in 0..movie().len() {
            // Must return, not panic.
            let _ = rewrite_moov(&movie()[..length], &Edits { created: Some(1), ..Edits::default() });
        }
    }
}
