//! Metadata of a Matroska file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::ebml::{self, Element, child, elements};
use crate::gst::metadata::{Chapter, Metadata, Original, TrackKind, TrackMetadata};

/// Limit of elements to walk over in the segment.
const MOST_ELEMENTS: usize = 500_000;
/// Longest element to read, in bytes, attachments included.
const LONGEST: u64 = 256 << 20;

/// Track elements that the muxer omits or changes: name, language twice, flags (default, forced, hearing impaired,
/// visually impaired, text descriptions, original, commentary), codec delay, seek pre-roll.
pub(super) const OF_TRACK: [u32; 12] =
    [0x536e, 0x22_b59c, 0x22_b59d, 0x88, 0x55aa, 0x55ab, 0x55ac, 0x55ad, 0x55ae, 0x55af, 0x56aa, 0x56bb];
pub(super) const NAME: u32 = 0x536e;
pub(super) const FLAG_DEFAULT: u32 = 0x88;
pub(super) const FLAG_FORCED: u32 = 0x55aa;
pub(super) const CODEC_DELAY: u32 = 0x56aa;
pub(super) const TRACK_ENTRY: u32 = 0xae;
pub(super) const TRACK_NUMBER: u32 = 0xd7;
pub(super) const TRACK_UID: u32 = 0x73c5;
pub(super) const CODEC_ID: u32 = 0x86;
pub(super) const TITLE: u32 = 0x7ba9;
pub(super) const DATE: u32 = 0x4461;
pub(super) const DURATION: u32 = 0x4489;
pub(super) const WRITING_APP: u32 = 0x5741;
pub(super) const VIDEO: u32 = 0xe0;
pub(super) const COLOUR: u32 = 0x55b0;
pub(super) const MASTERING: u32 = 0x55d0;
pub(super) const LUMINANCE_MAX: u32 = 0x55d9;
pub(super) const LUMINANCE_MIN: u32 = 0x55da;
pub(super) const TAG: u32 = 0x7373;
pub(super) const TARGETS: u32 = 0x63c0;
pub(super) const TARGET_TRACK: u32 = 0x63c5;
pub(super) const SIMPLE_TAG: u32 = 0x67c8;
pub(super) const TAG_NAME: u32 = 0x45a3;
pub(super) const TAG_STRING: u32 = 0x4487;
pub(super) const EDITION: u32 = 0x45b9;
pub(super) const ATOM: u32 = 0xb6;
pub(super) const ATOM_UID: u32 = 0x73c4;
pub(super) const ATOM_START: u32 = 0x91;
pub(super) const ATOM_END: u32 = 0x92;
pub(super) const ATOM_DISPLAY: u32 = 0x80;
pub(super) const DISPLAY_TEXT: u32 = 0x85;
pub(super) const DISPLAY_LANGUAGE: u32 = 0x437c;

/// Seconds from 1970 to 2001, the epoch of Matroska.
pub(super) const EPOCH: i64 = 978_307_200;

/// Elements to copy unchanged to an output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Elements {
    /// Payloads of the elements of the same names; empty if missing.
    pub chapters: Vec<u8>,
    pub attachments: Vec<u8>,
    /// Complete `Tag` elements of the file, its chapters and its attachments.
    pub tags: Vec<u8>,
    /// `SimpleTag` elements of tracks, each with its track number.
    pub track_tags: Vec<(u64, Vec<u8>)>,
    /// The video has an alpha channel.
    pub alpha: bool,
}

/// None if it is not a Matroska file.
pub(crate) fn read(file: &mut File) -> Option<Metadata> {
    let mut parts: Vec<(u32, Vec<u8>)> = Vec::new();
    let first = ebml::header(file, 0).ok()??;
    if first.id != ebml::EBML {
        return None;
    }
    let mut at = first.length + first.size?;
    for _ in 0..MOST_ELEMENTS {
        let Some(header) = ebml::header(file, at).ok()? else { break };
        let start = at + header.length;
        let wanted = [ebml::INFO, ebml::TRACKS, ebml::TAGS, ebml::CHAPTERS, ebml::ATTACHMENTS].contains(&header.id);
        match header.size {
            _ if header.id == ebml::SEGMENT => at = start,
            Some(size) => {
                if wanted && size <= LONGEST {
                    let mut payload = Vec::new();
                    file.seek(SeekFrom::Start(start)).ok()?;
                    file.take(size).read_to_end(&mut payload).ok()?;
                    parts.push((header.id, payload));
                }
                at = start.checked_add(size)?;
            }
            None => break,
        }
    }
    let mut metadata = Metadata::default();
    let mut original = Elements::default();
    let mut uids = Vec::new();
    for (id, payload) in &parts {
        match *id {
            ebml::INFO => info(payload, &mut metadata),
            ebml::TRACKS => {
                for entry in elements(payload).into_iter().filter(|entry| entry.id == TRACK_ENTRY) {
                    let track = track(&entry);
                    uids.push((child(entry.payload, TRACK_UID).map_or(0, |uid| uid.uint()), track.id));
                    original.alpha |= track.kind == TrackKind::Video
                        && child(entry.payload, VIDEO)
                            .and_then(|video| child(video.payload, 0x53c0).map(|alpha| alpha.uint() == 1))
                            .unwrap_or(false);
                    metadata.tracks.push(track);
                }
            }
            ebml::CHAPTERS => {
                metadata.chapters = chapters(payload);
                original.chapters.clone_from(payload);
            }
            ebml::ATTACHMENTS => original.attachments.clone_from(payload),
            _ => {}
        }
    }
    for (_, payload) in parts.iter().filter(|(id, _)| *id == ebml::TAGS) {
        for tag in elements(payload).into_iter().filter(|tag| tag.id == TAG) {
            read_tag(&tag, &uids, &mut metadata, &mut original);
        }
    }
    metadata.original = Original::Matroska(original);
    Some(metadata)
}

