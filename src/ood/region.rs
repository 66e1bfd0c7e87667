//! Regions: the components of the mask with the measures of each.

use ndarray::ArrayView3;
use serde::Serialize;

use super::components::{Components, DROPPED, Run};
use crate::compute::Detection;
use crate::{Error, Result};

/// A box in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BoundingBox {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl BoundingBox {
    /// Intersection over union with another box, 0..1.
    pub fn iou(&self, other: &Self) -> f32 {
        let side = |a: u32, a_len: u32, b: u32, b_len: u32| (a + a_len).min(b + b_len).saturating_sub(a.max(b));
        let intersection = u64::from(side(self.x, self.width, other.x, other.width))
            * u64::from(side(self.y, self.height, other.y, other.height));
        let union = self.area() + other.area() - intersection;
        if union == 0 { 0.0 } else { (intersection as f64 / union as f64) as f32 }
    }

    /// Pixels in it.
    pub fn area(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// One 8-connected component of the mask of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Its bounding box.
    pub bounding_box: BoundingBox,
    /// Its pixels.
    pub area: u64,
    /// Its share of the frame, 0..1.
    pub area_share: f32,
    /// Highest score in it.
    pub peak_score: f32,
    /// Mean over it of the confidence, the raw maximum logit; NaN where the network has no classes.
    pub mean_confidence: f32,
    /// The class of the highest mean logit over it, an index into the classes; 0 where the network has none.
    pub nearest_class: usize,
}

/// Finds regions, frame by frame, without allocating once its buffers have grown.
#[derive(Debug, Clone)]
pub struct RegionFinder {
    min_area_share: f32,
    components: Components,
    boxes: Vec<[u32; 4]>,
    cells: CellSums,
    regions: Vec<Region>,
}

/// Sums over the logits' cells of each region.
#[derive(Debug, Clone, Default)]
struct CellSums {
    classes: usize,
    /// `[regions, classes]`.
    logits: Vec<f32>,
    /// Sum of the highest logit, and the cells.
    confidence: Vec<(f32, u32)>,
}

impl CellSums {
    fn start(&mut self, regions: usize, classes: usize) {
        self.classes = classes;
        self.logits.clear();
        self.logits.resize(regions * classes, 0.0);
        self.confidence.clear();
        self.confidence.resize(regions, (0.0, 0));
    }

    fn add(&mut self, logits: ArrayView3<'_, f32>, (row, column): (usize, usize), component: u32) {
        let sums = &mut self.logits[component as usize * self.classes..][..self.classes];
        // Without classes nothing is known about confidence.
        let mut highest = if self.classes == 0 { f32::NAN } else { f32::NEG_INFINITY };
        for (class, sum) in sums.iter_mut().enumerate() {
            let value = logits[(class, row, column)];
            *sum += value;
            highest = highest.max(value);
        }
        let (sum, cells) = &mut self.confidence[component as usize];
        *sum += highest;
        *cells += 1;
    }

    /// Mean confidence and nearest class of a region.
    fn read(&self, region: usize) -> (f32, usize) {
        let (sum, cells) = self.confidence[region];
        let sums = &self.logits[region * self.classes..][..self.classes];
        let nearest = sums.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
        (sum / cells.max(1) as f32, nearest.map_or(0, |(class, _)| class))
    }
}

impl RegionFinder {
    /// Regions under `min_area_share` (0..1) of the frame's pixels are left out.
    pub fn new(min_area_share: f32) -> Self {
        Self {
            min_area_share,
            components: Components::default(),
            boxes: Vec::new(),
            cells: CellSums::default(),
            regions: Vec::new(),
        }
    }

