//! The passes over the kept scores: pixel metrics of the whole set and of each image, then component metrics.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::components::{ComponentMetrics, ComponentScorer, SizeLimits, Tally};
use super::gather::Gathered;
use super::metrics::{PixelCounts, PixelMetrics, pixel_metrics};
use super::ranking::{Exact, Group, Histogram, key, score_of};
use super::truth::Truth;
use crate::Result;
use crate::lock::lock;

/// Up to this many pixels (4 bytes each) a set is ranked exactly, above it in a histogram.
pub const EXACT_PIXELS: u64 = 1 << 26;
/// Bars of a score histogram.
const BARS: usize = 64;

/// The metrics of one method over a set.
#[derive(Debug, Clone)]
pub struct MethodResult {
    /// The method.
    pub name: String,
    /// Over all pixels of the set; `None` where the set lacks anomalous or known pixels.
    pub pixels: Option<PixelMetrics>,
    /// Over all components of the set, at the threshold of the best pixel F1.
    pub components: Option<ComponentMetrics>,
    /// Scores of known and anomalous pixels, for drawing.
    pub bars: ScoreBars,
    /// Image by image, in the order of the samples.
    pub images: Vec<ImageResult>,
}

/// The metrics of one method on one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageResult {
    /// Name within the set.
    pub name: String,
    /// `None` where the image lacks anomalous or known pixels; without its curve.
    pub pixels: Option<PixelMetrics>,
    /// At the set's threshold.
    pub components: Option<ComponentMetrics>,
}

/// Two histograms over the same range; shares of all pixels of the kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreBars {
    /// Left edge of the first bar.
    pub low: f32,
    /// Right edge of the last bar.
    pub high: f32,
    /// Known pixels.
    pub known: Vec<f64>,
    /// Anomalous pixels.
    pub anomalous: Vec<f64>,
}

/// The ranking of a set, filled image by image.
enum Ranking {
    Exact { positives: Vec<u32>, negatives: Vec<u32> },
    Binned(Box<Histogram>),
}

impl Ranking {
    fn add(&mut self, new_positives: &[u32], new_negatives: &[u32]) {
        match self {
            Self::Exact { positives, negatives } => {
                positives.extend_from_slice(new_positives);
                negatives.extend_from_slice(new_negatives);
            }
            Self::Binned(histogram) => histogram.add(new_positives, new_negatives),
        }
    }
}

/// Pixels of each kind over all images.
pub fn total_counts(truths: &[Truth]) -> PixelCounts {
    let mut counts = PixelCounts::default();
    for truth in truths {
        counts += truth.counts();
    }
    counts
}

/// Measures method `index`, called `name`; `progress` is called once for each image and pass, that is twice an image.
///
/// # Errors
/// A score map cannot be read; the message names it.
pub fn measure(
    gathered: &Gathered,
    index: usize,
    name: &str,
    limits: SizeLimits,
    exact_pixels: u64,
    progress: &(dyn Fn() + Sync),
) -> Result<MethodResult> {
    let counts = total_counts(&gathered.truths);
    let ranking = if counts.anomalous + counts.known <= exact_pixels {
        Ranking::Exact {
            positives: Vec::with_capacity(counts.anomalous as usize),
            negatives: Vec::with_capacity(counts.known as usize),
        }
    } else {
        let mut sample = Vec::new();
        for image in 0..gathered.samples.len() {
            sample.extend(gathered.scores.sample(index, image)?.into_iter().step_by(3));
        }
        Ranking::Binned(Box::new(Histogram::for_scores(sample)))
    };
    let ranking = Mutex::new(ranking);
    let images = (0..gathered.samples.len())
        .into_par_iter()
        .map(|image| {
            let (positives, negatives) = keys(gathered, index, image)?;
            let counts = gathered.truths[image].counts();
            lock(&ranking).add(&positives, &negatives);
            let mut pixels = pixel_metrics(Exact::new(positives, negatives).groups(), counts);
            if let Some(pixels) = &mut pixels {
                pixels.curve = Vec::new();
            }
            progress();
            Ok(ImageResult { name: gathered.samples[image].name.clone(), pixels, components: None })
        })
        .collect::<Result<Vec<_>>>()?;
    let (pixels, bars) = match ranking.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Ranking::Exact { positives, negatives } => {
            let exact = Exact::new(positives, negatives);
            (pixel_metrics(exact.groups(), counts), bars(|| exact.groups(), counts))
        }
        Ranking::Binned(histogram) => (pixel_metrics(histogram.groups(), counts), bars(|| histogram.groups(), counts)),
    };
    let mut result = MethodResult { name: name.to_owned(), pixels, components: None, bars, images };
    if let Some(threshold) = result.pixels.as_ref().map(|pixels| pixels.best_threshold) {
        measure_components(gathered, index, threshold, limits, &mut result, progress)?;
    }
    Ok(result)
}

