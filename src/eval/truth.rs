//! Ground truth in memory, run-length coded: a few kilobytes an image, so that thousands fit.

use image::GrayImage;

use super::components::{ANOMALY, KNOWN};
use super::metrics::PixelCounts;

/// The ground truth of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    width: usize,
    height: usize,
    runs: Vec<(u32, u8)>,
}

impl Truth {
    /// From decoded pixels of `components::{KNOWN, ANOMALY, VOID}`.
    pub fn new(mask: &GrayImage) -> Self {
        let mut runs: Vec<(u32, u8)> = Vec::new();
        for &value in mask.as_raw() {
            match runs.last_mut() {
                Some((length, last)) if *last == value && *length < u32::MAX => *length += 1,
                _ => runs.push((1, value)),
            }
        }
        Self { width: mask.width() as usize, height: mask.height() as usize, runs }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All pixels, row-major.
    pub fn pixels(&self) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(self.width * self.height);
        for &(length, value) in &self.runs {
            pixels.extend(std::iter::repeat_n(value, length as usize));
        }
        pixels
    }

    /// Pixels of each kind.
    pub fn counts(&self) -> PixelCounts {
        let mut counts = PixelCounts::default();
        for &(length, value) in &self.runs {
            let count = match value {
                ANOMALY => &mut counts.anomalous,
                KNOWN => &mut counts.known,
                _ => &mut counts.void,
            };
            *count += u64::from(length);
        }
        counts
    }

    /// Hands out the stretches of `scores` on anomalous and known pixels.
    pub fn for_each<'a>(&self, scores: &'a [f32], mut visit: impl FnMut(bool, &'a [f32])) {
        let mut rest = scores;
        for &(length, value) in &self.runs {
            let (stretch, after) = rest.split_at(rest.len().min(length as usize));
            rest = after;
            match value {
                ANOMALY => visit(true, stretch),
                KNOWN => visit(false, stretch),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::VOID;
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let pixels = vec![KNOWN, KNOWN, ANOMALY, VOID, VOID, ANOMALY];
        let truth = Truth::new(&GrayImage::from_raw(3, 2, pixels.clone()).unwrap());
        assert_eq!(truth.pixels(), pixels);
        assert_eq!(truth.counts(), PixelCounts { anomalous: 2, known: 2, void: 2 });
        let mut seen = Vec::new();
        truth.for_each(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], |anomalous, scores| seen.push((anomalous, scores.to_vec())));
        assert_eq!(seen, [(false, vec![0.0, 1.0]), (true, vec![2.0]), (true, vec![5.0])]);
    }
}
