//! The dense maths on the GPU: one submission per frame, data up once and results down once, two frames at a time.

mod buffers;
mod builder;
mod device;
mod flight;
mod guided;
mod kmeans;
mod params;
mod passes;
mod program;
mod shader;
mod shape;
mod transfer;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ndarray::ArrayView3;

use self::device::Context;
pub use self::device::{AdapterInfo, adapters};
use self::flight::Flight;
use self::params::Frame;
use self::program::Program;
use self::shape::Spec;
use self::transfer::{Inputs, Pool, Scratch};
use super::cpu::{Guide, Level};
use super::plan::Plan;
use super::report::{self, Step};
use super::scene::Signature;
use super::{Backend, Collected, Detection, Maps, Recipe, Target};
use crate::{Error, Result};

/// Programs in the cache, one per shape of frame and recipe; more where there are more streams, since each may have a
/// shape of its own.
const PROGRAMS: usize = 4;

/// Frames in flight: one is uploaded or read back while the device works on the other.
const DEPTH: usize = 2;

/// The GPU back end.
pub struct Gpu {
    context: Arc<Context>,
    software: bool,
    limit: u64,
    /// Whether a lost device has been replaced once already.
    rebuilt: bool,
    /// The most recently used last.
    programs: Vec<Program>,
    programs_built: u64,
    /// The shapes and K of a `Spec` that was not needed, for the next frame's.
    lists: (Vec<[usize; 3]>, Vec<usize>),
    /// In the order of submission; none for a frame that was lost with its device.
    flights: VecDeque<Option<Flight>>,
    pool: Pool,
    streams: HashMap<u32, StreamState>,
    spare: Signature,
    guide: Guide,
    level: Level,
    scratch: Scratch,
    steps: Vec<Step>,
    peak: u64,
}

/// A stream's state between frames; all but the scene is on the device.
struct StreamState {
    scene: Signature,
    /// The K, D and unit length that the centroids belong to.
    seeded: Option<(Vec<usize>, usize, bool)>,
    centroids: Option<wgpu::Buffer>,
    /// Pixels of the smoothed score.
    smoothed: Option<usize>,
    score: Option<wgpu::Buffer>,
}

