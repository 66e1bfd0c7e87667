//! Metadata of an MP4 or MOV file: user data, QuickTime metadata keys, track names, chapters, time code.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use super::boxes::{self, Child, bad, boxes, child, descend, push_box, scale_and_duration, u32_at, u64_at};
use super::copied::Copied;
use crate::gst::metadata::{Chapter, Metadata, Original, TrackKind, TrackMetadata};

/// Seconds from 1904, the epoch of these files, to 1970.
pub(crate) const EPOCH: i64 = 2_082_844_800;

/// Boxes to copy unchanged to an output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Boxes {
    /// Payload of the movie's `udta` box; empty if missing.
    pub udta: Vec<u8>,
    /// Payload of the movie's `meta` box; empty if missing.
    pub meta: Vec<u8>,
    /// Tracks that GStreamer's muxers cannot write: time codes, telemetry, text with styles.
    pub tracks: Vec<Copied>,
    /// References of the first video track to other tracks: type and track numbers.
    pub references: Vec<([u8; 4], Vec<u32>)>,
}

/// Tags in user data (the letters after `©`, or the box type) and their ffmpeg names.
const NAMES: [(&[u8; 4], &str); 17] = [
    (b"\xa9nam", "title"),
    (b"\xa9ART", "artist"),
    (b"aART", "album_artist"),
    (b"\xa9alb", "album"),
    (b"\xa9cmt", "comment"),
    (b"\xa9des", "description"),
    (b"desc", "description"),
    (b"ldes", "synopsis"),
    (b"\xa9day", "date"),
    (b"\xa9gen", "genre"),
    (b"\xa9wrt", "composer"),
    (b"\xa9cpy", "copyright"),
    (b"cprt", "copyright"),
    (b"\xa9mak", "make"),
    (b"\xa9mod", "model"),
    (b"\xa9xyz", "location"),
    (b"\xa9grp", "grouping"),
];

/// # Errors
/// Not an MP4 or MOV file, or its index is missing, truncated or cannot be parsed.
pub(crate) fn read(file: &mut File) -> Result<Metadata> {
    let length = file.metadata()?.len();
    let tops = boxes::top_boxes(file)?;
    let place = tops.iter().find(|top| &top.kind == b"moov").ok_or_else(|| bad("no index"))?;
    if place.at + place.size > length {
        return Err(bad("an index that is cut off"));
    }
    let mut moov = vec![0; usize::try_from(place.size - place.head).map_err(|_| bad("too large"))?];
    file.seek(SeekFrom::Start(place.at + place.head))?;
    file.read_exact(&mut moov)?;
    parse(&moov, length, file)
}

fn parse(moov: &[u8], length: u64, file: &mut File) -> Result<Metadata> {
    let movie = child(moov, b"mvhd").ok_or_else(|| bad("no mvhd"))?;
    let (movie_scale, ..) = scale_and_duration(movie)?;
    let seconds = if movie[0] == 1 { u64_at(movie, 4)? } else { u32_at(movie, 4)?.into() };
    let mut metadata = Metadata {
        // Cameras without a clock write 0.
        created: i64::try_from(seconds).ok().map(|seconds| seconds - EPOCH).filter(|seconds| *seconds >= 0),
        ..Metadata::default()
    };
    let mut original = Boxes {
        udta: child(moov, b"udta").map(<[u8]>::to_vec).unwrap_or_default(),
        meta: child(moov, b"meta").map(<[u8]>::to_vec).unwrap_or_default(),
        ..Boxes::default()
    };
    user_data(&original.udta, &mut metadata);
    keys(&original.meta, &mut metadata);
    let traks: Vec<Child<'_>> = boxes(moov)?.into_iter().filter(|child| &child.kind == b"trak").collect();
    let mut chapter_tracks = Vec::new();
    for trak in &traks {
        let Ok(track) = track(trak.payload) else { continue };
        if track.kind == TrackKind::Video && original.references.is_empty() {
            original.references = references(trak.payload);
        }
        for (kind, numbers) in references(trak.payload) {
            if &kind == b"chap" {
                chapter_tracks.extend(numbers);
            }
        }
        if matches!(track.kind, TrackKind::Text | TrackKind::Other)
            && let Some(copied) = Copied::of(trak.payload, movie_scale, length)
        {
            if &copied.handler == b"tmcd" && metadata.timecode.is_none() {
                metadata.timecode = copied.timecode(file);
            }
            original.tracks.push(copied);
        }
        metadata.tracks.push(track);
    }
    if metadata.chapters.is_empty()
        && let Some(copied) = original.tracks.iter().find(|track| chapter_tracks.contains(&track.id))
    {
        metadata.chapters = copied.chapters(file);
    }
    metadata.original = Original::Mp4(original);
    Ok(metadata)
}

