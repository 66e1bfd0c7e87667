//! I420 picture to the network's input: antialiased resize, colour conversion and normalisation in one read of the frame.
//!
//! The planes are resized as they are, luma and chroma each with its own taps, and only the result is converted to RGB: no
//! full-size RGB copy exists. The filter is the triangle whose support grows with the reduction, which is what Pillow's
//! `BILINEAR` and PyTorch's `antialias=True` do and what segmentation networks are trained with.
//!
//! Not fast_image_resize, which takes longer to resize the three planes alone, rounds them to 8 bits, and allocates for every picture
//! (`cargo bench --bench libraries`).

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::frame::{self, Colour, I420, Matrix, Plane};
use crate::simd::{Level, has_fma};
use crate::{Error, Result};

mod resample;

use resample::{Taps, convert, horizontal, vertical};

/// The form of the network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputSpec {
    /// Columns of the input tensor.
    pub width: usize,
    /// Rows of the input tensor.
    pub height: usize,
    /// Subtracted from R, G, B in 0..1.
    pub mean: [f32; 3],
    /// Divides R, G, B after the subtraction; not 0.
    pub std: [f32; 3],
}

/// The part of a picture that the network sees: the picture is brought to `size`, and the input is cut out of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Columns and rows that the picture is resized to, at least 1 each.
    pub size: (usize, usize),
    /// Column of the resized picture at which the input begins; what lies outside of it is padding.
    pub x: isize,
    /// Row of the resized picture at which the input begins.
    pub y: isize,
}

/// Where `window` pixels that begin at `start` overlap `size` pixels that begin at 0: first pixel of the window, and the
/// pixels of the picture.
pub(crate) fn overlap(size: usize, start: isize, window: usize) -> (usize, Range<usize>) {
    let from = start.max(0).cast_unsigned().min(size);
    let end = (start + window.cast_signed()).max(0).cast_unsigned().min(size);
    ((-start).max(0).cast_unsigned().min(window), from..end.max(from))
}

/// The resampling tables of one plane.
#[derive(Debug)]
struct Axes {
    across: Taps,
    down: Taps,
    /// The columns stay as they are, as with the chroma of a picture twice as wide as the input.
    only_down: bool,
}

impl Axes {
    fn new(across: Taps, down: Taps) -> Self {
        Self { only_down: across.is_identity(), across, down }
    }
}

/// The resampling tables from one size to another.
#[derive(Debug)]
struct ResampleTables {
    picture: (usize, usize),
    size: (usize, usize),
    luma: Axes,
    chroma: Axes,
}

impl ResampleTables {
    fn new(picture: (usize, usize), size: (usize, usize)) -> Self {
        let luma = |length: usize, out: usize| Taps::new(length, length as f64, out);
        // Chroma samples sit in the centre of 2 x 2 luma samples; with an odd size the last one is half outside the picture.
        let chroma = |length: usize, out: usize| Taps::new(length.div_ceil(2), length as f64 / 2.0, out);
        Self {
            picture,
            size,
            luma: Axes::new(luma(picture.0, size.0), luma(picture.1, size.1)),
            chroma: Axes::new(chroma(picture.0, size.0), chroma(picture.1, size.1)),
        }
    }
}

/// One row on its way through the filter.
#[derive(Debug, Default)]
struct Rows {
    source: Vec<f32>,
    y: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
}

/// Pairs of sizes whose tables are kept; several streams of different sizes may share one `Prepare`, each at several scales.
const PLANS: usize = 32;

/// Turns pictures into the network's input. Allocates only when it meets a pair of sizes for the first time.
#[derive(Debug)]
pub struct Prepare {
    spec: InputSpec,
    level: Level,
    plans: Vec<ResampleTables>,
    rows: Rows,
}

impl Prepare {
    /// A converter to `spec`.
    ///
    /// # Errors
    /// An input without pixels, or a mean or deviation that is not finite or a deviation of 0.
    pub fn new(spec: InputSpec) -> Result<Self> {
        if spec.width == 0 || spec.height == 0 {
            return Err(Error::usage(format!("the network's input size {}x{} has no pixels", spec.width, spec.height)));
        }
        if spec.mean.iter().any(|m| !m.is_finite()) || spec.std.iter().any(|s| !s.is_finite() || *s == 0.0) {
            return Err(Error::usage(format!(
                "normalisation needs finite means and deviations other than 0, got mean {:?} and std {:?}",
                spec.mean, spec.std
            )));
        }
        Ok(Self { spec, level: Level::best(), plans: Vec::new(), rows: Rows::default() })
    }

    /// Floats in one input: `3 * height * width`.
    pub fn input_len(&self) -> usize {
        3 * self.spec.width * self.spec.height
    }

    /// Writes what `window` shows of `picture` as `(rgb - mean) / std`, planar `[3, height, width]`; padding is 0, the mean
    /// colour.
    ///
    /// # Errors
    /// `out` is not [`Prepare::input_len`] long, `window` has no size, or the planes of `picture` do not fit each other or
    /// their data.
    pub fn run(&mut self, picture: &I420<'_>, window: Window, out: &mut [f32]) -> Result<()> {
        if out.len() != self.input_len() {
            return Err(Error::failed(format!(
                "the network's input holds {} values, the buffer {}",
                self.input_len(),
                out.len()
            )));
        }
        if window.size.0 == 0 || window.size.1 == 0 {
            return Err(Error::failed("a picture cannot be resized to nothing"));
        }
        picture.check()?;
        let from = (picture.width(), picture.height());
        let index = match self.plans.iter().position(|p| (p.picture, p.size) == (from, window.size)) {
            Some(index) => index,
            None => {
                if self.plans.len() == PLANS {
                    self.plans.remove(0);
                }
                self.plans.push(ResampleTables::new(from, window.size));
                self.plans.len() - 1
            }
        };
        let plan = &self.plans[index];
        let rows = &mut self.rows;
        grow(&mut rows.source, from.0);
        for row in [&mut rows.y, &mut rows.u, &mut rows.v] {
            grow(row, self.spec.width);
        }
        let colour = Coefficients::new(&self.spec, picture.colour);
        self.level.run(Conversion { spec: &self.spec, plan, window, picture, colour, rows, out });
        Ok(())
    }
}

