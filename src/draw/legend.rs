//! The panel in the corner: the unknown share of the frame, the colour bar with the threshold, and the caller's lines.

use std::fmt::{self, Write as _};

use crate::Result;
use crate::frame::{Colour, I420Mut};

use super::canvas::{Canvas, Rect, Sprite};
use super::colour::{Ycc, encode};
use super::palette::Table;
use super::text::{Font, Weight};
use super::{ScoreScale, View};

/// A score for display: two decimals and a typographic minus sign.
struct Number(f32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 <= -0.005 { "–" } else { "" };
        write!(f, "{sign}{:.2}", self.0.abs())
    }
}

/// The figures of one frame on the panel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub share: f32,
    /// Highest score of the frame.
    pub peak: Option<f32>,
    pub scale: ScoreScale,
    pub threshold: f32,
    pub lines: &'a [String],
}

/// The inputs of the panel's base, which is redrawn when they change.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Key {
    picture: (usize, usize),
    colour: Colour,
    view: View,
    scale: ScoreScale,
    threshold: f32,
    lines: usize,
    width: f32,
}

/// Positions in pixels of the panel.
#[derive(Debug, Clone, Copy, Default)]
struct Geometry {
    /// Size of body text, pixels per em; all else is in multiples of it.
    em: f32,
    pad: f32,
    inner: f32,
    width: f32,
    height: f32,
    headline: f32,
    bar: f32,
    labels: f32,
    lines: f32,
}

const PAD: f32 = 0.85;
const INNER: f32 = 15.5;
const HEADLINE: f32 = 1.55;
const SMALL: f32 = 0.92;
const BAR: f32 = 0.55;
const LINE: f32 = 1.4;

impl Geometry {
    fn new(width: usize, height: usize, with_bar: bool, lines: usize, widest: f32) -> Self {
        let side = (height as f32).min(width as f32 * 9.0 / 16.0);
        let em = (0.019 * side).max(11.0);
        let (pad, inner) = (PAD * em, widest.max(INNER * em));
        let headline = pad + 1.12 * em;
        let (mut bar, mut labels, mut bottom) = (headline, headline, headline);
        if with_bar {
            bar = headline + 0.85 * em;
            labels = bar + (BAR + 1.25) * em;
            bottom = labels;
        }
        let lines_at = bottom + LINE * em + if lines > 0 { 0.15 * em } else { 0.0 };
        if lines > 0 {
            bottom = lines_at + (lines - 1) as f32 * LINE * em;
        }
        let (width, height) = (inner + 2.0 * pad, bottom + 0.25 * em + pad);
        Self { em, pad, inner, width, height, headline, bar, labels, lines: lines_at }
    }

    /// Pixels to the picture's border, even so that chroma samples are whole.
    fn margin(&self) -> usize {
        (self.em as usize).next_multiple_of(2)
    }

    /// Whether the panel leaves enough of the picture to see.
    fn fits(&self, width: usize, height: usize) -> bool {
        let margin = 2.0 * self.margin() as f32 + 2.0;
        self.width + margin <= 0.6 * width as f32 && self.height + margin <= 0.6 * height as f32
    }
}

/// The panel, redrawn only as far as it changes.
#[derive(Debug)]
pub(super) struct Legend {
    font: Font,
    key: Option<Key>,
    geometry: Geometry,
    /// Panel and bar, without what changes from frame to frame.
    base: Canvas,
    canvas: Canvas,
    sprite: Sprite,
    /// The text of `sprite`.
    shown: String,
    text: String,
    scratch: String,
}

