//! The dense maths on the GPU: one submission per frame, data up once and results down once.

mod builder;
mod device;
mod passes;
mod program;
mod shader;
mod transfer;

use std::collections::HashMap;
use std::time::Instant;

use ndarray::{Array2, ArrayView2, ArrayView3};

use self::device::Context;
pub use self::device::{AdapterInfo, adapters};
use self::program::{Program, Spec};
use self::transfer::Source;
use super::cpu::resize;
use super::kmeans::{self, Clustering, KMeans, Seeds};
use super::plan::{Blend, CONVERGENCE, Plan};
use super::report::{self, Step};
use super::scene::Signature;
use super::{Backend, Cluster, Detection, Maps, Recipe, Size};
use crate::{Error, Result};

/// Programs that are kept; one per shape of frame and recipe.
const PROGRAMS: usize = 4;

/// The GPU back end.
pub struct Gpu {
    context: Context,
    software: bool,
    limit: u64,
    /// Whether a lost device has been replaced once already.
    rebuilt: bool,
    /// The most recently used last.
    programs: Vec<Program>,
    streams: HashMap<u32, Stream>,
    spare: Signature,
    contiguous: Vec<f32>,
    steps: Vec<Step>,
    peak: u64,
}

/// What is carried from frame to frame, on the device but for the scene.
struct Stream {
    scene: Signature,
    /// The K, D and unit length that the centroids belong to.
    seeded: Option<(Vec<usize>, usize, bool)>,
    centroids: Option<wgpu::Buffer>,
    /// Pixels of the smoothed score.
    smoothed: Option<usize>,
    score: Option<wgpu::Buffer>,
}

impl Stream {
    fn new() -> Self {
        Self { scene: Signature::default(), seeded: None, centroids: None, smoothed: None, score: None }
    }

    fn forget(&mut self) {
        (self.seeded, self.smoothed) = (None, None);
    }

    fn can_seed(&self, plan: &Plan, recipe: &Recipe) -> bool {
        self.seeded.as_ref().is_some_and(|(k, dims, unit_length)| {
            *k == recipe.k && *dims == plan.dims && *unit_length == recipe.unit_length
        })
    }
}

impl Gpu {
    /// Opens the best adapter; a software one only where `software` allows it.
    ///
    /// # Errors
    /// There is no such adapter, or it cannot do what the passes need.
    pub fn new(software: bool) -> Result<Self> {
        Self::with_binding_limit(software, u64::MAX)
    }

    /// As [`Gpu::new`], with no binding larger than `limit` bytes: for tests of how large maps are split.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    #[doc(hidden)]
    pub fn with_binding_limit(software: bool, limit: u64) -> Result<Self> {
        Ok(Self {
            context: Context::open(software, limit)?,
            software,
            limit,
            rebuilt: false,
            programs: Vec::new(),
            streams: HashMap::new(),
            spare: Signature::default(),
            contiguous: Vec::new(),
            steps: Vec::with_capacity(report::STEPS),
            peak: 0,
        })
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.context.info
    }

    /// Device buffers made so far: constant once a stream has warmed up.
    pub fn buffers_created(&self) -> u64 {
        self.context.buffers()
    }

    /// Loses the device as a driver reset would; for tests.
    #[doc(hidden)]
    pub fn lose_device(&self) {
        self.context.device.destroy();
    }

    /// Takes a new device in place of a lost one, once. What was carried over is gone with the old one.
    fn rebuild(&mut self) -> Result<()> {
        let reason = self.context.check().err().unwrap_or_else(|| Error::failed("the device was lost"));
        if self.rebuilt {
            return Err(reason.at("lost for the second time"));
        }
        tracing::warn!("{reason}; opening it anew");
        self.rebuilt = true;
        self.programs.clear();
        self.streams.clear();
        self.context = Context::open(self.software, self.limit)?;
        Ok(())
    }

    /// The program for `spec`, made anew only when there is none; it is the last one.
    fn program(&mut self, spec: Spec) -> Result<()> {
        if let Some(at) = self.programs.iter().position(|p| p.spec == spec) {
            let program = self.programs.remove(at);
            self.programs.push(program);
            return Ok(());
        }
        if self.programs.len() == PROGRAMS {
            let old = self.programs.remove(0);
            self.context.forget(old.bytes);
        }
        let program = Program::new(&self.context, spec)?;
        self.programs.push(program);
        self.peak = self.peak.max(self.context.bytes());
        self.context.check()
    }

