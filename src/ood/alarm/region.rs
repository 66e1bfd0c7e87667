//! Regions on the small grid: cells above one level around a cell above a higher one.

use ndarray::ArrayView3;

use super::field::Field;
use super::road::Road;
use crate::ood::components::{Components, DROPPED};

/// The quantile of the levels within a region that is its level: robust to a few cells either way.
const LEVEL_QUANTILE: f32 = 0.75;
/// The lowest share of a region's rows is its foot.
const FOOT: f32 = 0.2;
/// Share of the foot's cells that must be over the road.
const FOOT_ON_ROAD: f32 = 0.5;
/// From this certainty on the level that a region needs rises, by `CERTAIN_LEVEL` per unit: what the network names with
/// certainty is unusual rather than unknown.
const DOUBT: f32 = 0.75;
/// See [`DOUBT`].
const CERTAIN_LEVEL: f32 = 2.5;
/// The quantile of the levels in the rest of the picture that a region is compared with.
const REST_QUANTILE: f32 = 0.97;
/// Regions that are no part of the rest of the picture: where more stand out, it is the picture that is unusual.
const APART: usize = 2;
/// Rise of the level that a region needs, per unit by which the rest of the picture exceeds `RegionRules::rest_level`.
const REST_LEVEL: f32 = 3.0;

/// A rectangle in shares of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rect {
    /// Left side.
    pub left: f32,
    /// Top side.
    pub top: f32,
    /// Right side.
    pub right: f32,
    /// Bottom side.
    pub bottom: f32,
}

impl Rect {
    /// Area, 0 where it is turned inside out.
    pub fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// The common part, possibly of no area.
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// The smallest rectangle around both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Intersection over union, 0..1.
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersection(other).area();
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }

    /// The middle.
    pub fn centre(&self) -> (f32, f32) {
        ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }
}

/// One region of one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Its box.
    pub rect: Rect,
    /// Its share of the picture, 0..1.
    pub area_share: f32,
    /// Its level: the upper quartile of the levels in it (0 is the threshold, -1 the stream's usual score).
    pub level: f32,
    /// Highest score in it.
    pub peak_score: f32,
    /// Mean over it of the confidence, the raw maximum logit.
    pub mean_confidence: f32,
    /// The class of the highest mean logit over it, an index into the classes.
    pub nearest_class: usize,
    /// Mean probability of that class over the region, 0..1.
    pub certainty: f32,
    /// Whether its foot is over the road. True where no road is looked for.
    pub on_road: bool,
    /// Whether the lower edge of the picture cuts it off, so that its foot is not seen: bonnet, handlebar, dashboard.
    /// False where no road is looked for.
    pub cut_off: bool,
    /// Its highest level.
    pub peak_level: f32,
    /// The level that it needs to count: more where the network is certain of its class, and where the rest of the
    /// picture is unusual as well.
    pub needed_level: f32,
}

impl Region {
    /// Whether its level is high enough to count.
    pub fn counts(&self) -> bool {
        self.level >= self.needed_level
    }

    /// Whether it is seen to stand on the road.
    pub fn stands_on_road(&self) -> bool {
        self.on_road && !self.cut_off
    }
}

/// The conditions for a region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionRules {
    /// Some cell reaches this level.
    pub start_level: f32,
    /// All cells reach this level.
    pub grow_level: f32,
    /// Smallest share of the picture.
    pub min_area: f32,
    /// Level up to which the rest of the picture may reach before a region needs a higher one.
    pub rest_level: f32,
    /// Distance from the road's hull within which a region stands on it, as a share of the picture's width.
    pub road_margin: f32,
}

/// Finds regions frame by frame, without allocating once its buffers have grown.
#[derive(Debug, Clone, Default)]
pub struct RegionFinder {
    mask: Vec<u8>,
    components: Components,
    /// Cells at or above the starting level, per component.
    seeds: Vec<u32>,
    /// The region of each component, or none.
    region_of: Vec<Option<u16>>,
    regions: Vec<Region>,
    /// The regions that are compared with the rest of the picture.
    apart: Vec<usize>,
    /// Per cell the number of its region plus 1, or 0.
    labels: Vec<u16>,
    levels: Vec<f32>,
    logits: Vec<f32>,
}

impl RegionFinder {
    /// The regions of a frame. `road` is none where regions may be anywhere; `left_out` cells are no part of the rest of
    /// the picture.
    pub fn find(
        &mut self,
        field: &Field,
        level: &[f32],
        left_out: &[bool],
        logits: ArrayView3<'_, f32>,
        road: Option<&Road>,
        rules: &RegionRules,
    ) -> &[Region] {
        let width = field.width;
        self.mask.clear();
        self.mask.extend(level.iter().map(|&level| u8::from(level >= rules.grow_level)));
        let least = (rules.min_area * field.len() as f32).ceil().max(1.0) as u64;
        let count = self.components.label(&self.mask, width, least);
        self.seeds.clear();
        self.seeds.resize(count, 0);
        let kept = |component: u32| component != DROPPED;
        for run in self.components.runs().iter().filter(|run| kept(run.component)) {
            let cells = &level[run.row as usize * width..][run.start as usize..run.end as usize];
            self.seeds[run.component as usize] +=
                cells.iter().filter(|&&level| level >= rules.start_level).count() as u32;
        }
        self.regions.clear();
        self.region_of.clear();
        self.region_of.resize(count, None);
        self.labels.clear();
        self.labels.resize(field.len(), 0);
        for component in 0..count {
            if self.seeds[component] > 0 {
                self.region_of[component] = Some(self.regions.len() as u16);
                let region = self.measure(component as u32, field, level, logits, road, rules);
                self.regions.push(region);
            }
        }
        self.set_apart();
        if self.regions.iter().any(Region::counts) {
            let excess = (self.rest(level, left_out) - rules.rest_level).max(0.0);
            self.regions.iter_mut().for_each(|region| region.needed_level += REST_LEVEL * excess);
        }
        &self.regions
    }

