//! The values of the first picture, which show what the graph alone does not.

use ndarray::{ArrayView3, Axis};

/// Pixels whose sums are taken, at most.
const SAMPLES: usize = 4096;
/// What rounding adds to a share or to the sum of all.
const ROUNDING: f32 = 2e-3;

/// Whether a prepared picture shows anything.
pub(super) fn varies(picture: &[f32]) -> bool {
    let plane = (picture.len() / 3).max(1);
    picture.chunks_exact(plane).any(|plane| plane.iter().any(|value| (value - plane[0]).abs() > 1e-3))
}

/// Whether every channel of a map is the same all over.
fn is_flat(map: &ArrayView3<'_, f32>) -> bool {
    map.axis_iter(Axis(0)).all(|plane| {
        let first = plane.first().copied().unwrap_or(0.0);
        plane.iter().all(|value| (value - first).abs() <= 1e-6 * first.abs().max(1e-30))
    })
}

/// What is remarkable about the features `name` of a picture that shows something.
pub(super) fn examine_features(features: &ArrayView3<'_, f32>, name: &str) -> Vec<String> {
    let text = || {
        format!(
            "the features `{name}` are the same all over a picture that is not: the output, the normalisation (input.range, \
             input.mean, input.std) or the weights are wrong"
        )
    };
    is_flat(features).then(text).into_iter().collect()
}

/// What is remarkable about the logits `name` of a picture that shows something; `folded` are those of queries.
pub(super) fn examine(logits: &ArrayView3<'_, f32>, name: &str, folded: bool) -> Vec<String> {
    let mut seen = Vec::new();
    let (low, high) = logits.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    if is_flat(logits) {
        seen.push(format!(
            "the logits `{name}` are the same all over a picture that is not: the output, the normalisation (input.range, \
             input.mean, input.std) or the weights are wrong"
        ));
        return seen;
    }
    if folded {
        return seen;
    }
    let (_, height, width) = logits.dim();
    let step = (height * width).div_ceil(SAMPLES);
    let pixels = || (0..height * width).step_by(step).map(|at| logits.slice(ndarray::s![.., at / width, at % width]));
    if low >= -ROUNDING && high <= 1.0 + ROUNDING {
        let what = if pixels().all(|pixel| (pixel.sum() - 1.0).abs() <= ROUNDING) {
            "are probabilities (0 to 1, with sum 1)"
        } else if high > 0.5 {
            "lie within 0 and 1, as probabilities of each class by itself do"
        } else {
            return seen;
        };
        seen.push(format!(
            "the values of `{name}` {what}, not logits, so scores over softmax (msp, entropy, energy) are nearly flat: \
             name a tensor before the softmax as outputs.logits in the manifest, or export it"
        ));
    } else if high <= ROUNDING
        && pixels().all(|pixel| (pixel.iter().map(|v| v.exp()).sum::<f32>() - 1.0).abs() <= ROUNDING)
    {
        seen.push(format!(
            "the values of `{name}` are logarithms of probabilities, so the score energy is the same everywhere and \
             max-logit is that of msp: name a tensor before the log-softmax as outputs.logits in the manifest"
        ));
    }
    seen
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    fn logits() -> Array3<f32> {
        Array3::from_shape_fn((4, 6, 8), |(c, y, x)| ((c * 7 + y * 3 + x * 5) % 11) as f32 - 4.0)
    }

    fn softmax(mut map: Array3<f32>) -> Array3<f32> {
        for mut pixel in map.lanes_mut(Axis(0)) {
            pixel.mapv_inplace(f32::exp);
            let sum = pixel.sum();
            pixel /= sum;
        }
        map
    }

    #[track_caller]
    fn says(map: &Array3<f32>, words: &[&str]) {
        let seen = examine(&map.view(), "out", false);
        assert_eq!(seen.len(), words.len(), "{seen:?}");
        assert!(seen.iter().zip(words).all(|(seen, words)| seen.contains(words)), "{seen:?}");
    }

    #[test]
    fn values_that_are_no_logits_are_named() {
        says(&logits(), &[]);
        says(&softmax(logits()), &["with sum 1"]);
        says(&softmax(logits()).mapv(f32::ln), &["logarithms"]);
        says(&logits().mapv(|v| 1.0 / (1.0 + (-v).exp())), &["each class by itself"]);
        says(&Array3::from_elem((4, 6, 8), 0.25), &["the same all over"]);
        assert!(examine(&softmax(logits()).view(), "out", true).is_empty(), "folded queries are shares");
    }

    #[test]
    fn a_grey_picture_shows_nothing() {
        assert!(!varies(&[[0.5; 8], [0.1; 8], [0.9; 8]].concat()));
        assert!(varies(&[0.5, 0.5, 0.1, 0.1, 0.9, 0.8]));
    }
}