    fn try_detect(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        plan: &Plan,
        target: Size,
        out: &mut Detection,
    ) -> Result<()> {
        let begin = Instant::now();
        let needed = if plan.dims > 0 { maps.features } else { &[] };
        let dim = |m: &ArrayView3<'_, f32>| <[usize; 3]>::from(m.dim());
        self.program(Spec {
            plan: plan.clone(),
            logits: Some(dim(&maps.logits)),
            features: needed.iter().map(dim).collect(),
            target,
            k: if plan.clusters { recipe.k.clone() } else { Vec::new() },
            seed: recipe.seed,
            max_iterations: recipe.max_iterations,
            unit_length: recipe.unit_length,
            threshold: recipe.threshold,
            smoothing: recipe.smoothing,
            codebook: recipe.codebook.clone().filter(|_| plan.bank),
            converged: plan.pixels / CONVERGENCE,
        })?;
        let Self { programs, context, streams, spare, contiguous, steps, .. } = self;
        let Some(program) = programs.last_mut() else { return Err(Error::failed("no program")) };
        let begin = report::step(steps, "program", begin);
        let carried = streams.entry(stream).or_insert_with(Stream::new);
        if (recipe.warm_start || recipe.smoothing.is_some()) && carried.scene.update(&maps.logits, spare) {
            carried.forget();
        }
        let warm = plan.clusters && recipe.warm_start && carried.can_seed(plan, recipe);
        let smooth = carried.smoothed == Some(plan.pixels);
        let source = Source { logits: Some(maps.logits), features: needed };
        transfer::write(program, &source, contiguous)?;
        let begin = report::step(steps, "upload", begin);

        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        builder::encode(context, &mut encoder, program.prepare.iter());
        if let (true, Some(centroids)) = (warm, &carried.centroids) {
            encoder.copy_buffer_to_buffer(centroids, 0, &program.carried, 0, program.carried.size());
        }
        builder::encode(
            context,
            &mut encoder,
            if warm { &program.warm } else { &program.cold }.iter().chain(&program.means),
        );
        if let (true, Some(score)) = (smooth, &carried.score) {
            encoder.copy_buffer_to_buffer(score, 0, &program.last, 0, program.last.size());
        }
        let fuse = if smooth { &program.fuse_next } else { &program.fuse_first };
        builder::encode(context, &mut encoder, fuse.iter().chain(&program.finish));
        if plan.clusters && recipe.warm_start {
            keep(context, &mut encoder, &program.kept, &mut carried.centroids)?;
            if !warm {
                carried.seeded = Some((recipe.k.clone(), plan.dims, recipe.unit_length));
            }
        }
        if recipe.smoothing.is_some() {
            keep(context, &mut encoder, &program.grid, &mut carried.score)?;
            carried.smoothed = Some(plan.pixels);
        }
        context.queue.submit([encoder.finish()]);
        let begin = report::step(steps, "submit", begin);
        let results = transfer::wait(context, program)?;
        let begin = report::step(steps, "compute", begin);
        let layout = &program.layout;
        let size = (target.height, target.width);
        results.read(layout.score, resize(&mut out.score, size));
        results.read(layout.mask, resize(&mut out.mask, size));
        results.read(layout.grid, resize(&mut out.grid_score, plan.grid));
        let marked: usize = out.mask.iter().map(|&m| usize::from(m)).sum();
        out.ood_share = (marked as f64 / (size.0 * size.1) as f64) as f32;
        let runs = program.spec.k.len();
        let labels = resize(&mut out.labels, (runs, plan.pixels));
        for (r, row) in labels.chunks_exact_mut(plan.pixels).enumerate() {
            results.read(layout.labels + (r * program.padded * 4) as u64, row);
        }
        out.clusters.clear();
        out.iterations.clear();
        let mut at = layout.clusters;
        for (r, &k) in program.spec.k.iter().enumerate() {
            for _ in 0..k {
                let mut row = [0u32; 4];
                results.read(at, &mut row);
                at += 16;
                out.clusters.push(Cluster { k, pixels: row[0], mean_confidence: f32::from_bits(row[2]) });
            }
            let mut run = [0u32; 4];
            results.read(layout.runs + r as u64 * 16, &mut run);
            out.iterations.push(run[3] as usize);
        }
        drop(results);
        program.readback.unmap();
        report::step(steps, "download", begin);
        Ok(())
    }

