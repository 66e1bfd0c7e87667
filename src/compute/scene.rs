//! Scene cut test (`docs/method.md`, M8): has the layout of classes changed so much that old centroids are of no use?

use ndarray::ArrayView3;

/// Samples along each side of the frame.
const SAMPLES: usize = 24;
/// Cells along each side of the frame.
const CELLS: usize = 4;
/// A cut is seen when more than this share of the samples has changed its class or its cell.
const CUT: f32 = 0.4;

/// Histogram of the most likely class over a coarse grid of cells, `[CELLS * CELLS, C]`.
///
/// Both back ends take it from the logits on the host, so that both see the same cuts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Signature {
    counts: Vec<u16>,
}

impl Signature {
    /// Replaces `self` by the signature of `logits` and says whether a cut lies between the two.
    /// The first frame is no cut.
    pub fn update(&mut self, logits: &ArrayView3<'_, f32>, spare: &mut Signature) -> bool {
        spare.fill(logits);
        let cut = !self.counts.is_empty() && self.distance(spare) > CUT;
        std::mem::swap(self, spare);
        cut
    }

    /// Forgets the last frame.
    pub fn clear(&mut self) {
        self.counts.clear();
    }

    fn fill(&mut self, logits: &ArrayView3<'_, f32>) {
        let (classes, height, width) = logits.dim();
        self.counts.clear();
        self.counts.resize(CELLS * CELLS * classes, 0);
        for sy in 0..SAMPLES {
            let y = (2 * sy + 1) * height / (2 * SAMPLES);
            for sx in 0..SAMPLES {
                let x = (2 * sx + 1) * width / (2 * SAMPLES);
                let mut class = 0;
                for c in 1..classes {
                    if logits[[c, y, x]] > logits[[class, y, x]] {
                        class = c;
                    }
                }
                let cell = sy * CELLS / SAMPLES * CELLS + sx * CELLS / SAMPLES;
                self.counts[cell * classes + class] += 1;
            }
        }
    }

    /// Share of the samples that lie elsewhere, 0..1.
    fn distance(&self, other: &Self) -> f32 {
        if self.counts.len() != other.counts.len() {
            return 1.0;
        }
        let moved: u32 = self.counts.iter().zip(&other.counts).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
        moved as f32 / (2 * SAMPLES * SAMPLES) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn scene(horizon: usize) -> Array3<f32> {
        Array3::from_shape_fn((3, 48, 64), |(c, y, _)| if (c == 1) == (y < horizon) { 2.0 } else { 0.0 })
    }

    #[test]
    fn small_motion_is_no_cut_and_another_layout_is() {
        let (mut last, mut spare) = (Signature::default(), Signature::default());
        assert!(!last.update(&scene(20).view(), &mut spare), "first frame");
        assert!(!last.update(&scene(23).view(), &mut spare), "camera pitch");
        assert!(last.update(&scene(47).view(), &mut spare), "road gone");
        last.clear();
        assert!(!last.update(&scene(2).view(), &mut spare), "after a reset");
    }
}
