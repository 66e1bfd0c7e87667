//! R'G'B' to the code values of a picture.

use crate::frame::{Colour, Matrix, Range};

/// One colour in 8-bit code values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ycc {
    pub y: u8,
    pub u: u8,
    pub v: u8,
}

/// ITU-R BT.601-7 and BT.709-6, quantised for `colour`.
pub(super) fn encode(rgb: [u8; 3], colour: Colour) -> Ycc {
    let [r, g, b] = rgb.map(|c| f64::from(c) / 255.0);
    let (kr, kb) = match colour.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (pb, pr) = (0.5 * (b - y) / (1.0 - kb), 0.5 * (r - y) / (1.0 - kr));
    let (black, luma, chroma) = match colour.range {
        Range::Limited => (16.0, 219.0, 224.0),
        Range::Full => (0.0, 255.0, 255.0),
    };
    // `as u8` saturates: full range chroma of 0.5 would be 255.5.
    let code = |zero: f64, span: f64, value: f64| (zero + span * value).round() as u8;
    Ycc { y: code(black, luma, y), u: code(128.0, chroma, pb), v: code(128.0, chroma, pr) }
}
