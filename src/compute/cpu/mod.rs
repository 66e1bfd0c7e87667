//! The dense maths on the CPU: SIMD chosen at run time, its own thread pool, no allocation per frame.

mod aligned;
mod assign;
mod bank;
mod features;
mod guide;
mod guided;
mod lloyd;
mod points;
mod pool;
mod seed;
mod statistic;
mod upsample;

use std::collections::HashMap;
use std::num::NonZero;
use std::time::Instant;

use ndarray::{Array2, ArrayView2};

use self::bank::Bank;
use self::features::Gather;
pub(crate) use self::guide::Guide;
use self::guided::Guided;
use self::lloyd::Lloyd;
use self::points::Points;
use self::pool::Pool;
use self::seed::Seeding;
use self::statistic::Statistics;
use self::upsample::Upsample;
use super::kmeans::{self, Clustering, KMeans, Seeds};
use super::plan::Plan;
use super::report::{self, Step};
use super::scene::Signature;
use super::{Backend, Collected, Detection, Maps, Recipe, Target};
use crate::Result;
pub(crate) use crate::simd::Level;

/// The CPU back end.
pub struct Cpu {
    level: Level,
    pool: Pool,
    gather: Gather,
    points: Points,
    seeding: Seeding,
    lloyd: Lloyd,
    bank: Bank,
    statistics: Statistics,
    guide: Guide,
    guided: Guided,
    upsample: Upsample,
    /// Score summed from pixel and cluster terms, `[N]`.
    score: Vec<f32>,
    /// Mean of the cluster terms per cluster.
    means: Vec<f32>,
    sums: Vec<f64>,
    spare: Signature,
    streams: HashMap<u32, StreamState>,
    steps: Vec<Step>,
    /// The finished frame that has not been collected yet.
    done: Option<Detection>,
}

/// A stream's state between frames.
#[derive(Default)]
struct StreamState {
    scene: Signature,
    /// The K of the last frame; empty when there is none to start from.
    k: Vec<usize>,
    dims: usize,
    unit_length: bool,
    /// `[sum of K][dims]`, not mean-centred.
    centroids: Vec<f32>,
    /// Smoothed grid score; empty when there is none.
    smooth: Vec<f32>,
}

impl StreamState {
    fn clear(&mut self) {
        self.scene.clear();
        self.forget();
    }

    fn forget(&mut self) {
        self.k.clear();
        self.smooth.clear();
    }

    fn can_seed(&self, plan: &Plan, recipe: &Recipe) -> bool {
        self.k == recipe.k && self.dims == plan.dims && self.unit_length == recipe.unit_length
    }
}