    fn try_kmeans(
        &mut self,
        data: ArrayView2<'_, f32>,
        k: usize,
        seeds: Seeds<'_>,
        max_iterations: usize,
    ) -> Result<KMeans> {
        let (n, dims) = data.dim();
        // The points as one feature map of D channels, N rows and one column.
        let map = data.t().insert_axis(ndarray::Axis(2));
        let plan = Plan {
            grid: (n, 1),
            pixels: n,
            dims,
            clusters: true,
            bank: false,
            pixel: Blend::default(),
            cluster: Blend::default(),
        };
        self.program(Spec {
            plan,
            logits: None,
            features: vec![[dims, n, 1]],
            target: Size { width: 1, height: 1 },
            k: vec![k],
            seed: if let Seeds::PlusPlus { seed, .. } = seeds { seed } else { 0 },
            max_iterations,
            unit_length: false,
            threshold: 0.0,
            smoothing: None,
            codebook: None,
            converged: 0,
        })?;
        let Self { programs, context, contiguous, .. } = self;
        let Some(program) = programs.last_mut() else { return Err(Error::failed("no program")) };
        transfer::write(program, &Source { logits: None, features: &[map] }, contiguous)?;
        let start = match seeds {
            Seeds::PlusPlus { .. } => &program.cold,
            Seeds::Given(rows) => {
                let rows: Vec<f32> = rows.iter().copied().collect();
                context.queue.write_buffer(&program.carried, 0, bytemuck::cast_slice(&rows));
                &program.warm
            }
        };
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let steps = program.prepare.iter().chain(start).chain(&program.means).chain(&program.finish);
        builder::encode(context, &mut encoder, steps);
        context.queue.submit([encoder.finish()]);
        let results = transfer::wait(context, program)?;
        let (mut labels, mut centroids, mut run) = (vec![0u32; n], Array2::<f32>::zeros((k, dims)), [0u32; 4]);
        results.read(program.layout.labels, &mut labels);
        results.read(program.layout.centroids, centroids.as_slice_mut().unwrap_or_default());
        results.read(program.layout.runs, &mut run);
        drop(results);
        program.readback.unmap();
        Ok(KMeans { labels, centroids, iterations: run[3] as usize })
    }

    /// Runs `job`, once more on a new device if the first was lost.
    fn with_device<T>(&mut self, mut job: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        if self.context.is_lost() {
            self.rebuild()?;
        }
        let mut result = job(self);
        if self.context.is_lost() {
            self.rebuild()?;
            result = job(self);
        }
        let value = result?;
        self.context.check()?;
        Ok(value)
    }
}

/// Copies a frame's result to where the stream keeps it; the buffer is made anew only when the size has changed.
fn keep(
    context: &Context,
    encoder: &mut wgpu::CommandEncoder,
    from: &wgpu::Buffer,
    to: &mut Option<wgpu::Buffer>,
) -> Result<()> {
    if to.as_ref().is_none_or(|b| b.size() != from.size()) {
        *to = Some(context.buffer("carried over", from.size(), builder::STORAGE, false)?);
    }
    if let Some(to) = to {
        encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
    }
    Ok(())
}

impl Backend for Gpu {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn describe(&self) -> String {
        let info = &self.context.info;
        format!("{} ({}, {}{})", info.name, info.api, info.driver, if info.software { ", software" } else { "" })
    }

    fn detect(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        target: Size,
        out: &mut Detection,
    ) -> Result<()> {
        self.steps.clear();
        let begin = Instant::now();
        let plan = Plan::new(maps, recipe, target)?;
        report::step(&mut self.steps, "check", begin);
        self.with_device(|gpu| gpu.try_detect(stream, maps, recipe, &plan, target, out))
    }

    fn reset(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.scene.clear();
            stream.forget();
        }
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn device_memory(&self) -> Option<u64> {
        Some(self.peak)
    }
}

impl Clustering for Gpu {
    fn kmeans(&mut self, points: ArrayView2<'_, f32>, seeds: Seeds<'_>, max_iterations: usize) -> Result<KMeans> {
        let k = kmeans::check(&points, &seeds)?;
        self.with_device(|gpu| gpu.try_kmeans(points, k, seeds, max_iterations))
    }
}