fn info(payload: &[u8], metadata: &mut Metadata) {
    metadata.endless = child(payload, DURATION).is_none();
    for element in elements(payload) {
        match element.id {
            TITLE => metadata.tags.push(("title".to_owned(), element.text())),
            DATE => metadata.created = Some((element.uint() as i64).div_euclid(1_000_000_000) + EPOCH),
            _ => {}
        }
    }
}

fn track(entry: &Element) -> TrackMetadata {
    let mut track = TrackMetadata { default: true, ..TrackMetadata::default() };
    for element in elements(entry.payload) {
        match element.id {
            TRACK_NUMBER => track.id = element.uint(),
            CODEC_ID => track.coding = element.text(),
            NAME => track.name = Some(element.text()),
            CODEC_DELAY => track.delay = element.uint(),
            FLAG_DEFAULT => track.default = element.uint() == 1,
            FLAG_FORCED => track.forced = element.uint() == 1,
            0x83 => {
                track.kind = match element.uint() {
                    1 => TrackKind::Video,
                    2 => TrackKind::Audio,
                    0x11 => TrackKind::Text,
                    _ => TrackKind::Other,
                }
            }
            _ => {}
        }
        // Content encodings, each of them compression or encryption.
        if element.id == 0x6d80 {
            let encodings = elements(element.payload).into_iter().filter(|encoding| encoding.id == 0x6240);
            let encrypts = |encoding: Element| child(encoding.payload, 0x5033).is_some_and(|kind| kind.uint() == 1);
            track.encrypted = encodings.into_iter().any(encrypts);
        }
        if OF_TRACK.contains(&element.id) {
            track.elements.extend(element.whole);
        }
    }
    track.encrypted &= track.kind == TrackKind::Video;
    track
}

/// The chapters of the first edition; nested chapters are kept only in Matroska outputs.
fn chapters(payload: &[u8]) -> Vec<Chapter> {
    let Some(edition) = child(payload, EDITION) else { return Vec::new() };
    let atoms = elements(edition.payload).into_iter().filter(|atom| atom.id == ATOM);
    atoms
        .map(|atom| Chapter {
            start: child(atom.payload, ATOM_START).map_or(0, |time| time.uint()),
            end: child(atom.payload, ATOM_END).map(|time| time.uint()),
            title: child(atom.payload, ATOM_DISPLAY)
                .and_then(|display| Some(child(display.payload, DISPLAY_TEXT)?.text()))
                .unwrap_or_default(),
        })
        .collect()
}

/// Statistics tags, which describe the bytes of the input, not those of the output.
fn is_of_bytes(name: &str) -> bool {
    ["ENCODER", "DURATION", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES"].contains(&name)
        || name.starts_with("_STATISTICS")
}

fn read_tag(tag: &Element, uids: &[(u64, u64)], metadata: &mut Metadata, original: &mut Elements) {
    let targets = child(tag.payload, TARGETS).map(|targets| targets.payload).unwrap_or_default();
    let uid = child(targets, TARGET_TRACK).map(|uid| uid.uint()).filter(|uid| *uid > 0);
    let whole_file =
        !elements(targets).iter().any(|target| [TARGET_TRACK, 0x63c4, 0x63c6, 0x63c9].contains(&target.id));
    let mut kept = Vec::new();
    for simple in elements(tag.payload).into_iter().filter(|simple| simple.id == SIMPLE_TAG) {
        let Some(name) = child(simple.payload, TAG_NAME).map(|name| name.text()) else { continue };
        if is_of_bytes(&name) {
            continue;
        }
        kept.extend(simple.whole);
        let Some(value) = child(simple.payload, TAG_STRING).map(|value| value.text()) else { continue };
        if name == "TIMECODE" {
            metadata.timecode = Some(value);
        } else if whole_file {
            metadata.tags.push((name.to_lowercase(), value));
        }
    }
    if kept.is_empty() {
        return;
    }
    match uid {
        Some(uid) => {
            if let Some((_, track)) = uids.iter().find(|(known, _)| *known == uid) {
                original.track_tags.push((*track, kept));
            }
        }
        None => {
            let mut body = Vec::new();
            ebml::push(&mut body, TARGETS, targets);
            body.extend(kept);
            ebml::push(&mut original.tags, TAG, &body);
        }
    }
}
