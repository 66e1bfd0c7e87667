//! Completes and corrects the head and the end of a Matroska file finished by GStreamer's muxer.
//!
//! The head (seek head, information, tracks) is rewritten within its length: the muxer is given a long name of the
//! writing application, which reserves space. Tags, chapters and attachments follow the cues, where the muxer writes
//! its tags.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};

use super::ebml::{self, Element, child, elements, push, push_text, push_uint, push_void};
use super::metadata::{
    ATOM, ATOM_DISPLAY, ATOM_END, ATOM_START, ATOM_UID, CODEC_DELAY, CODEC_ID, COLOUR, DATE, DISPLAY_LANGUAGE,
    DISPLAY_TEXT, DURATION, EDITION, EPOCH, FLAG_DEFAULT, FLAG_FORCED, LUMINANCE_MAX, LUMINANCE_MIN, MASTERING, NAME,
    SIMPLE_TAG, TAG, TAG_NAME, TAG_STRING, TARGET_TRACK, TARGETS, TITLE, TRACK_ENTRY, TRACK_NUMBER, TRACK_UID, VIDEO,
    WRITING_APP,
};
use crate::gst::hdr::Light;
use crate::gst::metadata::{Metadata, Original, TrackEdits};

/// The changes to a finished file.
#[derive(Debug, Clone)]
pub(crate) struct Edits<'a> {
    pub metadata: &'a Metadata,
    pub program: &'a str,
    /// End of the last frame or packet in nanoseconds: the muxer takes the start off.
    pub end: u64,
    /// The tracks in the muxer's order.
    pub tracks: Vec<TrackEdits>,
    /// The static HDR metadata of the video.
    pub light: Light,
}

/// Bytes that the head needs in addition to the muxer's output.
pub(crate) fn room(metadata: &Metadata) -> usize {
    let tracks: usize =
        metadata.tracks.iter().map(|t| t.elements.len() + t.name.as_ref().map_or(0, String::len) + 64).sum();
    400 + tracks + metadata.tag("title").map_or(0, str::len)
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// Rewrites head and end of a finished file. The clusters keep their offsets.
///
/// # Errors
/// The file cannot be read or written, or its structure is not that of the muxer's output.
pub(crate) fn apply(file: &mut File, edits: &Edits) -> Result<()> {
    let mut tops = Vec::new();
    let first = ebml::header(file, 0)?.ok_or_else(|| bad("no header"))?;
    let segment_at = first.length + first.size.ok_or_else(|| bad("a header without a length"))?;
    let segment = ebml::header(file, segment_at)?.filter(|segment| segment.id == ebml::SEGMENT && segment.length == 12);
    let segment = segment.ok_or_else(|| bad("no segment"))?;
    let start = segment_at + segment.length;
    let mut at = start;
    while let Some(header) = ebml::header(file, at)? {
        let size = header.size.ok_or_else(|| bad("an element without a length"))?;
        tops.push((header.id, at));
        at += header.length + size;
    }
    let end = at;
    let head_end = tops.iter().find(|(id, _)| *id == ebml::CLUSTER).map_or(end, |(_, at)| *at);
    let cues = tops.iter().find(|(id, _)| *id == ebml::CUES).map(|(_, at)| *at - start);
    // The muxer's own tags come last.
    let tail_at = tops.iter().find(|(id, _)| *id == ebml::TAGS).map_or(end, |(_, at)| *at);
    if tops.iter().any(|(id, at)| *at > tail_at && *id != ebml::VOID) || tail_at < head_end {
        return Err(bad("elements behind the tags"));
    }
    let mut head = vec![0; usize::try_from(head_end - start).map_err(|_| bad("too large"))?];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut head)?;

    let (tracks, uids) = tracks(&head, edits)?;
    let mut seek = vec![(ebml::INFO, 0), (ebml::TRACKS, 0)];
    seek.extend(cues.map(|at| (ebml::CUES, at)));
    let mut tail = Vec::new();
    for (id, payload) in tail_parts(edits, &uids) {
        seek.push((id, tail_at - start + tail.len() as u64));
        push(&mut tail, id, &payload);
    }
    let info = info(&head, edits)?;
    // Every entry has the same length, whatever its value.
    seek[0].1 = seek_head(&seek).len() as u64;
    seek[1].1 = seek[0].1 + info.len() as u64;
    let mut new = seek_head(&seek);
    new.extend(info);
    new.extend(tracks);
    let left = head.len().checked_sub(new.len()).filter(|left| *left == 0 || *left >= 9);
    let left = left.ok_or_else(|| bad("no room in the head"))?;
    if left > 0 {
        push_void(&mut new, left);
    }
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&new)?;
    file.seek(SeekFrom::Start(tail_at))?;
    file.write_all(&tail)?;
    let end = file.stream_position()?;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(segment_at + 4))?;
    file.write_all(&((end - start) | 1 << 56).to_be_bytes())
}

