//! Options for reading a file: the video track, HDR, and the frame rate of streams without timestamps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gst::decoder::DecoderChoice;
use crate::{Error, Result};

/// The choice of a video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum VideoTrack {
    /// The first track that is not a cover picture.
    #[default]
    First,
    /// By number among the video tracks, from 1.
    Number(u32),
    /// Every track, each as a separate input.
    All,
}

/// The form in pipeline files.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Word(String),
}

impl TryFrom<Written> for VideoTrack {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Word(word) => word.parse(),
        }
    }
}

impl From<VideoTrack> for Written {
    fn from(track: VideoTrack) -> Self {
        match track {
            VideoTrack::Number(number) => Self::Number(number),
            track => Self::Word(track.to_string()),
        }
    }
}

impl FromStr for VideoTrack {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "first" => Ok(Self::First),
            "all" => Ok(Self::All),
            number => number
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .map(Self::Number)
                .ok_or_else(|| Error::usage(format!("`{text}` is no video track")).hint("1, 2, ..., first or all")),
        }
    }
}

impl fmt::Display for VideoTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Number(number) => number.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

/// The treatment of HDR video (PQ, HLG).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum Hdr {
    /// Frames and output keep the transfer function, the colours and their metadata.
    #[default]
    Keep,
    /// Frames and output are SDR in BT.709, by the curve of ITU-R BT.2390.
    ToneMap,
}

/// Options for one file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileOptions {
    /// The video track to read; `All` is treated as the first.
    pub video_track: VideoTrack,
    /// Frame rate of an elementary stream (without a container); default: that of the stream, else 25.
    pub fps: Option<f64>,
    /// The treatment of HDR video.
    pub hdr: Hdr,
    /// The video decoders that may be used.
    pub decoder: DecoderChoice,
}

impl FileOptions {
    /// Index of the chosen track among the video tracks, from 0.
    pub(crate) fn index(&self) -> u64 {
        match self.video_track {
            VideoTrack::Number(number) => u64::from(number) - 1,
            VideoTrack::First | VideoTrack::All => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_by_number_and_word() {
        let parse = |text: &str| text.parse::<VideoTrack>().ok();
        assert_eq!(
            ["first", "2", "all"].map(parse),
            [Some(VideoTrack::First), Some(VideoTrack::Number(2)), Some(VideoTrack::All)]
        );
        assert_eq!(["0", "-1", "both", ""].map(parse), [None; 4]);
    }
}
