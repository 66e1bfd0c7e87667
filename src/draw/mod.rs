//! Draws results into the picture, in place: heat over the unknown regions, their outlines and a legend.
//!
//! Everything happens on the code values of I420, luma at full and chroma at half resolution; no RGB picture is made.

use std::time::Duration;

use ndarray::ArrayView2;

use crate::compute::Detection;
use crate::frame::{Colour, I420, I420Mut, Plane, PlaneMut};
use crate::ood::alarm::Scene;
use crate::simd::Level;
use crate::{Error, Result};

mod blend;
mod canvas;
mod colour;
mod contour;
mod legend;
mod mix;
mod palette;
mod sign;
mod text;
mod tracks;

pub use palette::Palette;

use blend::{Blend, Layers};
use legend::{Facts, Legend};
use mix::Mix;
use palette::Table;
use sign::Sign;
use tracks::Tracks;

/// The content of the output picture.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// Heat colours over the alarms, with outlines, numbers and trails.
    #[default]
    Overlay,
    /// The whole score map in colour over the grey picture, with outlines; not limited to alarms.
    Heatmap,
    /// The original picture on the left, the heat map on the right.
    SideBySide,
    /// The marked regions in white over the darkened picture; pure black and white at opacity 1.
    Mask,
}

/// The settings of the drawing.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Style {
    /// The content of the output picture.
    pub view: View,
    /// Opacity of the heat colours (or of the mask's black), 0..1.
    pub opacity: f32,
    /// Whether the panel with share, scale and caption is drawn (where the picture is large enough for it).
    pub legend: bool,
    /// Colours of the scores.
    pub palette: Palette,
}

impl Style {
    /// # Errors
    /// An opacity outside of 0..=1.
    pub fn check(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.opacity) {
            return Ok(());
        }
        Err(Error::usage(format!("draw.opacity is {}, it must be 0 to 1", self.opacity)))
    }
}

impl Default for Style {
    fn default() -> Self {
        Self { view: View::Overlay, opacity: 0.55, legend: true, palette: Palette::default() }
    }
}

/// The scores that the two ends of the colour map stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreScale {
    /// Start of the colour map; everything below looks the same.
    pub low: f32,
    /// End of the colour map; everything above looks the same.
    pub high: f32,
}

/// Further lines for the legend, such as the file's name and the running time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caption {
    /// Top to bottom; a line that is too long ends in an ellipsis.
    pub lines: Vec<String>,
}

/// Columns of a side-by-side picture for pictures of `width` columns: two panes, each rounded up to even.
pub fn beside_width(width: usize) -> usize {
    2 * width.next_multiple_of(2)
}

/// First entry of the colour map in use over the bare picture: its dark end would be lost there.
const OVERLAY_START: u8 = 110;

/// The tables for one picture size and colour description.
#[derive(Debug)]
struct Tables {
    height: usize,
    colour: Colour,
    heat: Table,
    mix: Mix,
}

/// Draws the frames of one stream. Allocates only when the picture's size changes and for glyphs not seen before.
#[derive(Debug)]
pub struct Painter {
    style: Style,
    level: Level,
    tables: Option<Tables>,
    blend: Blend,
    legend: Legend,
    tracks: Tracks,
    classes: Vec<String>,
    sign: Option<Sign>,
}

impl Painter {
    /// A painter in `style`.
    ///
    /// # Errors
    /// An opacity outside of 0..=1.
    pub fn new(style: Style) -> Result<Self> {
        style.check()?;
        Ok(Self {
            style,
            level: Level::best(),
            tables: None,
            blend: Blend::default(),
            legend: Legend::new()?,
            tracks: Tracks::new()?,
            classes: Vec::new(),
            sign: None,
        })
    }

    /// The style in use.
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// Names of the classes, for the labels of unusual regions.
    pub fn set_classes(&mut self, classes: &[String]) {
        self.classes = classes.to_vec();
    }

    /// Sets the scene for the following frames: its alarms are drawn with their tracks, and the views `overlay` and
    /// `mask` leave out everything else. Without a scene, all of `detection.mask` is marked.
    pub fn set_scene(&mut self, scene: Option<&Scene>) {
        self.tracks.set(scene);
    }

    /// Draws `detection` into `picture`. `threshold` is only shown; the marked regions are `detection.mask`, or the
    /// alarms of the scene.
    /// With [`View::SideBySide`] this gives the right pane; see [`Painter::paint_beside`].
    ///
    /// # Errors
    /// `detection` is not of the picture's size, or the picture's planes do not fit each other.
    pub fn paint(
        &mut self,
        picture: &mut I420Mut<'_>,
        detection: &Detection,
        scale: ScoreScale,
        threshold: f32,
        caption: &Caption,
    ) -> Result<()> {
        let (width, height) = (picture.width(), picture.height());
        picture.view().check()?;
        let score = whole("score map", detection.score.view(), width, height)?;
        let mask = whole("mask", detection.mask.view(), width, height)?;
        if self.tables.as_ref().is_none_or(|t| (t.height, t.colour) != (height, picture.colour)) {
            let first = if self.style.view == View::Overlay { OVERLAY_START } else { 0 };
            let heat = self.style.palette.table(first, picture.colour);
            let mix = Mix::new(&self.style, height, picture.colour);
            self.tables = Some(Tables { height, colour: picture.colour, heat, mix });
        }
        let Some(Tables { heat, mix, .. }) = &self.tables else { return Ok(()) };
        let alarms_only = self.tracks.is_shown() && matches!(self.style.view, View::Overlay | View::Mask);
        let mask = if alarms_only { self.tracks.mask(width, height).view() } else { mask };
        self.blend.run(self.level, picture, &Layers { score, mask, scale, mix, table: heat });
        if self.tracks.is_shown() && self.style.view != View::Mask {
            self.tracks.draw(picture, &self.classes);
        }
        if self.style.legend {
            let peak = detection.grid_score.iter().copied().filter(|s| s.is_finite()).reduce(f32::max);
            let facts = Facts { share: detection.ood_share, peak, scale, threshold, lines: &caption.lines };
            self.legend.draw(picture, self.style.view, heat, &facts);
        }
        Ok(())
    }

