//! The separable triangle filter and the colour conversion of one row.

use std::ops::Range;

use super::Coefficients;
use crate::frame::Plane;

/// For each output sample the first input sample and the weights of it and its `count - 1` successors; they sum to 1.
#[derive(Debug)]
pub(super) struct Taps {
    count: usize,
    pub(super) first: Vec<usize>,
    /// `[outputs, count]`
    pub(super) weights: Vec<f32>,
}

impl Taps {
    /// Brings `span` sample widths, of which `samples` samples exist, to `outputs` samples with half-pixel centres.
    ///
    /// Shrinking by `s` widens the triangle to a support of `s` on either side (antialiasing); growing is plain bilinear.
    pub(super) fn new(samples: usize, span: f64, outputs: usize) -> Self {
        let scale = span / outputs as f64;
        let support = scale.max(1.0);
        let rows: Vec<(usize, Vec<f64>)> = (0..outputs)
            .map(|output| {
                let centre = (output as f64 + 0.5) * scale;
                let weight = |i: usize| (1.0 - ((i as f64 + 0.5 - centre) / support).abs()).max(0.0);
                let mut first = ((centre - support).floor().max(0.0) as usize).min(samples - 1);
                let mut end = ((centre + support).ceil() as usize).clamp(first + 1, samples);
                while first + 1 < end && weight(first) == 0.0 {
                    first += 1;
                }
                while first + 1 < end && weight(end - 1) == 0.0 {
                    end -= 1;
                }
                let weights: Vec<f64> = (first..end).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                (first, weights.iter().map(|w| w / sum).collect())
            })
            .collect();
        let count = rows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let mut taps = Self { count, first: Vec::with_capacity(outputs), weights: vec![0.0; outputs * count] };
        for ((first, weights), padded) in rows.iter().zip(taps.weights.chunks_exact_mut(count)) {
            // All have `count` weights so that the inner loop has a fixed length; zeros go where there are samples.
            let start = (*first).min(samples - count);
            for (to, from) in padded[first - start..].iter_mut().zip(weights) {
                *to = *from as f32;
            }
            taps.first.push(start);
        }
        taps
    }

    /// The inputs that some neighbouring outputs, at least one, are made of.
    pub(super) fn inputs(&self, outputs: Range<usize>) -> Range<usize> {
        self.first[outputs.start]..self.first[outputs.end - 1] + self.count
    }

    /// Whether each output is its input sample: the pass can be left out.
    pub(super) fn is_identity(&self) -> bool {
        self.count == 1 && self.first.iter().enumerate().all(|(output, &first)| output == first)
    }
}

/// `a * b + c`, fused only where the instruction exists (elsewhere `mul_add` is a slow library call).
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The weighted sum of the source rows that make output row `row`, the columns of `plane` from `column` on.
#[inline(always)]
pub(super) fn vertical<const FMA: bool>(plane: &Plane<'_>, taps: &Taps, row: usize, column: usize, out: &mut [f32]) {
    let (first, weights) = (taps.first[row], &taps.weights[row * taps.count..][..taps.count]);
    let (fours, rest) = weights.as_chunks::<4>();
    let mut at = first;
    for (index, four) in fours.iter().enumerate() {
        match index {
            0 => add_rows::<4, FMA, true>(plane, (at, column), four, out),
            _ => add_rows::<4, FMA, false>(plane, (at, column), four, out),
        }
        at += 4;
    }
    match (fours.is_empty(), rest) {
        (true, [a]) => add_rows::<1, FMA, true>(plane, (at, column), &[*a], out),
        (true, [a, b]) => add_rows::<2, FMA, true>(plane, (at, column), &[*a, *b], out),
        (true, [a, b, c]) => add_rows::<3, FMA, true>(plane, (at, column), &[*a, *b, *c], out),
        (false, [a]) => add_rows::<1, FMA, false>(plane, (at, column), &[*a], out),
        (false, [a, b]) => add_rows::<2, FMA, false>(plane, (at, column), &[*a, *b], out),
        (false, [a, b, c]) => add_rows::<3, FMA, false>(plane, (at, column), &[*a, *b, *c], out),
        _ => {}
    }
}

