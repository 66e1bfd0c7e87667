//! I420 picture to the network's input: antialiased resize, colour conversion and normalisation in one read of the frame.
//!
//! The planes are resized as they are, luma and chroma each with its own taps, and only the result is converted to RGB: no
//! full-size RGB copy exists. The filter is the triangle whose support grows with the reduction, which is what Pillow's
//! `BILINEAR` and PyTorch's `antialias=True` do and what segmentation networks are trained with.

use crate::frame::{Colour, I420, Matrix, Plane, Range};
use crate::simd::Isa;
use crate::{Error, Result};

mod gpu;
mod resample;

pub use self::gpu::GpuPrepare;
use resample::{Taps, convert, horizontal, vertical};

/// How a picture of another aspect ratio is brought to the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Width and height are scaled independently; the whole input is picture.
    #[default]
    Stretch,
    /// One scale for both, the picture centred, the rest filled with the mean colour (0 after normalisation).
    Letterbox,
}

/// What the network wants to see.
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
    /// What to do about the aspect ratio.
    pub resize: Resize,
}

/// The rectangle of the network's input that holds picture, in input pixels. Everything else is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Content {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl InputSpec {
    /// Where a picture of `width x height` (square pixels) comes to lie.
    pub fn content(&self, width: usize, height: usize) -> Content {
        match self.resize {
            Resize::Stretch => Content { x: 0, y: 0, width: self.width, height: self.height },
            Resize::Letterbox => {
                let scale = (self.width as f64 / width as f64).min(self.height as f64 / height as f64);
                let fit = |length: usize, limit: usize| ((length as f64 * scale).round() as usize).clamp(1, limit);
                let (w, h) = (fit(width, self.width), fit(height, self.height));
                Content { x: (self.width - w) / 2, y: (self.height - h) / 2, width: w, height: h }
            }
        }
    }
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

/// The resampling tables for one picture size.
#[derive(Debug)]
struct Plan {
    picture: (usize, usize),
    content: Content,
    luma: Axes,
    chroma: Axes,
}

