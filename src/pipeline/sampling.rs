//! Which frames of recorded footage the network analyses.

use std::time::Duration;

use crate::Result;
use crate::frame::Plane;
use crate::gst::Frame;

/// Columns and rows of the small picture by which still footage is known.
const GRID: (usize, usize) = (32, 18);
/// Frames whose cells differ by at most this on average, in code values of luma, may be still.
const MEAN: f32 = 1.0;
/// No cell of a still frame differs by more than this.
const MOST: f32 = 6.0;

/// Which frames are analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sampling {
    /// One in this time; all when left out.
    pub every: Option<Duration>,
    /// Whether frames that equal the last analysed one are skipped.
    pub skip_still: bool,
}

impl Sampling {
    /// Whether every frame is analysed.
    pub fn all(&self) -> bool {
        *self == Self::default()
    }
}

/// Chooses the frames of one stream.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    /// The span of time in which the last choice was made.
    slot: Option<u128>,
    seen: Vec<f32>,
    now: Vec<f32>,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The network analyses it.
    Analyse,
    /// It is not its turn.
    Pass,
    /// It equals the last analysed one.
    Still,
}

impl Sampler {
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, slot: None, seen: Vec::new(), now: Vec::new() }
    }

    pub fn choose(&mut self, frame: &Frame) -> Result<Choice> {
        if let Some(every) = self.sampling.every {
            let slot = u128::from(frame.running_time) / every.as_nanos().max(1);
            if self.slot == Some(slot) {
                return Ok(Choice::Pass);
            }
            self.slot = Some(slot);
        }
        if self.sampling.skip_still {
            shrink(&frame.map()?.i420().y, &mut self.now);
            if is_still(&self.seen, &self.now) {
                return Ok(Choice::Still);
            }
            std::mem::swap(&mut self.seen, &mut self.now);
        }
        Ok(Choice::Analyse)
    }
}

/// Means of luma over the cells of a small grid, of about 8 x 8 samples each.
fn shrink(luma: &Plane<'_>, cells: &mut Vec<f32>) {
    let (columns, rows) = (GRID.0.min(luma.columns), GRID.1.min(luma.rows));
    let (mut sums, mut counts) = (vec![0u32; columns * rows], vec![0u32; columns * rows]);
    let (across, down) = ((luma.columns / (8 * GRID.0)).max(1), (luma.rows / (8 * GRID.1)).max(1));
    for y in (0..luma.rows).step_by(down) {
        let row = luma.row(y);
        let cell = y * rows / luma.rows * columns;
        for x in (0..luma.columns).step_by(across) {
            let at = cell + x * columns / luma.columns;
            sums[at] += u32::from(row[x]);
            counts[at] += 1;
        }
    }
    cells.clear();
    cells.extend(sums.iter().zip(&counts).map(|(sum, count)| *sum as f32 / (*count).max(1) as f32));
}

fn is_still(seen: &[f32], now: &[f32]) -> bool {
    if seen.len() != now.len() || now.is_empty() {
        return false;
    }
    let (mut sum, mut most) = (0.0, 0.0f32);
    for (seen, now) in seen.iter().zip(now) {
        let difference = (seen - now).abs();
        sum += difference;
        most = most.max(difference);
    }
    sum / now.len() as f32 <= MEAN && most <= MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(fill: impl Fn(usize, usize) -> u8) -> Vec<f32> {
        let data: Vec<u8> = (0..90).flat_map(|y| (0..160).map(move |x| (x, y))).map(|(x, y)| fill(x, y)).collect();
        let mut cells = Vec::new();
        shrink(&Plane { data: &data, stride: 160, columns: 160, rows: 90 }, &mut cells);
        cells
    }

    #[test]
    fn noise_is_still_and_a_thing_that_comes_is_not() {
        let usual = cells(|x, y| (100 + (x * 7 + y * 13) % 5) as u8);
        assert!(is_still(&usual, &cells(|x, y| (100 + (x * 11 + y * 3) % 5) as u8)));
        assert!(!is_still(&usual, &cells(|x, y| if x / 10 == 4 && y / 10 == 4 { 160 } else { 102 })));
        assert!(!is_still(&usual, &cells(|_, _| 106)), "it gets dark");
        assert!(!is_still(&[], &usual), "the first frame is analysed");
    }
}