impl StreamState {
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
        Self::with(software, u64::MAX, false)
    }

    /// As [`Gpu::new`], with features stored as f16: half the upload and memory, and labels and scores that are no
    /// longer those of the CPU to the last bit. All arithmetic stays in f32.
    ///
    /// # Errors
    /// As [`Gpu::new`], or the adapter lacks `SHADER_F16`.
    pub fn with_f16(software: bool) -> Result<Self> {
        Self::with(software, u64::MAX, true)
    }

    /// As [`Gpu::new`], with no binding larger than `limit` bytes: for tests of how large maps are split.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    #[doc(hidden)]
    #[cfg(any(test, feature = "internals"))]
    pub fn with_binding_limit(software: bool, limit: u64) -> Result<Self> {
        Self::with(software, limit, false)
    }

    fn with(software: bool, limit: u64, half: bool) -> Result<Self> {
        Ok(Self {
            context: Arc::new(Context::open(software, limit, half)?),
            software,
            limit,
            rebuilt: false,
            programs: Vec::new(),
            programs_built: 0,
            lists: Default::default(),
            flights: VecDeque::with_capacity(DEPTH),
            pool: Pool::default(),
            streams: HashMap::new(),
            spare: Signature::default(),
            guide: Guide::default(),
            level: Level::best(),
            scratch: Scratch::default(),
            steps: Vec::with_capacity(report::STEPS),
            peak: 0,
        })
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.context.info
    }

    /// Device buffers made so far: constant once a stream has warmed up.
    #[cfg(any(test, feature = "internals"))]
    pub fn buffers_created(&self) -> u64 {
        self.context.buffers()
    }

    /// Programs built so far: one per shape of frame, however many streams take turns.
    #[cfg(any(test, feature = "internals"))]
    pub fn programs_built(&self) -> u64 {
        self.programs_built
    }

    /// Loses the device as a driver reset would; for tests.
    #[doc(hidden)]
    #[cfg(any(test, feature = "internals"))]
    pub fn lose_device(&self) {
        self.context.device.destroy();
    }

    /// Takes a new device in place of a lost one, once. What was carried over is gone with the old one.
    fn rebuild(&mut self) -> Result<()> {
        let reason = self.context.check().err().unwrap_or_else(|| Error::failed("the device was lost"));
        if self.rebuilt {
            return Err(reason.at("lost for the second time"));
        }
        tracing::warn!("{reason}; opening it again");
        self.rebuilt = true;
        self.programs.clear();
        self.pool.clear();
        self.flights.iter_mut().for_each(|flight| *flight = None);
        self.streams.clear();
        self.context = Arc::new(Context::open(self.software, self.limit, self.context.half)?);
        Ok(())
    }

    /// Makes the program for `spec` the last one, building it where there is none.
    fn program(&mut self, spec: Spec) -> Result<()> {
        if let Some(at) = self.programs.iter().position(|p| *p.spec == spec) {
            let program = self.programs.remove(at);
            self.programs.push(program);
            self.lists = (spec.features, spec.k);
            return Ok(());
        }
        while self.programs.len() >= PROGRAMS.max(self.streams.len()) {
            let old = self.programs.remove(0);
            self.context.forget(old.bytes);
        }
        let program = Program::new(&self.context, spec)?;
        self.programs_built += 1;
        self.programs.push(program);
        self.context.check()
    }

    fn try_submit(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        plan: &Plan,
        target: Target,
        mut out: Detection,
    ) -> Result<Flight> {
        let begin = Instant::now();
        self.streams.entry(stream).or_insert_with(StreamState::new);
        let needed = if plan.dims > 0 { maps.features } else { &[] };
        let dim = |m: &ArrayView3<'_, f32>| <[usize; 3]>::from(m.dim());
        let zero =
            ArrayView3::from_shape((1, 1, 1), &[0.0]).map_err(|error| Error::failed(format!("logits: {error}")))?;
        // Without classes one logit of 0 for all pixels, which nothing is made from.
        let logits = if maps.has_logits() { maps.logits } else { zero };
        let (mut features, mut k) = std::mem::take(&mut self.lists);
        features.clear();
        features.extend(needed.iter().map(dim));
        k.clear();
        k.extend(recipe.k.iter().filter(|_| plan.clusters));
        self.program(Spec {
            plan: plan.clone(),
            logits: Some(dim(&logits)),
            features,
            target: target.size,
            k,
            seed: recipe.seed,
            max_iterations: recipe.max_iterations,
            unit_length: recipe.unit_length,
            smoothing: recipe.smoothing,
            codebook: recipe.codebook.clone().filter(|_| plan.bank),
            settled: [plan.settled(false), plan.settled(true)],
        })?;
        let Self { programs, context, pool, streams, spare, guide, level, scratch, steps, .. } = self;
        let Some(program) = programs.last() else { return Err(Error::failed("no program")) };
        let begin = report::step(steps, "program", begin);
        let carried = streams.entry(stream).or_insert_with(StreamState::new);
        if (recipe.warm_start || recipe.smoothing.is_some()) && carried.scene.update(maps, spare) {
            carried.forget();
        }
        let warm = plan.clusters && recipe.warm_start && carried.can_seed(plan, recipe);
        let smooth = carried.smoothed == Some(plan.pixels);
        if let Some(picture) = maps.picture.filter(|_| plan.guided) {
            guide.fill(&picture, plan.fine(), *level, |count, task| (0..count).for_each(task));
        }
        let frame = Frame { threshold: target.threshold };
        let source = Inputs { logits: Some(logits), features: needed, guide: &guide.luma, frame };
        let slot = pool.take(context, program.staging.bytes, program.layout.bytes)?;
        transfer::write(&program.staging, &slot, &source, context.half, scratch)?;
        let begin = report::step(steps, "upload", begin);

        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        builder::encode(context, &slot, &mut encoder, program.prepare.iter());
        if let (true, Some(centroids)) = (warm, &carried.centroids) {
            encoder.copy_buffer_to_buffer(centroids, 0, &program.carried, 0, program.carried.size());
        }
        builder::encode(
            context,
            &slot,
            &mut encoder,
            if warm { &program.warm } else { &program.cold }.iter().chain(&program.means),
        );
        if let (true, Some(score)) = (smooth, &carried.score) {
            encoder.copy_buffer_to_buffer(score, 0, &program.last, 0, program.last.size());
        }
        let fuse = if smooth { &program.fuse_next } else { &program.fuse_first };
        builder::encode(context, &slot, &mut encoder, fuse.iter().chain(&program.finish));
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
        let submission = slot.submit(context, encoder.finish());
        report::step(steps, "submit", begin);
        out.threshold = target.threshold;
        let Program { spec, layout, padded, .. } = program;
        Ok(Flight { slot, submission, spec: spec.clone(), layout: *layout, padded: *padded, out })
    }

    fn try_collect(&mut self, mut flight: Flight) -> Result<Detection> {
        let begin = Instant::now();
        let results = flight.wait(&self.context)?;
        let begin = report::step(&mut self.steps, "compute", begin);
        flight.read(&results);
        drop(results);
        self.pool.give_back(flight.slot);
        report::step(&mut self.steps, "download", begin);
        Ok(flight.out)
    }
}

/// Copies a frame's result to where the stream keeps it; the buffer is replaced only when the size has changed.
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
        let software = if info.software { ", software" } else { "" };
        let half = if self.context.half { ", features in f16" } else { "" };
        format!("{} ({}, {}{software}{half})", info.name, info.api, info.driver)
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, stream: u32, maps: &Maps<'_>, recipe: &Recipe, target: Target, out: Detection) -> Result<()> {
        self.steps.clear();
        super::check_room(self.flights.len(), DEPTH)?;
        let begin = Instant::now();
        let plan = Plan::new(maps, recipe, target.size)?;
        report::step(&mut self.steps, "check", begin);
        if self.context.is_lost() && self.flights.is_empty() {
            self.rebuild()?;
        }
        // Frames behind a lost one are lost too; `collect` reports them together.
        let mut flight = None;
        if !self.context.is_lost() && self.flights.iter().all(Option::is_some) {
            let tried = self.try_submit(stream, maps, recipe, &plan, target, out);
            self.peak = self.peak.max(self.context.bytes());
            if tried.is_err() {
                self.context.settle();
            }
            if !self.context.is_lost() {
                flight = Some(tried?);
            }
        }
        self.flights.push_back(flight);
        Ok(())
    }

    fn collect(&mut self) -> Result<Collected> {
        let flight = self.flights.pop_front().ok_or_else(super::nothing_in_flight)?;
        let found = flight.map(|flight| self.try_collect(flight));
        if self.context.is_lost() {
            self.flights.clear();
            self.rebuild()?;
            return Ok(Collected::Resubmit);
        }
        let found = found.transpose().and_then(|found| self.context.check().map(|()| found));
        if let Ok(Some(detection)) = found {
            return Ok(Collected::Done(detection));
        }
        self.flights.clear();
        found.map(|_| Collected::Resubmit)
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
