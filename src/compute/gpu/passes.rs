//! The dispatches of each part of a frame; see the headers of the shaders for what they bind.

use super::super::plan::{Blend, CLOSE_SHARE, CONSTANT_SHARE, RESEED_SHARE, TIE_SHARE};
use super::super::random::round_key;
use super::super::resample::{Axis, Resample};
use super::super::{Codebook, Size};
use super::buffers::{Buffers, Segment};
use super::builder::{Builder, Draft, copy};
use super::params::{
    Assign, Bank, Centre, Confidence, Converge, Gather, Mean, Reseed, Run, Seed, SeedPick, Spread, Start, Sum, Update,
    Upsample,
};
use super::shape::{Band, Shape, Spec, TILE};
use crate::Result;

/// Coefficients of the shader's four statistics.
fn coefficients(blend: &Blend) -> [f32; 4] {
    [blend.msp, blend.max_logit, blend.entropy, blend.energy]
}

/// The passes that read one band.
pub(super) fn read_band(
    b: &Builder<'_>,
    spec: &Spec,
    band: &Band,
    segments: &[Segment],
    shared: &Buffers,
    out: &mut Vec<Draft>,
) {
    let plan = &spec.plan;
    let width = plan.grid.1;
    let (begin, end) = (band.grid_rows.start * width, band.grid_rows.end * width);
    let [x_start, x_weight, y_start, y_weight] = band.tables.map(|t| t as u32);
    let [x_taps, y_taps] = band.taps.map(|t| t as u32);
    let (grid_width, band_height, band_row) = (width as u32, band.rows as u32, band.row as u32);
    if band.map == 0 {
        let [classes, _, map_width] = spec.logits.unwrap_or_default();
        let softmax = plan.pixel.needs_exponentials() || plan.cluster.needs_exponentials();
        let params = Confidence {
            pixel: coefficients(&plan.pixel),
            cluster: coefficients(&plan.cluster),
            queries: [plan.pixel.rba, plan.pixel.no_object, plan.cluster.rba, plan.cluster.no_object],
            pixel_constant: plan.pixel.constant,
            cluster_constant: plan.cluster.constant,
            begin: begin as u32,
            count: (end - begin) as u32,
            grid_width,
            classes: classes as u32,
            width: map_width as u32,
            band_height,
            band_row,
            softmax: u32::from(softmax),
            x_start,
            x_weight,
            x_taps,
            y_start,
            y_weight,
            y_taps,
        };
        let buffers = [&shared.input, &shared.tables, &shared.statistics];
        out.push(b.dispatch(params, &buffers, [(end - begin).div_ceil(64), 1, 1]));
        return;
    }
    let [channels, _, map_width] = spec.features[band.map - 1];
    let channel: usize = spec.features[..band.map - 1].iter().map(|m| m[0]).sum();
    for segment in segments {
        let (from, to) = (begin.max(segment.first), end.min(segment.first + segment.stride));
        if from >= to {
            continue;
        }
        let params = Gather {
            begin: from as u32,
            count: (to - from) as u32,
            segment: segment.first as u32,
            stride: segment.stride as u32,
            grid_width,
            channels: channels as u32,
            channel: channel as u32,
            width: map_width as u32,
            band_height,
            band_row,
            x_start,
            x_weight,
            x_taps,
            y_start,
            y_weight,
            y_taps,
            unit_length: u32::from(spec.unit_length),
            zero: 0,
        };
        let buffers = [&shared.input, &shared.tables, &segment.points];
        out.push(b.dispatch(params, &buffers, [(to - from).div_ceil(64), 1, 1]));
    }
}

