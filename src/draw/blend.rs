//! The one pass over the picture: soft mask, heat index, luma and chroma, two rows at a time.

use std::ops::Range;

use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};

use crate::frame::I420Mut;
use crate::simd::Level;

use super::ScoreScale;
use super::contour::{BLOCK, Contour};
use super::mix::{Mix, Weights};
use super::palette::Table;

/// The layers to draw, all of the picture's size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a> {
    pub score: ArrayView2<'a, f32>,
    pub mask: ArrayView2<'a, u8>,
    pub scale: ScoreScale,
    pub mix: &'a Mix,
    pub table: &'a Table,
}

/// Working rows, kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Blend {
    contour: Contour,
    /// Which blocks of the two rows have anything to draw.
    active: Vec<bool>,
    /// The soft mask of two rows, 0 outside of the active blocks, one column longer than the picture where that is odd.
    soft: [Vec<u8>; 2],
    /// Indices into the colour map, as `soft`.
    heat: [Vec<u8>; 2],
    /// `soft` and `heat` at the chroma samples.
    half_soft: Vec<u8>,
    half_heat: Vec<u8>,
}

/// All rows of a picture.
struct Rows<'a, 'p, 'l> {
    blend: &'a mut Blend,
    picture: &'a mut I420Mut<'p>,
    layers: &'a Layers<'l>,
}

impl WithSimd for Rows<'_, '_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.blend.rows(self.picture, self.layers);
    }
}

impl Blend {
    /// Draws `layers` into `picture`, whose sizes the caller has checked.
    pub(super) fn run(&mut self, level: Level, picture: &mut I420Mut<'_>, layers: &Layers<'_>) {
        level.run(Rows { blend: self, picture, layers });
    }

    #[inline(always)]
    fn rows(&mut self, picture: &mut I420Mut<'_>, layers: &Layers<'_>) {
        let (width, height) = (picture.width(), picture.height());
        let even = width + width % 2;
        self.active.resize(width.div_ceil(BLOCK), false);
        for rows in [&mut self.soft, &mut self.heat] {
            rows.iter_mut().for_each(|row| row.resize(even, 0));
        }
        self.half_soft.resize(even / 2, 0);
        self.half_heat.resize(even / 2, 0);
        self.contour.start(layers.mask, layers.mix.half_width);
        for top in (0..height).step_by(2) {
            let rows = 2.min(height - top);
            self.active.fill(!layers.mix.only_marked);
            self.soft.iter_mut().for_each(|row| row.fill(0));
            for row in 0..rows {
                if top + row > 0 {
                    self.contour.advance(layers.mask);
                }
                // Both rows are drawn where either has something, for the sake of their common chroma.
                self.soften(row, width);
            }
            let mut block = 0;
            while let Some((from, to)) = next_run(&self.active, &mut block) {
                let (from, to) = (from * BLOCK, (to * BLOCK).min(width));
                for row in 0..rows {
                    self.luma(picture, layers, top + row, row, from, to);
                }
                if rows == 1 {
                    let ([soft, twin], [heat, other]) = (&mut self.soft, &mut self.heat);
                    twin[from..to].copy_from_slice(&soft[from..to]);
                    other[from..to].copy_from_slice(&heat[from..to]);
                }
                if to == width && even > width {
                    for row in self.soft.iter_mut().chain(&mut self.heat) {
                        row[width] = row[width - 1];
                    }
                }
                self.chroma(picture, layers, top / 2, from / 2..to.div_ceil(2));
            }
        }
    }

    /// Fills `soft[row]` where the contour's row has something and marks those blocks.
    #[inline(always)]
    fn soften(&mut self, row: usize, width: usize) {
        let Self { contour, active, soft, .. } = self;
        let mut block = 0;
        while block < active.len() {
            if contour.touches(block) {
                let from = block * BLOCK;
                while block < active.len() && contour.touches(block) {
                    active[block] = true;
                    block += 1;
                }
                contour.soften(from, (block * BLOCK).min(width), &mut soft[row]);
            }
            block += 1;
        }
    }

