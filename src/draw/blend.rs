//! The one pass over the picture: soft mask, heat index, luma and chroma, two rows at a time.

use ndarray::ArrayView2;

use crate::frame::{I420Mut, PlaneMut};
use crate::simd::Isa;

use super::ScoreScale;
use super::contour::{BLOCK, Contour};
use super::mix::{Mix, Weights};
use super::palette::Table;

/// What is drawn, all of the picture's size.
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
}

impl Blend {
    /// Draws `layers` into `picture`, whose sizes the caller has checked.
    pub(super) fn run(&mut self, isa: Isa, picture: &mut I420Mut<'_>, layers: &Layers<'_>) {
        match isa {
            Isa::Plain => self.rows(picture, layers),
            // SAFETY: `Isa::detect` gave this value only after it had found the features that the function enables.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.rows_avx2(picture, layers) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { self.rows_avx512(picture, layers) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn rows_avx2(&mut self, picture: &mut I420Mut<'_>, layers: &Layers<'_>) {
        self.rows(picture, layers);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    fn rows_avx512(&mut self, picture: &mut I420Mut<'_>, layers: &Layers<'_>) {
        self.rows(picture, layers);
    }

    #[inline(always)]
    fn rows(&mut self, picture: &mut I420Mut<'_>, layers: &Layers<'_>) {
        let (width, height) = (picture.width(), picture.height());
        let even = width + width % 2;
        self.active.resize(width.div_ceil(BLOCK), false);
        for rows in [&mut self.soft, &mut self.heat] {
            rows.iter_mut().for_each(|row| row.resize(even, 0));
        }
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
                let chroma = from / 2..to.div_ceil(2);
                for (plane, table) in [(&mut picture.u, &layers.table.u), (&mut picture.v, &layers.table.v)] {
                    let line = &mut plane.row_mut(top / 2)[chroma.clone()];
                    let at = from..from + 2 * line.len();
                    let soft = self.soft.each_ref().map(|row| &row[at.clone()]);
                    let heat = self.heat.each_ref().map(|row| &row[at.clone()]);
                    blend_chroma(line, soft, heat, &layers.mix.chroma, table);
                }
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
        let scores = layers.score.row(y);
        let Some(scores) = scores.to_slice() else { return };
        let (soft, heat) = (&self.soft[row][from..to], &mut self.heat[row][from..to]);
        index(&scores[from..to], layers.scale, heat);
        blend_luma(&mut line(&mut picture.y, y)[from..to], soft, heat, &layers.mix.luma, &layers.table.y);
    }
}

#[inline(always)]
fn line<'a>(plane: &'a mut PlaneMut<'_>, y: usize) -> &'a mut [u8] {
    plane.row_mut(y)
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
        let value = ((score - scale.low) * gain + 0.5).clamp(0.0, 255.0);
        *out = value as i32 as u8;
    }
}

#[inline(always)]
fn blend_luma(line: &mut [u8], soft: &[u8], heat: &[u8], weights: &[Weights; 256], table: &[u8; 256]) {
    let blocks = line.chunks_mut(BLOCK).zip(soft.chunks(BLOCK)).zip(heat.chunks(BLOCK));
    for ((line, soft), heat) in blocks {
        // Most blocks lie wholly inside or outside of the mask: one set of weights for all.
        if soft.iter().all(|s| *s == soft[0]) {
            let weights = weights[usize::from(soft[0])];
            for (y, heat) in line.iter_mut().zip(heat) {
                *y = weights.apply(*y, table[usize::from(*heat)]);
            }
        } else {
            for ((y, soft), heat) in line.iter_mut().zip(soft).zip(heat) {
                *y = weights[usize::from(*soft)].apply(*y, table[usize::from(*heat)]);
            }
        }
    }
}

#[inline(always)]
fn blend_chroma(line: &mut [u8], soft: [&[u8]; 2], heat: [&[u8]; 2], weights: &[Weights; 256], table: &[u8; 256]) {
    let mean = |rows: [&[u8]; 2], x: usize| {
        let sum = u32::from(rows[0][2 * x]) + u32::from(rows[0][2 * x + 1]);
        ((sum + u32::from(rows[1][2 * x]) + u32::from(rows[1][2 * x + 1]) + 2) >> 2) as usize
    };
    let (soft, heat) = (soft.map(|row| &row[..2 * line.len()]), heat.map(|row| &row[..2 * line.len()]));
    for (x, c) in line.iter_mut().enumerate() {
        *c = weights[mean(soft, x) & 255].apply(*c, table[mean(heat, x) & 255]);
    }
}
