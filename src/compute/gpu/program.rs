//! All that a frame of one shape needs on the device: buffers, bind groups and the order of the passes.

use std::sync::Arc;

use super::super::plan::{CLOSE_SHARE, CONSTANT_SHARE, Plan, RESEED_SHARE, TIE_SHARE, chunk_len};
use super::super::random::round_key;
use super::super::resample::{Axis, Resample};
use super::super::{Codebook, Size};
use super::builder::{Builder, Draft, Step};
use super::device::Context;
use super::shader::Shader;
use crate::{Error, Result};

/// Points per tile of the assignment.
const TILE: usize = 256;

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
    /// Labels that may still change when a run that was given its centroids has converged.
    pub converged: usize,
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
    pub spec: Spec,
    pub uploads: Vec<Upload>,
    pub staging: wgpu::Buffer,
    pub readback: wgpu::Buffer,
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
struct Segment {
    first: usize,
    /// Points with padding.
    stride: usize,
    points: wgpu::Buffer,
}

struct Shape {
    n: usize,
    dims: usize,
    padded: usize,
    stretch: usize,
    stretches: usize,
    tiles: usize,
    total: usize,
    runs: usize,
}

/// Buffers that several passes share.
struct Shared {
    tables: wgpu::Buffer,
    input: wgpu::Buffer,
    statistics: wgpu::Buffer,
    norms: wgpu::Buffer,
    mean: wgpu::Buffer,
    sums: wgpu::Buffer,
    counts: wgpu::Buffer,
    runs: wgpu::Buffer,
    first_runs: wgpu::Buffer,
    run_of: wgpu::Buffer,
    sizes: wgpu::Buffer,
    labels: wgpu::Buffer,
    tiles: wgpu::Buffer,
    centroids: wgpu::Buffer,
    offsets: wgpu::Buffer,
    clusters: wgpu::Buffer,
}

