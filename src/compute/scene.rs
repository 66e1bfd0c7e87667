//! Scene cut test (`docs/method.md`, M8): has the layout of classes changed so much that old centroids are of no use?

use ndarray::ArrayView3;

use super::Maps;

/// Samples along each side of the frame.
const SAMPLES: usize = 24;
/// Cells along each side of the frame.
const CELLS: usize = 4;
/// A cut is seen when more than this share of the samples has changed its class or its cell.
const CUT: f32 = 0.4;

/// Histogram of the most likely class over a coarse grid of cells, `[CELLS * CELLS, C]`. Without classes it is that of
/// the feature that is most above its mean over the frame.
///
/// Both back ends take it from the maps on the host, so that both see the same cuts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Signature {
    counts: Vec<u16>,
    /// Subtracted from each channel.
    means: Vec<f32>,
}

impl Signature {
    /// Replaces `self` by the signature of `maps` and says whether a cut lies between the two.
    /// The first frame is no cut.
    pub fn update(&mut self, maps: &Maps<'_>, spare: &mut Signature) -> bool {
        let map = if maps.has_logits() { Some(&maps.logits) } else { maps.features.first() };
        let Some(map) = map else { return false };
        spare.means.clear();
        if maps.has_logits() {
            spare.means.resize(map.dim().0, 0.0);
        } else {
            let mean = |channel: usize| places(map).map(|(_, y, x)| map[[channel, y, x]]).sum::<f32>();
            spare.means.extend((0..map.dim().0).map(|channel| mean(channel) / (SAMPLES * SAMPLES) as f32));
        }
        spare.fill(map);
        let cut = !self.counts.is_empty() && self.distance(spare) > CUT;
        std::mem::swap(self, spare);
        cut
    }

    /// Forgets the last frame.
    pub fn clear(&mut self) {
        self.counts.clear();
    }

    fn fill(&mut self, map: &ArrayView3<'_, f32>) {
        let channels = map.dim().0;
        self.counts.clear();
        self.counts.resize(CELLS * CELLS * channels, 0);
        for (cell, y, x) in places(map) {
            let above = |channel: usize| map[[channel, y, x]] - self.means[channel];
            let mut most = 0;
            for channel in 1..channels {
                if above(channel) > above(most) {
                    most = channel;
                }
            }
            self.counts[cell * channels + most] += 1;
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

/// Cell, row and column of each sample.
fn places(map: &ArrayView3<'_, f32>) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let (_, height, width) = map.dim();
    (0..SAMPLES * SAMPLES).map(move |at| {
        let (sy, sx) = (at / SAMPLES, at % SAMPLES);
        let cell = sy * CELLS / SAMPLES * CELLS + sx * CELLS / SAMPLES;
        (cell, (2 * sy + 1) * height / (2 * SAMPLES), (2 * sx + 1) * width / (2 * SAMPLES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn scene(horizon: usize) -> Array3<f32> {
        Array3::from_shape_fn((3, 48, 64), |(c, y, _)| if (c == 1) == (y < horizon) { 2.0 } else { 0.0 })
    }

    /// Whether a cut is seen before the frame with this horizon, with and without classes.
    fn update(last: &mut [Signature; 2], horizon: usize) -> [bool; 2] {
        let map = scene(horizon);
        let none = Array3::zeros((0, 48, 64));
        let features = [map.view()];
        let mut spare = Signature::default();
        let with = Maps { logits: map.view(), features: &[], picture: None };
        let without = Maps { logits: none.view(), features: &features, picture: None };
        [last[0].update(&with, &mut spare), last[1].update(&without, &mut spare)]
    }

    #[test]
    fn small_motion_is_no_cut_and_another_layout_is() {
        let mut last = <[Signature; 2]>::default();
        assert_eq!(update(&mut last, 20), [false; 2], "first frame");
        assert_eq!(update(&mut last, 23), [false; 2], "camera pitch");
        assert_eq!(update(&mut last, 47), [true; 2], "road gone");
        last.iter_mut().for_each(Signature::clear);
        assert_eq!(update(&mut last, 2), [false; 2], "after a reset");
    }
}