impl Cpu {
    /// `threads` counts the caller; `None` takes all cores.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        Self::with_level(Level::best(), threads)
    }

    /// One per instruction set that this CPU can run, best first: for tests that hold them equal.
    ///
    /// # Errors
    /// A thread could not be started.
    #[cfg(any(test, feature = "internals"))]
    pub fn all_levels(threads: Option<usize>) -> Result<Vec<Self>> {
        Level::available().into_iter().map(|level| Self::with_level(level, threads)).collect()
    }

    fn with_level(level: Level, threads: Option<usize>) -> Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            level,
            pool: Pool::new(threads.unwrap_or_else(cores))?,
            gather: Gather::default(),
            points: Points::default(),
            seeding: Seeding::default(),
            lloyd: Lloyd::default(),
            bank: Bank::default(),
            statistics: Statistics::default(),
            guide: Guide::default(),
            guided: Guided::default(),
            upsample: Upsample::default(),
            score: Vec::new(),
            means: Vec::new(),
            sums: Vec::new(),
            spare: Signature::default(),
            streams: HashMap::new(),
            steps: Vec::with_capacity(report::STEPS),
            done: None,
        })
    }

    /// The features of one frame as the clustering sees them, before the mean is taken off: `[N, D]`. What a codebook
    /// is made from.
    ///
    /// # Errors
    /// As [`Backend::detect`].
    pub fn grid_features(&mut self, maps: &Maps<'_>, unit_length: bool) -> Result<Array2<f32>> {
        let plan = Plan::for_features(maps)?;
        self.points.resize(plan.pixels, plan.dims);
        self.gather.fill(maps.features, plan.grid, unit_length, &mut self.points, self.level, &mut self.pool);
        let (stride, dims) = (self.points.stride, plan.dims);
        Ok(Array2::from_shape_fn((plan.pixels, dims), |(i, d)| self.points.rows[i * stride + d]))
    }

    fn cluster(&mut self, stream: &mut StreamState, plan: &Plan, recipe: &Recipe) {
        let Self { level, pool, points, lloyd, seeding, steps, .. } = self;
        let begin = Instant::now();
        lloyd.resize(points, recipe.k.iter().copied());
        let warm = recipe.warm_start && stream.can_seed(plan, recipe);
        if warm {
            lloyd.start_from_rows(points, stream.centroids.chunks_exact(plan.dims));
        } else {
            let most = recipe.k.iter().copied().max().unwrap_or(0);
            seeding.draw(points, most, recipe.seed, *level, pool);
            lloyd.start_from_points(points, &seeding.seeds);
        }
        let begin = report::step(steps, "seed", begin);
        lloyd.iterate(points, recipe.max_iterations, plan.settled(warm), *level, pool);
        if recipe.warm_start {
            stream.k.clone_from(&recipe.k);
            (stream.dims, stream.unit_length) = (plan.dims, recipe.unit_length);
            stream.centroids.clear();
            for row in lloyd.centroids.chunks_exact(points.stride) {
                stream.centroids.extend(row[..plan.dims].iter().zip(points.mean.iter()).map(|(c, m)| c + m));
            }
        }
        report::step(steps, "lloyd", begin);
    }

    /// Scores one frame.
    fn score(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        target: Target,
        out: &mut Detection,
    ) -> Result<()> {
        self.steps.clear();
        let begin = Instant::now();
        let plan = Plan::new(maps, recipe, target.size)?;
        let begin = report::step(&mut self.steps, "check", begin);
        self.statistics.fill(&maps.logits, &plan, self.level, &mut self.pool);
        let mut begin = report::step(&mut self.steps, "confidence", begin);
        if plan.dims > 0 {
            self.points.resize(plan.pixels, plan.dims);
            self.gather.fill(
                maps.features,
                plan.grid,
                recipe.unit_length,
                &mut self.points,
                self.level,
                &mut self.pool,
            );
            self.points.centre(self.level, &mut self.pool);
            begin = report::step(&mut self.steps, "features", begin);
        }
        if let (true, Some(codebook)) = (plan.bank, &recipe.codebook) {
            self.bank.fill(codebook.centroids.view(), &self.points, self.level, &mut self.pool);
            self.statistics.add_bank(&self.bank.distance, &plan);
            report::step(&mut self.steps, "bank", begin);
        }
        let mut carried = std::mem::take(self.streams.entry(stream).or_default());
        if (recipe.warm_start || recipe.smoothing.is_some()) && carried.scene.update(maps, &mut self.spare) {
            carried.forget();
        }
        if plan.clusters {
            self.cluster(&mut carried, &plan, recipe);
        }
        let begin = Instant::now();
        self.fuse(&plan, out);
        if let Some(share) = recipe.smoothing {
            smooth(&mut carried.smooth, &mut self.score, share);
        }
        *self.streams.entry(stream).or_default() = carried;
        resize(&mut out.grid_score, plan.grid);
        out.grid_score.iter_mut().zip(&self.score).for_each(|(to, s)| *to = *s);
        let begin = report::step(&mut self.steps, "fuse", begin);
        let Target { size: wanted, threshold } = target;
        let size = (wanted.height, wanted.width);
        out.threshold = threshold;
        let (to_score, to_mask) = (resize(&mut out.score, size), resize(&mut out.mask, size));
        let Self { guide, guided, upsample, score, level, pool, .. } = self;
        let (from, begin) = match maps.picture.filter(|_| plan.guided) {
            None => (&*score, begin),
            Some(picture) => {
                guide.fill(&picture, plan.fine(), *level, |count, task| pool.run(count, task));
                let begin = report::step(&mut self.steps, "guide", begin);
                guided.run(plan.grid, score, &guide.luma, *level, pool);
                (&guided.fine, report::step(&mut self.steps, "edges", begin))
            }
        };
        let marked = upsample.run(plan.fine(), from, wanted, threshold, to_score, to_mask, *level, pool);
        out.ood_share = (marked as f64 / (size.0 * size.1) as f64) as f32;
        report::step(&mut self.steps, "upsample", begin);
        Ok(())
    }

    /// Cluster means, and the score of each pixel from them.
    fn fuse(&mut self, plan: &Plan, out: &mut Detection) {
        let Self { lloyd, statistics, score, means, sums, .. } = self;
        score.clear();
        score.extend_from_slice(&statistics.pixel);
        out.clusters.clear();
        out.iterations.clear();
        if !plan.clusters {
            resize(&mut out.labels, (0, plan.pixels));
            return;
        }
        resize(&mut out.labels, (lloyd.runs.len(), plan.pixels));
        let share = 1.0 / lloyd.runs.len() as f32;
        let rows = lloyd.labels.chunks_exact(plan.pixels).zip(out.labels.rows_mut());
        for (run, (labels, mut row)) in lloyd.runs.iter().zip(rows) {
            let sizes = &lloyd.sizes[run.first..run.first + run.k];
            kmeans::cluster_means(labels, sizes, &statistics.cluster, sums, means);
            for (s, &label) in score.iter_mut().zip(labels) {
                *s += share * means[label as usize];
            }
            kmeans::cluster_means(labels, sizes, &statistics.confidence, sums, means);
            out.clusters.extend(sizes.iter().zip(&*means).map(|(&pixels, &mean_confidence)| super::Cluster {
                k: run.k,
                pixels,
                mean_confidence,
            }));
            out.iterations.push(run.iterations);
            row.iter_mut().zip(labels).for_each(|(to, l)| *to = *l);
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn describe(&self) -> String {
        format!("{} x {}", self.pool.threads(), self.level.name())
    }

    fn submit(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        target: Target,
        mut out: Detection,
    ) -> Result<()> {
        super::check_room(usize::from(self.done.is_some()), self.depth())?;
        self.score(stream, maps, recipe, target, &mut out)?;
        self.done = Some(out);
        Ok(())
    }

    fn collect(&mut self) -> Result<Collected> {
        self.done.take().map(Collected::Done).ok_or_else(super::nothing_in_flight)
    }

    fn reset(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.clear();
        }
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Clustering for Cpu {
    fn kmeans(&mut self, data: ArrayView2<'_, f32>, seeds: Seeds<'_>, max_iterations: usize) -> Result<KMeans> {
        let k = kmeans::check(&data, &seeds)?;
        let Self { level, pool, points, lloyd, seeding, .. } = self;
        points.resize(data.nrows(), data.ncols());
        for (to, from) in points.rows.chunks_exact_mut(points.stride).zip(data.rows()) {
            match from.as_slice() {
                Some(from) => to[..from.len()].copy_from_slice(from),
                None => to.iter_mut().zip(from).for_each(|(t, v)| *t = *v),
            }
        }
        points.centre(*level, pool);
        lloyd.resize(points, std::iter::once(k));
        match seeds {
            Seeds::PlusPlus { k, seed } => {
                seeding.draw(points, k, seed, *level, pool);
                lloyd.start_from_points(points, &seeding.seeds);
            }
            Seeds::Given(rows) => {
                let rows = rows.as_standard_layout();
                lloyd.start_from_rows(points, rows.as_slice().unwrap_or_default().chunks_exact(data.ncols()));
            }
        }
        lloyd.iterate(points, max_iterations, 0, *level, pool);
        let stride = points.stride;
        let centroids =
            Array2::from_shape_fn((k, data.ncols()), |(j, d)| lloyd.centroids[j * stride + d] + points.mean[d]);
        Ok(KMeans { labels: lloyd.labels.clone(), centroids, iterations: lloyd.runs[0].iterations })
    }
}

/// `score = share * score + (1 - share) * last`, and remembers it.
fn smooth(last: &mut Vec<f32>, score: &mut [f32], share: f32) {
    if last.len() == score.len() {
        for (s, l) in score.iter_mut().zip(&*last) {
            *s = share * *s + (1.0 - share) * l;
        }
    }
    last.clear();
    last.extend_from_slice(score);
}

/// Gives the array this shape, allocating only when it has another, and returns its values.
pub(crate) fn resize<T: Clone + Default>(array: &mut Array2<T>, shape: (usize, usize)) -> &mut [T] {
    if array.dim() != shape || !array.is_standard_layout() {
        *array = Array2::default(shape);
    }
    array.as_slice_mut().unwrap_or_default()
}
