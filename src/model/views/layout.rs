//! The parts and sizes of a frame that the network gets: resize rules, tiles, scales and mirror images.
//!
//! A *level* is the whole frame brought to one size; its *views* are windows of the network's input size that cover it. One
//! view of one level is the common case. All others give several maps per frame, which [`crate::model::views::merge`] brings together.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::prepare::{InputSpec, Window};
use crate::{Error, Result};

/// Views of one frame at most: each of them is a whole run of the network.
pub const MOST_VIEWS: usize = 64;
/// The range of scales.
const SCALES: std::ops::RangeInclusive<f32> = 0.5..=4.0;
/// The range of overlaps, as shares.
const OVERLAPS: std::ops::RangeInclusive<f32> = 0.0..=0.5;
/// Frame sizes whose layouts are kept.
const LAYOUTS: usize = 16;

/// The rule that brings a frame to the network's input size.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Scale width and height independently, so that the frame fills the input.
    #[default]
    Stretch,
    /// Keep the aspect ratio, centre the frame and pad with the mean colour (0 after normalisation).
    Letterbox,
    /// Do not resize; cut the frame into overlapping tiles of the input's size.
    Tile,
}

impl Resize {
    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The views of a frame that the network gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// The rule at scale 1.
    pub resize: Resize,
    /// Share of the input's sides that neighbouring tiles have in common at least, 0 to 0.5.
    pub tile_overlap: f32,
    /// Add the mirror image of each view.
    pub flip: bool,
    /// Sizes of the frame, as multiples of the size by `resize`: 0.5 to 4. Above 1 the frame does not fit
    /// into the input and is cut into tiles.
    pub scales: Vec<f32>,
}

impl Default for Views {
    fn default() -> Self {
        Self { resize: Resize::Stretch, tile_overlap: 0.25, flip: false, scales: vec![1.0] }
    }
}

/// `letterbox, scales 1 and 1.5, mirrored too`
impl fmt::Display for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resize.name())?;
        if self.has_tiles() {
            write!(f, ", tiles overlap by {}", self.tile_overlap)?;
        }
        if self.scales != [1.0] {
            let scales: Vec<String> = self.scales.iter().map(f32::to_string).collect();
            write!(f, ", scales {}", scales.join(" and "))?;
        }
        if self.flip {
            f.write_str(", mirrored too")?;
        }
        Ok(())
    }
}

impl Views {
    /// Whether all values are in range.
    ///
    /// # Errors
    /// One is not; the message names it, without a section in front.
    pub fn check(&self) -> Result<()> {
        if !OVERLAPS.contains(&self.tile_overlap) {
            return Err(Error::usage(format!(
                "tile_overlap is {}, it must be {} to {} of the network's input",
                self.tile_overlap,
                OVERLAPS.start(),
                OVERLAPS.end()
            )));
        }
        if self.scales.is_empty() {
            return Err(Error::usage("scales is empty, give at least one").hint("1 is the frame as `resize` brings it"));
        }
        match self.scales.iter().find(|scale| !SCALES.contains(scale)) {
            Some(scale) => {
                Err(Error::usage(format!("scales has {scale}, each must be {} to {}", SCALES.start(), SCALES.end())))
            }
            None => Ok(()),
        }
    }

    /// Whether both give the same views; an overlap counts only where there are tiles.
    pub fn same(&self, other: &Self) -> bool {
        let overlap = |views: &Self| if views.has_tiles() { views.tile_overlap } else { 0.0 };
        overlap(self) == overlap(other)
            && (self.resize, self.flip, &self.scales) == (other.resize, other.flip, &other.scales)
    }

    fn has_tiles(&self) -> bool {
        self.resize == Resize::Tile || self.scales.iter().any(|&scale| scale > 1.0)
    }

    /// The size that `resize` gives a frame at scale 1.
    fn base(&self, input: (usize, usize), frame: (usize, usize)) -> (usize, usize) {
        match self.resize {
            Resize::Stretch => input,
            Resize::Tile => frame,
            Resize::Letterbox => {
                let scale = (input.0 as f64 / frame.0 as f64).min(input.1 as f64 / frame.1 as f64);
                let fit = |length: usize, limit: usize| ((length as f64 * scale).round() as usize).clamp(1, limit);
                (fit(frame.0, input.0), fit(frame.1, input.1))
            }
        }
    }
}

/// The whole frame at one size, and the windows that cover it.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewScale {
    /// Columns and rows that the frame is brought to.
    pub size: (usize, usize),
    /// Where the windows begin, in columns: one left of the frame or at its edge, or several side by side.
    pub across: Vec<isize>,
    /// Where they begin, in rows. Every row of windows has all of `across`.
    pub down: Vec<isize>,
}

/// One picture for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The level.
    pub level: usize,
    /// Its place in the level's `across` and `down`.
    pub place: (usize, usize),
    /// The mirror image. It comes right after the view that it is the image of.
    pub mirrored: bool,
}

/// The views of all frames of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    frame: (usize, usize),
    input: (usize, usize),
    levels: Vec<ViewScale>,
    views: Vec<View>,
}

