//! Nearest centroid of each point of a block: the GEMM form `x.c - |c|^2 / 2`, largest wins, with the argmax fused.
//!
//! Points lie in lanes (`[D][BLOCK]`), so the registers hold `P * F32s::<S>::N` points against up to [`TILE`] centroids: a
//! register-tiled matrix product that never writes its result down.

use pulp::Simd;

use super::super::plan::BLOCK;
use crate::simd::{F32s, prefetch};

/// Most centroids in registers at once.
const TILE: usize = 6;

/// Centroids as the kernel reads them: tiles of at most [`TILE`], each `[D][tile]`, as equal as possible in size.
#[derive(Default)]
pub(crate) struct Packed {
    k: usize,
    dims: usize,
    values: Vec<f32>,
    /// `-|c|^2 / 2`, `[k]`.
    offsets: Vec<f32>,
}

impl Packed {
    /// Takes `k` rows of `stride` values, of which the first `dims` count.
    pub fn pack(&mut self, rows: &[f32], k: usize, dims: usize, stride: usize) {
        self.k = k;
        self.dims = dims;
        self.values.clear();
        self.offsets.clear();
        for (first, tile) in tiles(k) {
            for d in 0..dims {
                self.values.extend((first..first + tile).map(|c| rows[c * stride + d]));
            }
        }
        self.offsets
            .extend((0..k).map(|c| -0.5 * rows[c * stride..][..dims].iter().fold(0.0f32, |sum, &v| sum + v * v)));
    }
}

/// `(first, size)` of each tile.
#[inline(always)]
fn tiles(k: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = k.div_ceil(TILE);
    (0..count).map(move |t| {
        let first = t * k / count;
        (first, (t + 1) * k / count - first)
    })
}

/// The result of [`nearest`] for the points of a block.
#[derive(Clone, Copy)]
pub(crate) struct Nearest {
    /// Largest `x.c - |c|^2 / 2`.
    pub best: [f32; BLOCK],
    /// Second largest.
    pub second: [f32; BLOCK],
    /// The centroid of the largest, as f32; the first of equal ones.
    pub index: [f32; BLOCK],
}

/// For the block at `x`, `[dims][BLOCK]`: the best centroid of each point.
#[inline(always)]
pub(crate) fn nearest<S: Simd, const P: usize>(simd: S, x: &[f32], packed: &Packed) -> Nearest {
    assert!(x.len() >= packed.dims * BLOCK && BLOCK.is_multiple_of(P * F32s::<S>::N));
    let mut found = Nearest { best: [0.0; BLOCK], second: [0.0; BLOCK], index: [0.0; BLOCK] };
    for lane in (0..BLOCK).step_by(P * F32s::<S>::N) {
        let mut top = Top {
            best: [F32s::splat(simd, f32::MIN); P],
            second: [F32s::splat(simd, f32::MIN); P],
            index: [F32s::splat(simd, 0.0); P],
        };
        let mut at = 0;
        for (first, tile) in tiles(packed.k) {
            let c = &packed.values[at..at + tile * packed.dims];
            let offsets = &packed.offsets[first..first + tile];
            let job = Tile { x: &x[lane..], dims: packed.dims, c, offsets, first };
            match tile {
                1 => job.run::<S, P, 1>(simd, &mut top),
                2 => job.run::<S, P, 2>(simd, &mut top),
                3 => job.run::<S, P, 3>(simd, &mut top),
                4 => job.run::<S, P, 4>(simd, &mut top),
                5 => job.run::<S, P, 5>(simd, &mut top),
                _ => job.run::<S, P, TILE>(simd, &mut top),
            }
            at += tile * packed.dims;
        }
        for p in 0..P {
            let at = lane + p * F32s::<S>::N;
            // SAFETY: `at + N <= BLOCK`, as BLOCK is a multiple of P * N.
            unsafe {
                top.best[p].store(found.best.as_mut_ptr().add(at));
                top.second[p].store(found.second.as_mut_ptr().add(at));
                top.index[p].store(found.index.as_mut_ptr().add(at));
            }
        }
    }
    found
}

/// The best so far, in registers.
struct Top<S: Simd, const P: usize> {
    best: [F32s<S>; P],
    second: [F32s<S>; P],
    index: [F32s<S>; P],
}

struct Tile<'a> {
    /// From the first lane on; rows are BLOCK apart.
    x: &'a [f32],
    dims: usize,
    /// `[dims][T]`
    c: &'a [f32],
    offsets: &'a [f32],
    first: usize,
}

impl Tile<'_> {
    #[inline(always)]
    fn run<S: Simd, const P: usize, const T: usize>(&self, simd: S, top: &mut Top<S, P>) {
        assert!(self.c.len() == self.dims * T && self.offsets.len() == T);
        assert!(self.dims > 0 && self.x.len() >= (self.dims - 1) * BLOCK + P * F32s::<S>::N);
        let mut sums: [[F32s<S>; P]; T] = std::array::from_fn(|t| [F32s::splat(simd, self.offsets[t]); P]);
        for d in 0..self.dims {
            if self.first == 0 {
                // The block after this one, early; past the end of the buffer this is a hint without effect.
                for p in 0..P {
                    prefetch(self.x.as_ptr().wrapping_add((self.dims + d) * BLOCK + p * F32s::<S>::N));
                }
            }
            // SAFETY: `d < dims`, so both reads lie within the lengths asserted above.
            unsafe {
                let row = self.x.as_ptr().add(d * BLOCK);
                let x: [F32s<S>; P] = std::array::from_fn(|p| F32s::load(simd, row.add(p * F32s::<S>::N)));
                for (t, sum) in sums.iter_mut().enumerate() {
                    let c = F32s::splat(simd, *self.c.as_ptr().add(d * T + t));
                    for (sum, x) in sum.iter_mut().zip(x) {
                        *sum = x.mul_add(c, *sum);
                    }
                }
            }
        }
        for (t, sum) in sums.iter().enumerate() {
            let id = F32s::splat(simd, (self.first + t) as f32);
            for (p, &sum) in sum.iter().enumerate() {
                top.index[p] = F32s::select_greater(sum, top.best[p], id, top.index[p]);
                top.second[p] = top.second[p].max(sum.min(top.best[p]));
                top.best[p] = top.best[p].max(sum);
            }
        }
    }
}
