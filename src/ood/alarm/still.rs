//! The rules for alarms on single ordinary frames, without time: how high their regions reach.

use ndarray::{ArrayView2, ArrayView3};

use super::evidence::Evidence;
use super::field::Field;
use super::region::{Region, RegionFinder};
use super::road::{Road, is_drivable};
use super::settings::EventsConfig;
use crate::Result;

/// Rounds of the search: levels are clipped, so that a score far above the threshold takes several.
const ROUNDS: usize = 8;

/// Measures single frames; nothing is carried over from one to the next.
#[derive(Debug)]
pub struct StillWatcher {
    settings: EventsConfig,
    drivable: Vec<bool>,
    field: Field,
    finder: RegionFinder,
}

impl StillWatcher {
    /// By the rules of `settings`; `classes` are the names of the logits' channels, or empty.
    pub fn new(classes: &[String], settings: EventsConfig) -> Self {
        let drivable = classes.iter().map(|class| is_drivable(class)).collect();
        Self { settings, drivable, field: Field::default(), finder: RegionFinder::default() }
    }

    /// The threshold, at least `threshold`, from which on no region of the frame could raise an alarm. `score` is of any
    /// size.
    ///
    /// # Errors
    /// Score map or logits are empty.
    pub fn quiet_threshold(
        &mut self,
        score: ArrayView2<'_, f32>,
        logits: ArrayView3<'_, f32>,
        threshold: f32,
    ) -> Result<f32> {
        self.field.read_still(score, logits)?;
        let mut road = Road::default();
        let gated = self.settings.road_gate && self.drivable.contains(&true);
        if gated {
            road.update(&self.field, &self.drivable, 0.0);
        }
        let mut quiet = threshold;
        for _ in 0..ROUNDS {
            match self.peak_score(logits, gated.then_some(&road), quiet) {
                Some(peak) if peak > quiet => quiet = peak,
                _ => break,
            }
        }
        Ok(quiet)
    }

    /// The threshold at which the highest region would only just be one; none without regions at `threshold`.
    fn peak_score(&mut self, logits: ArrayView3<'_, f32>, road: Option<&Road>, threshold: f32) -> Option<f32> {
        let mut evidence = Evidence::default();
        evidence.update(&self.field, threshold, &[], None, 0.0, 0.0);
        let rules = self.settings.region_rules();
        let regions = self.finder.find(&self.field, &evidence.level, &[], logits, road, &rules);
        let counts = |region: &&Region| {
            region.stands_on_road() && region.area_share >= self.settings.min_area && region.counts()
        };
        let highest = regions.iter().filter(counts).map(|region| region.peak_level).max_by(f32::total_cmp)?;
        // Levels are affine in the score.
        let usual = evidence.usual()?;
        let reached = threshold + highest * (threshold - usual);
        Some((reached + rules.start_level * usual) / (1.0 + rules.start_level).max(0.1))
    }
}
