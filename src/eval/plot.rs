//! Curves and histograms as inline SVG.

use std::fmt::Write as _;

use super::measure::{MethodResult, ScoreBars};
use super::metrics::CurvePoint;

/// Colours of the methods' lines, distinct for colour-blind readers too (after Paul Tol's "bright" and
/// "muted").
const COLOURS: [&str; 10] =
    ["#ee6677", "#4477aa", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#888888", "#882255", "#117733", "#332288"];

/// The colour of method `index`.
pub fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Escapes text for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
pub fn curves(methods: &[MethodResult], curve: Curve) -> String {
    let (title, x_name, y_name) = curve.title();
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {SIDE} {SIDE}\" role=\"img\" aria-label=\"{title}\">\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>"
    );
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let (x, y) = (LEFT + share * PLOT, TOP + PLOT - share * PLOT);
        let bottom = TOP + PLOT;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{share:.1}</text>\
             <text class=\"tick\" x=\"{before}\" y=\"{middle:.1}\" text-anchor=\"end\">{share:.1}</text>",
            right = LEFT + PLOT,
            below = bottom + 14.0,
            before = LEFT - 5.0,
            middle = y + 4.0,
        );
    }
    let _ = write!(
        svg,
        "<text class=\"axis\" x=\"{x}\" y=\"{SIDE}\" dy=\"-8\" text-anchor=\"middle\">{x_name}</text>\
         <text class=\"axis\" transform=\"translate(13 {y}) rotate(-90)\" text-anchor=\"middle\">{y_name}</text>",
        x = LEFT + PLOT / 2.0,
        y = TOP + PLOT / 2.0,
    );
    // The first method is drawn last, over the others.
    for (index, method) in methods.iter().enumerate().rev() {
        let Some(pixels) = &method.pixels else { continue };
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
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"><title>{}</title></path>",
            colour(index),
            escape(&method.name)
        );
    }
    svg + "</svg>"
}

/// The score histogram of one method: known pixels grey, anomalous ones in its colour, each scaled to its own highest
/// bar.
pub fn histogram(method: &MethodResult, index: usize) -> String {
    const WIDTH: f64 = 360.0;
    const HEIGHT: f64 = 130.0;
    let ScoreBars { low, high, known, anomalous } = &method.bars;
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} 165\" role=\"img\" aria-label=\"scores of {name}\">\
         <text class=\"title\" x=\"8\" y=\"14\">{name}</text>",
        name = escape(&method.name)
    );
    for (bars, fill) in [(known, "var(--known)"), (anomalous, colour(index))] {
        let highest = bars.iter().copied().fold(0.0, f64::max);
        if highest == 0.0 {
            continue;
        }
        let step = WIDTH / bars.len() as f64;
        let mut path = format!("M0 {HEIGHT}");
        for (bar, share) in bars.iter().enumerate() {
            let y = HEIGHT - share / highest * (HEIGHT - 24.0);
            let _ = write!(path, "L{:.1} {y:.1}L{:.1} {y:.1}", bar as f64 * step, (bar + 1) as f64 * step);
        }
        let _ = write!(path, "L{WIDTH} {HEIGHT}Z");
        let _ = write!(svg, "<path d=\"{path}\" fill=\"{fill}\" fill-opacity=\"0.55\" stroke=\"{fill}\"/>");
    }
    if let Some(threshold) = method.pixels.as_ref().map(|pixels| pixels.best_threshold)
        && high > low
    {
        let x = f64::from((threshold - low) / (high - low)).clamp(0.0, 1.0) * WIDTH;
        let _ = write!(
            svg,
            "<line class=\"threshold\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"20\" y2=\"{HEIGHT}\"><title>best F1 at {threshold:.4}</title></line>"
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"2\" y=\"{y}\">{low:.3}</text>\
         <text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{high:.3}</text></svg>",
        x = WIDTH - 2.0,
        y = HEIGHT + 16.0,
    );
    svg
}