/// `out = (FIRST ? 0 : out) + sum_k weights[k] * plane[first + k][column..]`
#[inline(always)]
fn add_rows<const N: usize, const FMA: bool, const FIRST: bool>(
    plane: &Plane<'_>,
    (first, column): (usize, usize),
    weights: &[f32; N],
    out: &mut [f32],
) {
    let length = out.len();
    let rows: [&[u8]; N] = std::array::from_fn(|k| &plane.row(first + k)[column..][..length]);
    for (x, out) in out.iter_mut().enumerate() {
        let mut sum = if FIRST { 0.0 } else { *out };
        for k in 0..N {
            sum = multiply_add::<FMA>(weights[k], f32::from(rows[k][x]), sum);
        }
        *out = sum;
    }
}

/// Filters one row of samples across, to the outputs from `output` on; `source` begins with the first sample that these need.
#[inline(always)]
pub(super) fn horizontal<const FMA: bool>(source: &[f32], taps: &Taps, output: usize, out: &mut [f32]) {
    match taps.count {
        1 => across::<1, FMA>(source, taps, output, out),
        2 => across::<2, FMA>(source, taps, output, out),
        3 => across::<3, FMA>(source, taps, output, out),
        4 => across::<4, FMA>(source, taps, output, out),
        5 => across::<5, FMA>(source, taps, output, out),
        6 => across::<6, FMA>(source, taps, output, out),
        7 => across::<7, FMA>(source, taps, output, out),
        8 => across::<8, FMA>(source, taps, output, out),
        count => {
            let (firsts, weights) = (&taps.first[output..], &taps.weights[output * count..]);
            for ((out, &first), weights) in out.iter_mut().zip(firsts).zip(weights.chunks_exact(count)) {
                let mut sum = 0.0;
                for (weight, sample) in weights.iter().zip(&source[first - firsts[0]..][..count]) {
                    sum = multiply_add::<FMA>(*weight, *sample, sum);
                }
                *out = sum;
            }
        }
    }
}

#[inline(always)]
fn across<const N: usize, const FMA: bool>(source: &[f32], taps: &Taps, output: usize, out: &mut [f32]) {
    let (firsts, weights) = (&taps.first[output..], &taps.weights.as_chunks::<N>().0[output..]);
    let start = firsts[0];
    for ((out, &first), weights) in out.iter_mut().zip(firsts).zip(weights) {
        let samples = &source[first - start..][..N];
        let mut sum = 0.0;
        for k in 0..N {
            sum = multiply_add::<FMA>(weights[k], samples[k], sum);
        }
        *out = sum;
    }
}

/// Y'CbCr code values (as f32, unrounded) to normalised R'G'B'.
#[inline(always)]
pub(super) fn convert<const FMA: bool>(c: &Coefficients, y: &[f32], u: &[f32], v: &[f32], rgb: [&mut [f32]; 3]) {
    let n = y.len();
    let (u, v) = (&u[..n], &v[..n]);
    let [r, g, b] = rgb;
    let (r, g, b) = (&mut r[..n], &mut g[..n], &mut b[..n]);
    for x in 0..n {
        let (y, u, v) = (y[x], u[x], v[x]);
        let red = multiply_add::<FMA>(c.luma, y, multiply_add::<FMA>(c.r_v, v, c.offset[0]));
        let chroma = multiply_add::<FMA>(c.g_u, u, multiply_add::<FMA>(c.g_v, v, c.offset[1]));
        let green = multiply_add::<FMA>(c.luma, y, chroma);
        let blue = multiply_add::<FMA>(c.luma, y, multiply_add::<FMA>(c.b_u, u, c.offset[2]));
        r[x] = multiply_add::<FMA>(red.clamp(0.0, 1.0), c.gain[0], c.bias[0]);
        g[x] = multiply_add::<FMA>(green.clamp(0.0, 1.0), c.gain[1], c.bias[1]);
        b[x] = multiply_add::<FMA>(blue.clamp(0.0, 1.0), c.gain[2], c.bias[2]);
    }
}