pub(super) fn centre(b: &Builder<'_>, shape: &Shape, segments: &[Segment], shared: &Buffers, out: &mut Vec<Draft>) {
    for segment in segments {
        out.push(sum(b, shape, segment, shared, 0, 1));
    }
    let (n, dims) = (shape.n as u32, shape.dims as u32);
    let params = Mean { n, dims, stretches: shape.stretches as u32, zero: 0 };
    out.push(b.dispatch(params, &[&shared.sums, &shared.mean], [shape.dims.div_ceil(64), 1, 1]));
    for segment in segments {
        let params = Centre { segment: segment.first as u32, stride: segment.stride as u32, n, dims };
        let buffers = [&shared.mean, &segment.points, &shared.norms];
        out.push(b.dispatch(params, &buffers, [segment.stride.div_ceil(64), 1, 1]));
    }
    let params = Spread { n, dims, close: CLOSE_SHARE, constant: CONSTANT_SHARE as f32 };
    out.push(b.dispatch(params, &[&shared.norms, &shared.mean], [1, 1, 1]));
}

/// Sums of one segment; of all points together when `groups` is 0.
fn sum(b: &Builder<'_>, shape: &Shape, segment: &Segment, shared: &Buffers, groups: usize, runs: usize) -> Draft {
    let total = if groups == 0 { 1 } else { shape.total };
    let params = Sum {
        segment: segment.first as u32,
        stride: segment.stride as u32,
        n: shape.n as u32,
        dims: shape.dims as u32,
        label_stride: shape.padded as u32,
        total: total as u32,
        stretch: shape.stretch as u32,
        groups: groups as u32,
        zero: 0,
    };
    let buffers = [&segment.points, &shared.runs, &shared.labels, &shared.sums, &shared.counts];
    let size = [segment.stride.div_ceil(shape.stretch), shape.dims.div_ceil(64), groups.max(1) * runs];
    b.dispatch(params, &buffers, size)
}

pub(super) fn seed(
    b: &Builder<'_>,
    spec: &Spec,
    shape: &Shape,
    segments: &[Segment],
    shared: &Buffers,
    out: &mut Vec<Draft>,
) -> Result<()> {
    let most = spec.k.iter().copied().max().unwrap_or(0);
    let seeds = b.words("seeds", most * shape.dims)?;
    let nearest = b.words("nearest seed", shape.padded)?;
    let winners = b.words("winners", shape.tiles * 2)?;
    let (n, dims, tiles) = (shape.n as u32, shape.dims as u32, shape.tiles as u32);
    for round in 0..most {
        let key = round_key(spec.seed, round);
        let round = round as u32;
        for segment in segments {
            let params = Seed { segment: segment.first as u32, stride: segment.stride as u32, n, dims, round, key };
            let buffers = [&segment.points, &seeds, &nearest, &winners];
            out.push(b.dispatch(params, &buffers, [segment.stride.div_ceil(TILE), 1, 1]));
        }
        for segment in segments {
            let params = SeedPick { segment: segment.first as u32, stride: segment.stride as u32, tiles, dims, round };
            out.push(b.dispatch(params, &[&segment.points, &winners, &seeds], [1, 1, 1]));
        }
    }
    let mut first = 0;
    for &k in &spec.k {
        let params = Start { first: first as u32, source: 0, dims, centred: 1 };
        let buffers = [&seeds, &shared.mean, &shared.centroids, &shared.offsets];
        out.push(b.dispatch(params, &buffers, [k, 1, 1]));
        first += k;
    }
    Ok(())
}

/// The parameters of an assignment; `fresh` where there are no labels yet.
fn assignment(shape: &Shape, segment: &Segment, fresh: bool) -> Assign {
    Assign {
        segment: segment.first as u32,
        stride: segment.stride as u32,
        n: shape.n as u32,
        dims: shape.dims as u32,
        label_stride: shape.padded as u32,
        tiles: shape.tiles as u32,
        tie: TIE_SHARE as f32,
        fresh: u32::from(fresh),
        zero: 0,
    }
}

