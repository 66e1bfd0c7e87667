//! A small translucent picture, composed once and blended onto many frames.

use crate::frame::{I420Mut, PlaneMut};

use super::colour::Ycc;
use super::text::{Font, Weight};

/// A rectangle with corners of radius `radius`, in pixels; edges may lie between pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rect {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
    pub radius: f32,
}

impl Rect {
    /// The share of the pixel at `(x, y)` that it covers, 0..1.
    fn coverage(&self, x: usize, y: usize) -> f32 {
        let radius = self.radius.min(self.width / 2.0).min(self.height / 2.0);
        let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
        // Signed distance to the rounded rectangle: that of its inner rectangle less the radius.
        let dx = (px - self.x - self.width / 2.0).abs() - self.width / 2.0 + radius;
        let dy = (py - self.y - self.height / 2.0).abs() - self.height / 2.0 + radius;
        let outside = dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0);
        (0.5 + radius - outside).clamp(0.0, 1.0)
    }
}

/// Premultiplied Y, Cb, Cr and alpha per pixel (code values, 0..1), both sides even.
#[derive(Debug, Clone, Default)]
pub(super) struct Canvas {
    pub width: usize,
    pub height: usize,
    pixels: Vec<[f32; 4]>,
}

impl Canvas {
    /// Makes it `width x height` (rounded up to even) and wholly transparent.
    pub(super) fn clear(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        self.pixels.clear();
        self.pixels.resize(self.width * self.height, [0.0; 4]);
    }

    /// Becomes a copy of `other`, keeping its memory.
    pub(super) fn copy(&mut self, other: &Self) {
        (self.width, self.height) = (other.width, other.height);
        self.pixels.clone_from(&other.pixels);
    }

    fn over(&mut self, x: usize, y: usize, colour: Ycc, alpha: f32) {
        let pixel = &mut self.pixels[y * self.width + x];
        let colour = [f32::from(colour.y), f32::from(colour.u), f32::from(colour.v), 1.0];
        for (under, over) in pixel.iter_mut().zip(colour) {
            *under += (over - *under) * alpha;
        }
    }

    /// Fills `rect`; `colour(x)` gives the colour of column `x` and how opaque it is.
    pub(super) fn fill(&mut self, rect: Rect, colour: impl Fn(usize) -> (Ycc, f32)) {
        let clamp = |v: f32, limit: usize| (v.max(0.0) as usize).min(limit);
        let columns = clamp(rect.x.floor(), self.width)..clamp((rect.x + rect.width).ceil(), self.width);
        for y in clamp(rect.y.floor(), self.height)..clamp((rect.y + rect.height).ceil(), self.height) {
            for x in columns.clone() {
                let (colour, alpha) = colour(x);
                self.over(x, y, colour, alpha * rect.coverage(x, y));
            }
        }
    }

    /// Writes `text` with its pen starting at `at` on the baseline; what lies outside is cut off.
    pub(super) fn text(
        &mut self,
        font: &mut Font,
        weight: Weight,
        size: f32,
        text: &str,
        at: (f32, f32),
        ink: (Ycc, f32),
    ) {
        font.lay(weight, size, text, at, |x, y, glyph| {
            for (row, line) in glyph.coverage.chunks_exact(glyph.width.max(1)).enumerate() {
                for (column, coverage) in line.iter().enumerate() {
                    let (x, y) = (x + glyph.left + column as i32, y + glyph.top + row as i32);
                    if *coverage > 0 && (0..self.width as i32).contains(&x) && (0..self.height as i32).contains(&y) {
                        self.over(x as usize, y as usize, ink.0, ink.1 * f32::from(*coverage) / 255.0);
                    }
                }
            }
        });
    }
}

/// One plane of a finished canvas: `frame = frame * keep / 255 + add`.
#[derive(Debug, Clone, Default)]
struct Stamp {
    width: usize,
    keep: Vec<u8>,
    add: Vec<u8>,
}

impl Stamp {
    fn start(&mut self, width: usize) {
        self.width = width;
        self.keep.clear();
        self.add.clear();
    }

    fn push(&mut self, value: f32, alpha: f32) {
        let keep = (255.5 - 255.0 * alpha) as u8;
        self.keep.push(keep);
        // At most what is left, so that the sum stays a byte.
        self.add.push(((value + 0.5) as u8).min(255 - keep));
    }

    fn lay(&self, plane: &mut PlaneMut<'_>, x: usize, y: usize) {
        if self.width == 0 {
            return;
        }
        for (row, (keep, add)) in self.keep.chunks_exact(self.width).zip(self.add.chunks_exact(self.width)).enumerate()
        {
            let line = &mut plane.row_mut(y + row)[x..x + self.width];
            for ((value, keep), add) in line.iter_mut().zip(keep).zip(add) {
                // Exact division by 255 with rounding.
                let product = u16::from(*value) * u16::from(*keep) + 128;
                *value = ((product + (product >> 8)) >> 8) as u8 + add;
            }
        }
    }
}

/// A canvas in the layout of an I420 picture.
#[derive(Debug, Clone, Default)]
pub(super) struct Sprite {
    y: Stamp,
    u: Stamp,
    v: Stamp,
}

impl Sprite {
    /// Copies the content of `canvas`.
    pub(super) fn set(&mut self, canvas: &Canvas) {
        self.y.start(canvas.width);
        for [y, _, _, alpha] in &canvas.pixels {
            self.y.push(*y, *alpha);
        }
        self.u.start(canvas.width / 2);
        self.v.start(canvas.width / 2);
        for rows in canvas.pixels.chunks_exact(2 * canvas.width.max(1)) {
            let (upper, lower) = rows.split_at(canvas.width);
            for (a, b) in upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0) {
                let mean = |i: usize| (a[0][i] + a[1][i] + b[0][i] + b[1][i]) / 4.0;
                self.u.push(mean(1), mean(3));
                self.v.push(mean(2), mean(3));
            }
        }
    }

    /// Blends it onto `picture` with its corner at the even place `(x, y)`; it must lie inside.
    pub(super) fn lay(&self, picture: &mut I420Mut<'_>, x: usize, y: usize) {
        self.y.lay(&mut picture.y, x, y);
        self.u.lay(&mut picture.u, x / 2, y / 2);
        self.v.lay(&mut picture.v, x / 2, y / 2);
    }
}