    /// Copies `source` to the left pane of `target` and draws `detection` over a second copy in the right one.
    ///
    /// # Errors
    /// `target` is not [`beside_width`] columns wide and as high as `source`, or what [`Painter::paint`] says.
    pub fn paint_beside(
        &mut self,
        source: &I420<'_>,
        target: &mut I420Mut<'_>,
        detection: &Detection,
        scale: ScoreScale,
        threshold: f32,
        caption: &Caption,
    ) -> Result<()> {
        let (width, pane) = (source.width(), target.width() / 2);
        self.copy_beside(source, target)?;
        let mut right = I420Mut {
            y: right(&mut target.y, pane, width),
            u: right(&mut target.u, pane / 2, width.div_ceil(2)),
            v: right(&mut target.v, pane / 2, width.div_ceil(2)),
            colour: source.colour,
        };
        self.paint(&mut right, detection, scale, threshold, caption)
    }

    /// Copies `source` to both panes of `target` and draws nothing.
    ///
    /// # Errors
    /// `target` is not [`beside_width`] columns wide and as high as `source`.
    pub fn copy_beside(&self, source: &I420<'_>, target: &mut I420Mut<'_>) -> Result<()> {
        let (width, height) = (source.width(), source.height());
        source.check()?;
        target.view().check()?;
        if (target.width(), target.height()) != (beside_width(width), height) {
            return Err(Error::failed(format!(
                "side by side, a {width}x{height} picture needs {}x{height}, not {}x{}",
                beside_width(width),
                target.width(),
                target.height()
            )));
        }
        let pane = target.width() / 2;
        twice(&source.y, &mut target.y, pane);
        twice(&source.u, &mut target.u, pane / 2);
        twice(&source.v, &mut target.v, pane / 2);
        Ok(())
    }

    /// Darkens `picture` and writes across it that there has been no signal for `age`.
    ///
    /// # Errors
    /// The picture's planes do not fit each other, or the font cannot be read.
    pub fn paint_no_signal(&mut self, picture: &mut I420Mut<'_>, age: Duration) -> Result<()> {
        picture.view().check()?;
        let sign = match &mut self.sign {
            Some(sign) => sign,
            none => none.insert(Sign::new()?),
        };
        sign.draw(picture, age);
        Ok(())
    }
}

/// Copies `from` to both panes of `to`, the last column once more where a pane is wider.
fn twice(from: &Plane<'_>, to: &mut PlaneMut<'_>, pane: usize) {
    for y in 0..from.rows {
        let line = from.row(y);
        for half in to.row_mut(y).chunks_exact_mut(pane) {
            let (copy, rest) = half.split_at_mut(line.len());
            copy.copy_from_slice(line);
            rest.fill(line[line.len() - 1]);
        }
    }
}

/// The part of `plane` from column `x` on, `columns` wide.
fn right<'a>(plane: &'a mut PlaneMut<'_>, x: usize, columns: usize) -> PlaneMut<'a> {
    PlaneMut { data: &mut plane.data[x..], stride: plane.stride, columns, rows: plane.rows }
}

fn whole<'a, T>(name: &str, map: ArrayView2<'a, T>, width: usize, height: usize) -> Result<ArrayView2<'a, T>> {
    if map.dim() == (height, width) && map.is_standard_layout() {
        return Ok(map);
    }
    let (rows, columns) = map.dim();
    Err(Error::failed(format!("a {columns}x{rows} {name} cannot be drawn on a {width}x{height} picture")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Matrix, Range};
    use ndarray::Array2;

    #[test]
    fn all_instruction_sets_agree() {
        let (width, height) = (333, 211);
        let score = Array2::from_shape_fn((height, width), |(y, x)| (x as f32 / 40.0).sin() * (y as f32 / 30.0).cos());
        let mask = score.mapv(|s| u8::from(s > 0.4));
        let found = Detection { grid_score: Array2::ones((2, 2)), score, mask, ood_share: 0.2, ..Detection::default() };
        for view in [View::Overlay, View::Heatmap, View::Mask] {
            let results: Vec<[Vec<u8>; 3]> = Level::available()
                .into_iter()
                .map(|level| {
                    let mut painter = Painter { level, ..Painter::new(Style { view, ..Style::default() }).unwrap() };
                    let mut planes = [333 * 211, 167 * 106, 167 * 106].map(|length| {
                        (0..length).map(|i: usize| ((i * 2_654_435_761) >> 13) as u8).collect::<Vec<u8>>()
                    });
                    let [y, u, v] = &mut planes;
                    let plane = |data, columns, rows| PlaneMut { data, stride: columns, columns, rows };
                    let colour = Colour { matrix: Matrix::Bt601, range: Range::Full };
                    let mut picture =
                        I420Mut { y: plane(y, width, height), u: plane(u, 167, 106), v: plane(v, 167, 106), colour };
                    let scale = ScoreScale { low: -1.0, high: 1.0 };
                    painter.paint(&mut picture, &found, scale, 0.4, &Caption::default()).unwrap();
                    planes
                })
                .collect();
            assert!(results.iter().all(|planes| *planes == results[0]), "{view:?}");
        }
    }
}
