//! What of a file is read, and how, where the file leaves a choice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which video track of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum VideoTrack {
    /// The first one that is no cover picture.
    #[default]
    First,
    /// By its place among the video tracks, from 1.
    Number(u32),
    /// Each one, as an input of its own.
    All,
}

/// As pipeline files have it.
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

/// Choices for one file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FileOptions {
    /// Which video track is read; `All` is the first.
    pub video_track: VideoTrack,
    /// Frames a second of a coded stream without a container; what the stream says, else 25, when left out.
    pub fps: Option<f64>,
}

impl FileOptions {
    /// The place of the wanted track among the video tracks, from 0.
    pub(crate) fn index(self) -> u64 {
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