impl Plan {
    fn new(spec: &InputSpec, width: usize, height: usize) -> Self {
        let content = spec.content(width, height);
        let luma = |length: usize, out: usize| Taps::new(length, length as f64, out);
        // Chroma samples sit in the centre of 2 x 2 luma samples; with an odd size the last one is half outside the picture.
        let chroma = |length: usize, out: usize| Taps::new(length.div_ceil(2), length as f64 / 2.0, out);
        Self {
            picture: (width, height),
            content,
            luma: Axes::new(luma(width, content.width), luma(height, content.height)),
            chroma: Axes::new(chroma(width, content.width), chroma(height, content.height)),
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

/// Picture sizes whose tables are kept; several streams of different sizes may share one `Prepare`.
const PLANS: usize = 16;

/// Turns pictures into the network's input. Allocates only when it meets a picture size for the first time.
#[derive(Debug)]
pub struct Prepare {
    spec: InputSpec,
    isa: Isa,
    plans: Vec<Plan>,
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
        Ok(Self { spec, isa: Isa::detect(), plans: Vec::new(), rows: Rows::default() })
    }

    /// What it converts to.
    pub fn spec(&self) -> &InputSpec {
        &self.spec
    }

    /// Floats in one input: `3 * height * width`.
    pub fn input_len(&self) -> usize {
        3 * self.spec.width * self.spec.height
    }

    /// Writes `picture` as `(rgb - mean) / std`, planar `[3, height, width]`, and says where it lies.
    ///
    /// # Errors
    /// `out` is not [`Prepare::input_len`] long, or the planes of `picture` do not fit each other or their data.
    pub fn run(&mut self, picture: &I420<'_>, out: &mut [f32]) -> Result<Content> {
        if out.len() != self.input_len() {
            return Err(Error::failed(format!(
                "the network's input holds {} values, the buffer {}",
                self.input_len(),
                out.len()
            )));
        }
        picture.check()?;
        let size = (picture.width(), picture.height());
        let index = match self.plans.iter().position(|p| p.picture == size) {
            Some(index) => index,
            None => {
                if self.plans.len() == PLANS {
                    self.plans.remove(0);
                }
                self.plans.push(Plan::new(&self.spec, size.0, size.1));
                self.plans.len() - 1
            }
        };
        let plan = &self.plans[index];
        let rows = &mut self.rows;
        grow(&mut rows.source, size.0);
        for row in [&mut rows.y, &mut rows.u, &mut rows.v] {
            grow(row, plan.content.width);
        }
        let job = Job { spec: &self.spec, plan, picture, colour: Coefficients::new(&self.spec, picture.colour) };
        match self.isa {
            Isa::Plain => job.run::<{ cfg!(target_arch = "aarch64") }>(rows, out),
            // SAFETY: `Isa::detect` gave this value only after it had found the features that the function enables.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { job.run_avx2(rows, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { job.run_avx512(rows, out) },
        }
        Ok(plan.content)
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
            Range::Limited => (16.0, 219.0, 224.0),
            Range::Full => (0.0, 255.0, 255.0),
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

/// Everything that stays the same over the rows of one picture.
struct Job<'a> {
    spec: &'a InputSpec,
    plan: &'a Plan,
    picture: &'a I420<'a>,
    colour: Coefficients,
}

impl Job<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(&self, rows: &mut Rows, out: &mut [f32]) {
        let Content { x, y: top, width, height } = self.plan.content;
        let input = (self.spec.width, self.spec.height);
        if (width, height) != input {
            out.fill(0.0);
        }
        let plane = input.0 * input.1;
        let (red, rest) = out.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let Rows { source, y: luma, u: cb, v: cr } = rows;
        let (luma, cb, cr) = (&mut luma[..width], &mut cb[..width], &mut cr[..width]);
        for row in 0..height {
            filter::<FMA>(&self.picture.y, &self.plan.luma, row, source, luma);
            filter::<FMA>(&self.picture.u, &self.plan.chroma, row, source, cb);
            filter::<FMA>(&self.picture.v, &self.plan.chroma, row, source, cr);
            let at = (top + row) * input.0 + x;
            let to = at..at + width;
            let rgb = [&mut red[to.clone()], &mut green[to.clone()], &mut blue[to]];
            convert::<FMA>(&self.colour, luma, cb, cr, rgb);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2(&self, rows: &mut Rows, out: &mut [f32]) {
        self.run::<true>(rows, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    fn run_avx512(&self, rows: &mut Rows, out: &mut [f32]) {
        self.run::<true>(rows, out);
    }
}

/// Row `row` of the resized `plane`: down the columns first, because that pass is one long multiply-add.
#[inline(always)]
fn filter<const FMA: bool>(plane: &Plane<'_>, axes: &Axes, row: usize, source: &mut [f32], out: &mut [f32]) {
    if axes.only_down {
        return vertical::<FMA>(plane, &axes.down, row, out);
    }
    let source = &mut source[..plane.columns];
    vertical::<FMA>(plane, &axes.down, row, source);
    horizontal::<FMA>(source, &axes.across, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instruction_sets_agree() {
        let (width, height) = (131, 75);
        let data: Vec<u8> = (0..width * height).map(|i| ((i * 2_654_435_761) >> 13) as u8).collect();
        let plane = |columns: usize, rows: usize| Plane { data: &data, stride: columns, columns, rows };
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        let picture = I420 { y: plane(width, height), u: plane(66, 38), v: plane(66, 38), colour };
        for (w, h) in [(64, 40), (10, 9), (200, 100)] {
            let spec = InputSpec { width: w, height: h, mean: [0.0; 3], std: [1.0; 3], resize: Resize::Stretch };
            let results: Vec<Vec<f32>> = Isa::available()
                .into_iter()
                .map(|isa| {
                    let mut prepare = Prepare { isa, ..Prepare::new(spec).unwrap() };
                    let mut out = vec![f32::NAN; prepare.input_len()];
                    prepare.run(&picture, &mut out).unwrap();
                    out
                })
                .collect();
            for other in &results[1..] {
                assert!(results[0].iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}