    /// Chooses the regions on the road that exceed the level they need by most.
    fn set_apart(&mut self) {
        let regions = &self.regions;
        let excess = |index: &usize| regions[*index].level - regions[*index].needed_level;
        self.apart.clear();
        self.apart.extend((0..regions.len()).filter(|&index| regions[index].on_road && regions[index].counts()));
        self.apart.sort_unstable_by(|a, b| excess(b).total_cmp(&excess(a)));
        self.apart.truncate(APART);
    }

    /// The level that the highest cells of the picture reach outside of the regions that are set apart.
    fn rest(&mut self, level: &[f32], left_out: &[bool]) -> f32 {
        self.levels.clear();
        for (index, (&level, &label)) in level.iter().zip(&self.labels).enumerate() {
            let apart = usize::from(label).checked_sub(1).is_some_and(|region| self.apart.contains(&region));
            if !apart && left_out.get(index).is_none_or(|left_out| !left_out) {
                self.levels.push(level);
            }
        }
        if self.levels.is_empty() { f32::NEG_INFINITY } else { quantile(&mut self.levels, REST_QUANTILE) }
    }

    /// Per cell the number of its region plus 1, or 0.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    fn measure(
        &mut self,
        component: u32,
        field: &Field,
        level: &[f32],
        logits: ArrayView3<'_, f32>,
        road: Option<&Road>,
        rules: &RegionRules,
    ) -> Region {
        let (width, height) = (field.width, field.height);
        let label = self.regions.len() as u16 + 1;
        let runs = || self.components.runs().iter().filter(move |run| run.component == component);
        let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
        let mut peak_score = f32::NEG_INFINITY;
        self.levels.clear();
        for run in runs() {
            (left, top) = (left.min(run.start), top.min(run.row));
            (right, bottom) = (right.max(run.end), bottom.max(run.row + 1));
            let cells = run.row as usize * width + run.start as usize..run.row as usize * width + run.end as usize;
            self.labels[cells.clone()].fill(label);
            self.levels.extend_from_slice(&level[cells.clone()]);
            peak_score = field.score[cells].iter().copied().fold(peak_score, f32::max);
        }
        let foot = bottom - (((bottom - top) as f32 * FOOT).ceil() as u32).max(1);
        let margin = rules.road_margin * width as f32;
        let (mut foot_cells, mut foot_on_road) = (0.0, 0.0);
        if let Some(road) = road {
            for run in runs().filter(|run| run.row >= foot) {
                foot_cells += run.len() as f32;
                if let Some((start, end)) = road.span(run.row as usize, margin) {
                    foot_on_road += (end.min(run.end as f32) - start.max(run.start as f32)).max(0.0);
                }
            }
        }
        let cells = self.levels.len();
        let peak_level = self.levels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mean_confidence, nearest_class, certainty) = self.read_logits(component, field, logits);
        Region {
            rect: Rect {
                left: left as f32 / width as f32,
                top: top as f32 / height as f32,
                right: right as f32 / width as f32,
                bottom: bottom as f32 / height as f32,
            },
            area_share: cells as f32 / field.len() as f32,
            level: quantile(&mut self.levels, LEVEL_QUANTILE),
            peak_score,
            mean_confidence,
            nearest_class,
            certainty,
            on_road: road.is_none() || foot_on_road >= FOOT_ON_ROAD * foot_cells,
            cut_off: road.is_some() && bottom as usize == height,
            peak_level,
            needed_level: CERTAIN_LEVEL * (certainty - DOUBT),
        }
    }

    /// Mean confidence, nearest class and the mean probability of that class.
    fn read_logits(&mut self, component: u32, field: &Field, logits: ArrayView3<'_, f32>) -> (f32, usize, f32) {
        let (classes, rows, columns) = logits.dim();
        let (sums, shares) = {
            self.logits.clear();
            self.logits.resize(2 * classes, 0.0);
            self.logits.split_at_mut(classes)
        };
        let (mut confidence, mut cells) = (0.0_f32, 0_usize);
        for run in self.components.runs().iter().filter(|run| run.component == component) {
            let row = (2 * run.row as usize + 1) * rows / (2 * field.height);
            for x in run.start as usize..run.end as usize {
                let column = (2 * x + 1) * columns / (2 * field.width);
                // Without classes nothing is known about confidence.
                let mut highest = if classes == 0 { f32::NAN } else { f32::NEG_INFINITY };
                for class in 0..classes {
                    let value = logits[(class, row, column)];
                    sums[class] += value;
                    highest = highest.max(value);
                }
                let total: f32 = (0..classes).map(|class| (logits[(class, row, column)] - highest).exp()).sum();
                for (class, share) in shares.iter_mut().enumerate() {
                    *share += (logits[(class, row, column)] - highest).exp() / total;
                }
                confidence += highest;
                cells += 1;
            }
        }
        let nearest = (0..classes).max_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(b.cmp(&a))).unwrap_or(0);
        let cells = cells.max(1) as f32;
        (confidence / cells, nearest, shares.get(nearest).map_or(0.0, |share| share / cells))
    }
}

/// A quantile of some levels, of which there is at least one; reorders them.
fn quantile(levels: &mut [f32], share: f32) -> f32 {
    let place = ((levels.len() - 1) as f32 * share) as usize;
    *levels.select_nth_unstable_by(place, f32::total_cmp).1
}
