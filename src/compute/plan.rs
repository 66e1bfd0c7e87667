//! The work of one frame, checked once for both back ends.

use ndarray::ArrayView3;

use super::{Luma, Maps, Recipe, Size, Statistic, Unit, Upsampling};
use crate::frame::Plane;
use crate::{Error, Result};

/// Points per block: the unit of work of the kernels.
pub(crate) const BLOCK: usize = 64;

/// Length of the stretches of points whose sums are taken separately and then added in order, on both back ends: at
/// most 64 stretches, whole blocks, at least 256 points.
pub(crate) fn chunk_len(points: usize) -> usize {
    points.div_ceil(64).next_multiple_of(BLOCK).max(4 * BLOCK)
}

/// Squared distance to the own centroid, as a share of the mean squared norm, below which a point is no candidate for
/// an empty cluster: duplicates would be reassigned forever.
pub(crate) const RESEED_SHARE: f32 = 1e-5;

/// Two centroids whose scores for a point differ by no more than this share of its squared norm and of the mean squared
/// norm together are compared again exactly: rounding would decide otherwise, differently on each device, and one
/// flipped label leads to others in later iterations.
pub(crate) const CLOSE_SHARE: f32 = 4e-6;

/// Share of the same by which the later of two centroids must be nearer to win that comparison: exact ties fall to the
/// lower one.
pub(crate) const TIE_SHARE: f64 = 1e-10;

/// Points count as all equal when their mean squared distance from the mean is at most this share of its squared
/// length.
pub(crate) const CONSTANT_SHARE: f64 = 1e-12;

/// The clustering of a frame has settled when at most one point in this many changes its cluster: half as many
/// iterations as to the last label, and no score that is worse for it (`docs/accuracy.md`).
const SETTLED: usize = 128;

/// The same after a warm start from the last frame's centroids.
const SETTLED_WARM: usize = 32;

/// Pixels per grid pixel, along each axis, at which the picture guides the upsampling.
pub(crate) const FINE: usize = 4;

/// The term added to the variance of the luma (0 black, 1 white) in the guided filter: edges of less contrast than its
/// root, 0.017, count as none.
pub(crate) const EPSILON: f32 = 3e-4;

/// The terms of a score, gathered: `constant + sum_s coefficient[s] * statistic[s]`, once per pixel and once for the
/// value that is averaged over clusters (the mean is linear, so one mean serves all terms).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Blend {
    pub msp: f32,
    pub max_logit: f32,
    pub entropy: f32,
    pub energy: f32,
    pub rba: f32,
    pub no_object: f32,
    pub bank: f32,
    pub constant: f32,
}

impl Blend {
    fn of(recipe: &Recipe, unit: Unit) -> Self {
        let mut blend = Self::default();
        for term in recipe.terms.iter().filter(|t| t.unit == unit) {
            let coefficient = term.weight / term.deviation;
            blend.constant -= coefficient * term.mean;
            *match term.statistic {
                Statistic::Msp => &mut blend.msp,
                Statistic::MaxLogit => &mut blend.max_logit,
                Statistic::Entropy => &mut blend.entropy,
                Statistic::Energy => &mut blend.energy,
                Statistic::Rba => &mut blend.rba,
                Statistic::NoObject => &mut blend.no_object,
                Statistic::Bank => &mut blend.bank,
            } += coefficient;
        }
        blend
    }

    /// Whether the sums over the queries' shares are needed at all.
    pub fn needs_queries(&self) -> bool {
        self.rba != 0.0 || self.no_object != 0.0
    }

    /// Whether the softmax is needed at all.
    pub fn needs_exponentials(&self) -> bool {
        self.msp != 0.0 || self.entropy != 0.0 || self.energy != 0.0
    }
}

/// One frame's work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// `(height, width)` of the grid.
    pub grid: (usize, usize),
    /// Pixels of the grid, N.
    pub pixels: usize,
    /// Feature dimensions of all maps together, D; 0 when features are not needed.
    pub dims: usize,
    /// Whether K-Means runs.
    pub clusters: bool,
    /// Whether the distance to the codebook is needed.
    pub bank: bool,
    /// Whether the picture guides the upsampling.
    pub guided: bool,
    pub pixel: Blend,
    pub cluster: Blend,
}

