//! The ranges of values, and which of them exclude each other.

use super::Config;
use crate::model::Manifest;
use crate::pipeline::{Policy, Sync};
use crate::{Error, Result};

impl Config {
    /// # Errors
    /// A value is out of range, or does not go with another one; the message names the key.
    pub(crate) fn check(&self) -> Result<()> {
        let share = |key: &str, value: f32, above_zero: bool| {
            if (0.0..=1.0).contains(&value) && !(above_zero && value == 0.0) {
                Ok(())
            } else {
                let range = if above_zero { "above 0 to 1" } else { "0 to 1" };
                Err(Error::usage(format!("{key} is {value}, it must be {range}")))
            }
        };
        self.draw.check()?;
        self.events.check()?;
        self.archive.check()?;
        self.mqtt.check()?;
        self.webhook.check()?;
        self.exec.check()?;
        share("detect.smoothing", self.detect.smoothing, true)?;
        let at_least_one = |key: &str, value: usize| {
            if value == 0 { Err(Error::usage(format!("{key} is 0, it must be at least 1"))) } else { Ok(()) }
        };
        at_least_one("detect.max_iterations", self.detect.max_iterations)?;
        at_least_one("pipeline.queue", self.pipeline.queue)?;
        at_least_one("live.queue", self.live.queue)?;
        if (self.live.policy, self.live.sync) == (Policy::Wait, Sync::Newest) {
            return Err(Error::usage("live.sync = newest never waits for the network, and live.policy = wait does")
                .hint("leave the policy out, or use drop-oldest"));
        }
        for (key, seconds) in
            [("live.max_latency_s", self.live.max_latency_s), ("source.stall_s", Some(self.source.stall_s))]
        {
            if let Some(seconds) = seconds.filter(|seconds| !(*seconds > 0.0 && *seconds <= 86400.0)) {
                return Err(Error::usage(format!("{key} is {seconds}, it must be above 0 to 86400 seconds")));
            }
        }
        at_least_one("model.threads", self.model.threads.unwrap_or(1))?;
        self.model.views(&Manifest::default()).check().map_err(|error| error.at("[model]"))?;
        for &k in self.detect.k.iter().flatten() {
            at_least_one("detect.k", k)?;
        }
        if self.detect.k.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::usage("detect.k is empty, give at least one number of clusters"));
        }
        if let Some(crf) = self.encode.crf.filter(|crf| *crf > 51) {
            return Err(Error::usage(format!("encode.crf is {crf}, it must be 0 to 51")));
        }
        if self.encode.bitrate == Some(0) {
            return Err(Error::usage("encode.bitrate is 0, it must be at least 1 kbit/s"));
        }
        if self.encode.bitrate.is_some() && self.encode.crf.is_some() {
            return Err(Error::usage("encode.bitrate and encode.crf exclude each other: give one of them"));
        }
        if !(16..=7680).contains(&self.http.video_width) {
            return Err(Error::usage(format!("http.video_width is {}, it must be 16 to 7680", self.http.video_width)));
        }
        if !(0.1..=60.0).contains(&self.http.video_fps) {
            return Err(Error::usage(format!("http.video_fps is {}, it must be 0.1 to 60", self.http.video_fps)));
        }
        Ok(())
    }
}
