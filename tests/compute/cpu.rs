//! The CPU back end against the method in plain f64, at every instruction set that this machine has.

use ndarray::{Array2, s};
use oodstream::compute::cpu::Cpu;
use oodstream::compute::{
    Backend, Clustering, Detection, Grid, Maps, Recipe, Seeds, Size, Statistic, Target, Unit, Upsampling,
};
use support::compute;
use support::compute::{Frame, Noise, codebook, grid_features, grid_score, guided, recipe, resize, term};

const SIZE: Size = Size { width: 50, height: 31 };
const TARGET: Target = Target { size: SIZE, threshold: -3.0 };

/// All that are taken from the logits.
const STATISTICS: [Statistic; 6] =
    [Statistic::Msp, Statistic::MaxLogit, Statistic::Entropy, Statistic::Energy, Statistic::Rba, Statistic::NoObject];

fn all() -> Vec<Cpu> {
    Cpu::all_levels(Some(2)).unwrap()
}

#[track_caller]
fn detect(cpu: &mut dyn Backend, frame: &Frame, recipe: &Recipe) -> Detection {
    let mut out = Detection::default();
    frame.with(|maps| cpu.detect(0, maps, recipe, TARGET, &mut out)).unwrap();
    out
}

#[track_caller]
fn error(frame: &Frame, recipe: &Recipe) -> String {
    let mut out = Detection::default();
    let mut cpu = Cpu::new(Some(1)).unwrap();
    frame.with(|maps| cpu.detect(0, maps, recipe, TARGET, &mut out)).unwrap_err().to_string()
}

#[track_caller]
fn assert_close<'a>(got: impl IntoIterator<Item = &'a f32>, want: impl IntoIterator<Item = f64>, what: &str) {
    for (i, (g, w)) in got.into_iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() < 1e-4, "{what} at {i}: got {g}, want {w}");
    }
}

#[test]
fn pixel_statistics_on_a_finer_and_a_coarser_grid() {
    for (logits, features, finest) in [
        ([7, 13, 18], [3, 9, 11], (13, 18)),
        ([4, 5, 6], [2, 12, 9], (12, 9)),
        ([4, 20, 3], [2, 5, 11], (20, 3)),
        ([1, 4, 4], [2, 4, 4], (4, 4)),
    ] {
        let frame = Frame::random(1, logits, &[features]);
        for cpu in &mut all() {
            for (which, grid) in STATISTICS.into_iter().flat_map(|s| [(s, Grid::Features), (s, Grid::Finest)]) {
                let recipe = Recipe { grid, ..recipe(vec![term(which, Unit::Pixel)], &[]) };
                let out = detect(cpu, &frame, &recipe);
                assert_close(
                    &out.grid_score,
                    compute::statistic(&frame, &recipe, which),
                    &format!("{which:?} {grid:?}"),
                );
                assert_eq!(
                    out.grid_score.dim(),
                    if grid == Grid::Finest { finest } else { (features[1], features[2]) }
                );
                assert_eq!(out.labels.nrows(), 0);
            }
        }
    }
}

#[test]
fn cluster_scores_follow_from_the_labels() {
    let frame = Frame::random(2, [6, 20, 24], &[[5, 10, 12], [9, 5, 6], [3, 20, 24]]);
    let mut recipe = recipe(vec![term(Statistic::MaxLogit, Unit::Cluster)], &[2, 5, 9]);
    recipe.terms.push(oodstream::compute::Term {
        statistic: Statistic::Entropy,
        unit: Unit::Cluster,
        weight: 0.5,
        mean: 1.0,
        deviation: 2.0,
    });
    recipe.terms.push(term(Statistic::Msp, Unit::Pixel));
    for cpu in &mut all() {
        let out = detect(cpu, &frame, &recipe);
        assert_eq!(out.labels.dim(), (3, 120));
        assert_close(&out.grid_score, grid_score(&frame, &recipe, out.labels.view()), "score");
        assert_eq!(out.clusters.len(), 16);
        let confidence = compute::statistic(&frame, &recipe, Statistic::MaxLogit);
        for (j, cluster) in out.clusters[2..7].iter().enumerate() {
            let members: Vec<usize> = (0..120).filter(|&i| out.labels[[1, i]] == j as u32).collect();
            assert_eq!((cluster.k, cluster.pixels as usize), (5, members.len()));
            let mean = -members.iter().map(|&i| confidence[i]).sum::<f64>() / members.len() as f64;
            assert!((f64::from(cluster.mean_confidence) - mean).abs() < 1e-4);
        }
    }
}