fn grow(row: &mut Vec<f32>, length: usize) {
    if row.len() < length {
        row.resize(length, 0.0);
    }
}

/// Code values to normalised RGB: `r' = clamp(luma * y + r_v * v + r_0) * gain + bias`, and so on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficients {
    luma: f32,
    r_v: f32,
    g_u: f32,
    g_v: f32,
    b_u: f32,
    offset: [f32; 3],
    gain: [f32; 3],
    bias: [f32; 3],
}

impl Coefficients {
    /// ITU-R BT.601-7 and BT.709-6, section "digital representation" for the ranges.
    fn new(spec: &InputSpec, colour: Colour) -> Self {
        let (kr, kb) = match colour.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let (black, luma_span, chroma_span): (f64, f64, f64) = match colour.range {
            frame::Range::Limited => (16.0, 219.0, 224.0),
            frame::Range::Full => (0.0, 255.0, 255.0),
        };
        let kg = 1.0 - kr - kb;
        let (luma, r_v, b_u) = (1.0 / luma_span, 2.0 * (1.0 - kr) / chroma_span, 2.0 * (1.0 - kb) / chroma_span);
        let (g_u, g_v) = (-b_u * kb / kg, -r_v * kr / kg);
        let zero = -luma * black;
        let offset = [zero - 128.0 * r_v, zero - 128.0 * (g_u + g_v), zero - 128.0 * b_u];
        Self {
            luma: luma as f32,
            r_v: r_v as f32,
            g_u: g_u as f32,
            g_v: g_v as f32,
            b_u: b_u as f32,
            offset: offset.map(|o| o as f32),
            gain: spec.std.map(|s| 1.0 / s),
            bias: [0, 1, 2].map(|i| -spec.mean[i] / spec.std[i]),
        }
    }
}

/// The values shared by all rows of one picture.
struct Conversion<'a> {
    spec: &'a InputSpec,
    plan: &'a ResampleTables,
    window: Window,
    picture: &'a I420<'a>,
    colour: Coefficients,
    rows: &'a mut Rows,
    out: &'a mut [f32],
}

impl WithSimd for Conversion<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if has_fma::<S>() { self.run::<true>() } else { self.run::<false>() }
    }
}

impl Conversion<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { rows, out, .. } = self;
        let input = (self.spec.width, self.spec.height);
        let (left, columns) = overlap(self.window.size.0, self.window.x, input.0);
        let (top, lines) = overlap(self.window.size.1, self.window.y, input.1);
        if (columns.len(), lines.len()) != input {
            out.fill(0.0);
        }
        let plane = input.0 * input.1;
        let (red, rest) = out.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let Rows { source, y: luma, u: cb, v: cr } = rows;
        let width = columns.len();
        let (luma, cb, cr) = (&mut luma[..width], &mut cb[..width], &mut cr[..width]);
        for (row, line) in lines.enumerate() {
            filter::<FMA>(&self.picture.y, &self.plan.luma, line, columns.start, source, luma);
            filter::<FMA>(&self.picture.u, &self.plan.chroma, line, columns.start, source, cb);
            filter::<FMA>(&self.picture.v, &self.plan.chroma, line, columns.start, source, cr);
            let at = (top + row) * input.0 + left;
            let to = at..at + width;
            let rgb = [&mut red[to.clone()], &mut green[to.clone()], &mut blue[to]];
            convert::<FMA>(&self.colour, luma, cb, cr, rgb);
        }
    }
}

/// Row `row` of the resized `plane` from column `first` on: down the columns first, because that pass is one long
/// multiply-add.
#[inline(always)]
fn filter<const FMA: bool>(
    plane: &Plane<'_>,
    axes: &Axes,
    row: usize,
    first: usize,
    source: &mut [f32],
    out: &mut [f32],
) {
    if out.is_empty() {
        return;
    }
    if axes.only_down {
        return vertical::<FMA>(plane, &axes.down, row, first, out);
    }
    let needed = axes.across.inputs(first..first + out.len());
    let source = &mut source[..needed.len()];
    vertical::<FMA>(plane, &axes.down, row, needed.start, source);
    horizontal::<FMA>(source, &axes.across, first, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instruction_sets_agree() {
        let (width, height) = (131, 75);
        let data: Vec<u8> = (0..width * height).map(|i| ((i * 2_654_435_761) >> 13) as u8).collect();
        let plane = |columns: usize, rows: usize| Plane { data: &data, stride: columns, columns, rows };
        let colour = Colour { matrix: Matrix::Bt709, range: frame::Range::Limited };
        let picture = I420 { y: plane(width, height), u: plane(66, 38), v: plane(66, 38), colour };
        for (w, h) in [(64, 40), (10, 9), (200, 100)] {
            let spec = InputSpec { width: w, height: h, mean: [0.0; 3], std: [1.0; 3] };
            let results: Vec<Vec<f32>> = Level::available()
                .into_iter()
                .map(|level| {
                    let mut prepare = Prepare { level, ..Prepare::new(spec).unwrap() };
                    let mut out = vec![f32::NAN; prepare.input_len()];
                    prepare.run(&picture, Window { size: (w, h), x: 0, y: 0 }, &mut out).unwrap();
                    out
                })
                .collect();
            for other in &results[1..] {
                assert!(results[0].iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}
