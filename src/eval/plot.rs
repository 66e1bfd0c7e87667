//! Curves and histograms as inline SVG.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::measure::{MethodResult, ScoreBars};
use super::metrics::{CurvePoint, PixelMetrics};

/// Colours of the methods' lines, distinct for colour-blind readers too (after Paul Tol's "bright" and
/// "muted").
const COLOURS: [&str; 10] =
    ["#ee6677", "#4477aa", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#888888", "#882255", "#117733", "#332288"];

/// The colour of method `index`.
pub fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// The axes of a curve plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// Precision over recall.
    PrecisionRecall,
    /// True-positive rate over false-positive rate.
    Roc,
}

impl Curve {
    fn title(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::PrecisionRecall => ("Precision-recall", "recall", "precision"),
            Self::Roc => ("ROC", "false-positive rate", "true-positive rate"),
        }
    }

    fn place(self, point: &CurvePoint) -> (f64, f64) {
        match self {
            Self::PrecisionRecall => (point.recall, point.precision),
            Self::Roc => (point.false_positive_rate, point.recall),
        }
    }
}

const SIDE: f64 = 360.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 26.0;
const PLOT: f64 = 290.0;

/// One curve of all methods.
pub fn curves(methods: &[MethodResult], curve: Curve) -> Markup {
    let (title, x_name, y_name) = curve.title();
    let (right, bottom) = (LEFT + PLOT, TOP + PLOT);
    let line = |index: usize, method: &MethodResult, pixels: &PixelMetrics| {
        let mut path = String::new();
        let start = match curve {
            Curve::PrecisionRecall => pixels.curve.first().map(|point| (0.0, point.precision)),
            Curve::Roc => Some((0.0, 0.0)),
        };
        for (x, y) in start.into_iter().chain(pixels.curve.iter().map(|point| curve.place(point))) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", LEFT + x * PLOT, TOP + (1.0 - y) * PLOT);
        }
        let width = if index == 0 { 2.4 } else { 1.4 };
        html! { path d=(path) fill="none" stroke=(colour(index)) stroke-width=(width) { title { (method.name) } } }
    };
    html! {
        svg.plot viewBox={ "0 0 " (SIDE) " " (SIDE) } role="img" aria-label=(title) {
            text.title x=(LEFT) y="16" { (title) }
            @for share in (0..=5).map(|tick| f64::from(tick) / 5.0) {
                @let (x, y) = (one(LEFT + share * PLOT), TOP + PLOT - share * PLOT);
                line.grid x1=(LEFT) x2=(right) y1=(one(y)) y2=(one(y)) {}
                line.grid x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
                text.tick x=(x) y=(bottom + 14.0) text-anchor="middle" { (one(share)) }
                text.tick x=(LEFT - 5.0) y=(one(y + 4.0)) text-anchor="end" { (one(share)) }
            }
            text.axis x=(LEFT + PLOT / 2.0) y=(SIDE) dy="-8" text-anchor="middle" { (x_name) }
            text.axis transform={ "translate(13 " (TOP + PLOT / 2.0) ") rotate(-90)" } text-anchor="middle" { (y_name) }
            // The first method is drawn last, over the others.
            @for (index, method) in methods.iter().enumerate().rev() {
                @if let Some(pixels) = &method.pixels { (line(index, method, pixels)) }
            }
        }
    }
}

/// A coordinate.
fn one(value: f64) -> String {
    format!("{value:.1}")
}

/// The score histogram of one method: known pixels grey, anomalous ones in its colour, each scaled to its own highest
/// bar.
pub fn histogram(method: &MethodResult, index: usize) -> Markup {
    const WIDTH: f64 = 360.0;
    const HEIGHT: f64 = 130.0;
    let ScoreBars { low, high, known, anomalous } = &method.bars;
    let outline = |bars: &[f64], highest: f64| {
        let step = WIDTH / bars.len() as f64;
        let mut path = format!("M0 {HEIGHT}");
        for (bar, share) in bars.iter().enumerate() {
            let y = HEIGHT - share / highest * (HEIGHT - 24.0);
            let _ = write!(path, "L{:.1} {y:.1}L{:.1} {y:.1}", bar as f64 * step, (bar + 1) as f64 * step);
        }
        let _ = write!(path, "L{WIDTH} {HEIGHT}Z");
        path
    };
    let threshold = method.pixels.as_ref().map(|pixels| pixels.best_threshold).filter(|_| high > low);
    html! {
        svg.plot viewBox={ "0 0 " (WIDTH) " 165" } role="img" aria-label={ "scores of " (method.name) } {
            text.title x="8" y="14" { (method.name) }
            @for (bars, fill) in [(known, "var(--known)"), (anomalous, colour(index))] {
                @let highest = bars.iter().copied().fold(0.0, f64::max);
                @if highest > 0.0 {
                    path d=(outline(bars, highest)) fill=(fill) fill-opacity="0.55" stroke=(fill) {}
                }
            }
            @if let Some(threshold) = threshold {
                @let x = one(f64::from((threshold - low) / (high - low)).clamp(0.0, 1.0) * WIDTH);
                line.threshold x1=(x) x2=(x) y1="20" y2=(HEIGHT) {
                    title { "best F1 at " (format!("{threshold:.4}")) }
                }
            }
            text.tick x="2" y=(HEIGHT + 16.0) { (format!("{low:.3}")) }
            text.tick x=(WIDTH - 2.0) y=(HEIGHT + 16.0) text-anchor="end" { (format!("{high:.3}")) }
        }
    }
}
