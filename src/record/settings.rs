//! How recorded footage is read: the `[archive]` section of a pipeline file.

use serde::{Deserialize, Serialize};

use crate::duration::{optional_seconds, seconds};
use crate::{Error, Result};

/// `[archive]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveConfig {
    /// Time zone of the clock that the names of files are written by: `Europe/Berlin`, `+02:00`, `UTC`; that of this
    /// machine when left out.
    pub time_zone: Option<String>,
    /// Where the time is in the names of files, such as `cam_%Y%m%d-%H%M%S`; the names of known cameras when left out.
    pub time_pattern: Option<String>,
    /// Interval of the frames that the network processes; default: every frame.
    #[serde(deserialize_with = "optional_seconds")]
    pub every_s: Option<f64>,
    /// Only key frames are decoded.
    pub keyframes: bool,
    /// Whether frames that equal the last analysed one are skipped, as when parked.
    pub skip_still: bool,
    /// Seconds of a clip before its event.
    #[serde(deserialize_with = "seconds")]
    pub clip_before_s: f64,
    /// Seconds of a clip after its event.
    #[serde(deserialize_with = "seconds")]
    pub clip_after_s: f64,
    /// Clips are cut from the video that is written, with what is drawn on it, and not from the input.
    pub annotated_clips: bool,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            time_zone: None,
            time_pattern: None,
            every_s: None,
            keyframes: false,
            skip_still: false,
            clip_before_s: 5.0,
            clip_after_s: 5.0,
            annotated_clips: false,
        }
    }
}

impl ArchiveConfig {
    /// Checks all values by themselves.
    ///
    /// # Errors
    /// A value is out of range; the message names its key.
    pub fn check(&self) -> Result<()> {
        if let Some(seconds) = self.every_s.filter(|seconds| !(*seconds > 0.0 && *seconds <= 3600.0)) {
            return Err(Error::usage(format!("archive.every_s is {seconds}, it must be above 0 to 3600 seconds")));
        }
        for (key, value) in [("clip_before_s", self.clip_before_s), ("clip_after_s", self.clip_after_s)] {
            if !(0.0..=3600.0).contains(&value) {
                return Err(Error::usage(format!("archive.{key} is {value}, it must be 0 to 3600 seconds")));
            }
        }
        super::wall::WallTimes::new(self).map(|_| ())
    }
}