/// Sort keys of the anomalous and the known pixels of one image.
fn keys(gathered: &Gathered, method: usize, image: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    let truth = &gathered.truths[image];
    let mut scores = Vec::new();
    gathered.scores.load(method, image, truth.height(), truth.width(), &mut scores)?;
    let counts = truth.counts();
    let mut positives = Vec::with_capacity(counts.anomalous as usize);
    let mut negatives = Vec::with_capacity(counts.known as usize);
    truth.for_each(&scores, |anomalous, stretch| {
        let keys = if anomalous { &mut positives } else { &mut negatives };
        keys.extend(stretch.iter().map(|&score| key(score)));
    });
    Ok((positives, negatives))
}

fn measure_components(
    gathered: &Gathered,
    method: usize,
    threshold: f32,
    limits: SizeLimits,
    result: &mut MethodResult,
    progress: &(dyn Fn() + Sync),
) -> Result<()> {
    let threshold = key(threshold);
    let tallies = (0..gathered.samples.len())
        .into_par_iter()
        .map_init(
            || (ComponentScorer::default(), Vec::new()),
            |(scorer, scores), image| {
                let truth = &gathered.truths[image];
                gathered.scores.load(method, image, truth.height(), truth.width(), scores)?;
                // Keys, not scores, are compared: a bin's edge may be no score at all.
                let tally = scorer.score(|i| key(scores[i]) >= threshold, &truth.pixels(), truth.width(), limits);
                progress();
                Ok(tally)
            },
        )
        .collect::<Result<Vec<Tally>>>()?;
    let mut all = Tally::default();
    for (image, tally) in result.images.iter_mut().zip(&tallies) {
        image.components = Some(tally.metrics());
        all.add(tally);
    }
    result.components = Some(all.metrics());
    Ok(())
}

/// Bars from the 0.2 % to the 99.8 % quantile of each kind, what lies outside going to the outermost bars.
fn bars<I: Iterator<Item = Group>>(groups: impl Fn() -> I, counts: PixelCounts) -> ScoreBars {
    let mut low = u32::MAX;
    let mut high = 0;
    let (mut positives, mut negatives) = (0_u64, 0_u64);
    for group in groups().filter(|group| group.score.is_finite()) {
        positives += group.positives;
        negatives += group.negatives;
        for (seen, all, here) in
            [(positives, counts.anomalous, group.positives), (negatives, counts.known, group.negatives)]
        {
            if here > 0 && seen * 500 >= all {
                high = high.max(key(group.score));
            }
            if here > 0 && (seen - here) * 500 <= all * 499 {
                low = low.min(key(group.score));
            }
        }
    }
    if low > high {
        return ScoreBars::default();
    }
    let (low, high) = (score_of(low), score_of(high));
    let mut bars = ScoreBars { low, high, known: vec![0.0; BARS], anomalous: vec![0.0; BARS] };
    let width = (f64::from(high) - f64::from(low)).max(f64::MIN_POSITIVE);
    for group in groups() {
        let place = (f64::from(group.score) - f64::from(low)) / width * BARS as f64;
        let bar = (place.max(0.0) as usize).min(BARS - 1);
        bars.known[bar] += group.negatives as f64 / counts.known.max(1) as f64;
        bars.anomalous[bar] += group.positives as f64 / counts.anomalous.max(1) as f64;
    }
    bars
}
