//! The mask with soft edges, row by row, from which outlines and fills are looked up.
//!
//! The 0/1 mask is convolved with a tent of half-width `n` down and across. Near a straight edge the result depends on
//! the signed distance to the edge alone, so that one byte per pixel is enough to draw an antialiased line along the
//! edge: `S(d) = 1/2 + t - sign(t) t^2 / 2` with `t = d / n` (the integral of the tent), and [`distance`] is its
//! inverse.

use ndarray::ArrayView2;

/// Columns that are processed together; even, so that a block covers whole chroma samples.
pub(super) const BLOCK: usize = 32;
/// Half-widths up to this keep the sums within 16 bits.
pub(super) const MAX_HALF_WIDTH: usize = 15;

/// Signed distance to the mask's edge (pixels, positive inside) for soft mask value `s` of half-width `n`.
pub(super) fn distance(s: u8, n: usize) -> f32 {
    let s = f32::from(s) / 255.0;
    let t = if s >= 0.5 { 1.0 - (2.0 - 2.0 * s).sqrt() } else { (2.0 * s).sqrt() - 1.0 };
    t * n as f32
}

/// Streams the rows of a soft mask. The picture's border continues the mask, so that no line runs along it.
#[derive(Debug, Default)]
pub(super) struct Contour {
    half_width: usize,
    width: usize,
    row: usize,
    /// Tent-weighted column sums around `row`, with `half_width` columns of margin on either side.
    sums: Vec<u16>,
    /// The increments to the next row's sums.
    slope: Vec<i16>,
    boxes: Vec<u16>,
    tents: Vec<u16>,
}

impl Contour {
    /// Starts at the first row of `mask`; `half_width` in 1..=[`MAX_HALF_WIDTH`].
    #[inline(always)]
    pub(super) fn start(&mut self, mask: ArrayView2<'_, u8>, half_width: usize) {
        let width = mask.ncols();
        let n = half_width.clamp(1, MAX_HALF_WIDTH);
        (self.half_width, self.width, self.row) = (n, width, 0);
        self.sums.clear();
        self.sums.resize(width + 2 * n, 0);
        self.slope.clear();
        self.slope.resize(width, 0);
        self.boxes.resize(width + n, 0);
        self.tents.resize(width, 0);
        for k in 1..=n as isize {
            let (above, below) = (row(mask, 1 - k), row(mask, k));
            for (slope, (above, below)) in self.slope.iter_mut().zip(above.iter().zip(below)) {
                *slope += one(*below) as i16 - one(*above) as i16;
            }
        }
        for k in 1 - n as isize..n as isize {
            let weight = (n - k.unsigned_abs()) as u16;
            for (sum, m) in self.sums[n..].iter_mut().zip(row(mask, k)) {
                *sum += weight * one(*m);
            }
        }
        self.extend();
    }

    /// Moves on to the next row of the same mask.
    #[inline(always)]
    pub(super) fn advance(&mut self, mask: ArrayView2<'_, u8>) {
        let (n, width) = (self.half_width, self.width);
        self.row += 1;
        let at = self.row as isize;
        let (above, here, below) = (row(mask, at - n as isize), row(mask, at), row(mask, at + n as isize));
        let (above, here, below) = (&above[..width], &here[..width], &below[..width]);
        let (sums, slope) = (&mut self.sums[n..n + width], &mut self.slope[..width]);
        for x in 0..width {
            sums[x] = sums[x].wrapping_add_signed(slope[x]);
            slope[x] += one(above[x]) as i16 + one(below[x]) as i16 - 2 * one(here[x]) as i16;
        }
        self.extend();
    }

    #[inline(always)]
    fn extend(&mut self) {
        let (n, width) = (self.half_width, self.width);
        let (first, last) = (self.sums[n], self.sums[n + width - 1]);
        self.sums[..n].fill(first);
        self.sums[n + width..].fill(last);
    }

    /// Whether the soft mask of this row is other than 0 in columns `block * BLOCK` and on.
    #[inline(always)]
    pub(super) fn touches(&self, block: usize) -> bool {
        // Column x is at x + n; its neighbours up to n - 1 away take part.
        let from = block * BLOCK + 1;
        let to = ((block + 1) * BLOCK).min(self.width) + 2 * self.half_width - 1;
        self.sums[from..to].iter().fold(0, |any, s| any | s) != 0
    }

