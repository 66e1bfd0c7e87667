//! All that a frame of one shape needs on the device: buffers, bind groups and the order of the passes.

use std::sync::Arc;

use super::super::plan::{Plan, chunk_len};
use super::super::resample::{Axis, Resample};
use super::super::{Codebook, Size};
use super::builder::{Builder, Draft, Step};
use super::device::Context;
use super::guided::Guided;
use super::passes::{bank, centre, lloyd, read_band, seed, upsample};
use super::shader::Shader;
use crate::{Error, Result};

/// Points per tile of the assignment.
pub(super) const TILE: usize = 256;

/// What a program is made for; a frame with another one gets another program.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub plan: Plan,
    /// `[C, h, w]`; none for K-Means alone.
    pub logits: Option<[usize; 3]>,
    /// `[D_i, h_i, w_i]` of the maps that are needed.
    pub features: Vec<[usize; 3]>,
    pub target: Size,
    pub k: Vec<usize>,
    pub seed: u64,
    pub max_iterations: usize,
    pub unit_length: bool,
    pub threshold: f32,
    pub smoothing: Option<f32>,
    pub codebook: Option<Arc<Codebook>>,
    /// Labels that may still change when a run has settled, from a cold and from a warm start.
    pub settled: [usize; 2],
}

/// A stretch of map rows that travels to the device at once.
pub(super) struct Upload {
    /// 0: logits, else feature map `map - 1`.
    pub map: usize,
    pub row: usize,
    pub rows: usize,
    /// Place in the staging buffer, in bytes.
    pub at: u64,
}

/// Where in the readback buffer results lie, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Readback {
    pub score: u64,
    pub mask: u64,
    pub grid: u64,
    pub labels: u64,
    pub clusters: u64,
    pub runs: u64,
    pub centroids: u64,
    pub bytes: u64,
}

/// The steps and buffers.
pub(super) struct Program {
    pub spec: Arc<Spec>,
    pub uploads: Vec<Upload>,
    /// Place of the guide in the staging buffer, in bytes.
    pub guide_at: Option<u64>,
    /// Bytes that go up.
    pub staged: u64,
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
    pub prepare: Vec<Step>,
    /// K-Means from k-means++ and from given centroids.
    pub cold: Vec<Step>,
    pub warm: Vec<Step>,
    pub means: Vec<Step>,
    /// Without and with the last frame's score.
    pub fuse_first: Vec<Step>,
    pub fuse_next: Vec<Step>,
    pub finish: Vec<Step>,
    pub bytes: u64,
}

/// Some of the points, in a buffer that can be bound.
pub(super) struct Segment {
    pub first: usize,
    /// Points with padding.
    pub stride: usize,
    pub points: wgpu::Buffer,
}

pub(super) struct Shape {
    pub n: usize,
    pub dims: usize,
    pub padded: usize,
    pub stretch: usize,
    pub stretches: usize,
    pub tiles: usize,
    pub total: usize,
    pub runs: usize,
}

/// Buffers that several passes share.
pub(super) struct Shared {
    pub tables: wgpu::Buffer,
    pub input: wgpu::Buffer,
    pub statistics: wgpu::Buffer,
    pub norms: wgpu::Buffer,
    pub mean: wgpu::Buffer,
    pub sums: wgpu::Buffer,
    pub counts: wgpu::Buffer,
    pub runs: wgpu::Buffer,
    pub first_runs: wgpu::Buffer,
    pub run_of: wgpu::Buffer,
    pub sizes: wgpu::Buffer,
    pub labels: wgpu::Buffer,
    pub tiles: wgpu::Buffer,
    pub centroids: wgpu::Buffer,
    pub offsets: wgpu::Buffer,
    pub clusters: wgpu::Buffer,
}