fn track(trak: &[u8]) -> Result<TrackMetadata> {
    let header = child(trak, b"tkhd").ok_or_else(|| bad("no tkhd"))?;
    let id = u32_at(header, if header[0] == 1 { 20 } else { 12 })?;
    let handler = descend(trak, &[b"mdia", b"hdlr"]).ok_or_else(|| bad("no hdlr"))?;
    let coding = descend(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]).and_then(|stsd| stsd.payload.get(12..16));
    Ok(TrackMetadata {
        id: id.into(),
        kind: match handler.payload.get(8..12) {
            Some(b"vide") => TrackKind::Video,
            Some(b"soun") => TrackKind::Audio,
            Some(b"text" | b"sbtl" | b"subt" | b"subp" | b"clcp") => TrackKind::Text,
            _ => TrackKind::Other,
        },
        coding: String::from_utf8_lossy(coding.unwrap_or_default()).into_owned(),
        name: handler_name(handler.payload),
        default: header.get(3).is_some_and(|flags| flags & 1 == 1),
        still: descend(trak, &[b"mdia", b"minf", b"stbl", b"stsz"])
            .is_some_and(|stsz| u32_at(stsz.payload, 8).is_ok_and(|count| count == 1)),
        udta: child(trak, b"udta").map(<[u8]>::to_vec).unwrap_or_default(),
        ..TrackMetadata::default()
    })
}

/// The name of a track, which programs and cameras set more often than users.
fn handler_name(handler: &[u8]) -> Option<String> {
    let mut name = handler.get(24..)?;
    // QuickTime has a length byte first.
    if name.first().is_some_and(|count| usize::from(*count) + 1 == name.len() && *count > 0) {
        name = &name[1..];
    }
    let name = String::from_utf8_lossy(name).trim_matches(['\0', ' ']).to_owned();
    (!name.is_empty()).then_some(name)
}

fn references(trak: &[u8]) -> Vec<([u8; 4], Vec<u32>)> {
    let Some(tref) = child(trak, b"tref") else { return Vec::new() };
    let numbers = |data: &[u8]| data.chunks_exact(4).filter_map(|number| u32_at(number, 0).ok()).collect();
    boxes(tref).unwrap_or_default().into_iter().map(|kind| (kind.kind, numbers(kind.payload))).collect()
}

fn put(metadata: &mut Metadata, name: &str, value: String) {
    if !value.is_empty() && metadata.tag(name).is_none() {
        metadata.tags.push((name.to_owned(), value));
    }
}

fn user_data(udta: &[u8], metadata: &mut Metadata) {
    for item in boxes(udta).unwrap_or_default() {
        if let Some((_, name)) = NAMES.iter().find(|(kind, _)| **kind == item.kind) {
            // Two bytes of length and a language come first; 3GPP boxes have a version before them.
            let long = item.payload.get(..2).map_or(0, |n| usize::from(n[0]) << 8 | usize::from(n[1]));
            if let Some(text) = item.payload.get(4..4 + long).filter(|_| long > 0) {
                put(metadata, name, String::from_utf8_lossy(text).trim_matches('\0').to_owned());
            }
        }
        match &item.kind {
            b"meta" => keys(item.payload, metadata),
            b"loci" => put(metadata, "location", located(item.payload).unwrap_or_default()),
            b"chpl" => metadata.chapters = listed_chapters(item.payload).unwrap_or_default(),
            _ => {}
        }
    }
}

