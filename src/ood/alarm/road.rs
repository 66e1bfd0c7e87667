//! The road gate: the convex hull of the drivable surface, and a test for regions that stand on it.

use super::field::Field;
use crate::ood::components::{Components, DROPPED};

/// Parts of the road below this share of the largest part are left out of the hull.
const MIN_PART: u64 = 8;
/// The road must cover at least this share of the picture, or there is no hull.
const MIN_ROAD: f32 = 0.01;
/// Time for which the last hull stands in for a road that is not seen, in seconds.
const REMEMBER_S: f64 = 2.0;

/// Names of classes of drivable surface.
const DRIVABLE: [&str; 10] =
    ["road", "street", "drivable", "lane", "road marking", "lane marking", "asphalt", "trail", "track", "highway"];

/// Whether a class of this name is drivable surface.
pub fn is_drivable(class: &str) -> bool {
    let plain = class.to_lowercase().replace(['-', '_'], " ");
    DRIVABLE.iter().any(|word| plain == *word || plain.ends_with(&format!(" {word}")))
}

/// Whether a model with these classes has one of drivable surface, without which there is no road gate.
pub fn has_road(classes: &[String]) -> bool {
    classes.iter().any(|class| is_drivable(class))
}

/// The hull of the road, followed from frame to frame.
#[derive(Debug, Clone, Default)]
pub struct Road {
    /// Per row the first column and the one after the last; empty rows have `start >= end`. Row `height` and on: none.
    rows: Vec<(f32, f32)>,
    mask: Vec<u8>,
    components: Components,
    points: Vec<(f32, f32)>,
    hull: Vec<(f32, f32)>,
    unseen_s: f64,
}

impl Road {
    /// Finds the road in a frame; `drivable` says of each class whether it is one.
    pub fn update(&mut self, field: &Field, drivable: &[bool], step: f64) {
        self.mask.clear();
        self.mask
            .extend(field.class.iter().map(|&class| u8::from(drivable.get(class as usize).copied().unwrap_or(false))));
        self.components.label(&self.mask, field.width, 1);
        let largest = self.components.areas().iter().copied().max().unwrap_or(0);
        if (largest as f32) < MIN_ROAD * field.len() as f32 {
            self.unseen_s += step;
            if self.unseen_s > REMEMBER_S {
                self.rows.clear();
            }
            return;
        }
        self.unseen_s = 0.0;
        self.points.clear();
        let areas = self.components.areas();
        for run in self.components.runs().iter().filter(|run| run.component != DROPPED) {
            if areas[run.component as usize] * MIN_PART >= largest {
                // Cell corners, so that the hull covers whole cells.
                for (x, y) in
                    [(run.start, run.row), (run.end, run.row), (run.start, run.row + 1), (run.end, run.row + 1)]
                {
                    self.points.push((x as f32, y as f32));
                }
            }
        }
        convex_hull(&mut self.points, &mut self.hull);
        self.fill(field.height);
    }

    /// Whether there is a road at all.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_known(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The hull's columns in a row widened by `margin` cells to all sides; none where it does not reach.
    pub fn span(&self, row: usize, margin: f32) -> Option<(f32, f32)> {
        let reach = margin.round() as usize;
        let near = self.rows.get(row.saturating_sub(reach)..(row + reach + 1).min(self.rows.len()))?;
        let (start, end) = near
            .iter()
            .filter(|(start, end)| start < end)
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (start, end)| (low.min(*start), high.max(*end)));
        (start < end).then_some((start - margin, end + margin))
    }

    /// Scan-converts the hull at the rows' centres.
    fn fill(&mut self, height: usize) {
        self.rows.clear();
        self.rows.resize(height, (f32::INFINITY, f32::NEG_INFINITY));
        for (index, &(x0, y0)) in self.hull.iter().enumerate() {
            let (x1, y1) = self.hull[(index + 1) % self.hull.len()];
            let (top, bottom) = if y0 <= y1 { ((x0, y0), (x1, y1)) } else { ((x1, y1), (x0, y0)) };
            for row in (top.1 - 0.5).ceil().max(0.0) as usize..=(bottom.1 - 0.5).floor().max(0.0) as usize {
                let y = row as f32 + 0.5;
                let Some((start, end)) = self.rows.get_mut(row).filter(|_| y >= top.1 && y <= bottom.1) else {
                    continue;
                };
                let x = top.0 + (bottom.0 - top.0) * (y - top.1) / (bottom.1 - top.1).max(1e-6);
                (*start, *end) = (start.min(x), end.max(x));
            }
        }
    }
}

/// Andrew's monotone chain; `points` are sorted on the way.
fn convex_hull(points: &mut [(f32, f32)], hull: &mut Vec<(f32, f32)>) {
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    hull.clear();
    let turn = |a: (f32, f32), b: (f32, f32), c: (f32, f32)| (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0);
    for pass in 0..2 {
        let base = hull.len();
        let mut add = |point: (f32, f32)| {
            while hull.len() >= base + 2 && turn(hull[hull.len() - 2], hull[hull.len() - 1], point) <= 0.0 {
                hull.pop();
            }
            hull.push(point);
        };
        if pass == 0 {
            points.iter().for_each(|&point| add(point));
        } else {
            points.iter().rev().for_each(|&point| add(point));
        }
        hull.pop();
    }
}
