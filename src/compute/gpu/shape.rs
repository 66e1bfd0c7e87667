//! The key of a program, and the division of its maps and points into parts that can be bound.

use std::sync::Arc;

use super::super::plan::{Plan, chunk_len};
use super::super::resample::{Axis, Resample};
use super::super::{Codebook, Size};
use crate::{Error, Result};

/// Points per tile of the assignment.
pub(super) const TILE: usize = 256;

/// The key of a program: the shapes of a frame and of its result, and the recipe. What differs from frame to frame is
/// not in it.
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
    pub smoothing: Option<f32>,
    pub codebook: Option<Arc<Codebook>>,
    /// Labels that may still change when a run has settled, from a cold and from a warm start.
    pub settled: [usize; 2],
}

/// The sizes of the clustering.
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

impl Shape {
    /// `limit` is the largest binding in bytes, `stored` the bytes of a feature's value.
    pub fn new(spec: &Spec, limit: u64, stored: usize) -> Self {
        let (n, dims) = (spec.plan.pixels, spec.plan.dims);
        let total: usize = spec.k.iter().sum();
        let mut stretch = chunk_len(n);
        // Fewer, longer stretches where their sums would not fit, as long as the points of one do.
        let sums = |stretch: usize| (n.div_ceil(stretch) * total.max(1) * dims * 8) as u64;
        while sums(stretch) > limit && (2 * stretch * dims * stored) as u64 <= limit {
            stretch *= 2;
        }
        let padded = n.next_multiple_of(TILE);
        let (stretches, tiles, runs) = (n.div_ceil(stretch), padded / TILE, spec.k.len());
        Self { n, dims, padded, stretch, stretches, tiles, total, runs }
    }
}

/// Rows of one map, and the grid rows that they are enough for.
pub(super) struct Band {
    /// 0: logits, else feature map `map - 1`.
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
pub(super) fn bands(spec: &Spec, tables: &mut Vec<u32>, limit: u64, stored: usize) -> Result<Vec<Band>> {
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
