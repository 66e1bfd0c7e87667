//! The dense maths of one frame behind one trait, with two equal implementations: WGSL compute shaders and SIMD on the
//! CPU.
//!
//! Shapes: logits `[C, h, w]`, features `[D_i, h_i, w_i]`; the *grid* has the size of one of these maps, see [`Grid`].
//! Everything is brought to the grid (area average when shrinking, bilinear when growing; `docs/method.md` M2), the
//! features of all maps are made unit length each and concatenated to `[D, N]` with `D = sum D_i` and `N` grid pixels.

pub mod cpu;
pub mod gpu;
mod kmeans;
mod open;
mod plan;
mod random;
mod report;
mod resample;
mod scene;

use std::sync::Arc;

use ndarray::{Array2, ArrayView3};

pub use self::gpu::{AdapterInfo, Gpu, adapters};
pub use self::kmeans::{Clustering, KMeans, Seeds};
pub use self::open::{ComputeChoice, has_hardware_adapter, open, open_with};
pub use self::report::Step;
use crate::frame::{Plane, Range};
use crate::{Error, Result};

/// The network's maps of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Maps<'a> {
    /// Raw logits before any softmax, `[C, h, w]`; `[0, h, w]` where the network has no classes.
    pub logits: ArrayView3<'a, f32>,
    /// One or more feature maps, `[D_i, h_i, w_i]`. Empty: pixel statistics only.
    pub features: &'a [ArrayView3<'a, f32>],
    /// The frame itself; needed for [`Upsampling::Guided`].
    pub picture: Option<Luma<'a>>,
}

impl Maps<'_> {
    /// Whether the network has classes.
    pub fn has_logits(&self) -> bool {
        self.logits.dim().0 > 0
    }
}

/// Luma of a frame, of any size; it covers what the maps cover.
#[derive(Debug, Clone, Copy)]
pub struct Luma<'a> {
    /// 8-bit samples.
    pub plane: Plane<'a>,
    /// The code values of black and white.
    pub range: Range,
}

/// The way from the score on the grid to the score at the frame's size.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum Upsampling {
    /// Bilinear, half-pixel centres, edges clamped (`docs/method.md` M9).
    #[default]
    Bilinear,
    /// A fast guided filter (He and Sun, arXiv 1505.00996) to four times the grid, then bilinear.
    Guided,
}

/// The map whose size the grid has (`docs/method.md` M2); without features the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// The first feature map.
    #[default]
    Features,
    /// The first feature map or the logits, whichever has more pixels.
    Finest,
}

impl Grid {
    /// Its size for these maps.
    pub fn size(self, maps: &Maps<'_>) -> Size {
        let size = |map: &ArrayView3<'_, f32>| Size { width: map.dim().2, height: map.dim().1 };
        let logits = size(&maps.logits);
        match maps.features.first().map(size) {
            Some(features) if self == Self::Features || !maps.has_logits() || features.area() >= logits.area() => {
                features
            }
            _ => logits,
        }
    }

    /// Its name in files and reports.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A measure of how unknown a pixel is; for all of them higher means more anomalous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// `-max_c softmax(L)_c`
    Msp,
    /// `-max_c L_c`, the paper's confidence, negated.
    MaxLogit,
    /// `-sum_c p_c ln p_c`, in nats.
    Entropy,
    /// `-ln sum_c exp L_c`
    Energy,
    /// `-sum_c tanh L_c`: rejected by all queries (RbA, arXiv 2211.14293); `L` folded from a query-mask network.
    Rba,
    /// `1 - sum_c L_c`: the share of the pixel that no query claims for a class; `L` folded from a query-mask network.
    NoObject,
    /// Euclidean distance of the concatenated unit-length features to the nearest centroid of [`Recipe::codebook`].
    Bank,
}

impl Statistic {
    /// Whether it is defined on logits; features alone are not enough.
    pub fn needs_logits(self) -> bool {
        self != Self::Bank
    }

    /// Whether it is defined on what query-mask networks give only.
    pub fn needs_queries(self) -> bool {
        matches!(self, Self::Rba | Self::NoObject)
    }
}

/// The pixels that a statistic is averaged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Each pixel alone.
    Pixel,
    /// The mean over the pixel's K-Means cluster, averaged over all of [`Recipe::k`] (`docs/method.md` M6, M7).
    Cluster,
}

/// One summand of a score: `weight * (statistic - mean) / deviation`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The measure.
    pub statistic: Statistic,
    /// The pixels it is averaged over.
    pub unit: Unit,
    /// Share in the sum.
    #[serde(default = "one")]
    pub weight: f32,
    /// Mean of the statistic on ordinary footage.
    #[serde(default)]
    pub mean: f32,
    /// Standard deviation of the statistic on ordinary footage, > 0.
    #[serde(rename = "std", default = "one")]
    pub deviation: f32,
}

fn one() -> f32 {
    1.0
}

/// Centroids of ordinary features, `[M, D]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    /// Row-major `[M, D]`, in the space of the concatenated features.
    pub centroids: Array2<f32>,
}

