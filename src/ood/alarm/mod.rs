//! From marked pixels to alarms with few false ones.
//!
//! All of it works on a small grid of at most 160 columns, in shares of the picture and seconds of running time:
//! 1. [`field`]: score, class and luma of the frame on the grid.
//! 2. [`motion`]: the camera's motion since the frame before.
//! 3. [`evidence`]: scores to levels (the stream's usual score is -1, the threshold 0), without class borders and
//!    speckles, smoothed along the motion.
//! 4. [`region`]: hysteresis between two levels; [`road`]: regions that stand on the drivable surface.
//! 5. [`tracker`]: identities by motion and assignment; an alarm after M seconds of N; [`event`]: the records of it.
//!
//! Pixel scores and masks stay as they are: the rules decide about alarms alone.

pub mod assign;
pub mod counts;
pub mod event;
pub mod evidence;
pub mod field;
pub mod ignore;
pub mod motion;
pub mod region;
pub mod road;
pub mod settings;
pub mod still;
pub mod track;
pub mod tracker;

use std::sync::Arc;

use ndarray::ArrayView3;

pub use self::counts::AlarmCounts;
pub use self::event::{Event, EventType, Moment, rfc3339};
pub use self::ignore::{Filler, IgnoreMap, Ignored};
pub use self::region::{Rect, Region};
pub use self::road::has_road;
pub use self::settings::EventsConfig;
pub use self::track::Standing;
pub use self::tracker::Sighting;

use self::evidence::Evidence;
use self::field::Field;
use self::motion::{Motion, MotionFinder};
use self::region::RegionFinder;
use self::road::{Road, is_drivable};
use self::tracker::{Step, Tracker};
use crate::Result;
use crate::compute::Detection;
use crate::frame::Plane;

/// Frames further apart than this count as this far apart.
const LONGEST_STEP_S: f64 = 0.5;
/// Between frames further apart than this the camera's motion is not found, and that is no sign of a cut.
const BLIND_S: f64 = 0.25;

/// One frame of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its time.
    pub moment: Moment,
    /// Its detection.
    pub detection: &'a Detection,
    /// The network's logits, `[C, h, w]`.
    pub logits: ArrayView3<'a, f32>,
    /// Its luma.
    pub luma: Plane<'a>,
    /// The score at level 0: pixels from here on are marked, unless a calibration found a higher one for alarms.
    pub threshold: f32,
    /// Whether nothing is carried over from the frame before: the signal was lost.
    pub fresh: bool,
}

/// The result of the rules for one frame. Its buffers are reused from frame to frame.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The regions with their tracks.
    pub sightings: Vec<Sighting>,
    /// The places of all trails, in shares of the picture; see [`Sighting::trail`].
    pub trails: Vec<(f32, f32)>,
    /// Columns and rows of the grid.
    pub grid: (usize, usize),
    /// Level per cell.
    pub level: Vec<f32>,
    /// Per cell the number of its sighting plus 1, or 0.
    pub labels: Vec<u16>,
    /// Cells at or above this level belong to a region.
    pub grow_level: f32,
    /// The events of this frame, as written to the events file.
    pub events: Vec<Event>,
}

impl Scene {
    /// Clears everything but the buffers.
    pub fn clear(&mut self) {
        self.sightings.clear();
        self.trails.clear();
        self.level.clear();
        self.labels.clear();
        self.events.clear();
        self.grid = (0, 0);
    }
}

/// Applies the rules to the frames of one stream.
#[derive(Debug, Clone)]
pub struct Watcher {
    settings: EventsConfig,
    ignore: Arc<IgnoreMap>,
    left_out: Vec<bool>,
    left_out_size: (usize, usize),
    drivable: Vec<bool>,
    pub(crate) field: Field,
    motion: MotionFinder,
    evidence: Evidence,
    road: Road,
    finder: RegionFinder,
    tracker: Tracker,
    last: Option<Moment>,
    /// Seconds since the start, the last cut or the last loss of signal.
    running_s: f64,
    pub(crate) size: (u32, u32),
}

impl Watcher {
    /// Rules for the stream called `stream`; `classes` are the names of the logits' channels, or empty.
    pub fn new(stream: &str, classes: &[String], settings: EventsConfig, ignore: Arc<IgnoreMap>) -> Self {
        Self {
            tracker: Tracker::new(stream, classes.to_vec(), settings.clone()),
            settings,
            ignore,
            left_out: Vec::new(),
            left_out_size: (0, 0),
            drivable: classes.iter().map(|class| is_drivable(class)).collect(),
            field: Field::default(),
            motion: MotionFinder::default(),
            evidence: Evidence::default(),
            road: Road::default(),
            finder: RegionFinder::default(),
            last: None,
            running_s: 0.0,
            size: (0, 0),
        }
    }

