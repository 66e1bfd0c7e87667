//! What a file says about itself beside its streams: titles, place and time of the recording, chapters, names of tracks.
//!
//! GStreamer's demuxers read a part of it and its muxers write a part of that, so it is read here from the input and put
//! into the finished output ([`super::mp4::finish`], [`super::matroska::finish`]).

use std::fs::File;

use gstreamer as gst;

use super::{matroska, mp4};

/// What a file says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata {
    /// Names in lower case as ffmpeg prints them, such as `title`, `location`, `com.apple.quicktime.make`.
    pub tags: Vec<(String, String)>,
    pub chapters: Vec<Chapter>,
    /// Of the first frame: `01:02:03:04`, with `;` before the frames where numbers are dropped.
    pub timecode: Option<String>,
    /// When it was recorded, in seconds since 1970.
    pub created: Option<i64>,
    pub tracks: Vec<TrackMetadata>,
    /// What a file of the same kind takes over as it is.
    pub original: Original,
}

/// A part of the movie with a title. Times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chapter {
    pub start: u64,
    /// None: where the next one starts.
    pub end: Option<u64>,
    pub title: String,
}

/// What a file says about one of its tracks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TrackMetadata {
    /// Its number in the file.
    pub id: u64,
    pub kind: TrackKind,
    /// Its coding as the file has it, such as `avc1` or `S_TEXT/WEBVTT`.
    pub coding: String,
    pub name: Option<String>,
    /// Players take it when nobody chooses.
    pub default: bool,
    pub forced: bool,
    /// Its pictures are encrypted.
    pub encrypted: bool,
    /// A single picture, such as a cover.
    pub still: bool,
    /// Elements of a Matroska track that are taken over as they are.
    pub elements: Vec<u8>,
    /// Boxes of an MP4 track's user data.
    pub udta: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum TrackKind {
    Video,
    Audio,
    Text,
    #[default]
    Other,
}

/// The same in the form of the input.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Original {
    #[default]
    Other,
    Mp4(mp4::metadata::Boxes),
    Matroska(matroska::metadata::Elements),
}

/// What to put into a track of a finished output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TrackEdits {
    /// Its number in the input.
    pub source: Option<u64>,
    /// Nanoseconds at its start that are decoded and not shown.
    pub priming: u64,
    /// Nanoseconds that are heard after that, where an encoder pads the end.
    pub heard: Option<u64>,
}

impl Metadata {
    /// Of an MP4, MOV or Matroska file; none of others, for which GStreamer's tags have to do.
    pub fn read(file: &mut File) -> Option<Self> {
        matroska::metadata::read(file).or_else(|| mp4::metadata::read(file).ok())
    }

    /// From what a demuxer says.
    pub fn of_tags(tags: &gst::TagList) -> Self {
        let mut found = Self::default();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                found.tags.push((name.to_owned(), value));
            }
        };
        put("title", tags.get::<gst::tags::Title>().map(|value| value.get().to_owned()));
        put("artist", tags.get::<gst::tags::Artist>().map(|value| value.get().to_owned()));
        put("album", tags.get::<gst::tags::Album>().map(|value| value.get().to_owned()));
        put("genre", tags.get::<gst::tags::Genre>().map(|value| value.get().to_owned()));
        put("comment", tags.get::<gst::tags::Comment>().map(|value| value.get().to_owned()));
        put("description", tags.get::<gst::tags::Description>().map(|value| value.get().to_owned()));
        put("copyright", tags.get::<gst::tags::Copyright>().map(|value| value.get().to_owned()));
        put("make", tags.get::<gst::tags::DeviceManufacturer>().map(|value| value.get().to_owned()));
        put("model", tags.get::<gst::tags::DeviceModel>().map(|value| value.get().to_owned()));
        put("location", location(tags));
        let created = tags.get::<gst::tags::DateTime>().and_then(|time| time.get().to_g_date_time().ok());
        found.created = created.map(|created| created.to_unix());
        found
    }

    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn track(&self, id: u64) -> Option<&TrackMetadata> {
        self.tracks.iter().find(|track| track.id == id)
    }
}

/// In ISO 6709 form: `+37.7749-122.4194/`.
fn location(tags: &gst::TagList) -> Option<String> {
    let latitude = tags.get::<gst::tags::GeoLocationLatitude>()?.get();
    let longitude = tags.get::<gst::tags::GeoLocationLongitude>()?.get();
    let elevation = tags.get::<gst::tags::GeoLocationElevation>().map(|e| format!("{:+.3}", e.get()));
    Some(format!("{latitude:+08.4}{longitude:+09.4}{}/", elevation.unwrap_or_default()))
}

/// The number that a demuxer's pad carries at the end of its stream identifier: the track's own number in the file.
pub(crate) fn track_number(pad: &gst::Pad) -> Option<u64> {
    use gstreamer::prelude::PadExt;
    let identifier = pad.stream_id()?;
    identifier.rsplit('/').next()?.split(':').next()?.parse().ok()
}