impl Program {
    pub fn new(context: &Context, spec: Spec) -> Result<Self> {
        let builder = Builder::new(context);
        let b = &builder;
        let limit = context.info.max_binding;
        let shape = shape(&spec, limit);
        let segments = segments(b, &shape, limit)?;
        let mut tables = Vec::new();
        let bands = bands(&spec, &mut tables, limit)?;
        let shared = shared(b, &spec, &shape, &tables, &bands)?;
        let mut at = 0;
        let mut uploads = Vec::new();
        for band in &bands {
            uploads.push(Upload { map: band.map, row: band.row, rows: band.rows, at });
            at += band.bytes;
        }
        let staging_usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let staging = b.buffer("staging", at, staging_usage, true)?;
        let (carried, kept) =
            (b.words("carried", shape.total * shape.dims)?, b.words("kept", shape.total * shape.dims)?);
        let (last, grid) = (b.words("last score", shape.n)?, b.words("grid score", shape.n)?);

        let mut prepare = Vec::new();
        for (band, upload) in bands.iter().zip(&uploads) {
            prepare.push(copy(&staging, upload.at, &shared.input, 0, band.bytes));
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
            lloyd(b, &spec, &shape, &segments, &shared, 0, &mut cold);
            let params = [0, 0, shape.dims as u32, 0];
            let buffers = [&carried, &shared.mean, &shared.centroids, &shared.offsets];
            warm.push(b.dispatch(Shader::Start, &params, &buffers, [shape.total, 1, 1]));
            lloyd(b, &spec, &shape, &segments, &shared, spec.converged, &mut warm);
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
            finish.push(upsample(b, &spec, &grid, &score, &mask)?);
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
        let readback_usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let readback = b.buffer("readback", layout.bytes, readback_usage, false)?;
        finish.extend(results.iter().map(|(from, at, bytes)| copy(from, 0, &readback, *at, *bytes)));
        let [prepare, cold, warm, means, fuse_first, fuse_next, finish] =
            builder.finish([prepare, cold, warm, means, fuse_first, fuse_next, finish])?;
        let (padded, bytes) = (shape.padded, builder.bytes());
        Ok(Self {
            spec,
            uploads,
            staging,
            readback,
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

fn copy(from: &wgpu::Buffer, from_at: u64, to: &wgpu::Buffer, to_at: u64, bytes: u64) -> Draft {
    Draft::Copy { from: from.clone(), from_at, to: to.clone(), to_at, bytes }
}

fn shape(spec: &Spec, limit: u64) -> Shape {
    let (n, dims) = (spec.plan.pixels, spec.plan.dims);
    let total: usize = spec.k.iter().sum();
    let mut stretch = chunk_len(n);
    // Fewer, longer stretches where their sums would not fit, as long as the points of one do.
    let sums = |stretch: usize| (n.div_ceil(stretch) * total.max(1) * dims * 8) as u64;
    while sums(stretch) > limit && (2 * stretch * dims * 4) as u64 <= limit {
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
    let fits = (limit / (shape.dims as u64 * 4)) as usize / shape.stretch * shape.stretch;
    if fits == 0 {
        let bytes = shape.dims * shape.stretch * 4;
        return Err(Error::failed(format!(
            "{} points of {} dimensions take {bytes} bytes, but the adapter allows a binding of {limit}",
            shape.stretch, shape.dims
        ))
        .hint("use --compute cpu"));
    }
    let mut segments = Vec::new();
    for first in (0..shape.padded).step_by(fits) {
        let stride = fits.min(shape.padded - first);
        segments.push(Segment { first, stride, points: b.words("points", shape.dims * stride)? });
    }
    Ok(segments)
}

/// Rows of one map, and the grid rows that they are enough for.
struct Band {
    map: usize,
    row: usize,
    rows: usize,
    bytes: u64,
    grid_rows: std::ops::Range<usize>,
    /// Offsets into the tables: starts and weights of x, of y; and taps of both.
    tables: [usize; 4],
    taps: [usize; 2],
}

/// Splits the maps into bands that can be bound, and fills in the resampling tables.
fn bands(spec: &Spec, tables: &mut Vec<u32>, limit: u64) -> Result<Vec<Band>> {
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
        let row_bytes = (channels * width * 4) as u64;
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
                bytes: rows as u64 * row_bytes,
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

/// The passes that read one band.
fn read_band(b: &Builder<'_>, spec: &Spec, band: &Band, segments: &[Segment], shared: &Shared, out: &mut Vec<Draft>) {
    let plan = &spec.plan;
    let width = plan.grid.1;
    let (begin, end) = (band.grid_rows.start * width, band.grid_rows.end * width);
    let [x_start, x_weight, y_start, y_weight] = band.tables.map(|t| t as u32);
    let [x_taps, y_taps] = band.taps.map(|t| t as u32);
    let tables = [x_start, x_weight, x_taps, y_start, y_weight, y_taps];
    if band.map == 0 {
        let [classes, _, map_width] = spec.logits.unwrap_or_default();
        let softmax = plan.pixel.needs_exponentials() || plan.cluster.needs_exponentials();
        let mut params = vec![begin, end - begin, width, classes, map_width, band.rows, band.row, usize::from(softmax)]
            .into_iter()
            .map(|v| v as u32)
            .collect::<Vec<_>>();
        params.extend(tables);
        params.extend([0, 0]);
        for blend in [&plan.pixel, &plan.cluster] {
            params.extend([blend.msp, blend.max_logit, blend.entropy, blend.energy].map(f32::to_bits));
        }
        params.extend([plan.pixel.constant, plan.cluster.constant, 0.0, 0.0].map(f32::to_bits));
        let buffers = [&shared.input, &shared.tables, &shared.statistics];
        out.push(b.dispatch(Shader::Confidence, &params, &buffers, [(end - begin).div_ceil(64), 1, 1]));
        return;
    }
    let [channels, _, map_width] = spec.features[band.map - 1];
    let channel: usize = spec.features[..band.map - 1].iter().map(|m| m[0]).sum();
    for segment in segments {
        let (from, to) = (begin.max(segment.first), end.min(segment.first + segment.stride));
        if from >= to {
            continue;
        }
        let mut params =
            [from, to - from, segment.first, segment.stride, width, channels, channel, map_width, band.rows, band.row]
                .map(|v| v as u32)
                .to_vec();
        params.extend(tables);
        params.push(u32::from(spec.unit_length));
        let buffers = [&shared.input, &shared.tables, &segment.points];
        out.push(b.dispatch(Shader::Gather, &params, &buffers, [(to - from).div_ceil(64), 1, 1]));
    }
}

fn centre(b: &Builder<'_>, shape: &Shape, segments: &[Segment], shared: &Shared, out: &mut Vec<Draft>) {
    for segment in segments {
        out.push(sum(b, shape, segment, shared, 0, 1));
    }
    let (n, dims) = (shape.n as u32, shape.dims as u32);
    let buffers = [&shared.sums, &shared.mean];
    let groups = [shape.dims.div_ceil(64), 1, 1];
    out.push(b.dispatch(Shader::Mean, &[n, dims, shape.stretches as u32, 0], &buffers, groups));
    for segment in segments {
        let params = [segment.first as u32, segment.stride as u32, n, dims];
        let buffers = [&shared.mean, &segment.points, &shared.norms];
        out.push(b.dispatch(Shader::Centre, &params, &buffers, [segment.stride.div_ceil(64), 1, 1]));
    }
    out.push(b.dispatch(
        Shader::Spread,
        &[n, dims, CLOSE_SHARE.to_bits(), (CONSTANT_SHARE as f32).to_bits()],
        &[&shared.norms, &shared.mean],
        [1, 1, 1],
    ));
}

/// Sums of one segment; of all points together when `groups` is 0.
fn sum(b: &Builder<'_>, shape: &Shape, segment: &Segment, shared: &Shared, groups: usize, runs: usize) -> Draft {
    let total = if groups == 0 { 1 } else { shape.total };
    let params = [segment.first, segment.stride, shape.n, shape.dims, shape.padded, total, shape.stretch, groups]
        .map(|v| v as u32);
    let buffers = [&segment.points, &shared.runs, &shared.labels, &shared.sums, &shared.counts];
    let size = [segment.stride.div_ceil(shape.stretch), shape.dims.div_ceil(64), groups.max(1) * runs];
    b.dispatch(Shader::Sum, &params, &buffers, size)
}

fn seed(
    b: &Builder<'_>,
    spec: &Spec,
    shape: &Shape,
    segments: &[Segment],
    shared: &Shared,
    out: &mut Vec<Draft>,
) -> Result<()> {
    let most = spec.k.iter().copied().max().unwrap_or(0);
    let seeds = b.words("seeds", most * shape.dims)?;
    let nearest = b.words("nearest seed", shape.padded)?;
    let winners = b.words("winners", shape.tiles * 2)?;
    for round in 0..most {
        let key = round_key(spec.seed, round);
        for segment in segments {
            let sizes = [segment.first, segment.stride, shape.n, shape.dims, round].map(|v| v as u32);
            let params = [&sizes[..], &[key, 0, 0]].concat();
            let buffers = [&segment.points, &seeds, &nearest, &winners];
            out.push(b.dispatch(Shader::Seed, &params, &buffers, [segment.stride.div_ceil(TILE), 1, 1]));
        }
        for segment in segments {
            let params = [segment.first, segment.stride, shape.tiles, shape.dims, round, 0, 0, 0].map(|v| v as u32);
            let buffers = [&segment.points, &winners, &seeds];
            out.push(b.dispatch(Shader::SeedPick, &params, &buffers, [1, 1, 1]));
        }
    }
    let mut first = 0;
    for &k in &spec.k {
        let params = [first as u32, 0, shape.dims as u32, 1];
        let buffers = [&seeds, &shared.mean, &shared.centroids, &shared.offsets];
        out.push(b.dispatch(Shader::Start, &params, &buffers, [k, 1, 1]));
        first += k;
    }
    Ok(())
}

/// Lloyd's iterations of all runs; a run that has converged does nothing more.
fn lloyd(
    b: &Builder<'_>,
    spec: &Spec,
    shape: &Shape,
    segments: &[Segment],
    shared: &Shared,
    converged: usize,
    out: &mut Vec<Draft>,
) {
    out.push(copy(&shared.first_runs, 0, &shared.runs, 0, shape.runs as u64 * 16));
    let assign = |fresh: bool, out: &mut Vec<Draft>| {
        for segment in segments {
            let sizes = [segment.first, segment.stride, shape.n, shape.dims, shape.padded, shape.tiles];
            let params = [&sizes.map(|v| v as u32)[..], &[(TIE_SHARE as f32).to_bits(), u32::from(fresh)]].concat();
            let buffers = [
                &segment.points,
                &shared.centroids,
                &shared.offsets,
                &shared.mean,
                &shared.norms,
                &shared.labels,
                &shared.tiles,
                &shared.runs,
            ];
            out.push(b.dispatch(Shader::Assign, &params, &buffers, [segment.stride.div_ceil(TILE), shape.runs, 1]));
        }
    };
    let groups = spec.k.iter().copied().max().unwrap_or(1).div_ceil(24);
    let mut begin = 0;
    for iteration in 0..spec.max_iterations.min(2) {
        begin = out.len();
        assign(iteration == 0, out);
        let params = [shape.tiles as u32, converged as u32, 0, 0];
        out.push(b.dispatch(Shader::Converge, &params, &[&shared.tiles, &shared.runs], [shape.runs, 1, 1]));
        for segment in segments {
            out.push(sum(b, shape, segment, shared, groups, shape.runs));
        }
        let params = [shape.total, shape.dims, shape.stretches, 0].map(|v| v as u32);
        let buffers = [
            &shared.runs,
            &shared.run_of,
            &shared.sums,
            &shared.counts,
            &shared.centroids,
            &shared.offsets,
            &shared.sizes,
        ];
        out.push(b.dispatch(Shader::Update, &params, &buffers, [shape.total, 1, 1]));
        for segment in segments {
            let sizes = [segment.first, segment.stride, shape.dims, shape.tiles].map(|v| v as u32);
            let params = [&sizes[..], &[RESEED_SHARE.to_bits(), 0, 0, 0]].concat();
            let buffers = [
                &shared.runs,
                &shared.run_of,
                &shared.sizes,
                &shared.tiles,
                &segment.points,
                &shared.mean,
                &shared.centroids,
                &shared.offsets,
            ];
            out.push(b.dispatch(Shader::Reseed, &params, &buffers, [shape.total, 1, 1]));
        }
    }
    // From the second on all iterations are the same.
    let again = out[begin..].to_vec();
    for _ in 2..spec.max_iterations {
        out.extend_from_slice(&again);
    }
    assign(spec.max_iterations == 0, out);
}

/// Distance to the codebook: assignment to its rows, then the distance itself.
fn bank(
    b: &Builder<'_>,
    spec: &Spec,
    shape: &Shape,
    codebook: &Codebook,
    segments: &[Segment],
    shared: &Shared,
    out: &mut Vec<Draft>,
) -> Result<()> {
    let rows = codebook.centroids.nrows();
    let values: Vec<u32> = codebook.centroids.iter().map(|v| v.to_bits()).collect();
    let plain = b.filled("codebook", &values)?;
    let centred = b.words("centred codebook", values.len())?;
    let offsets = b.words("codebook offsets", rows)?;
    let run = b.filled("codebook run", &[rows as u32, 0, 1, 0])?;
    let labels = b.words("codebook labels", shape.padded)?;
    let tiles = b.words("codebook tiles", shape.tiles * 4)?;
    let buffers = [&plain, &shared.mean, &centred, &offsets];
    out.push(b.dispatch(Shader::Start, &[0, 0, shape.dims as u32, 0], &buffers, [rows, 1, 1]));
    for segment in segments {
        let sizes = [segment.first, segment.stride, shape.n, shape.dims, shape.padded, shape.tiles];
        let params = [&sizes.map(|v| v as u32)[..], &[(TIE_SHARE as f32).to_bits(), 1]].concat();
        let buffers = [&segment.points, &centred, &offsets, &shared.mean, &shared.norms, &labels, &tiles, &run];
        out.push(b.dispatch(Shader::Assign, &params, &buffers, [segment.stride.div_ceil(TILE), 1, 1]));
        let sizes = [segment.first, segment.stride, shape.n, shape.dims].map(|v| v as u32);
        let weights = [spec.plan.pixel.bank.to_bits(), spec.plan.cluster.bank.to_bits(), 0, 0];
        let params = [sizes, weights].concat();
        let buffers = [&segment.points, &centred, &labels, &shared.statistics];
        out.push(b.dispatch(Shader::Bank, &params, &buffers, [segment.stride.div_ceil(64), 1, 1]));
    }
    Ok(())
}

fn upsample(
    b: &Builder<'_>,
    spec: &Spec,
    grid: &wgpu::Buffer,
    score: &wgpu::Buffer,
    mask: &wgpu::Buffer,
) -> Result<Draft> {
    let Size { width, height } = spec.target;
    let Resample { x, y } = Resample::bilinear(spec.plan.grid, (height, width));
    let mut tables = Vec::with_capacity(2 * (width + height));
    for axis in [&x, &y] {
        for (o, &start) in axis.start.iter().enumerate() {
            let share = if axis.taps == 2 { axis.weights[2 * o + 1] } else { 0.0 };
            tables.extend([start, share.to_bits()]);
        }
    }
    let tables = b.filled("upsampling tables", &tables)?;
    let step = |axis: &Axis| axis.taps - 1;
    let params = [spec.plan.grid.1, width, width * height, 0, width, step(&x), step(&y)].map(|v| v as u32);
    let params = [&params[..], &[spec.threshold.to_bits()]].concat();
    let groups = (width * height).div_ceil(256);
    let size = [groups.min(65535), groups.div_ceil(65535), 1];
    Ok(b.dispatch(Shader::Upsample, &params, &[grid, &tables, score, mask], size))
}