    /// The regions of one frame's mask; `logits` are the network's `[C, h, w]`, of any size; C may be 0.
    ///
    /// # Errors
    /// Mask and score differ in size, or the logits have no pixels.
    pub fn find(&mut self, detection: &Detection, logits: ArrayView3<'_, f32>) -> Result<&[Region]> {
        let (height, width) = detection.mask.dim();
        let (Some(mask), Some(score)) = (detection.mask.as_slice(), detection.score.as_slice()) else {
            return Err(Error::failed("regions: mask and score must be in row-major order"));
        };
        if mask.len() != score.len() || detection.score.dim() != (height, width) || logits.dim().1 * logits.dim().2 == 0
        {
            return Err(Error::failed(format!(
                "regions: mask {height}x{width}, score {:?} and logits {:?} do not fit",
                detection.score.dim(),
                logits.dim()
            )));
        }
        let min_area = (self.min_area_share * mask.len() as f32).ceil().max(1.0) as u64;
        let count = self.components.label(mask, width, min_area);
        self.regions.clear();
        self.boxes.clear();
        self.boxes.resize(count, [u32::MAX, u32::MAX, 0, 0]);
        for &area in self.components.areas() {
            self.regions.push(Region {
                bounding_box: BoundingBox::default(),
                area,
                area_share: area as f32 / mask.len() as f32,
                peak_score: f32::NEG_INFINITY,
                mean_confidence: 0.0,
                nearest_class: 0,
            });
        }
        for run in self.components.runs().iter().filter(|run| run.component != DROPPED) {
            let [left, top, right, bottom] = &mut self.boxes[run.component as usize];
            (*left, *top) = ((*left).min(run.start), (*top).min(run.row));
            (*right, *bottom) = ((*right).max(run.end), (*bottom).max(run.row + 1));
            let row = run.row as usize * width;
            let peak = score[row + run.start as usize..row + run.end as usize].iter().copied().fold(f32::MIN, f32::max);
            let region = &mut self.regions[run.component as usize];
            region.peak_score = region.peak_score.max(peak);
        }
        for (region, &[left, top, right, bottom]) in self.regions.iter_mut().zip(&self.boxes) {
            region.bounding_box = BoundingBox { x: left, y: top, width: right - left, height: bottom - top };
        }
        self.read_logits(logits, width, height);
        Ok(&self.regions)
    }

    /// Takes mean confidence and nearest class from the logits' cells whose centres lie in a region.
    fn read_logits(&mut self, logits: ArrayView3<'_, f32>, width: usize, height: usize) {
        let (classes, rows, columns) = logits.dim();
        self.cells.start(self.regions.len(), classes);
        let runs = self.components.runs();
        let mut next = 0;
        for row_index in 0..rows {
            let y = centre(row_index, rows, height) as u32;
            next += runs[next..].partition_point(|run| run.row < y);
            let mut run = next;
            for column in 0..columns {
                let x = centre(column, columns, width) as u32;
                while runs.get(run).is_some_and(|run| run.row == y && run.end <= x) {
                    run += 1;
                }
                match runs.get(run) {
                    Some(&Run { row, start, component, .. }) if row == y => {
                        if start <= x && component != DROPPED {
                            self.cells.add(logits, (row_index, column), component);
                        }
                    }
                    _ => break,
                }
            }
        }
        for index in 0..self.regions.len() {
            if self.cells.confidence[index].1 == 0 {
                // Too small to hold a cell's centre: the cell under the middle of its box.
                let BoundingBox { x, y, width: w, height: h } = self.regions[index].bounding_box;
                let (fy, fx) = (centre_of(y + h / 2, height), centre_of(x + w / 2, width));
                self.cells.add(logits, row_column(rows, columns, fy, fx), index as u32);
            }
            let (confidence, nearest) = self.cells.read(index);
            self.regions[index].mean_confidence = confidence;
            self.regions[index].nearest_class = nearest;
        }
    }
}

/// The pixel of a side of `pixels` under the middle of cell `cell` of `cells`.
fn centre(cell: usize, cells: usize, pixels: usize) -> usize {
    ((2 * cell + 1) * pixels / (2 * cells)).min(pixels.saturating_sub(1))
}

/// The middle of a pixel as a share of the side.
fn centre_of(pixel: u32, pixels: usize) -> f64 {
    (f64::from(pixel) + 0.5) / pixels as f64
}

fn row_column(rows: usize, columns: usize, y: f64, x: f64) -> (usize, usize) {
    (((y * rows as f64) as usize).min(rows - 1), ((x * columns as f64) as usize).min(columns - 1))
}