/// The score: how a frame's score map is made from the network's maps.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The summands; the score of a pixel is their sum.
    pub terms: Vec<Term>,
    /// The numbers of clusters of the ensemble; unused when no term has [`Unit::Cluster`].
    pub k: Vec<usize>,
    /// Seed of k-means++.
    pub seed: u64,
    /// Upper bound on Lloyd iterations per K; it stops earlier when at most one label in 128 changes, or in 32 after a
    /// warm start.
    pub max_iterations: usize,
    /// Scale each feature vector to unit length first (`docs/method.md` M3; default on).
    pub unit_length: bool,
    /// Needed by [`Statistic::Bank`].
    pub codebook: Option<Arc<Codebook>>,
    /// Seed K-Means with the stream's last centroids (video); off for still images.
    pub warm_start: bool,
    /// Exponential smoothing of the grid score over time: `s = a * new + (1 - a) * old`; `None` is off. In 0..=1.
    pub smoothing: Option<f32>,
    /// The grid on which it is computed.
    pub grid: Grid,
    /// From the grid to the target.
    pub upsampling: Upsampling,
}

/// The result wanted of one frame: its size and the threshold of its mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The size of score map and mask.
    pub size: Size,
    /// Pixels with `score >= threshold` are marked.
    pub threshold: f32,
}

impl Target {
    /// A score map alone; nothing is marked.
    pub fn scores(size: Size) -> Self {
        Self { size, threshold: f32::INFINITY }
    }
}

impl Recipe {
    /// The size from which the score is bilinearly upsampled to the target: the grid, or four times it where the
    /// picture guides. A target of this size gets the score as it is.
    pub fn fine_size(&self, grid: Size) -> Size {
        let scale = match self.upsampling {
            Upsampling::Bilinear => 1,
            Upsampling::Guided => plan::FINE,
        };
        Size { width: scale * grid.width, height: scale * grid.height }
    }
}

/// One cluster of one K, for reports and the paper's cluster decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// The K of the run it belongs to.
    pub k: usize,
    /// Pixels in it, on the grid.
    pub pixels: u32,
    /// Mean over its pixels of `max_c L_c` (`docs/method.md` M6).
    pub mean_confidence: f32,
}

/// The result of one frame. It is used again for later frames, so that nothing is allocated after the first one.
#[derive(Debug, Clone, Default)]
pub struct Detection {
    /// Score on the grid `[rows, columns]`, higher = more anomalous.
    pub grid_score: Array2<f32>,
    /// The same, upsampled to the target `[height, width]` as [`Recipe::upsampling`] says.
    pub score: Array2<f32>,
    /// 1 where `score >= threshold`, else 0; `[height, width]`.
    pub mask: Array2<u8>,
    /// The threshold of the mask.
    pub threshold: f32,
    /// Per K in the order of [`Recipe::k`], the cluster of each grid pixel `[K runs, N]`.
    pub labels: Array2<u32>,
    /// Clusters of all K, in order.
    pub clusters: Vec<Cluster>,
    /// Lloyd iterations per K.
    pub iterations: Vec<usize>,
    /// Share of marked pixels in the mask, 0..1.
    pub ood_share: f32,
}

/// The outcome of [`Backend::collect`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per frame")]
pub enum Collected {
    /// The result of the frame that was submitted first.
    Done(Detection),
    /// The device was replaced and no frame is in flight any more: all that were have to be submitted again, in the
    /// same order.
    Resubmit,
}

/// A size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    fn area(self) -> usize {
        self.width * self.height
    }
}

/// The two implementations of the dense maths.
///
/// From equal seeds both give equal labels and scores within 1e-4.
pub trait Backend: Clustering + Send {
    /// `cpu` or `gpu`.
    fn name(&self) -> &'static str;

    /// The adapter or the instruction set in use, for display.
    fn describe(&self) -> String;

    /// Frames that may be in flight at once: submitted and not collected yet.
    fn depth(&self) -> usize {
        1
    }

    /// Starts to score one frame of `stream`; `out` is filled and handed back by [`Backend::collect`].
    ///
    /// State that is carried from frame to frame follows the order of submission.
    ///
    /// # Errors
    /// A map of wrong shape, fewer pixels than clusters, NaN or infinite values (the message names the output and the
    /// first place), a missing codebook, a device that is lost for good, or [`Backend::depth`] frames in flight
    /// already. Frames that were in flight before still are.
    fn submit(&mut self, stream: u32, maps: &Maps<'_>, recipe: &Recipe, target: Target, out: Detection) -> Result<()>;

    /// Waits for the frame that was submitted first.
    ///
    /// # Errors
    /// The device failed, or is lost for good; no frame is in flight any more. Or none was.
    fn collect(&mut self) -> Result<Collected>;

    /// Scores one frame of `stream` into `out`; no other may be in flight.
    ///
    /// # Errors
    /// As [`Backend::submit`] and [`Backend::collect`].
    fn detect(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        target: Target,
        out: &mut Detection,
    ) -> Result<()> {
        loop {
            self.submit(stream, maps, recipe, target, std::mem::take(out))?;
            if let Collected::Done(found) = self.collect()? {
                *out = found;
                return Ok(());
            }
        }
    }

    /// Clears the state carried over from earlier frames of `stream` (scene cut, reconnect, end).
    fn reset(&mut self, stream: u32);

    /// The times of the last frame's steps, where the back end measures them; mixed where frames overlap.
    fn steps(&self) -> &[Step] {
        &[]
    }

    /// The peak memory use of a separate device, in bytes.
    fn device_memory(&self) -> Option<u64> {
        None
    }
}

/// Fails when `depth` frames are in flight already.
fn check_room(in_flight: usize, depth: usize) -> Result<()> {
    if in_flight < depth {
        return Ok(());
    }
    Err(Error::failed(format!("{in_flight} frames wait to be collected, and no more than {depth} may be in flight")))
}

fn nothing_in_flight() -> Error {
    Error::failed("no frame is in flight")
}
