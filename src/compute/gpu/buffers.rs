//! The buffers that several passes of a program share.

use super::builder::Builder;
use super::params::Run;
use super::shape::{Band, Shape, Spec};
use crate::{Error, Result};

/// Some of the points, in a buffer that can be bound.
pub(super) struct Segment {
    pub first: usize,
    /// Points with padding.
    pub stride: usize,
    pub points: wgpu::Buffer,
}

/// Splits the points so that each part can be bound; a part holds whole stretches.
pub(super) fn segments(b: &Builder<'_>, shape: &Shape, limit: u64) -> Result<Vec<Segment>> {
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

/// All but the points.
pub(super) struct Buffers {
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

impl Buffers {
    pub fn new(b: &Builder<'_>, spec: &Spec, shape: &Shape, tables: &[u32], bands: &[Band]) -> Result<Self> {
        let &Shape { n, dims, padded, stretches, tiles, total, runs, .. } = shape;
        let input = bands.iter().map(|band| band.bytes).max().unwrap_or(0) as usize / 4;
        let mut first_runs = Vec::new();
        let mut run_of = Vec::new();
        for (r, &k) in (0..).zip(&spec.k) {
            first_runs.push(Run { k: k as u32, first: run_of.len() as u32, live: 1, iterations: 0 });
            run_of.extend(std::iter::repeat_n(r, k));
        }
        Ok(Self {
            tables: b.filled("tables", tables)?,
            input: b.words("input", input)?,
            statistics: b.words("statistics", n * 4)?,
            norms: b.words("squared lengths", padded)?,
            mean: b.words("mean", dims + 2)?,
            sums: b.words("sums", stretches * total.max(1) * dims * 2)?,
            counts: b.words("counts", stretches * total.max(1))?,
            runs: b.words("runs", runs * 4)?,
            first_runs: b.filled("runs at first", bytemuck::cast_slice(&first_runs))?,
            run_of: b.filled("run of cluster", &run_of)?,
            sizes: b.words("sizes", total)?,
            labels: b.words("labels", runs.max(1) * padded)?,
            tiles: b.words("tiles", runs.max(1) * tiles * 4)?,
            centroids: b.words("centroids", total * dims)?,
            offsets: b.words("offsets", total)?,
            clusters: b.words("clusters", total * 4)?,
        })
    }
}