    /// Writes the soft mask (0..255) of this row's columns `from..to` to the same places of `out`.
    #[inline(always)]
    pub(super) fn soften(&mut self, from: usize, to: usize, out: &mut [u8]) {
        let (n, length) = (self.half_width, to - from);
        // A tent is a box of n columns twice.
        let boxes = &mut self.boxes[..length + n - 1];
        add_shifted(&self.sums[from + 1..], n, boxes);
        let tents = &mut self.tents[..length];
        add_shifted(boxes, n, tents);
        // 0..n^4 to 0..255.
        let scale = (255 << 16) / (n as u32).pow(4);
        for (out, tent) in out[from..to].iter_mut().zip(tents) {
            *out = ((u32::from(*tent) * scale + (1 << 15)) >> 16) as u8;
        }
    }
}

/// `out[x] = sum of the n values from x on`
#[inline(always)]
fn add_shifted(values: &[u16], n: usize, out: &mut [u16]) {
    out.copy_from_slice(&values[..out.len()]);
    for k in 1..n {
        for (out, value) in out.iter_mut().zip(&values[k..]) {
            *out += value;
        }
    }
}

#[inline(always)]
fn one(m: u8) -> u16 {
    u16::from(m != 0)
}

/// Row `y` of the mask, the nearest one outside of it.
#[inline(always)]
fn row(mask: ArrayView2<'_, u8>, y: isize) -> &[u8] {
    let y = y.clamp(0, mask.nrows() as isize - 1) as usize;
    mask.to_slice().map_or(&[], |all| &all[y * mask.ncols()..(y + 1) * mask.ncols()])
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// The rows of the soft mask, drawn block by block as the painter does it.
    fn soften(mask: &Array2<u8>, n: usize) -> Array2<u8> {
        let (height, width) = mask.dim();
        let mut out = Array2::zeros((height, width));
        let mut contour = Contour::default();
        contour.start(mask.view(), n);
        for y in 0..height {
            if y > 0 {
                contour.advance(mask.view());
            }
            let mut line = vec![0; width];
            for block in 0..width.div_ceil(BLOCK) {
                if contour.touches(block) {
                    contour.soften(block * BLOCK, ((block + 1) * BLOCK).min(width), &mut line);
                }
            }
            out.row_mut(y).iter_mut().zip(line).for_each(|(to, from)| *to = from);
        }
        out
    }

    #[test]
    fn equals_the_convolution_with_a_tent() {
        let mut state = 99u32;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % limit
        };
        for n in [1, 2, 3, 5, 9, MAX_HALF_WIDTH] {
            let (height, width) = (1 + random(40), 1 + random(90));
            let mut mask = Array2::zeros((height, width));
            for _ in 0..4 {
                let (cx, cy, r) = (random(width), random(height), 1 + random(12));
                for ((y, x), m) in mask.indexed_iter_mut() {
                    if x.abs_diff(cx).max(y.abs_diff(cy)) < r {
                        *m = 1u8;
                    }
                }
            }
            let got = soften(&mask, n);
            let at = |y: isize, x: isize| {
                mask[(y.clamp(0, height as isize - 1) as usize, x.clamp(0, width as isize - 1) as usize)]
            };
            let reach = n as isize - 1;
            for ((y, x), got) in got.indexed_iter() {
                let mut sum = 0.0;
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        let weight = (n as isize - dx.abs()) * (n as isize - dy.abs());
                        sum += weight as f64 * f64::from(at(y as isize + dy, x as isize + dx));
                    }
                }
                let want = 255.0 * sum / (n as f64).powi(4);
                assert!((f64::from(*got) - want).abs() <= 1.0, "{got} for {want} at {x}, {y} with {n}");
            }
        }
    }

    #[test]
    fn a_straight_edge_gives_the_distance() {
        for n in [4, 6, 12] {
            for turned in [false, true] {
                let edge = 30.0;
                let mask = Array2::from_shape_fn((64, 64), |(y, x)| u8::from(if turned { y } else { x } >= 30));
                let soft = soften(&mask, n);
                for i in 30 - n + 2..30 + n - 2 {
                    let d = distance(soft[if turned { (i, 31) } else { (31, i) }], n);
                    let want = i as f32 + 0.5 - edge;
                    assert!((d - want).abs() < 0.15, "{d} for {want} with {n}");
                }
            }
        }
    }
}