    #[inline(always)]
    fn luma(&mut self, picture: &mut I420Mut<'_>, layers: &Layers<'_>, y: usize, row: usize, from: usize, to: usize) {
        let (soft, heat) = (&self.soft[row][from..to], &mut self.heat[row][from..to]);
        if layers.mix.uses_heat {
            let scores = layers.score.row(y);
            let Some(scores) = scores.to_slice() else { return };
            index(&scores[from..to], layers.scale, heat);
        }
        blend(&mut picture.y.row_mut(y)[from..to], soft, heat, &layers.mix.luma, &layers.table.y);
    }

    #[inline(always)]
    fn chroma(&mut self, picture: &mut I420Mut<'_>, layers: &Layers<'_>, y: usize, columns: Range<usize>) {
        let Self { soft, heat, half_soft, half_heat, .. } = self;
        let (soft_out, heat_out) = (&mut half_soft[columns.clone()], &mut half_heat[columns.clone()]);
        let luma = 2 * columns.start..2 * columns.end;
        halve(soft.each_ref().map(|row| &row[luma.clone()]), soft_out);
        halve(heat.each_ref().map(|row| &row[luma.clone()]), heat_out);
        let (weights, table) = (&layers.mix.chroma, layers.table);
        blend(&mut picture.u.row_mut(y)[columns.clone()], soft_out, heat_out, weights, &table.u);
        blend(&mut picture.v.row_mut(y)[columns], soft_out, heat_out, weights, &table.v);
    }
}

/// The next run of set flags at or after `at`, as a half-open range; `at` moves behind it.
#[inline(always)]
fn next_run(flags: &[bool], at: &mut usize) -> Option<(usize, usize)> {
    let from = *at + flags.get(*at..)?.iter().position(|f| *f)?;
    let to = flags[from..].iter().position(|f| !f).map_or(flags.len(), |length| from + length);
    *at = to;
    Some((from, to))
}

/// Scores to indices into the colour map; not a number gives 0.
#[inline(always)]
fn index(scores: &[f32], scale: ScoreScale, out: &mut [u8]) {
    let gain = 255.0 / (scale.high - scale.low).max(1e-6);
    for (out, score) in out.iter_mut().zip(scores) {
        #[expect(clippy::manual_clamp, reason = "clamp would let what is not a number through")]
        let value = ((score - scale.low) * gain).max(0.0).min(255.0);
        // At 2^23 the last bit of an f32 is worth 1: the addition rounds and leaves the integer in the low byte. `as
        // u8` would do too, but its saturation keeps the loop from being vectorised.
        *out = (value + 8_388_608.0).to_bits() as u8;
    }
}

/// Means of 2 x 2 values.
#[inline(always)]
fn halve(rows: [&[u8]; 2], out: &mut [u8]) {
    let [upper, lower] = rows.map(|row| row.as_chunks::<2>().0);
    for ((out, a), b) in out.iter_mut().zip(upper).zip(lower) {
        let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
        *out = ((sum + 2) >> 2) as u8;
    }
}

/// Mixes one line of one plane with its heat colours.
#[inline(always)]
fn blend(line: &mut [u8], soft: &[u8], heat: &[u8], weights: &[Weights; 256], table: &[u8; 256]) {
    let (blocks, rest) = line.as_chunks_mut::<BLOCK>();
    let ((soft, soft_rest), (heat, heat_rest)) = (soft.as_chunks::<BLOCK>(), heat.as_chunks::<BLOCK>());
    for ((line, soft), heat) in blocks.iter_mut().zip(soft).zip(heat) {
        // Most blocks lie wholly inside or outside of the mask: one set of weights for all of it.
        let first = soft[0];
        if soft.iter().fold(0, |differ, s| differ | (s ^ first)) != 0 {
            blend_each(line, soft, heat, weights, table);
            continue;
        }
        let weights = weights[usize::from(first)];
        let colours = if weights.heat == 0 { [0; BLOCK] } else { heat.map(|heat| table[usize::from(heat)]) };
        for (value, colour) in line.iter_mut().zip(&colours) {
            *value = weights.apply(*value, *colour);
        }
    }
    blend_each(rest, soft_rest, heat_rest, weights, table);
}

#[inline(always)]
fn blend_each(line: &mut [u8], soft: &[u8], heat: &[u8], weights: &[Weights; 256], table: &[u8; 256]) {
    for ((value, soft), heat) in line.iter_mut().zip(soft).zip(heat) {
        *value = weights[usize::from(*soft)].apply(*value, table[usize::from(*heat)]);
    }
}
