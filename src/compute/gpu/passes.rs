//! The dispatches of each part of a frame; see the headers of the shaders for what they bind.

use super::super::plan::{CLOSE_SHARE, CONSTANT_SHARE, RESEED_SHARE, TIE_SHARE};
use super::super::random::round_key;
use super::super::resample::{Axis, Resample};
use super::super::{Codebook, Size};
use super::builder::{Builder, Draft};
use super::program::{Band, Segment, Shape, Shared, Spec, TILE, copy};
use super::shader::Shader;
use crate::Result;

/// The passes that read one band.
pub(super) fn read_band(
    b: &Builder<'_>,
    spec: &Spec,
    band: &Band,
    segments: &[Segment],
    shared: &Shared,
    out: &mut Vec<Draft>,
) {
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

pub(super) fn centre(b: &Builder<'_>, shape: &Shape, segments: &[Segment], shared: &Shared, out: &mut Vec<Draft>) {
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

pub(super) fn seed(
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

/// Lloyd's iterations of all runs; a run in which at most `settled` labels change does nothing more.
pub(super) fn lloyd(
    b: &Builder<'_>,
    spec: &Spec,
    settled: usize,
    shape: &Shape,
    segments: &[Segment],
    shared: &Shared,
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
        let params = [shape.tiles as u32, settled as u32, 0, 0];
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
pub(super) fn bank(
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

pub(super) fn upsample(
    b: &Builder<'_>,
    spec: &Spec,
    from: &wgpu::Buffer,
    score: &wgpu::Buffer,
    mask: &wgpu::Buffer,
) -> Result<Draft> {
    let Size { width, height } = spec.target;
    let Resample { x, y } = Resample::bilinear(spec.plan.fine(), (height, width));
    let mut tables = Vec::with_capacity(2 * (width + height));
    for axis in [&x, &y] {
        for (o, &start) in axis.start.iter().enumerate() {
            let share = if axis.taps == 2 { axis.weights[2 * o + 1] } else { 0.0 };
            tables.extend([start, share.to_bits()]);
        }
    }
    let tables = b.filled("upsampling tables", &tables)?;
    let step = |axis: &Axis| axis.taps - 1;
    let params = [x.input, width, width * height, 0, width, step(&x), step(&y)].map(|v| v as u32);
    let params = [&params[..], &[spec.threshold.to_bits()]].concat();
    let groups = (width * height).div_ceil(256);
    let groups = [groups.min(65535), groups.div_ceil(65535), 1];
    Ok(b.dispatch(Shader::Upsample, &params, &[from, &tables, score, mask], groups))
}