#[test]
fn features_are_resampled_and_made_unit_length_each() {
    let frame = Frame::random(3, [2, 8, 8], &[[5, 10, 12], [9, 5, 6], [3, 25, 24], [70, 10, 12]]);
    for unit_length in [true, false] {
        let got = frame.with(|maps| Cpu::new(Some(2)).unwrap().grid_features(maps, unit_length)).unwrap();
        assert_close(&got, grid_features(&frame, unit_length), "features");
    }
}

#[test]
fn bank_distance_is_the_distance_to_the_nearest_centroid() {
    let mut frame = Frame::random(4, [3, 6, 8], &[[20, 6, 8], [7, 3, 4]]);
    let mut recipe = recipe(vec![term(Statistic::Bank, Unit::Pixel), term(Statistic::Bank, Unit::Cluster)], &[4]);
    recipe.codebook = Some(codebook(9, 33, 27));
    for cpu in &mut all() {
        let out = detect(cpu, &frame, &recipe);
        assert_close(&out.grid_score, grid_score(&frame, &recipe, out.labels.view()), "bank");
    }
    // A point that lies on a centroid: the product form alone would be off by more than 1e-4 here.
    recipe.terms.truncate(1);
    recipe.unit_length = false;
    frame.features.truncate(1);
    let rows = Array2::from_shape_fn((48, 20), |(i, d)| frame.features[0][[d, i / 8, i % 8]]);
    recipe.codebook = Some(std::sync::Arc::new(oodstream::compute::Codebook { centroids: rows }));
    for cpu in &mut all() {
        assert!(detect(cpu, &frame, &recipe).grid_score.iter().all(|s| s.abs() < 1e-5));
    }
}

#[test]
fn upsampling_and_threshold() {
    for (h, w) in [(9, 11), (1, 1), (1, 7), (31, 50), (60, 80)] {
        let frame = Frame::random(5, [3, h, w], &[]);
        let recipe = recipe(vec![term(Statistic::MaxLogit, Unit::Pixel)], &[]);
        for cpu in &mut all() {
            let out = detect(cpu, &frame, &recipe);
            let want = resize(out.grid_score.view(), (SIZE.height, SIZE.width), true);
            assert_eq!(out.score.dim(), (SIZE.height, SIZE.width));
            assert_close(&out.score, want, "upsampled");
            assert_eq!(out.threshold, -3.0);
            assert!(out.score.iter().zip(&out.mask).all(|(s, m)| (*s >= -3.0) == (*m == 1)));
            let marked = out.mask.iter().filter(|m| **m == 1).count() as f32 / out.mask.len() as f32;
            assert!((out.ood_share - marked).abs() < 1e-6);
        }
    }
}

#[test]
fn guided_upsampling_follows_the_picture() {
    for (h, w) in [(9, 11), (1, 1), (1, 7), (3, 1), (31, 50)] {
        let frame = Frame::random(5, [3, h, w], &[]);
        let mut recipe = recipe(vec![term(Statistic::MaxLogit, Unit::Pixel)], &[]);
        recipe.upsampling = Upsampling::Guided;
        for cpu in &mut all() {
            let out = detect(cpu, &frame, &recipe);
            assert_close(&out.score, guided(&frame, out.grid_score.view(), (SIZE.height, SIZE.width)), "guided");
            // A target of the size that the score is made at gets it as it is.
            let fine = recipe.fine_size(Size { width: w, height: h });
            assert_eq!((fine.width, fine.height), (4 * w, 4 * h));
            let mut at_fine = Detection::default();
            frame.with(|maps| cpu.detect(0, maps, &recipe, Target::scores(fine), &mut at_fine)).unwrap();
            let want = resize(at_fine.score.view(), (SIZE.height, SIZE.width), true);
            assert_close(&out.score, want, "in two steps");
        }
    }
}