/// The location of 3GPP (TS 26.244, 8.5), in ISO 6709 form.
fn located(loci: &[u8]) -> Option<String> {
    // Version, language, a null-terminated name, a role; then longitude and latitude in 16.16.
    let name = loci.get(6..)?.iter().position(|byte| *byte == 0)?;
    let degrees = |at: usize| Some(f64::from(u32_at(loci, at).ok()? as i32) / 65_536.0);
    let at = 6 + name + 2;
    Some(format!("{:+08.4}{:+09.4}/", degrees(at + 4)?, degrees(at)?))
}

/// The children of a `meta` box, which follow a version in ISO files, but not in QuickTime files.
fn of_meta(meta: &[u8]) -> &[u8] {
    if meta.get(4..8) == Some(b"hdlr") { meta } else { meta.get(4..).unwrap_or_default() }
}

/// Reads metadata items by box type, or by QuickTime's keys.
fn keys(meta: &[u8], metadata: &mut Metadata) {
    let meta = of_meta(meta);
    let mut names = Vec::new();
    if let Some(keys) = child(meta, b"keys") {
        for key in boxes(keys.get(8..).unwrap_or_default()).unwrap_or_default() {
            names.push(String::from_utf8_lossy(key.payload).to_lowercase());
        }
    }
    let Some(list) = child(meta, b"ilst") else { return };
    for item in boxes(list).unwrap_or_default() {
        let Some(data) = child(item.payload, b"data").filter(|data| data.get(..4) == Some(&[0, 0, 0, 1])) else {
            continue;
        };
        let value = String::from_utf8_lossy(data.get(8..).unwrap_or_default()).into_owned();
        let index = u32::from_be_bytes(item.kind) as usize;
        let key = index.checked_sub(1).and_then(|index| names.get(index)).map(String::as_str);
        let known = NAMES.iter().find(|(kind, _)| **kind == item.kind).map(|(_, name)| *name);
        if let Some(name) = key.or(known) {
            put(metadata, name, value);
        }
    }
}

/// Nero's chapter list: starts in units of 100 ns, titles with their length.
fn listed_chapters(chpl: &[u8]) -> Option<Vec<Chapter>> {
    let mut at = if *chpl.first()? == 0 { 4 } else { 8 };
    let count = *chpl.get(at)?;
    at += 1;
    let mut chapters = Vec::new();
    for _ in 0..count {
        let start = u64_at(chpl, at).ok()?.checked_mul(100)?;
        let length = usize::from(*chpl.get(at + 8)?);
        let title = String::from_utf8_lossy(chpl.get(at + 9..at + 9 + length)?).into_owned();
        chapters.push(Chapter { start, end: None, title });
        at += 9 + length;
    }
    Some(chapters)
}

