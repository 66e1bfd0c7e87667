//! Settings that may change during a run: the threshold, the drawing, the rules for alarms and ignored parts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::draw::{Style, View};
use crate::ood::alarm::{EventsConfig, IgnoreMap};
use crate::{Error, Result};

/// The settings that apply to a frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tunable {
    /// Pixels with `score >= threshold` are marked; none: taken from the first frame of each stream.
    pub threshold: Option<f32>,
    /// The score that takes the place of the threshold in the rules for alarms.
    pub alarm_threshold: Option<f32>,
    /// The drawing of the result.
    pub style: Style,
    /// The rules by which marked pixels become alarms.
    pub events: Arc<EventsConfig>,
    /// Ignored parts of the picture.
    pub ignore: Arc<IgnoreMap>,
}

/// The values in force, shared by the stages and the code that changes them.
#[derive(Debug)]
pub struct Settings {
    version: AtomicU64,
    values: RwLock<Tunable>,
}

impl Settings {
    /// The values to start with.
    pub fn new(values: Tunable) -> Self {
        Self { version: AtomicU64::new(0), values: RwLock::new(values) }
    }

    /// The values in force.
    pub fn get(&self) -> Tunable {
        self.values.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes with every [`Settings::replace`].
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Puts `values` into force from the next frame on.
    ///
    /// # Errors
    /// The view changes to or from side by side, which has pictures of another size; nothing is changed then.
    pub fn replace(&self, values: Tunable) -> Result<()> {
        values.style.check()?;
        values.events.check()?;
        let mut current = self.values.write().unwrap_or_else(PoisonError::into_inner);
        let wide = |style: &Style| style.view == View::SideBySide;
        if wide(&current.style) != wide(&values.style) {
            return Err(Error::usage("draw.view: side-by-side changes the size of the video, which needs a restart"));
        }
        *current = values;
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_one_of_the_size_is_refused() {
        let values = Tunable { threshold: Some(1.0), ..Tunable::default() };
        let settings = Settings::new(values.clone());
        settings.replace(Tunable { threshold: Some(2.0), ..values.clone() }).unwrap();
        assert_eq!((settings.get().threshold, settings.version()), (Some(2.0), 1));
        let wide = Style { view: View::SideBySide, ..Style::default() };
        assert!(
            settings.replace(Tunable { style: wide, ..values.clone() }).unwrap_err().to_string().contains("restart")
        );
        let loud = Style { opacity: 3.0, ..Style::default() };
        assert!(settings.replace(Tunable { style: loud, ..values }).is_err());
        assert_eq!((settings.get().threshold, settings.version()), (Some(2.0), 1));
    }
}
