//! All that a frame of one shape needs on the device: buffers, bind groups and the order of the passes.

use std::sync::Arc;

use super::buffers::{Buffers, segments};
use super::builder::{Builder, Command, Draft};
use super::device::Context;
use super::guided::Guided;
use super::params::{ClusterMean, Frame, Fuse, Keep, Start};
use super::passes::{bank, centre, lloyd, read_band, seed, upsample};
use super::shape::{Shape, Spec, bands};
use super::transfer::{Readback, Staging, Upload};
use crate::Result;

/// The commands and buffers.
pub(super) struct Program {
    pub spec: Arc<Spec>,
    pub staging: Staging,
    pub layout: Readback,
    /// Points with padding.
    pub padded: usize,
    /// Centroids to start from, not centred, `[total, D]`.
    pub carried: wgpu::Buffer,
    /// Centroids of this frame, not centred, `[total, D]`.
    pub kept: wgpu::Buffer,
    /// Score of the last frame, `[N]`.
    pub last: wgpu::Buffer,
    /// Score of this frame, `[N]`.
    pub grid: wgpu::Buffer,
    pub prepare: Vec<Command>,
    /// K-Means from k-means++ and from given centroids.
    pub cold: Vec<Command>,
    pub warm: Vec<Command>,
    pub means: Vec<Command>,
    /// Without and with the last frame's score.
    pub fuse_first: Vec<Command>,
    pub fuse_next: Vec<Command>,
    pub finish: Vec<Command>,
    pub bytes: u64,
}

impl Program {
    pub fn new(context: &Context, spec: Spec) -> Result<Self> {
        let builder = Builder::new(context);
        let b = &builder;
        let limit = context.info.max_binding;
        let stored = context.stored();
        let shape = Shape::new(&spec, limit, stored);
        let segments = segments(b, &shape, limit)?;
        let mut tables = Vec::new();
        let bands = bands(&spec, &mut tables, limit, stored)?;
        let shared = Buffers::new(b, &spec, &shape, &tables, &bands)?;
        let mut staging = Staging::default();
        for band in &bands {
            let at = staging.bytes;
            staging.uploads.push(Upload { map: band.map, row: band.row, rows: band.rows, at });
            staging.bytes += band.bytes;
        }
        let (carried, kept) =
            (b.words("carried", shape.total * shape.dims)?, b.words("kept", shape.total * shape.dims)?);
        let (last, grid) = (b.words("last score", shape.n)?, b.words("grid score", shape.n)?);

        let mut prepare = Vec::new();
        for (band, upload) in bands.iter().zip(&staging.uploads) {
            prepare.push(Draft::Upload { from_at: upload.at, to: shared.input.clone(), bytes: band.bytes });
            read_band(b, &spec, band, &segments, &shared, &mut prepare);
        }
        if shape.dims > 0 {
            centre(b, &shape, &segments, &shared, &mut prepare);
        }
        if let Some(codebook) = spec.codebook.as_ref().filter(|_| spec.plan.bank) {
            bank(b, &spec, &shape, codebook, &segments, &shared, &mut prepare)?;
        }
        let (mut cold, mut warm, mut means) = (Vec::new(), Vec::new(), Vec::new());
        if shape.total > 0 {
            seed(b, &spec, &shape, &segments, &shared, &mut cold)?;
            lloyd(b, &spec, spec.settled[0], &shape, &segments, &shared, &mut cold);
            let dims = shape.dims as u32;
            let params = Start { first: 0, source: 0, dims, centred: 0 };
            let buffers = [&carried, &shared.mean, &shared.centroids, &shared.offsets];
            warm.push(b.dispatch(params, &buffers, [shape.total, 1, 1]));
            lloyd(b, &spec, spec.settled[1], &shape, &segments, &shared, &mut warm);
            let buffers = [&shared.centroids, &shared.mean, &kept];
            means.push(b.dispatch(Keep { dims }, &buffers, [shape.total, 1, 1]));
            if spec.logits.is_some() {
                let params = ClusterMean { n: shape.n as u32, label_stride: shape.padded as u32 };
                let buffers = [&shared.runs, &shared.run_of, &shared.labels, &shared.statistics, &shared.clusters];
                means.push(b.dispatch(params, &buffers, [shape.total, 1, 1]));
            }
        }
        let fuse = |share: f32| {
            let (n, label_stride) = (shape.n as u32, shape.padded as u32);
            let params = Fuse { n, label_stride, runs: shape.runs as u32, share };
            let buffers = [&shared.runs, &shared.labels, &shared.clusters, &shared.statistics, &last, &grid];
            vec![b.dispatch(params, &buffers, [shape.n.div_ceil(64), 1, 1])]
        };
        let (mut fuse_first, mut fuse_next, mut finish) = (Vec::new(), Vec::new(), Vec::new());
        let mut layout = Readback::default();
        let mut results = Vec::new();
        let mut take = |from: &wgpu::Buffer, bytes: usize| {
            let at = layout.bytes;
            results.push((from.clone(), at, bytes as u64));
            layout.bytes += (bytes as u64).next_multiple_of(16);
            at
        };
        if spec.logits.is_some() {
            (fuse_first, fuse_next) = (fuse(1.0), fuse(spec.smoothing.unwrap_or(1.0)));
            let quads = (spec.target.width * spec.target.height).div_ceil(4);
            let (score, mask) = (b.words("score", quads * 4)?, b.words("mask", quads)?);
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let frame = b.buffer("frame", size_of::<Frame>() as u64, usage, false)?;
            prepare.push(stage(&mut staging.frame, &mut staging.bytes, &frame, size_of::<Frame>() as u64));
            let from = if spec.plan.guided {
                let Guided { guide, fine } = Guided::new(b, &spec.plan, &grid, &mut finish)?;
                prepare.push(stage(&mut staging.guide, &mut staging.bytes, &guide, guide.size()));
                fine
            } else {
                grid.clone()
            };
            finish.push(upsample(b, &spec, &from, &frame, &score, &mask)?);
            layout.score = take(&score, quads * 16);
            layout.mask = take(&mask, quads * 4);
            layout.grid = take(&grid, shape.n * 4);
        }
        if shape.total > 0 {
            layout.labels = take(&shared.labels, shape.runs * shape.padded * 4);
            layout.clusters = take(&shared.clusters, shape.total * 16);
            layout.runs = take(&shared.runs, shape.runs * 16);
            if spec.logits.is_none() {
                layout.centroids = take(&kept, shape.total * shape.dims * 4);
            }
        }
        finish.extend(results.into_iter().map(|(from, to_at, bytes)| Draft::Download { from, to_at, bytes }));
        let [prepare, cold, warm, means, fuse_first, fuse_next, finish] =
            builder.finish([prepare, cold, warm, means, fuse_first, fuse_next, finish])?;
        let (padded, bytes) = (shape.padded, builder.bytes());
        Ok(Self {
            spec: Arc::new(spec),
            staging,
            layout,
            padded,
            carried,
            kept,
            last,
            grid,
            prepare,
            cold,
            warm,
            means,
            fuse_first,
            fuse_next,
            finish,
            bytes,
        })
    }
}

/// An upload of `bytes` to `buffer`, at `place` behind all that is staged so far.
fn stage(place: &mut Option<u64>, staged: &mut u64, buffer: &wgpu::Buffer, bytes: u64) -> Draft {
    let at = *place.insert(*staged);
    *staged += bytes;
    Draft::Upload { from_at: at, to: buffer.clone(), bytes }
}