impl Layout {
    /// The layout of `views` for a frame of these columns and rows and a network that takes `input`.
    ///
    /// # Errors
    /// The frame is too small to be cut into tiles, or there would be more than [`MOST_VIEWS`].
    pub fn new(views: &Views, input: &InputSpec, frame: (usize, usize)) -> Result<Self> {
        views.check()?;
        let input = (input.width, input.height);
        let base = views.base(input, frame);
        let enlarged = |scale: f32| {
            let by = |length: usize| ((length as f64 * f64::from(scale)).round() as usize).max(1);
            (by(base.0), by(base.1))
        };
        let largest = enlarged(views.scales.iter().copied().fold(0.0, f32::max));
        if views.resize == Resize::Tile && (largest.0 < input.0 || largest.1 < input.1) {
            return Err(Error::usage(format!(
                "resize = tile: the picture is {}x{}, smaller than the network's input of {}x{}",
                largest.0, largest.1, input.0, input.1
            ))
            .hint("letterbox and stretch enlarge it"));
        }
        let windows = |length: usize, window: usize| {
            let overlap = (f64::from(views.tile_overlap) * window as f64).round() as usize;
            windows(length, window, overlap)
        };
        let level = |&scale: &f32| {
            let size = enlarged(scale);
            ViewScale { size, across: windows(size.0, input.0), down: windows(size.1, input.1) }
        };
        let levels: Vec<ViewScale> = views.scales.iter().map(level).collect();
        let images = if views.flip { 2 } else { 1 };
        let count: usize = levels.iter().map(|level| level.across.len() * level.down.len() * images).sum();
        if count > MOST_VIEWS {
            return Err(Error::usage(format!(
                "{views}: a picture of {}x{} takes {count} runs of the network at {}x{}, at most {MOST_VIEWS} are allowed",
                frame.0, frame.1, input.0, input.1
            ))
            .hint("smaller scales, less overlap, or a network with a larger input need fewer"));
        }
        let mut all = Vec::with_capacity(count);
        for (index, level) in levels.iter().enumerate() {
            for row in 0..level.down.len() {
                for column in 0..level.across.len() {
                    let view = View { level: index, place: (column, row), mirrored: false };
                    all.push(view);
                    if views.flip {
                        all.push(View { mirrored: true, ..view });
                    }
                }
            }
        }
        Ok(Self { frame, input, levels, views: all })
    }

    /// Columns and rows of the frames that it is for.
    pub fn frame(&self) -> (usize, usize) {
        self.frame
    }

    /// Columns and rows of the network's input.
    pub fn input(&self) -> (usize, usize) {
        self.input
    }

    /// The sizes of the frame.
    pub fn levels(&self) -> &[ViewScale] {
        &self.levels
    }

    /// The pictures for the network, in the order in which they are prepared and merged.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The part of the frame that a view shows, before it is mirrored.
    pub fn window(&self, view: View) -> Window {
        let level = &self.levels[view.level];
        Window { size: level.size, x: level.across[view.place.0], y: level.down[view.place.1] }
    }

    /// Whether the maps of its one view are those of the frame as they are.
    pub fn is_plain(&self) -> bool {
        self.views.len() == 1 && self.levels[0].size == self.input
    }
}

/// Where windows begin that cover `length` pixels: one in the middle when it is large enough, else as few as overlap by at
/// least `overlap`, evenly spread from edge to edge. `overlap` is below `window`.
fn windows(length: usize, window: usize, overlap: usize) -> Vec<isize> {
    if length <= window {
        return vec![-((window - length) / 2).cast_signed()];
    }
    let gaps = (length - window).div_ceil((window - overlap).max(1));
    (0..=gaps).map(|index| (index * (length - window) / gaps).cast_signed()).collect()
}

/// The layouts of the frame sizes that were met.
#[derive(Debug)]
pub struct Layouts {
    views: Views,
    input: InputSpec,
    known: Vec<Arc<Layout>>,
}

impl Layouts {
    /// Those of `views` for a network that takes `input`.
    pub fn new(views: Views, input: InputSpec) -> Self {
        Self { views, input, known: Vec::new() }
    }

    /// The layout for frames of these columns and rows.
    ///
    /// # Errors
    /// See [`Layout::new`].
    pub fn of(&mut self, frame: (usize, usize)) -> Result<Arc<Layout>> {
        if let Some(layout) = self.known.iter().find(|layout| layout.frame == frame) {
            return Ok(Arc::clone(layout));
        }
        let layout = Arc::new(Layout::new(&self.views, &self.input, frame)?);
        if self.known.len() == LAYOUTS {
            self.known.remove(0);
        }
        self.known.push(Arc::clone(&layout));
        Ok(layout)
    }
}

/// Turns each row of planes of `width` columns around.
pub fn mirror(from: &[f32], width: usize, to: &mut [f32]) {
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
        to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_and_overlap_as_set() {
        for window in [7, 8, 64] {
            for overlap in [0, window / 4, window / 2] {
                for length in 1..300_usize {
                    let starts = windows(length, window, overlap);
                    if length <= window {
                        assert_eq!(starts.len(), 1);
                        continue;
                    }
                    assert_eq!((starts[0], *starts.last().unwrap()), (0, (length - window) as isize));
                    for pair in starts.windows(2) {
                        let common = pair[0] + window as isize - pair[1];
                        assert!(common >= overlap as isize && pair[0] < pair[1], "{length} {window} {overlap}");
                    }
                    // One fewer could not do it.
                    let fewer = starts.len() - 1;
                    assert!(fewer * window - (fewer - 1) * overlap < length);
                }
            }
        }
    }
}