impl Legend {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            font: Font::new()?,
            key: None,
            geometry: Geometry::default(),
            base: Canvas::default(),
            canvas: Canvas::default(),
            sprite: Sprite::default(),
            shown: String::new(),
            text: String::new(),
            scratch: String::new(),
        })
    }

    /// Blends the panel onto `picture`; left out where it would cover too much of it.
    pub(super) fn draw(&mut self, picture: &mut I420Mut<'_>, view: View, table: &Table, facts: &Facts<'_>) {
        let (width, height) = (picture.width(), picture.height());
        let with_bar = view != View::Mask;
        let plain = Geometry::new(width, height, with_bar, facts.lines.len(), 0.0);
        // Caption lines widen the panel, in whole steps so that a changing number does not make it tremble.
        let longest =
            facts.lines.iter().map(|l| self.font.width(Weight::Regular, SMALL * plain.em, l)).fold(0.0, f32::max);
        let step = 2.0 * plain.em;
        let widest = ((longest / step).ceil() * step).min((0.5 * width as f32 - 4.0 * plain.em).max(0.0));
        let geometry = Geometry::new(width, height, with_bar, facts.lines.len(), widest);
        if !geometry.fits(width, height) {
            return;
        }
        let key = Key {
            picture: (width, height),
            colour: picture.colour,
            view,
            scale: facts.scale,
            threshold: facts.threshold,
            lines: facts.lines.len(),
            width: geometry.width,
        };
        if self.key != Some(key) {
            self.geometry = geometry;
            self.paint_base(picture.colour, view, table, facts);
            self.key = Some(key);
            self.shown.clear();
        }
        self.compose(facts);
        if self.text != self.shown {
            self.write(picture.colour, facts);
            std::mem::swap(&mut self.text, &mut self.shown);
        }
        let margin = self.geometry.margin();
        self.sprite.lay(picture, margin, margin);
    }

    /// All that changes from frame to frame, as one text: one line of headline, one of peak, then the caption.
    fn compose(&mut self, facts: &Facts<'_>) {
        let text = &mut self.text;
        text.clear();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "OoD {:.1} %", 100.0 * facts.share);
        if let Some(peak) = facts.peak {
            let _ = write!(text, "peak score {}", Number(peak));
        }
        for line in facts.lines {
            let _ = write!(text, "\n{line}");
        }
    }

    fn write(&mut self, colour: Colour, facts: &Facts<'_>) {
        let Geometry { em, pad, inner, headline, lines, .. } = self.geometry;
        let (white, grey) = (encode([255; 3], colour), encode([205; 3], colour));
        let Self { font, base, canvas, sprite, text, scratch, .. } = self;
        canvas.copy(base);
        let mut parts = text.lines();
        let first = parts.next().unwrap_or_default();
        canvas.text(font, Weight::Bold, HEADLINE * em, first, (pad, headline), (white, 1.0));
        let peak = parts.next().unwrap_or_default();
        let right = pad + inner - font.width(Weight::Regular, SMALL * em, peak);
        canvas.text(font, Weight::Regular, SMALL * em, peak, (right, headline), (grey, 1.0));
        for (index, line) in facts.lines.iter().enumerate() {
            let line = fit(font, SMALL * em, line, inner, scratch);
            let y = lines + index as f32 * LINE * em;
            canvas.text(font, Weight::Regular, SMALL * em, line, (pad, y), (grey, 1.0));
        }
        sprite.set(canvas);
    }

    fn paint_base(&mut self, colour: Colour, view: View, table: &Table, facts: &Facts<'_>) {
        let Geometry { em, pad, inner, width, height, bar, labels, .. } = self.geometry;
        let (black, white, grey) = (encode([0; 3], colour), encode([255; 3], colour), encode([180; 3], colour));
        let base = &mut self.base;
        base.clear(width.ceil() as usize, height.ceil() as usize);
        // A faint rim sets the panel off from dark scenes.
        let rim = (0.07 * em).max(1.0);
        base.fill(Rect { x: 0.0, y: 0.0, width, height, radius: 0.6 * em }, |_| (white, 0.16));
        let (width, height) = (width - 2.0 * rim, height - 2.0 * rim);
        base.fill(Rect { x: rim, y: rim, width, height, radius: 0.6 * em - rim }, |_| (black, 0.70));
        if view == View::Mask {
            return;
        }
        let ScoreScale { low, high } = facts.scale;
        let share = ((facts.threshold - low) / (high - low).max(1e-6)).clamp(0.0, 1.0);
        let tick = pad + share * inner;
        let strip = Rect { x: pad, y: bar, width: inner, height: BAR * em, radius: 0.2 * em };
        // What lies under the threshold is not drawn on the picture, so it is dim on the bar.
        let dim = if view == View::Overlay { 0.3 } else { 1.0 };
        base.fill(strip, |x| {
            let x = x as f32 + 0.5;
            let index = ((x - pad) / inner * 255.0).clamp(0.0, 255.0) as usize;
            let colour = Ycc { y: table.y[index], u: table.u[index], v: table.v[index] };
            (colour, if x < tick { dim } else { 1.0 })
        });
        let mark = (0.14 * em).max(1.5);
        let reach = 0.22 * em;
        let around = (0.07 * em).max(1.0);
        let line = |grow: f32| Rect {
            x: tick - mark / 2.0 - grow,
            y: bar - reach - grow,
            width: mark + 2.0 * grow,
            height: BAR * em + 2.0 * (reach + grow),
            radius: mark / 2.0 + grow,
        };
        base.fill(line(around), |_| (black, 0.6));
        base.fill(line(0.0), |_| (white, 1.0));
        let font = &mut self.font;
        let size = SMALL * em;
        let label = |text: &mut String, value: f32| {
            text.clear();
            let _ = write!(text, "{}", Number(value));
        };
        label(&mut self.scratch, facts.threshold);
        let length = font.width(Weight::Regular, size, &self.scratch);
        let at = (tick - length / 2.0).clamp(pad, pad + inner - length);
        base.text(font, Weight::Regular, size, &self.scratch, (at, labels), (white, 1.0));
        // The ends of the scale where the threshold's label leaves room.
        for (value, right) in [(low, false), (high, true)] {
            label(&mut self.scratch, value);
            let own = font.width(Weight::Regular, size, &self.scratch);
            let x = if right { pad + inner - own } else { pad };
            let apart = if right { x - (at + length) } else { at - (x + own) };
            if apart >= 0.6 * em {
                base.text(font, Weight::Regular, size, &self.scratch, (x, labels), (grey, 1.0));
            }
        }
    }
}

/// `line`, or as much of its start as fits into `width` with an ellipsis behind it.
fn fit<'a>(font: &Font, size: f32, line: &'a str, width: f32, scratch: &'a mut String) -> &'a str {
    if font.width(Weight::Regular, size, line) <= width {
        return line;
    }
    scratch.clear();
    scratch.push_str(line);
    while scratch.pop().is_some() {
        scratch.push('…');
        if font.width(Weight::Regular, size, scratch) <= width {
            break;
        }
        scratch.pop();
    }
    scratch
}
