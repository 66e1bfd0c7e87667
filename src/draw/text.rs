//! Text from the embedded font: glyphs are rasterised once and kept as coverage masks.

use std::collections::HashMap;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};

use crate::{Error, Result};

/// The two cuts of the font.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// A glyph's coverage, rows of `width` bytes, to be placed at the pen by `left` and `top`.
#[derive(Debug)]
pub(super) struct Glyph {
    pub left: i32,
    pub top: i32,
    pub width: usize,
    pub coverage: Vec<u8>,
}

/// Horizontal subpixel positions of a glyph.
const BINS: f32 = 4.0;

/// Size in quarter pixels, so that it can be a key.
type Size = u16;
type Key = (Weight, Size, u8, char);

/// The font with the glyphs rasterised so far.
#[derive(Debug)]
pub(super) struct Font {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
    glyphs: HashMap<Key, Glyph>,
}

impl Font {
    pub(super) fn new() -> Result<Self> {
        let load = |bytes| {
            FontRef::try_from_slice(bytes).map_err(|e| Error::failed(format!("the embedded font cannot be read: {e}")))
        };
        Ok(Self {
            regular: load(include_bytes!("fonts/Roboto-Regular.ttf"))?,
            bold: load(include_bytes!("fonts/Roboto-Bold.ttf"))?,
            glyphs: HashMap::new(),
        })
    }

    fn face(&self, weight: Weight) -> &FontRef<'static> {
        match weight {
            Weight::Regular => &self.regular,
            Weight::Bold => &self.bold,
        }
    }

    /// Width of `text` in pixels at `size` pixels per em.
    pub(super) fn width(&self, weight: Weight, size: f32, text: &str) -> f32 {
        let face = self.face(weight);
        let face = face.as_scaled(scale(face, size));
        text.chars().map(|c| face.h_advance(face.glyph_id(c))).sum()
    }

    /// Rasterises the glyphs of `text` and calls `place(x, y, glyph)` for each glyph, `(x, y)` being the pixel that the
    /// glyph's `left` and `top` count from; the pen starts at `(x, y)` on the baseline.
    pub(super) fn lay(
        &mut self,
        weight: Weight,
        size: f32,
        text: &str,
        (x, y): (f32, f32),
        mut place: impl FnMut(i32, i32, &Glyph),
    ) {
        let mut pen = x;
        for c in text.chars() {
            let whole = pen.floor();
            let bin = ((pen - whole) * BINS) as u8;
            let key = (weight, (size * 4.0).round() as Size, bin, c);
            if !self.glyphs.contains_key(&key) {
                let glyph = rasterise(self.face(weight), size, f32::from(bin) / BINS, c);
                self.glyphs.insert(key, glyph);
            }
            if let Some(glyph) = self.glyphs.get(&key) {
                place(whole as i32, y.round() as i32, glyph);
            }
            let face = self.face(weight);
            let face = face.as_scaled(scale(face, size));
            pen += face.h_advance(face.glyph_id(c));
        }
    }
}

/// `ab_glyph` measures by ascent plus descent, designers by the em.
fn scale(face: &FontRef<'static>, size: f32) -> PxScale {
    let em = face.units_per_em().unwrap_or(1000.0);
    PxScale::from(size * face.height_unscaled() / em)
}

fn rasterise(face: &FontRef<'static>, size: f32, offset: f32, c: char) -> Glyph {
    let glyph = face.glyph_id(c).with_scale_and_position(scale(face, size), point(offset, 0.0));
    let Some(outline) = face.outline_glyph(glyph) else {
        return Glyph { left: 0, top: 0, width: 0, coverage: Vec::new() };
    };
    let bounds = outline.px_bounds();
    let (width, height) = (bounds.width() as usize, bounds.height() as usize);
    let mut coverage = vec![0; width * height];
    outline.draw(|x, y, share| {
        if let Some(at) = coverage.get_mut(y as usize * width + x as usize) {
            *at = (share.clamp(0.0, 1.0) * 255.0).round() as u8;
        }
    });
    Glyph { left: bounds.min.x as i32, top: bounds.min.y as i32, width, coverage }
}