impl Program {
    pub fn new(context: &Context, spec: Spec) -> Result<Self> {
        let builder = Builder::new(context);
        let b = &builder;
        let limit = context.info.max_binding;
        let stored = context.stored();
        let shape = shape(&spec, limit, stored);
        let segments = segments(b, &shape, limit)?;
        let mut tables = Vec::new();
        let bands = bands(&spec, &mut tables, limit, stored)?;
        let shared = shared(b, &spec, &shape, &tables, &bands)?;
        let (mut at, mut guide_at) = (0, None);
        let mut uploads = Vec::new();
        for band in &bands {
            uploads.push(Upload { map: band.map, row: band.row, rows: band.rows, at });
            at += band.bytes;
        }
        let (carried, kept) =
            (b.words("carried", shape.total * shape.dims)?, b.words("kept", shape.total * shape.dims)?);
        let (last, grid) = (b.words("last score", shape.n)?, b.words("grid score", shape.n)?);

        let mut prepare = Vec::new();
        for (band, upload) in bands.iter().zip(&uploads) {
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
            let params = [0, 0, shape.dims as u32, 0];
            let buffers = [&carried, &shared.mean, &shared.centroids, &shared.offsets];
            warm.push(b.dispatch(Shader::Start, &params, &buffers, [shape.total, 1, 1]));
            lloyd(b, &spec, spec.settled[1], &shape, &segments, &shared, &mut warm);
            let buffers = [&shared.centroids, &shared.mean, &kept];
            means.push(b.dispatch(Shader::Keep, &[shape.dims as u32, 0, 0, 0], &buffers, [shape.total, 1, 1]));
            if spec.logits.is_some() {
                let params = [shape.n as u32, shape.padded as u32, 0, 0];
                let buffers = [&shared.runs, &shared.run_of, &shared.labels, &shared.statistics, &shared.clusters];
                means.push(b.dispatch(Shader::ClusterMean, &params, &buffers, [shape.total, 1, 1]));
            }
        }
        let fuse = |share: f32| {
            let params = [shape.n as u32, shape.padded as u32, shape.runs as u32, share.to_bits()];
            let buffers = [&shared.runs, &shared.labels, &shared.clusters, &shared.statistics, &last, &grid];
            vec![b.dispatch(Shader::Fuse, &params, &buffers, [shape.n.div_ceil(64), 1, 1])]
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
            let from = if spec.plan.guided {
                let Guided { guide, fine } = Guided::new(b, &spec.plan, &grid, &mut finish)?;
                let bytes = guide.size();
                prepare.push(Draft::Upload { from_at: at, to: guide, bytes });
                guide_at = Some(at);
                at += bytes;
                fine
            } else {
                grid.clone()
            };
            finish.push(upsample(b, &spec, &from, &score, &mask)?);
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
            uploads,
            guide_at,
            staged: at,
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

pub(super) fn copy(from: &wgpu::Buffer, from_at: u64, to: &wgpu::Buffer, to_at: u64, bytes: u64) -> Draft {
    Draft::Copy { from: from.clone(), from_at, to: to.clone(), to_at, bytes }
}

fn shape(spec: &Spec, limit: u64, stored: usize) -> Shape {
    let (n, dims) = (spec.plan.pixels, spec.plan.dims);
    let total: usize = spec.k.iter().sum();
    let mut stretch = chunk_len(n);
    // Fewer, longer stretches where their sums would not fit, as long as the points of one do.
    let sums = |stretch: usize| (n.div_ceil(stretch) * total.max(1) * dims * 8) as u64;
    while sums(stretch) > limit && (2 * stretch * dims * stored) as u64 <= limit {
        stretch *= 2;
    }
    let padded = n.next_multiple_of(TILE);
    Shape { n, dims, padded, stretch, stretches: n.div_ceil(stretch), tiles: padded / TILE, total, runs: spec.k.len() }
}

/// Splits the points so that each part can be bound; a part holds whole stretches.
fn segments(b: &Builder<'_>, shape: &Shape, limit: u64) -> Result<Vec<Segment>> {
    if shape.dims == 0 {
        return Ok(Vec::new());
    }
    let stored = b.context.stored();
    let fits = (limit / (shape.dims * stored) as u64) as usize / shape.stretch * shape.stretch;
    if fits == 0 {
        let bytes = shape.dims * shape.stretch * stored;
        return Err(Error::failed(format!(
            "{} points of {} dimensions take {bytes} bytes, but the adapter allows a binding of {limit}",
            shape.stretch, shape.dims
        ))
        .hint("use --compute cpu"));
    }
    let mut segments = Vec::new();
    for first in (0..shape.padded).step_by(fits) {
        let stride = fits.min(shape.padded - first);
        segments.push(Segment { first, stride, points: b.words("points", shape.dims * stride * stored / 4)? });
    }
    Ok(segments)
}

/// Rows of one map, and the grid rows that they are enough for.
pub(super) struct Band {
    pub map: usize,
    pub row: usize,
    pub rows: usize,
    pub bytes: u64,
    pub grid_rows: std::ops::Range<usize>,
    /// Offsets into the tables: starts and weights of x, of y; and taps of both.
    pub tables: [usize; 4],
    pub taps: [usize; 2],
}

/// Splits the maps into bands that can be bound, and fills in the resampling tables.
fn bands(spec: &Spec, tables: &mut Vec<u32>, limit: u64, stored: usize) -> Result<Vec<Band>> {
    let mut bands = Vec::new();
    let maps = spec.logits.iter().map(|m| (0, m)).chain((1..).zip(&spec.features));
    for (map, &[channels, height, width]) in maps {
        let Resample { x, y } = Resample::to_grid((height, width), spec.plan.grid);
        let mut table = |values: &mut dyn Iterator<Item = u32>| {
            let at = tables.len();
            tables.extend(values);
            at
        };
        let mut axis = |axis: &Axis| {
            [table(&mut axis.start.iter().copied()), table(&mut axis.weights.iter().map(|w| w.to_bits()))]
        };
        let ([x_start, x_weight], [y_start, y_weight]) = (axis(&x), axis(&y));
        let row_bytes = (channels * width * if map == 0 { 4 } else { stored }) as u64;
        let most = (limit / row_bytes) as usize;
        let mut first = 0;
        while first < y.output {
            let row = y.start[first] as usize;
            let end_of = |grid_row: usize| y.start[grid_row] as usize + y.taps;
            let mut last = first;
            if end_of(first) - row > most {
                let bytes = (end_of(first) - row) as u64 * row_bytes;
                return Err(Error::failed(format!(
                    "one grid row of a map takes {bytes} bytes, but the adapter allows a binding of {limit}"
                ))
                .hint("use --compute cpu"));
            }
            while last + 1 < y.output && end_of(last + 1) - row <= most {
                last += 1;
            }
            let rows = end_of(last) - row;
            bands.push(Band {
                map,
                row,
                rows,
                // Copies go by four bytes.
                bytes: (rows as u64 * row_bytes).next_multiple_of(4),
                grid_rows: first..last + 1,
                tables: [x_start, x_weight, y_start, y_weight],
                taps: [x.taps, y.taps],
            });
            first = last + 1;
        }
    }
    Ok(bands)
}

fn shared(b: &Builder<'_>, spec: &Spec, shape: &Shape, tables: &[u32], bands: &[Band]) -> Result<Shared> {
    let &Shape { n, dims, padded, stretches, tiles, total, runs, .. } = shape;
    let input = bands.iter().map(|band| band.bytes).max().unwrap_or(0) as usize / 4;
    let mut first_runs = Vec::new();
    let mut run_of = Vec::new();
    for (r, &k) in (0..).zip(&spec.k) {
        first_runs.extend([k as u32, run_of.len() as u32, 1, 0]);
        run_of.extend(std::iter::repeat_n(r, k));
    }
    Ok(Shared {
        tables: b.filled("tables", tables)?,
        input: b.words("input", input)?,
        statistics: b.words("statistics", n * 4)?,
        norms: b.words("squared lengths", padded)?,
        mean: b.words("mean", dims + 2)?,
        sums: b.words("sums", stretches * total.max(1) * dims * 2)?,
        counts: b.words("counts", stretches * total.max(1))?,
        runs: b.words("runs", runs * 4)?,
        first_runs: b.filled("runs at first", &first_runs)?,
        run_of: b.filled("run of cluster", &run_of)?,
        sizes: b.words("sizes", total)?,
        labels: b.words("labels", runs.max(1) * padded)?,
        tiles: b.words("tiles", runs.max(1) * tiles * 4)?,
        centroids: b.words("centroids", total * dims)?,
        offsets: b.words("offsets", total)?,
        clusters: b.words("clusters", total * 4)?,
    })
}