impl Plan {
    /// Checks shapes, recipe and values.
    pub fn new(maps: &Maps<'_>, recipe: &Recipe, target: Size) -> Result<Self> {
        check_recipe(recipe, target)?;
        let clusters = recipe.terms.iter().any(|t| t.unit == Unit::Cluster);
        let bank = recipe.terms.iter().any(|t| t.statistic == Statistic::Bank);
        check_logits(maps, recipe)?;
        match maps.features.first() {
            Some(first) => shape(Output::Features(0), first)?,
            None => shape(Output::Logits, &maps.logits)?,
        };
        let Size { width, height } = recipe.grid.size(maps);
        let (grid, pixels) = ((height, width), width * height);
        let mut dims = 0;
        if clusters || bank {
            if maps.features.is_empty() {
                return Err(Error::failed("the model gives no features, and the method needs them")
                    .hint("tap a feature map with `oodstream model tap`, or choose a pixel method such as max-logit"));
            }
            for (i, map) in maps.features.iter().enumerate() {
                dims += shape(Output::Features(i), map)?.0;
            }
        }
        if clusters {
            if recipe.k.is_empty() {
                return Err(Error::usage("k: a cluster term needs at least one number of clusters"));
            }
            for &k in &recipe.k {
                check_k(k, pixels)?;
            }
        }
        if bank {
            check_codebook(recipe, dims)?;
        }
        let guided = recipe.upsampling == Upsampling::Guided;
        if guided {
            check_picture(maps.picture)?;
        }
        check_finite(Output::Logits, &maps.logits)?;
        if dims > 0 {
            for (i, map) in maps.features.iter().enumerate() {
                check_finite(Output::Features(i), map)?;
            }
        }
        Ok(Self {
            grid,
            pixels,
            dims,
            clusters,
            bank,
            guided,
            pixel: Blend::of(recipe, Unit::Pixel),
            cluster: Blend::of(recipe, Unit::Cluster),
        })
    }
}

impl Plan {
    /// `(height, width)` from which the score is bilinearly upsampled to the target.
    pub fn fine(&self) -> (usize, usize) {
        let scale = if self.guided { FINE } else { 1 };
        (scale * self.grid.0, scale * self.grid.1)
    }

    /// Labels that may still change when a clustering has settled; `warm`: it began with the last frame's centroids.
    pub fn settled(&self, warm: bool) -> usize {
        self.pixels / if warm { SETTLED_WARM } else { SETTLED }
    }

    /// For the features alone.
    pub fn for_features(maps: &Maps<'_>) -> Result<Self> {
        let Some(first) = maps.features.first() else {
            return Err(Error::failed("the model gives no features"));
        };
        let (_, height, width) = shape(Output::Features(0), first)?;
        let mut plan = Self {
            grid: (height, width),
            pixels: height * width,
            dims: 0,
            clusters: false,
            bank: false,
            guided: false,
            pixel: Blend::default(),
            cluster: Blend::default(),
        };
        for (i, map) in maps.features.iter().enumerate() {
            plan.dims += shape(Output::Features(i), map)?.0;
            check_finite(Output::Features(i), map)?;
        }
        Ok(plan)
    }
}

/// An output of the model, named as the manifest has it: `logits`, `features`, `features_1`, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Logits,
    Features(usize),
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Logits => f.write_str("logits"),
            Self::Features(0) => f.write_str("features"),
            Self::Features(i) => write!(f, "features_{i}"),
        }
    }
}

/// Fails unless `1 <= k <= points`.
pub(crate) fn check_k(k: usize, points: usize) -> Result<()> {
    if k == 0 {
        return Err(Error::usage("k: a number of clusters must be at least 1"));
    }
    if k > points {
        return Err(Error::failed(format!("{k} clusters are more than the {points} points"))
            .hint("take a smaller k or a larger feature map"));
    }
    Ok(())
}