/// The user data of the movie: that of the input, or built from its tags. `quicktime`: the file is a MOV.
pub(super) fn user_data_of(metadata: &Metadata) -> Result<Vec<u8>> {
    let mut udta = Vec::new();
    if let Original::Mp4(original) = &metadata.original {
        for item in boxes(&original.udta)? {
            match &item.kind {
                b"meta" => push_box(&mut udta, b"meta", &without_program(item.payload)?)?,
                b"\xa9swr" | b"\xa9too" => {}
                _ => push_box(&mut udta, &item.kind, item.payload)?,
            }
        }
        return Ok(udta);
    }
    let mut items = Vec::new();
    for (name, value) in &metadata.tags {
        let known = NAMES.iter().find(|(kind, known)| known == name && (kind[0] == 0xa9 || name != "description"));
        match known {
            Some((kind, _)) if name == "location" => push_box(&mut udta, kind, &place(value))?,
            Some((kind, _)) => {
                let kind: &[u8; 4] = if name == "description" { b"desc" } else { kind };
                push_box(&mut items, kind, &data(value)?)?;
            }
            None => {}
        }
    }
    if !items.is_empty() {
        let mut meta = vec![0; 4];
        push_box(&mut meta, b"hdlr", b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0")?;
        push_box(&mut meta, b"ilst", &items)?;
        push_box(&mut udta, b"meta", &meta)?;
    }
    if !metadata.chapters.is_empty() {
        push_box(&mut udta, b"chpl", &chapter_list(&metadata.chapters))?;
    }
    Ok(udta)
}

/// QuickTime's metadata keys: those of the input, or the tags that user data cannot hold.
pub(super) fn keys_of(metadata: &Metadata) -> Result<Vec<u8>> {
    if let Original::Mp4(original) = &metadata.original {
        return Ok(original.meta.clone());
    }
    let other = metadata.tags.iter().filter(|(name, _)| !NAMES.iter().any(|(_, known)| known == name));
    let (mut names, mut items, mut count) = (Vec::new(), Vec::new(), 0u32);
    for (name, value) in other {
        count += 1;
        push_box(&mut names, b"mdta", name.as_bytes())?;
        push_box(&mut items, &count.to_be_bytes(), &data(value)?)?;
    }
    let mut meta = Vec::new();
    if count > 0 {
        let mut keys = vec![0; 4];
        keys.extend(count.to_be_bytes());
        keys.extend(names);
        push_box(&mut meta, b"hdlr", b"\0\0\0\0\0\0\0\0mdta\0\0\0\0\0\0\0\0\0\0\0\0\0")?;
        push_box(&mut meta, b"keys", &keys)?;
        push_box(&mut meta, b"ilst", &items)?;
    }
    Ok(meta)
}

/// `meta` without the name of the program that wrote the input.
fn without_program(meta: &[u8]) -> Result<Vec<u8>> {
    let children = of_meta(meta);
    let mut out = meta[..meta.len() - children.len()].to_vec();
    for item in boxes(children)? {
        if &item.kind == b"ilst" {
            let mut list = Vec::new();
            for entry in boxes(item.payload)?.into_iter().filter(|entry| &entry.kind != b"\xa9too") {
                push_box(&mut list, &entry.kind, entry.payload)?;
            }
            push_box(&mut out, b"ilst", &list)?;
        } else {
            push_box(&mut out, &item.kind, item.payload)?;
        }
    }
    Ok(out)
}

fn data(value: &str) -> Result<Vec<u8>> {
    let mut payload = vec![0, 0, 0, 1, 0, 0, 0, 0];
    payload.extend(value.as_bytes());
    let mut out = Vec::new();
    push_box(&mut out, b"data", &payload)?;
    Ok(out)
}

/// A QuickTime text item with its length and language, which players also read in MP4 files.
fn place(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(0);
    let mut payload = length.to_be_bytes().to_vec();
    payload.extend(0x55c4u16.to_be_bytes()); // "und", five bits a letter
    payload.extend(&text.as_bytes()[..length.into()]);
    payload
}

fn chapter_list(chapters: &[Chapter]) -> Vec<u8> {
    let chapters = &chapters[..chapters.len().min(255)];
    let mut out = vec![1, 0, 0, 0, 0, 0, 0, 0, chapters.len() as u8];
    for chapter in chapters {
        let mut end = chapter.title.len().min(255);
        while !chapter.title.is_char_boundary(end) {
            end -= 1;
        }
        out.extend((chapter.start / 100).to_be_bytes());
        out.push(end as u8);
        out.extend(&chapter.title.as_bytes()[..end]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_chapters_make_user_data_and_come_back() {
        let tags = [("title", "Fahrt über"), ("location", "+01.0+002.0/"), ("comment", "x"), ("colour", "red")];
        let metadata = Metadata {
            tags: tags.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            chapters: vec![Chapter { start: 1_000_000_000, end: None, title: "Brücke".to_owned() }],
            ..Metadata::default()
        };
        let mut back = Metadata::default();
        user_data(&user_data_of(&metadata).unwrap(), &mut back);
        keys(&keys_of(&metadata).unwrap(), &mut back);
        assert_eq!(back.chapters, metadata.chapters);
        for (name, value) in tags {
            assert_eq!(back.tag(name), Some(value));
        }
    }
}