/// Lloyd's iterations of all runs; a run in which at most `settled` labels change does nothing more.
pub(super) fn lloyd(
    b: &Builder<'_>,
    spec: &Spec,
    settled: usize,
    shape: &Shape,
    segments: &[Segment],
    shared: &Buffers,
    out: &mut Vec<Draft>,
) {
    out.push(copy(&shared.first_runs, &shared.runs, (shape.runs * size_of::<Run>()) as u64));
    let assign = |fresh: bool, out: &mut Vec<Draft>| {
        for segment in segments {
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
            let groups = [segment.stride.div_ceil(TILE), shape.runs, 1];
            out.push(b.dispatch(assignment(shape, segment, fresh), &buffers, groups));
        }
    };
    let (dims, tiles) = (shape.dims as u32, shape.tiles as u32);
    let groups = spec.k.iter().copied().max().unwrap_or(1).div_ceil(24);
    let mut begin = 0;
    for iteration in 0..spec.max_iterations.min(2) {
        begin = out.len();
        assign(iteration == 0, out);
        let params = Converge { tiles, converged: settled as u32 };
        out.push(b.dispatch(params, &[&shared.tiles, &shared.runs], [shape.runs, 1, 1]));
        for segment in segments {
            out.push(sum(b, shape, segment, shared, groups, shape.runs));
        }
        let params = Update { total: shape.total as u32, dims, stretches: shape.stretches as u32, zero: 0 };
        let buffers = [
            &shared.runs,
            &shared.run_of,
            &shared.sums,
            &shared.counts,
            &shared.centroids,
            &shared.offsets,
            &shared.sizes,
        ];
        out.push(b.dispatch(params, &buffers, [shape.total, 1, 1]));
        for segment in segments {
            let (first, stride) = (segment.first as u32, segment.stride as u32);
            let params = Reseed { segment: first, stride, dims, tiles, least: RESEED_SHARE };
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
            out.push(b.dispatch(params, &buffers, [shape.total, 1, 1]));
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
    shared: &Buffers,
    out: &mut Vec<Draft>,
) -> Result<()> {
    let rows = codebook.centroids.nrows();
    let values: Vec<u32> = codebook.centroids.iter().map(|v| v.to_bits()).collect();
    let plain = b.filled("codebook", &values)?;
    let centred = b.words("centred codebook", values.len())?;
    let offsets = b.words("codebook offsets", rows)?;
    let run = Run { k: rows as u32, first: 0, live: 1, iterations: 0 };
    let run = b.filled("codebook run", bytemuck::cast_slice(&[run]))?;
    let labels = b.words("codebook labels", shape.padded)?;
    let tiles = b.words("codebook tiles", shape.tiles * 4)?;
    let (n, dims) = (shape.n as u32, shape.dims as u32);
    let buffers = [&plain, &shared.mean, &centred, &offsets];
    out.push(b.dispatch(Start { first: 0, source: 0, dims, centred: 0 }, &buffers, [rows, 1, 1]));
    let (pixel, cluster) = (spec.plan.pixel.bank, spec.plan.cluster.bank);
    for segment in segments {
        let buffers = [&segment.points, &centred, &offsets, &shared.mean, &shared.norms, &labels, &tiles, &run];
        let groups = [segment.stride.div_ceil(TILE), 1, 1];
        out.push(b.dispatch(assignment(shape, segment, true), &buffers, groups));
        let (first, stride) = (segment.first as u32, segment.stride as u32);
        let params = Bank { segment: first, stride, n, dims, pixel, cluster };
        let buffers = [&segment.points, &centred, &labels, &shared.statistics];
        out.push(b.dispatch(params, &buffers, [segment.stride.div_ceil(64), 1, 1]));
    }
    Ok(())
}

pub(super) fn upsample(
    b: &Builder<'_>,
    spec: &Spec,
    from: &wgpu::Buffer,
    frame: &wgpu::Buffer,
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
    let step = |axis: &Axis| axis.taps as u32 - 1;
    let params = Upsample {
        grid_width: x.input as u32,
        width: width as u32,
        pixels: (width * height) as u32,
        x_table: 0,
        y_table: width as u32,
        x_step: step(&x),
        y_step: step(&y),
    };
    let groups = (width * height).div_ceil(256);
    let groups = [groups.min(65535), groups.div_ceil(65535), 1];
    Ok(b.dispatch(params, &[from, &tables, score, mask, frame], groups))
}