fn check_recipe(recipe: &Recipe, target: Size) -> Result<()> {
    if recipe.terms.is_empty() {
        return Err(Error::usage("the recipe has no terms, so there is nothing to score"));
    }
    for term in &recipe.terms {
        let fine = term.weight.is_finite() && term.mean.is_finite();
        if !fine || !term.deviation.is_finite() || term.deviation <= 0.0 {
            return Err(Error::usage(format!(
                "term {:?} over {:?}: weight {}, mean {} and deviation {} must be finite and the deviation above 0",
                term.statistic, term.unit, term.weight, term.mean, term.deviation
            )));
        }
    }
    if let Some(share) = recipe.smoothing
        && !(0.0..=1.0).contains(&share)
    {
        return Err(Error::usage(format!("smoothing: {share} is not within 0..=1")));
    }
    if target.width == 0 || target.height == 0 {
        return Err(Error::failed(format!("a score map of {} x {} has no pixels", target.width, target.height)));
    }
    Ok(())
}

/// Logits may be missing where no term is made from them.
fn check_logits(maps: &Maps<'_>, recipe: &Recipe) -> Result<()> {
    if maps.has_logits() {
        return shape(Output::Logits, &maps.logits).map(drop);
    }
    match recipe.terms.iter().find(|term| term.statistic.needs_logits()) {
        Some(term) => Err(Error::usage(format!(
            "the statistic {:?} is made from logits, and the model gives features alone",
            term.statistic
        ))
        .hint("`bank` needs features only: `oodstream calibrate` makes its codebook")),
        None => Ok(()),
    }
}

fn check_picture(picture: Option<Luma<'_>>) -> Result<()> {
    let Some(Luma { plane, .. }) = picture else {
        return Err(Error::failed("guided upsampling needs the picture, and the maps came without")
            .hint("set detect.upsampling = \"bilinear\""));
    };
    if !plane.is_whole() {
        let Plane { data, stride, columns, rows } = plane;
        return Err(Error::failed(format!(
            "a picture of {columns}x{rows} with stride {stride} in {} bytes",
            data.len()
        )));
    }
    Ok(())
}

fn check_codebook(recipe: &Recipe, dims: usize) -> Result<()> {
    let Some(codebook) = &recipe.codebook else {
        return Err(Error::usage("the statistic `bank` needs a codebook").hint("make one with `oodstream calibrate`"));
    };
    let (centroids, width) = codebook.centroids.dim();
    if centroids == 0 || width != dims {
        return Err(Error::usage(format!(
            "the codebook is [{centroids}, {width}], but the model's features have {dims} dimensions together"
        ))
        .hint("make a new codebook for this model with `oodstream calibrate`"));
    }
    match codebook.centroids.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(Error::usage(format!("the codebook has a value that is not finite in row {}", at / width))),
        None => Ok(()),
    }
}

fn shape(name: Output, map: &ArrayView3<'_, f32>) -> Result<(usize, usize, usize)> {
    let (channels, height, width) = map.dim();
    if channels == 0 || height == 0 || width == 0 {
        return Err(Error::failed(format!("output `{name}` is empty: [{channels}, {height}, {width}]")));
    }
    if height * width > u32::MAX as usize / 4 {
        return Err(Error::failed(format!("output `{name}` has too many pixels: {height} x {width}")));
    }
    Ok((channels, height, width))
}

fn check_finite(name: Output, map: &ArrayView3<'_, f32>) -> Result<()> {
    let found = match map.as_slice() {
        Some(values) => first_not_finite(values),
        None => map.iter().position(|v| !v.is_finite()),
    };
    let Some(at) = found else { return Ok(()) };
    let (_, height, width) = map.dim();
    let index = [at / (height * width), at / width % height, at % width];
    Err(Error::failed(format!(
        "output `{name}` of the model has a value that is not finite ({}) at [channel, row, column] {index:?}",
        map[index]
    ))
    .hint("the network's input or weights are broken, or it overflows in half precision"))
}

/// Index of the first NaN or infinity. Looks at exponents block by block, which vectorises.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    for (i, block) in values.chunks(1024).enumerate() {
        let top = block.iter().fold(0, |top: u32, v| top.max(v.to_bits() & EXPONENT));
        if top == EXPONENT {
            return block.iter().position(|v| !v.is_finite()).map(|at| i * 1024 + at);
        }
    }
    None
}
