//! Single pictures, without GStreamer.

use std::path::Path;

use ndarray::Array2;

use super::engine;
use crate::compute::{self, Backend, Detection, Luma, Maps, Recipe, Size, Target};
use crate::config::Config;
use crate::frame::{I420, Plane, Range};
use crate::model::runtime::Network;
use crate::model::views::inference::FrameInference;
use crate::model::views::rgb::{RgbPicture, luma};
use crate::ood::region::{Region, RegionFinder};
use crate::{Error, Result};

/// Regions under this share of the picture are left out.
const MIN_AREA_SHARE: f32 = 0.0005;

/// Finds the unknown in single pictures: network, clustering and threshold as a run has them, without a video around
/// them.
///
/// Pictures are independent of each other: nothing is carried from one to the next.
///
/// ```no_run
/// use oodstream::{Config, Detector};
///
/// # fn main() -> oodstream::Result<()> {
/// let mut detector = Detector::new(None, &Config::default())?;
/// let rgb = vec![0; 640 * 360 * 3]; // packed RGB, row by row
/// let finding = detector.detect_rgb(&rgb, 640, 360)?;
/// println!("{:.2} % unknown in {} regions", 100.0 * finding.ood_share, finding.regions.len());
/// # Ok(())
/// # }
/// ```
pub struct Detector {
    network: Network,
    backend: Box<dyn Backend>,
    recipe: Recipe,
    threshold: f32,
    inference: FrameInference,
    detection: Detection,
    regions: RegionFinder,
    luma: Vec<u8>,
}

/// The unknown in one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The score of each pixel, `[height, width]` of the picture; higher is more anomalous.
    pub score: Array2<f32>,
    /// 1 where `score >= threshold`, else 0; `[height, width]`.
    pub mask: Array2<u8>,
    /// Share of marked pixels, 0..1.
    pub ood_share: f32,
    /// The threshold in force.
    pub threshold: f32,
    /// The 8-connected regions of the mask that cover at least 0.05 % of the picture.
    pub regions: Vec<Region>,
}

impl Detector {
    /// Loads `model`, an ONNX file (the default model when `None`), with the settings of `config`.
    ///
    /// # Errors
    /// The model does not load, or a setting does not fit it. A threshold must be known from the configuration, the
    /// model's manifest or a calibration.
    pub fn new(model: Option<&Path>, config: &Config) -> Result<Self> {
        let mut config = config.clone();
        if let Some(model) = model {
            config.model.path = Some(model.into());
        }
        config.check()?;
        let network = engine::network(&config)?;
        let views = config.model.views(network.manifest());
        let engine::Score { recipe, threshold, .. } = engine::score(&network, &views, &config)?;
        let threshold = threshold.ok_or_else(|| {
            Error::usage(format!(
                "method `{}` has no threshold with model {}",
                config.detect.method,
                network.path().display()
            ))
            .hint("set detect.threshold, or make a calibration with `oodstream calibrate`")
        })?;
        let backend = compute::open_with(config.detect.compute, config.model.threads, config.detect.gpu_f16)?;
        Ok(Self {
            inference: FrameInference::new(&network, views)?,
            network,
            backend,
            recipe: Recipe { warm_start: false, smoothing: None, ..recipe },
            threshold,
            detection: Detection::default(),
            regions: RegionFinder::new(MIN_AREA_SHARE),
            luma: Vec::new(),
        })
    }

    /// The class names of the network, in the order of [`Region::nearest_class`].
    pub fn classes(&self) -> &[String] {
        &self.network.manifest().classes.names
    }

    /// Finds the unknown in a packed RGB picture of `width * height * 3` bytes.
    ///
    /// # Errors
    /// The length does not fit the size, or the network fails.
    pub fn detect_rgb(&mut self, rgb: &[u8], width: u32, height: u32) -> Result<Finding> {
        let picture = RgbPicture::new(rgb, width, height)?;
        let (columns, rows) = picture.size();
        let target = Target { size: Size { width: columns, height: rows }, threshold: self.threshold };
        let Self { network, backend, recipe, inference, detection, regions, luma: samples, .. } = self;
        luma(&picture, samples);
        inference.run_rgb(network, &picture, |maps| {
            let plane = Plane { data: samples, stride: columns, columns, rows };
            let maps = Maps { picture: Some(Luma { plane, range: Range::Full }), ..*maps };
            find(backend.as_mut(), recipe, &maps, target, detection, regions)
        })
    }

    /// Finds the unknown in an I420 picture.
    ///
    /// # Errors
    /// The planes do not fit together, or the network fails.
    pub fn detect_i420(&mut self, picture: &I420<'_>) -> Result<Finding> {
        picture.check()?;
        let size = Size { width: picture.width(), height: picture.height() };
        let target = Target { size, threshold: self.threshold };
        let Self { network, backend, recipe, inference, detection, regions, .. } = self;
        inference.run(network, picture, |maps| {
            let luma = Luma { plane: picture.y, range: picture.colour.range };
            let maps = Maps { picture: Some(luma), ..*maps };
            find(backend.as_mut(), recipe, &maps, target, detection, regions)
        })
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector")
            .field("model", &self.network.path())
            .field("recipe", &self.recipe)
            .finish_non_exhaustive()
    }
}

fn find(
    backend: &mut dyn Backend,
    recipe: &Recipe,
    maps: &Maps<'_>,
    target: Target,
    detection: &mut Detection,
    regions: &mut RegionFinder,
) -> Result<Finding> {
    backend.detect(0, maps, recipe, target, detection)?;
    let regions = regions.find(detection, maps.logits)?.to_vec();
    Ok(Finding {
        score: detection.score.clone(),
        mask: detection.mask.clone(),
        ood_share: detection.ood_share,
        threshold: detection.threshold,
        regions,
    })
}