#[test]
fn guided_upsampling_without_a_whole_picture_is_an_error() {
    let frame = Frame::random(5, [3, 9, 11], &[]);
    let mut recipe = recipe(vec![term(Statistic::MaxLogit, Unit::Pixel)], &[]);
    recipe.upsampling = Upsampling::Guided;
    let mut out = Detection::default();
    let mut message = |picture| {
        let maps = Maps { logits: frame.logits.view(), features: &[], picture };
        Cpu::new(Some(1)).unwrap().detect(0, &maps, &recipe, TARGET, &mut out).unwrap_err().to_string()
    };
    assert!(message(None).contains("needs the picture"));
    let mut luma = frame.luma();
    luma.plane.rows += 1;
    let short = message(Some(luma));
    assert!(short.contains("73x42 with stride 73 in 2993 bytes"), "{short}");
}

#[test]
fn maps_need_not_lie_in_memory_in_order() {
    let frame = Frame::random(6, [4, 9, 7], &[[6, 9, 7]]);
    let swap = |m: &ndarray::Array3<f32>| m.view().permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
    let (logits, feature) = (swap(&frame.logits), swap(&frame.features[0]));
    let (logits, feature) = (logits.view().permuted_axes([1, 2, 0]), feature.view().permuted_axes([1, 2, 0]));
    assert!(logits.as_slice().is_none() && logits == frame.logits);
    let recipe = recipe(vec![term(Statistic::Entropy, Unit::Cluster)], &[3]);
    let mut cpu = Cpu::new(Some(2)).unwrap();
    let mut out = Detection::default();
    let maps = Maps { logits, features: &[feature], picture: None };
    cpu.detect(0, &maps, &recipe, TARGET, &mut out).unwrap();
    assert_eq!(out.grid_score, detect(&mut cpu, &frame, &recipe).grid_score);
}

#[test]
fn values_that_are_not_finite_are_named() {
    let recipe = recipe(vec![term(Statistic::MaxLogit, Unit::Cluster)], &[2]);
    let whole = Frame::random(7, [3, 40, 50], &[[4, 20, 25], [2, 10, 12]]);
    let mut frame = whole.clone();
    frame.logits[[2, 31, 7]] = f32::NAN;
    let message = error(&frame, &recipe);
    assert!(message.contains("`logits`") && message.contains("NaN") && message.contains("[2, 31, 7]"), "{message}");
    let mut frame = whole.clone();
    frame.features[0][[3, 19, 24]] = f32::INFINITY;
    let message = error(&frame, &recipe);
    assert!(message.contains("`features`") && message.contains("[3, 19, 24]"), "{message}");
    let mut frame = whole;
    frame.features[1][[0, 0, 0]] = f32::NEG_INFINITY;
    let message = error(&frame, &recipe);
    assert!(message.contains("`features_1`") && message.contains("[0, 0, 0]"), "{message}");
}

#[test]
fn impossible_recipes_are_refused() {
    let frame = Frame::random(8, [3, 4, 4], &[[5, 4, 4]]);
    let cluster = recipe(vec![term(Statistic::MaxLogit, Unit::Cluster)], &[17]);
    assert!(error(&frame, &cluster).contains("more than the 16 points"));
    assert!(error(&frame, &recipe(vec![], &[3])).contains("no terms"));
    assert!(error(&frame, &recipe(cluster.terms.clone(), &[])).contains('k'));
    assert!(error(&frame, &recipe(cluster.terms.clone(), &[0])).contains("at least 1"));
    let bare = Frame { features: vec![], ..frame.clone() };
    assert!(error(&bare, &recipe(cluster.terms, &[3])).contains("no features"));
    let mut bank = recipe(vec![term(Statistic::Bank, Unit::Pixel)], &[]);
    assert!(error(&frame, &bank).contains("codebook"));
    bank.codebook = Some(codebook(1, 4, 6));
    assert!(error(&frame, &bank).contains("[4, 6]"), "{}", error(&frame, &bank));
    let mut bent = recipe(vec![term(Statistic::Msp, Unit::Pixel)], &[]);
    bent.terms[0].deviation = 0.0;
    assert!(error(&frame, &bent).contains("deviation"));
}

/// A scene of four regions with some grain that moves to the left by `shift` pixels.
fn scene(shift: usize, style: u64) -> Frame {
    let mut noise = Noise(style);
    let centres = noise.matrix([4, 12], 1.0);
    let grain = noise.map([12, 24, 64], 0.35);
    let region = |y: usize, x: usize| (y / 12) * 2 + (x + shift) / 16 % 2;
    let features =
        ndarray::Array3::from_shape_fn((12, 24, 32), |(d, y, x)| centres[[region(y, x), d]] + grain[[d, y, x + shift]]);
    let logits =
        ndarray::Array3::from_shape_fn(
            (4, 24, 32),
            |(c, y, x)| {
                if (region(y, x) + style as usize) % 4 == c { 5.0 } else { 0.0 }
            },
        );
    Frame { logits, features: vec![features], picture: Vec::new() }
}

