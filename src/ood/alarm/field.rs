//! One frame on the small grid that the rules use.

use ndarray::{ArrayView2, ArrayView3};

use crate::compute::Detection;
use crate::frame::Plane;
use crate::{Error, Result};

/// Most columns of the grid: a network's map of 640 columns at stride 4.
const MOST_COLUMNS: usize = 160;
/// Places in a cell, across and down, at which the score is read, in shares of the cell.
const PLACES: [f32; 2] = [0.25, 0.75];
/// Luma samples of a cell, across and down.
const LUMA_SAMPLES: usize = 4;

/// Scores, classes and luma of a frame on a grid of at most 160 columns. Buffers are kept from frame to frame.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Score per cell.
    pub score: Vec<f32>,
    /// Class of the highest logit per cell.
    pub class: Vec<u16>,
    /// Mean luma per cell.
    pub luma: Vec<u8>,
}

impl Field {
    /// The grid for a network's map of `rows` x `columns`.
    pub fn size_for(rows: usize, columns: usize) -> (usize, usize) {
        if columns <= MOST_COLUMNS {
            return (rows, columns);
        }
        ((rows * MOST_COLUMNS).div_ceil(columns).max(1), MOST_COLUMNS)
    }

    /// Cells.
    pub fn len(&self) -> usize {
        self.width * self.height
    }

    /// Whether nothing has been read yet.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a frame; `logits` are `[C, h, w]` of any size; C may be 0.
    ///
    /// # Errors
    /// The logits or the score map are empty.
    pub fn read(&mut self, detection: &Detection, logits: ArrayView3<'_, f32>, luma: Plane<'_>) -> Result<()> {
        self.read_still(detection.score.view(), logits)?;
        read_luma(luma, self.width, self.height, &mut self.luma);
        Ok(())
    }

    /// Reads a frame without its luma, from a score map of any size.
    ///
    /// # Errors
    /// As [`Field::read`].
    pub fn read_still(&mut self, score: ArrayView2<'_, f32>, logits: ArrayView3<'_, f32>) -> Result<()> {
        let (_, rows, columns) = logits.dim();
        let (Some(values), false) = (score.as_slice(), rows * columns == 0) else {
            return Err(Error::failed("events: the score map or the logits are empty"));
        };
        (self.height, self.width) = Self::size_for(rows, columns);
        self.read_score(values, score.dim());
        self.read_classes(logits);
        self.luma.clear();
        Ok(())
    }

    fn read_score(&mut self, score: &[f32], (rows, columns): (usize, usize)) {
        self.score.clear();
        for y in 0..self.height {
            let lines = PLACES.map(|place| {
                let row = ((y as f32 + place) * rows as f32 / self.height as f32) as usize;
                &score[row.min(rows - 1) * columns..][..columns]
            });
            for x in 0..self.width {
                let sum: f32 = PLACES
                    .iter()
                    .map(|place| {
                        let column = ((x as f32 + place) * columns as f32 / self.width as f32) as usize;
                        lines.iter().map(|line| line[column.min(columns - 1)]).sum::<f32>()
                    })
                    .sum();
                self.score.push(sum / (PLACES.len() * PLACES.len()) as f32);
            }
        }
    }

    fn read_classes(&mut self, logits: ArrayView3<'_, f32>) {
        let (classes, rows, columns) = logits.dim();
        self.class.clear();
        self.class.resize(self.len(), 0);
        for y in 0..self.height {
            let row = (2 * y + 1) * rows / (2 * self.height);
            for x in 0..self.width {
                let column = (2 * x + 1) * columns / (2 * self.width);
                let mut best = (0, f32::NEG_INFINITY);
                for class in 0..classes {
                    let value = logits[(class, row, column)];
                    if value > best.1 {
                        best = (class as u16, value);
                    }
                }
                self.class[y * self.width + x] = best.0;
            }
        }
    }
}

/// Means of `luma` over the cells of a grid of `width` x `height`.
pub(crate) fn read_luma(luma: Plane<'_>, width: usize, height: usize, cells: &mut Vec<u8>) {
    cells.clear();
    let across = (luma.columns as f32 / width as f32, luma.rows as f32 / height as f32);
    let place = |cell: usize, sample: usize, size: f32, limit: usize| {
        let share = (sample as f32 + 0.5) / LUMA_SAMPLES as f32;
        (((cell as f32 + share) * size) as usize).min(limit - 1)
    };
    for y in 0..height {
        let rows: [&[u8]; LUMA_SAMPLES] = std::array::from_fn(|sample| luma.row(place(y, sample, across.1, luma.rows)));
        for x in 0..width {
            let columns: [usize; LUMA_SAMPLES] = std::array::from_fn(|sample| place(x, sample, across.0, luma.columns));
            let sum: u32 =
                rows.iter().map(|row| columns.iter().map(|&column| u32::from(row[column])).sum::<u32>()).sum();
            cells.push((sum / (LUMA_SAMPLES * LUMA_SAMPLES) as u32) as u8);
        }
    }
}
