//! Metadata of a file beside its streams: tags, location and time of the recording, chapters, track names.
//!
//! GStreamer's demuxers read only some of it and its muxers write less, so it is read from the input here and written
//! into the finished output ([`super::mp4::finish`], [`super::matroska::finish`]).

use std::fs::File;

use gstreamer as gst;

use super::{asf, matroska, mp4};

/// The metadata of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata {
    /// Tags by their ffmpeg names in lower case, such as `title`, `location`, `com.apple.quicktime.make`.
    pub tags: Vec<(String, String)>,
    pub chapters: Vec<Chapter>,
    /// Time code of the first frame: `01:02:03:04`, with `;` before the frames for drop-frame time code.
    pub timecode: Option<String>,
    /// Time of the recording, in seconds since 1970.
    pub created: Option<i64>,
    pub tracks: Vec<TrackMetadata>,
    /// Names of attributes that are no text or number, which no output takes.
    pub left_out: Vec<String>,
    /// The file does not state its duration, and a demuxer can only estimate it.
    pub endless: bool,
    /// Metadata in the form of the input, copied unchanged to a file of the same format.
    pub original: Original,
}

/// A chapter. Times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chapter {
    pub start: u64,
    /// None: the start of the next chapter.
    pub end: Option<u64>,
    pub title: String,
}

/// The metadata of one track.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TrackMetadata {
    /// The track number in the file.
    pub id: u64,
    pub kind: TrackKind,
    /// The codec identifier of the container, such as `avc1` or `S_TEXT/WEBVTT`.
    pub coding: String,
    pub name: Option<String>,
    /// The default flag: players select the track without a choice by the user.
    pub default: bool,
    pub forced: bool,
    /// The samples are encrypted.
    pub encrypted: bool,
    /// Nanoseconds at the start that are decoded but not played, as a Matroska track states them.
    pub delay: u64,
    /// A still picture, such as a cover.
    pub still: bool,
    /// Elements of a Matroska track to copy unchanged.
    pub elements: Vec<u8>,
    /// The boxes in an MP4 track's user data.
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

/// The metadata in the form of the input.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Original {
    #[default]
    Other,
    Mp4(mp4::metadata::Boxes),
    Matroska(matroska::metadata::Elements),
}

/// The changes to a track of a finished output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TrackEdits {
    /// The track number in the input.
    pub source: Option<u64>,
    /// Encoder priming: nanoseconds at the start that are decoded but not played.
    pub priming: u64,
    /// Nanoseconds to play after the priming, where an encoder pads the end.
    pub heard: Option<u64>,
}

/// Default track names of programs, which players would show as titles.
const DEFAULT_NAMES: [&str; 7] = [
    "VideoHandler",
    "SoundHandler",
    "SubtitleHandler",
    "DataHandler",
    "TimeCodeHandler",
    "Core Media Video",
    "Core Media Audio",
];

impl TrackMetadata {
    /// The name of the track, unless it is the default one of a program.
    pub fn title(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| !DEFAULT_NAMES.contains(name))
    }
}

impl Metadata {
    /// Reads an MP4, MOV, Matroska or ASF file; none for other formats, which are limited to GStreamer's tags.
    pub fn read(file: &mut File) -> Option<Self> {
        matroska::metadata::read(file).or_else(|| asf::read(file)).or_else(|| mp4::metadata::read(file).ok())
    }

    /// The metadata in a demuxer's tags.
    pub fn of_tags(tags: &gst::TagList) -> Self {
        let mut found = Self::default();
        for (name, value) in tags.iter().filter(|(name, _)| !is_technical(name)) {
            let Some(text) = value.get::<&str>().ok().filter(|text| !text.is_empty()) else { continue };
            let (name, text) = match name.as_str() {
                "device-manufacturer" => ("make", text),
                "device-model" => ("model", text),
                "extended-comment" => text.split_once('=').unwrap_or(("comment", text)),
                name => (name, text),
            };
            found.tags.push((name.replace('-', "_").to_lowercase(), text.to_owned()));
        }
        found.tags.extend(location(tags).map(|location| ("location".to_owned(), location)));
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

/// Whether GStreamer's tag describes the file or its writer, not the recording.
fn is_technical(name: &str) -> bool {
    name.ends_with("codec")
        || name.starts_with("private-")
        || name.starts_with("geo-location-")
        || matches!(
            name,
            "container-format"
                | "encoder"
                | "application-name"
                | "image-orientation"
                | "language-code"
                | "language-name"
                | "location"
                | "uri"
        )
}

/// The location in ISO 6709 form: `+37.7749-122.4194/`.
fn location(tags: &gst::TagList) -> Option<String> {
    let latitude = tags.get::<gst::tags::GeoLocationLatitude>()?.get();
    let longitude = tags.get::<gst::tags::GeoLocationLongitude>()?.get();
    let elevation = tags.get::<gst::tags::GeoLocationElevation>().map(|e| format!("{:+.3}", e.get()));
    Some(format!("{latitude:+08.4}{longitude:+09.4}{}/", elevation.unwrap_or_default()))
}

/// The track number in the file, which ends the stream identifier of a demuxer's pad.
pub(crate) fn track_number(pad: &gst::Pad) -> Option<u64> {
    use gstreamer::prelude::PadExt;
    let identifier = pad.stream_id()?;
    identifier.rsplit('/').next()?.split(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_about_the_recording_is_kept() {
        crate::gst::init().unwrap();
        let mut tags = gst::TagList::new();
        let new = tags.make_mut();
        new.add::<gst::tags::Composer>(&"Me", gst::TagMergeMode::Append);
        new.add::<gst::tags::AlbumArtist>(&"We", gst::TagMergeMode::Append);
        new.add::<gst::tags::DeviceModel>(&"Dashcam 7", gst::TagMergeMode::Append);
        new.add::<gst::tags::ExtendedComment>(&"Weather=rain", gst::TagMergeMode::Append);
        new.add::<gst::tags::ContainerFormat>(&"AVI", gst::TagMergeMode::Append);
        new.add::<gst::tags::VideoCodec>(&"Motion JPEG", gst::TagMergeMode::Append);
        let found = Metadata::of_tags(&tags);
        assert_eq!(found.tags.len(), 4, "{:?}", found.tags);
        for (name, value) in [("composer", "Me"), ("album_artist", "We"), ("model", "Dashcam 7"), ("weather", "rain")] {
            assert_eq!(found.tag(name), Some(value));
        }
    }
}
