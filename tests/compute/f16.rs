//! Features stored as f16 on the GPU: nearly the same clusters and scores, less memory, and clear errors.

use oodstream::bench::{MapShapes, scene};
use oodstream::compute::gpu::Gpu;
use oodstream::compute::{Backend, Detection, Maps, Recipe, Size, Statistic, Target, Unit};
use support::adapter;
use support::compute::{Frame, recipe, term};

const TARGET: Target = Target { size: Size { width: 320, height: 180 }, threshold: 0.0 };

/// The GPU back end with features as f32 and as f16, or none with a printed reason; a failure where the environment says that
/// there must be one.
fn both() -> Option<[Gpu; 2]> {
    if !adapter::is_there() {
        return None;
    }
    match Gpu::with_f16(true) {
        Ok(half) => Some([Gpu::new(true).unwrap(), half]),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("SHADER_F16"), "{text}");
            eprintln!("skipped: {text}");
            None
        }
    }
}

/// The default method's shape: three K over the clusters' energy.
fn method(warm_start: bool) -> Recipe {
    let mut recipe = recipe(vec![term(Statistic::Energy, Unit::Cluster)], &[5, 10, 20]);
    recipe.warm_start = warm_start;
    recipe
}

/// Share of labels that differ, all K together.
fn share_that_differs(found: &Detection, want: &Detection) -> f64 {
    let mut differ = 0;
    for (a, b) in found.labels.rows().into_iter().zip(want.labels.rows()) {
        differ += a.iter().zip(b).filter(|(a, b)| a != b).count();
    }
    differ as f64 / want.labels.len() as f64
}

#[test]
fn labels_and_scores_are_nearly_those_of_f32() {
    let Some([mut single, mut half]) = both() else { return };
    let shapes = MapShapes { logits: [11, 92, 160], features: vec![[64, 46, 80], [15, 23, 41]] };
    let frames = scene(&shapes, 6, 3);
    for warm in [false, true] {
        let recipe = method(warm);
        let (mut labels, mut worst, mut mean) = (0.0, 0f32, 0.0);
        for frame in &frames {
            let features: Vec<_> = frame.features.iter().map(|f| f.view()).collect();
            let maps = Maps { logits: frame.logits.view(), features: &features, picture: Some(frame.picture.luma()) };
            let (mut a, mut b) = (Detection::default(), Detection::default());
            single.detect(1, &maps, &recipe, TARGET, &mut a).unwrap();
            half.detect(1, &maps, &recipe, TARGET, &mut b).unwrap();
            assert!(b.score.iter().all(|s| s.is_finite()));
            labels += share_that_differs(&b, &a) / frames.len() as f64;
            let differences = a.score.iter().zip(&b.score).map(|(a, b)| (a - b).abs());
            worst = differences.clone().fold(worst, f32::max);
            mean += differences.map(f64::from).sum::<f64>() / (a.score.len() * frames.len()) as f64;
        }
        eprintln!(
            "warm start {warm}: {:.3} % of labels differ; scores by {mean:.5} in the mean, {worst:.4} at most",
            100.0 * labels
        );
        assert!(labels < 0.002, "{labels}");
        assert!(mean < 0.001 && worst < 0.5, "{mean}, {worst}");
    }
    let memory = [&single, &half].map(|gpu| gpu.device_memory().unwrap());
    eprintln!("peak device memory {memory:?}");
    assert!(memory[1] < memory[0]);
}

#[test]
fn pixel_scores_do_not_change_at_all() {
    let Some(both) = both() else { return };
    let frame = Frame::random(4, [7, 33, 47], &[[5, 17, 23]]);
    let recipe = recipe(vec![term(Statistic::Entropy, Unit::Pixel)], &[]);
    let [single, half] = both.map(|mut gpu| {
        let mut out = Detection::default();
        frame.with(|maps| gpu.detect(0, maps, &recipe, TARGET, &mut out)).unwrap();
        out
    });
    assert_eq!(single.score, half.score);
}

#[test]
fn a_feature_beyond_f16_is_named_and_the_next_frame_works() {
    let Some([_, mut half]) = both() else { return };
    let mut frame = Frame::random(4, [3, 9, 11], &[[5, 9, 11], [3, 5, 7]]);
    let recipe = method(false);
    let mut out = Detection::default();
    frame.features[1][[1, 2, 3]] = 7e4;
    let error = frame.with(|maps| half.detect(0, maps, &recipe, TARGET, &mut out)).unwrap_err().to_string();
    assert!(error.contains("features_1") && error.contains("65504") && error.contains("70000"), "{error}");
    frame.features[1][[1, 2, 3]] = 6e4;
    frame.with(|maps| half.detect(0, maps, &recipe, TARGET, &mut out)).unwrap();
    assert!(out.score.iter().all(|s| s.is_finite()));
}