#[test]
fn a_warm_start_takes_fewer_iterations_and_a_cut_or_reset_starts_anew() {
    let mut warm = recipe(vec![term(Statistic::MaxLogit, Unit::Cluster)], &[5, 8]);
    warm.warm_start = true;
    let cold = Recipe { warm_start: false, ..warm.clone() };
    for cpu in &mut all() {
        let (mut warm_sum, mut cold_sum) = (0, 0);
        detect(cpu, &scene(0, 3), &warm);
        for shift in 1..5 {
            warm_sum += detect(cpu, &scene(shift, 3), &warm).iterations.iter().sum::<usize>();
            cold_sum += detect(cpu, &scene(shift, 3), &cold).iterations.iter().sum::<usize>();
        }
        assert!(3 * warm_sum <= 2 * cold_sum, "warm {warm_sum}, cold {cold_sum}");
        let anew = detect(cpu, &scene(9, 6), &cold);
        assert_eq!(detect(cpu, &scene(9, 6), &warm).labels, anew.labels, "after a cut");
        detect(cpu, &scene(10, 6), &warm);
        cpu.reset(0);
        assert_eq!(detect(cpu, &scene(9, 6), &warm).labels, anew.labels, "after a reset");
    }
}

#[test]
fn smoothing_is_exponential_per_stream() {
    let mut smooth = recipe(vec![term(Statistic::MaxLogit, Unit::Pixel)], &[]);
    smooth.smoothing = Some(0.25);
    let plain = Recipe { smoothing: None, ..smooth.clone() };
    let mut cpu = Cpu::new(Some(1)).unwrap();
    let first = detect(&mut cpu, &scene(0, 3), &smooth).grid_score;
    assert_eq!(first, detect(&mut cpu, &scene(0, 3), &plain).grid_score);
    let second = detect(&mut cpu, &scene(4, 3), &plain).grid_score;
    let got = detect(&mut cpu, &scene(4, 3), &smooth).grid_score;
    assert_close(&got, (&second * 0.25 + &first * 0.75).mapv(f64::from), "smoothed");
}

#[test]
fn far_seeds_do_not_stay_empty() {
    let points = Noise(1).matrix([300, 6], 1.0);
    let mut seeds = points.slice(s![..5, ..]).to_owned();
    seeds.row_mut(3).fill(1e4);
    seeds.row_mut(4).fill(-1e4);
    for cpu in &mut all() {
        let found = cpu.kmeans(points.view(), Seeds::Given(seeds.view()), 100).unwrap();
        for j in 0..5 {
            assert!(found.labels.contains(&j), "cluster {j} is empty");
        }
    }
}

#[test]
fn equal_points_leave_clusters_empty_rather_than_loop() {
    let mut points = Array2::from_elem((200, 3), 0.3);
    points.slice_mut(s![..50, ..]).fill(0.7);
    for cpu in &mut all() {
        let found = cpu.kmeans(points.view(), Seeds::PlusPlus { k: 4, seed: 1 }, 100).unwrap();
        assert!(found.iterations <= 3, "{}", found.iterations);
        assert!(found.labels[..50].iter().all(|&l| l == found.labels[0]));
        assert!(found.labels[50..].iter().all(|&l| l == found.labels[199] && l != found.labels[0]));
    }
}

#[test]
fn seeding_favours_far_points() {
    // Three tight groups far apart: k-means++ takes one of each nearly always, a uniform draw in 2 of 9 cases.
    let mut noise = Noise(3);
    let points = Array2::from_shape_fn((300, 4), |(i, _)| (i / 100) as f32 * 50.0 + noise.sample());
    let mut cpu = Cpu::new(Some(1)).unwrap();
    let apart = (0..50).filter(|&seed| {
        let found = cpu.kmeans(points.view(), Seeds::PlusPlus { k: 3, seed }, 0).unwrap();
        (0..3).all(|g| found.labels[g * 100..][..100].iter().all(|&l| l == found.labels[g * 100]))
            && found.labels[0] != found.labels[100]
            && found.labels[100] != found.labels[200]
    });
    assert!(apart.count() >= 49);
}
