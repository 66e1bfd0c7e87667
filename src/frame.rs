//! Plain views of one I420 picture: shared by `input`, `model` and `draw`, free of GStreamer.

use crate::{Error, Result};

/// Y'CbCr to R'G'B' coefficients of a picture (ITU-R BT.601 or BT.709).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601: Kr = 0.299, Kb = 0.114.
    Bt601,
    /// ITU-R BT.709: Kr = 0.2126, Kb = 0.0722.
    Bt709,
}

/// How the 8-bit code values span black to white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// Luma 16..235, chroma 16..240.
    Limited,
    /// Luma and chroma 0..255.
    Full,
}

/// The colour description that the caps of a stream give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Colour {
    /// Y'CbCr coefficients.
    pub matrix: Matrix,
    /// Code value range.
    pub range: Range,
}

/// One plane of 8-bit samples: `rows` rows of `columns` samples, `stride` bytes apart (`stride >= columns`).
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// At least `stride * (rows - 1) + columns` bytes.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Samples in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

impl<'a> Plane<'a> {
    /// The samples of row `y`, without the padding.
    pub fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..y * self.stride + self.columns]
    }

    /// Whether there are samples, and the data and the stride hold all of them.
    pub(crate) fn is_whole(&self) -> bool {
        self.columns > 0
            && self.rows > 0
            && self.stride >= self.columns
            && self.data.len() >= self.stride * (self.rows - 1) + self.columns
    }
}

/// One writable plane, see [`Plane`].
#[derive(Debug)]
pub struct PlaneMut<'a> {
    /// At least `stride * (rows - 1) + columns` bytes.
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Samples in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

impl PlaneMut<'_> {
    /// The samples of row `y`, without the padding.
    #[cfg(any(test, feature = "internals"))]
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride..y * self.stride + self.columns]
    }

    /// The writable samples of row `y`, without the padding.
    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.data[y * self.stride..y * self.stride + self.columns]
    }

    /// The same plane to read from.
    pub fn view(&self) -> Plane<'_> {
        Plane { data: self.data, stride: self.stride, columns: self.columns, rows: self.rows }
    }
}

/// A read-only I420 picture: full-size luma, chroma at half size rounded up in both directions.
#[derive(Debug, Clone, Copy)]
pub struct I420<'a> {
    /// Luma, `width x height`.
    pub y: Plane<'a>,
    /// Cb, `ceil(width / 2) x ceil(height / 2)`.
    pub u: Plane<'a>,
    /// Cr, as `u`.
    pub v: Plane<'a>,
    /// How to read the code values.
    pub colour: Colour,
}

impl I420<'_> {
    /// Luma columns.
    pub fn width(&self) -> usize {
        self.y.columns
    }

    /// Luma rows.
    pub fn height(&self) -> usize {
        self.y.rows
    }

    /// Whether the planes fit each other and their data.
    ///
    /// # Errors
    /// They do not; the message names the plane.
    pub fn check(&self) -> Result<()> {
        let (width, height) = (self.width(), self.height());
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        for (name, plane, size) in [("Y", self.y, (width, height)), ("U", self.u, chroma), ("V", self.v, chroma)] {
            if (plane.columns, plane.rows) != size || !plane.is_whole() {
                return Err(Error::failed(format!(
                    "a {width}x{height} picture whose {name} plane is {}x{} with stride {} in {} bytes",
                    plane.columns,
                    plane.rows,
                    plane.stride,
                    plane.data.len()
                )));
            }
        }
        Ok(())
    }
}

/// A writable I420 picture, see [`I420`].
#[derive(Debug)]
pub struct I420Mut<'a> {
    /// Luma, `width x height`.
    pub y: PlaneMut<'a>,
    /// Cb, `ceil(width / 2) x ceil(height / 2)`.
    pub u: PlaneMut<'a>,
    /// Cr, as `u`.
    pub v: PlaneMut<'a>,
    /// How to read the code values.
    pub colour: Colour,
}

impl I420Mut<'_> {
    /// Luma columns.
    pub fn width(&self) -> usize {
        self.y.columns
    }

    /// Luma rows.
    pub fn height(&self) -> usize {
        self.y.rows
    }

    /// The same picture to read from.
    pub fn view(&self) -> I420<'_> {
        I420 { y: self.y.view(), u: self.u.view(), v: self.v.view(), colour: self.colour }
    }
}