fn seek_head(entries: &[(u32, u64)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (id, at) in entries {
        let mut entry = Vec::new();
        push(&mut entry, 0x53ab, &id.to_be_bytes());
        push_uint(&mut entry, 0x53ac, *at);
        push(&mut body, 0x4dbb, &entry);
    }
    let mut out = Vec::new();
    push(&mut out, ebml::SEEK_HEAD, &body);
    out
}

fn info(head: &[u8], edits: &Edits) -> Result<Vec<u8>> {
    let old = child(head, ebml::INFO).ok_or_else(|| bad("no information"))?;
    let mut body = Vec::new();
    for element in elements(old.payload) {
        if ![TITLE, DATE, DURATION, WRITING_APP, ebml::VOID, ebml::CRC].contains(&element.id) {
            body.extend(element.whole);
        }
    }
    // In units of the muxer's timestamps, which are milliseconds.
    push(&mut body, DURATION, &(edits.end as f64 / 1e6).to_be_bytes());
    push_text(&mut body, WRITING_APP, edits.program);
    if let Some(title) = edits.metadata.tag("title") {
        push_text(&mut body, TITLE, title);
    }
    let date = edits.metadata.created.and_then(|created| (created - EPOCH).checked_mul(1_000_000_000));
    if let Some(date) = date {
        push(&mut body, DATE, &date.to_be_bytes());
    }
    let mut out = Vec::new();
    push(&mut out, ebml::INFO, &body);
    Ok(out)
}

/// A track number in the input, and its UID in the output.
type Uid = (Option<u64>, u64);

/// The tracks element, and the UID of each track.
fn tracks(head: &[u8], edits: &Edits) -> Result<(Vec<u8>, Vec<Uid>)> {
    let old = child(head, ebml::TRACKS).ok_or_else(|| bad("no tracks"))?;
    let (mut body, mut uids) = (Vec::new(), Vec::new());
    for entry in elements(old.payload).into_iter().filter(|entry| entry.id == TRACK_ENTRY) {
        // A stream without packets.
        if child(entry.payload, CODEC_ID).is_none_or(|codec| codec.payload.is_empty()) {
            continue;
        }
        let number = child(entry.payload, TRACK_NUMBER).map_or(0, |number| number.uint());
        let edit = usize::try_from(number).ok().and_then(|number| edits.tracks.get(number.checked_sub(1)?));
        let source = edit.and_then(|edit| edits.metadata.track(edit.source?));
        let mut wanted = Vec::new();
        if let Some(source) = source {
            if source.elements.is_empty() {
                if let Some(name) = source.title() {
                    push_text(&mut wanted, NAME, name);
                }
                push_uint(&mut wanted, FLAG_DEFAULT, source.default.into());
                push_uint(&mut wanted, FLAG_FORCED, source.forced.into());
            } else {
                wanted.extend(&source.elements);
            }
        }
        let priming = edit.map_or(0, |edit| edit.priming);
        if priming > 0 {
            let kept = elements(&wanted).into_iter().filter(|element| element.id != CODEC_DELAY);
            wanted = kept.flat_map(|element| element.whole.to_vec()).collect();
            push_uint(&mut wanted, CODEC_DELAY, priming);
        }
        let replaced: Vec<u32> = elements(&wanted).iter().map(|element| element.id).collect();
        let mut track = Vec::new();
        for element in elements(entry.payload) {
            let is_default_name = element.id == NAME && source.is_none_or(|source| source.title().is_none());
            if !replaced.contains(&element.id) && !is_default_name {
                track.extend(with_luminances(&element, &[VIDEO, COLOUR, MASTERING], edits.light.luminances()));
            }
        }
        track.extend(wanted);
        push(&mut body, TRACK_ENTRY, &track);
        let uid = child(entry.payload, TRACK_UID).map_or(0, |uid| uid.uint());
        uids.push((edit.and_then(|edit| edit.source), uid));
    }
    let mut out = Vec::new();
    push(&mut out, ebml::TRACKS, &body);
    Ok((out, uids))
}

/// The element with the luminances of the mastering display, which GStreamer 1.22's muxer writes as a fifth. They are in
/// the element at the end of `path`.
fn with_luminances(element: &Element, path: &[u32], luminances: Option<[f64; 2]>) -> Vec<u8> {
    let (Some((first, rest)), Some(luminances)) = (path.split_first(), luminances) else {
        return element.whole.to_vec();
    };
    if element.id != *first {
        return element.whole.to_vec();
    }
    let mut body = Vec::new();
    for inner in elements(element.payload) {
        match (rest, inner.id) {
            ([], LUMINANCE_MAX) => push(&mut body, inner.id, &luminances[0].to_be_bytes()),
            ([], LUMINANCE_MIN) => push(&mut body, inner.id, &luminances[1].to_be_bytes()),
            _ => body.extend(with_luminances(&inner, rest, Some(luminances))),
        }
    }
    let mut out = Vec::new();
    push(&mut out, element.id, &body);
    out
}

/// Identifiers and payloads of the elements after the cues.
fn tail_parts(edits: &Edits, uids: &[Uid]) -> Vec<(u32, Vec<u8>)> {
    let metadata = edits.metadata;
    let mut tags = Vec::new();
    let (mut chapters, mut attachments) = (chapters(metadata), Vec::new());
    if let Original::Matroska(original) = &metadata.original {
        chapters.clone_from(&original.chapters);
        attachments.clone_from(&original.attachments);
        tags.clone_from(&original.tags);
        for (track, simple) in &original.track_tags {
            if let Some((_, uid)) = uids.iter().find(|(source, _)| *source == Some(*track)) {
                push(&mut tags, TAG, &tag(Some(*uid), simple));
            }
        }
    } else {
        let mut simple = Vec::new();
        for (name, value) in metadata.tags.iter().filter(|(name, _)| name != "title") {
            push_simple(&mut simple, &name.to_uppercase(), value);
        }
        if !simple.is_empty() {
            push(&mut tags, TAG, &tag(None, &simple));
        }
        if let (Some(timecode), Some((_, uid))) = (&metadata.timecode, uids.first()) {
            let mut simple = Vec::new();
            push_simple(&mut simple, "TIMECODE", timecode);
            push(&mut tags, TAG, &tag(Some(*uid), &simple));
        }
    }
    let parts = [(ebml::TAGS, tags), (ebml::CHAPTERS, chapters), (ebml::ATTACHMENTS, attachments)];
    parts.into_iter().filter(|(_, payload)| !payload.is_empty()).collect()
}

fn tag(track: Option<u64>, simple: &[u8]) -> Vec<u8> {
    let (mut targets, mut body) = (Vec::new(), Vec::new());
    if let Some(uid) = track {
        push_uint(&mut targets, TARGET_TRACK, uid);
    }
    push(&mut body, TARGETS, &targets);
    body.extend(simple);
    body
}

fn push_simple(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut simple = Vec::new();
    push_text(&mut simple, TAG_NAME, name);
    push_text(&mut simple, TAG_STRING, value);
    push(out, SIMPLE_TAG, &simple);
}

fn chapters(metadata: &Metadata) -> Vec<u8> {
    let mut edition = Vec::new();
    for (number, chapter) in metadata.chapters.iter().enumerate() {
        let (mut atom, mut display) = (Vec::new(), Vec::new());
        push_uint(&mut atom, ATOM_UID, number as u64 + 1);
        push_uint(&mut atom, ATOM_START, chapter.start);
        if let Some(end) = chapter.end {
            push_uint(&mut atom, ATOM_END, end);
        }
        push_text(&mut display, DISPLAY_TEXT, &chapter.title);
        push_text(&mut display, DISPLAY_LANGUAGE, "und");
        push(&mut atom, ATOM_DISPLAY, &display);
        push(&mut edition, ATOM, &atom);
    }
    let mut out = Vec::new();
    if !edition.is_empty() {
        push(&mut out, EDITION, &edition);
    }
    out
}