    /// Says whether the names of the classes are a guess, which events repeat.
    #[must_use]
    pub fn with_guessed_classes(mut self, guessed: bool) -> Self {
        self.tracker.guess_classes(guessed);
        self
    }

    /// Puts other rules into force from the next frame on, and leaves out other parts of the picture.
    pub fn set(&mut self, settings: EventsConfig, ignore: Arc<IgnoreMap>) {
        self.tracker.set(settings.clone());
        self.settings = settings;
        if *ignore != *self.ignore {
            self.ignore = ignore;
            self.left_out.clear();
            (self.left_out_size, self.size) = ((0, 0), (0, 0));
        }
    }

    /// Whether the road gate is in force: it is wanted, and the model has a class of road.
    pub fn has_road_gate(&self) -> bool {
        self.settings.road_gate && self.drivable.contains(&true)
    }

    /// Alarms raised so far, and what raised none.
    pub fn counts(&self) -> AlarmCounts {
        self.tracker.counts()
    }

    /// Takes the next frame into `scene`.
    ///
    /// # Errors
    /// Score map or logits are empty, or a mask of what is left out is of another size.
    pub fn observe(&mut self, frame: &Frame<'_>, scene: &mut Scene) -> Result<()> {
        let size = (frame.luma.columns as u32, frame.luma.rows as u32);
        if size != self.size {
            self.ignore.check_size(size.0, size.1)?;
            self.size = size;
        }
        self.field.read(frame.detection, frame.logits, frame.luma)?;
        self.apply(frame.moment, frame.logits, frame.threshold, frame.fresh, scene);
        Ok(())
    }

    /// Applies the rules to the frame that `field` holds.
    pub(crate) fn apply(
        &mut self,
        moment: Moment,
        logits: ArrayView3<'_, f32>,
        threshold: f32,
        fresh: bool,
        scene: &mut Scene,
    ) {
        let (width, height) = (self.field.width, self.field.height);
        if !self.ignore.is_empty() && self.left_out_size != (width, height) {
            self.ignore.fill(width, height, &mut self.left_out);
            self.left_out_size = (width, height);
        }
        let apart = self.last.and_then(|last| moment.running.checked_sub(last.running));
        let seconds = apart.map_or(0.0, |apart| apart.as_secs_f64().min(LONGEST_STEP_S));
        if fresh {
            self.motion.reset();
        }
        let motion = self.motion.update(&self.field.luma, width, height);
        if motion.is_none() && !fresh && apart.is_some_and(|apart| apart.as_secs_f64() > BLIND_S) {
            // Places are not carried over, but time is.
            self.evidence.reset();
        } else if motion.is_none() {
            // Nothing is carried over: the first frame, a cut, or pictures after a loss of signal.
            self.evidence.reset();
            self.tracker.finish(self.size);
            self.running_s = 0.0;
        }
        self.last = Some(moment);
        self.running_s += seconds;
        let smoothing_s = self.settings.smoothing_s;
        self.evidence.update(&self.field, threshold, &self.left_out, motion, seconds, smoothing_s);
        self.find(moment, logits, motion.unwrap_or_default(), seconds, scene);
    }

    /// The stream is over. The events that end with it are put into `scene`.
    pub fn finish(&mut self, scene: &mut Scene) {
        scene.clear();
        self.tracker.finish(self.size);
        scene.events.extend(self.tracker.drain_events());
    }

    fn find(&mut self, moment: Moment, logits: ArrayView3<'_, f32>, motion: Motion, seconds: f64, scene: &mut Scene) {
        let gated = self.has_road_gate();
        if gated {
            self.road.update(&self.field, &self.drivable, seconds);
        }
        let rules = self.settings.region_rules();
        let road = gated.then_some(&self.road);
        let regions = self.finder.find(&self.field, &self.evidence.level, &self.left_out, logits, road, &rules);
        let (width, height) = (self.field.width as f32, self.field.height as f32);
        let shift = |x: f32, y: f32| {
            let (dx, dy) = motion.at((x - 0.5) * width, (y - 0.5) * height);
            (-dx / width, -dy / height)
        };
        let step =
            Step { moment, seconds, settled: self.running_s >= self.settings.settle_s, shift: &shift, size: self.size };
        let sightings = self.tracker.update(&step, regions);
        scene.clear();
        scene.sightings.extend_from_slice(sightings);
        scene.trails.extend_from_slice(self.tracker.trails());
        scene.grid = (self.field.width, self.field.height);
        scene.level.extend_from_slice(&self.evidence.level);
        scene.labels.extend_from_slice(self.finder.labels());
        scene.grow_level = rules.grow_level;
        scene.events.extend(self.tracker.drain_events());
    }
}
