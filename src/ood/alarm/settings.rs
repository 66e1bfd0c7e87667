//! The rules by which marked pixels become alarms: the `[events]` section of a pipeline file.

use serde::{Deserialize, Serialize};

use super::ignore::Ignored;
use super::region::RegionRules;
use crate::duration::seconds;
use crate::{Error, Result};

/// `[events]`. Times are in seconds of running time and areas in shares of the picture, never in frames or pixels.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Smallest region that counts, as a share of the picture.
    pub min_area: f32,
    /// Seconds within `window_s` for which a region must be seen before it is an alarm.
    #[serde(deserialize_with = "seconds")]
    pub min_seconds: f64,
    /// Length of the window for `min_seconds`.
    #[serde(deserialize_with = "seconds")]
    pub window_s: f64,
    /// An event ends when its region has not been seen for this long.
    #[serde(deserialize_with = "seconds")]
    pub end_after_s: f64,
    /// Upper bound on the alarms of a stream within 60 seconds. What exceeds it is counted and reported in the summary.
    pub max_per_minute: Option<u32>,
    /// No region counts until the stream has run for this long, and again after a cut or a loss of signal.
    #[serde(deserialize_with = "seconds")]
    pub settle_s: f64,
    /// Time constant of the smoothing of the score along the camera's motion; 0 is off.
    #[serde(deserialize_with = "seconds")]
    pub smoothing_s: f64,
    /// A region needs a cell of at least this level. Levels are relative to the footage: the usual score of the stream
    /// is -1 and the threshold is 0.
    pub start_level: f32,
    /// A region extends as far as the level stays at or above this one.
    pub grow_level: f32,
    /// Level up to which the rest of the picture may reach, but for its highest 3 %, before a region needs a higher level
    /// to count: in a scene that is unusual all over, an alarm must stand out. 100 is off.
    pub rest_level: f32,
    /// Whether a region must be seen to stand on the road to be an alarm: its foot is over the road, and the lower edge
    /// of the picture does not cut it off. Without effect where the model has no road class.
    pub road_gate: bool,
    /// How far from the road's hull a region may stand, as a share of the picture's width.
    pub road_margin: f32,
    /// Interval of `update` lines while an event lasts; 0 writes none.
    #[serde(deserialize_with = "seconds")]
    pub update_s: f64,
    /// Classes whose unusual members are no alarm: they are drawn and logged as `unusual CLASS`.
    pub known: Vec<String>,
    /// Parts of the picture that are left out: masks (`MASK.png`, white is left out) and polygons (`poly:x,y x,y ...`,
    /// in shares of the picture).
    #[serde(skip_serializing)]
    pub ignore: Vec<Ignored>,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            min_area: 0.003,
            min_seconds: 0.3,
            window_s: 0.8,
            end_after_s: 1.0,
            max_per_minute: None,
            settle_s: 0.6,
            smoothing_s: 0.1,
            start_level: 0.03,
            grow_level: -0.1,
            rest_level: -0.33,
            road_gate: true,
            road_margin: 0.01,
            update_s: 2.0,
            known: Vec::new(),
            ignore: Vec::new(),
        }
    }
}

impl EventsConfig {
    /// What makes a region.
    pub(super) fn region_rules(&self) -> RegionRules {
        RegionRules {
            start_level: self.start_level,
            grow_level: self.grow_level,
            rest_level: self.rest_level,
            // Candidates are followed before they are large enough to count.
            min_area: self.min_area / 2.0,
            road_margin: self.road_margin,
        }
    }

    /// Checks each value.
    ///
    /// # Errors
    /// A value is out of range; the message names its key.
    pub fn check(&self) -> Result<()> {
        let within = |key: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::usage(format!("events.{key} is {value}, it must be {low} to {high}")))
        };
        within("min_area", self.min_area.into(), 0.0, 1.0)?;
        within("min_seconds", self.min_seconds, 0.0, 3600.0)?;
        within("window_s", self.window_s, 0.0, 3600.0)?;
        within("end_after_s", self.end_after_s, 0.0, 3600.0)?;
        within("settle_s", self.settle_s, 0.0, 3600.0)?;
        within("smoothing_s", self.smoothing_s, 0.0, 10.0)?;
        within("start_level", self.start_level.into(), -1.0, 100.0)?;
        within("grow_level", self.grow_level.into(), -1.0, 100.0)?;
        within("rest_level", self.rest_level.into(), -1.0, 100.0)?;
        within("road_margin", self.road_margin.into(), 0.0, 1.0)?;
        within("update_s", self.update_s, 0.0, 3600.0)?;
        if self.grow_level > self.start_level {
            return Err(Error::usage(format!(
                "events.grow_level is {}, it must not exceed events.start_level, {}",
                self.grow_level, self.start_level
            )));
        }
        if self.window_s < self.min_seconds {
            return Err(Error::usage(format!(
                "events.window_s is {}, it must not be below events.min_seconds, {}",
                self.window_s, self.min_seconds
            )));
        }
        if self.max_per_minute == Some(0) {
            return Err(Error::usage("events.max_per_minute is 0, it must be at least 1")
                .hint("leave the key out for no limit, or -o events: for no events"));
        }
        Ok(())
    }

    /// Checks the class names against those of the model; empty `classes` are a model that names none.
    ///
    /// # Errors
    /// A class of `known` is not one of the model's.
    pub fn check_classes(&self, classes: &[String]) -> Result<()> {
        for name in &self.known {
            if !classes.iter().any(|class| class == name) {
                let error = Error::usage(format!("--known {name}: the model has no class of this name"));
                return Err(if classes.is_empty() {
                    error.hint("the model's manifest names no classes")
                } else {
                    error.hint(format!("its classes are {}", classes.join(", ")))
                });
            }
        }
        Ok(())
    }
}
