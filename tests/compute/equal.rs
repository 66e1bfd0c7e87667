//! Both back ends, and all instruction sets of the CPU, give the same labels and scores.

use std::cell::RefCell;

use ndarray::{Array2, ArrayView2};
use oodstream::compute::cpu::Cpu;
use oodstream::compute::gpu::Gpu;
use oodstream::compute::{
    Backend, Clustering, Detection, Grid, KMeans, Recipe, Seeds, Size, Statistic, Target, Unit, Upsampling,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::adapter::gpu;
use support::compute::{Frame, Noise, codebook, recipe, term};

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Points by kind: 0 noise, 1 groups, 2 many duplicates, 3 one constant dimension after another, 4 all equal.
fn points(kind: u8, n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut noise = Noise(seed);
    match kind {
        0 => noise.matrix([n, d], 1.0),
        1 => {
            let centres = noise.matrix([7, d], 3.0);
            Array2::from_shape_fn((n, d), |(i, j)| centres[[i % 7, j]] + 0.5 * noise.sample())
        }
        2 => {
            let few = noise.matrix([n.div_ceil(6), d], 1.0);
            Array2::from_shape_fn((n, d), |(i, j)| few[[i * i % few.nrows(), j]])
        }
        3 => Array2::from_shape_fn((n, d), |(_, j)| if j % 2 == 0 { 5.25 } else { noise.sample() }),
        _ => Array2::from_elem((n, d), 0.37),
    }
}

fn squared(x: ndarray::ArrayView1<'_, f32>, c: ndarray::ArrayView1<'_, f32>) -> f64 {
    x.iter().zip(c).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Mean squared distance from the mean.
fn spread(points: ArrayView2<'_, f32>) -> f64 {
    let mean = points.mean_axis(ndarray::Axis(0)).unwrap();
    points.rows().into_iter().map(|x| squared(x, mean.view())).sum::<f64>() / points.nrows() as f64
}

/// What holds whatever the seed: each label is the nearest centroid, and converged centroids are the means of their points.
#[track_caller]
fn check_invariants(points: ArrayView2<'_, f32>, found: &KMeans, converged: bool, what: &str) {
    let scale = spread(points).max(1e-9);
    for (i, x) in points.rows().into_iter().enumerate() {
        let own = squared(x, found.centroids.row(found.labels[i] as usize));
        let best = found.centroids.rows().into_iter().map(|c| squared(x, c)).fold(f64::MAX, f64::min);
        assert!(own <= best + 1e-5 * scale, "{what}: point {i} is not with its nearest centroid: {own} > {best}");
    }
    if !converged {
        return;
    }
    for (j, c) in found.centroids.rows().into_iter().enumerate() {
        let members: Vec<usize> = (0..points.nrows()).filter(|&i| found.labels[i] as usize == j).collect();
        for (d, &value) in c.iter().enumerate().filter(|_| !members.is_empty()) {
            let mean = members.iter().map(|&i| f64::from(points[[i, d]])).sum::<f64>() / members.len() as f64;
            let tolerance = 1e-5 * (1.0 + mean.abs());
            assert!((f64::from(value) - mean).abs() < tolerance, "{what}: centroid {j} is not a mean: {value}, {mean}");
        }
    }
}

#[test]
fn kmeans_is_equal_for_random_shapes() {
    let gpu = RefCell::new(gpu());
    let levels = RefCell::new(Cpu::all_levels(Some(2)).unwrap());
    let shapes =
        (0u8..5, prop_oneof![1usize..20, 20usize..300, Just(2048)], prop_oneof![1usize..12, 12usize..70, Just(256)]);
    let strategy = (shapes, 0usize..1500, any::<u64>());
    runner(32)
        .run(&strategy, |((kind, d, k), more, seed)| {
            let (gpu, levels) = (&mut *gpu.borrow_mut(), &mut *levels.borrow_mut());
            // A software adapter does these as well, so the largest shapes get few points.
            let n = k + more / if d * k > 20_000 { 8 } else { 1 };
            let points = points(kind, n, d, seed | 1);
            let what = format!("kind {kind}, N {n}, D {d}, K {k}, seed {seed}");
            let seeds = Seeds::PlusPlus { k, seed };
            let want = levels[0].kmeans(points.view(), seeds, 12).unwrap();
            check_invariants(points.view(), &want, want.iterations < 12, &what);
            for cpu in &mut levels[1..] {
                let found = cpu.kmeans(points.view(), seeds, 12).unwrap();
                prop_assert!(found.labels == want.labels, "{}: {}", what, cpu.describe());
            }
            if let Some(gpu) = gpu {
                let found = gpu.kmeans(points.view(), seeds, 12).unwrap();
                let differ = found.labels.iter().zip(&want.labels).filter(|(a, b)| a != b).count();
                prop_assert!(differ == 0, "{}: {} labels differ on the GPU", what, differ);
                prop_assert_eq!(found.iterations, want.iterations, "{}", what);
                check_invariants(points.view(), &found, found.iterations < 12, &what);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn given_seeds_that_leave_clusters_empty_are_equal() {
    let Some(mut gpu) = gpu() else { return };
    let mut cpu = Cpu::new(Some(2)).unwrap();
    let points = points(1, 900, 9, 3);
    let mut seeds = points.slice(ndarray::s![..12, ..]).to_owned();
    for j in [3, 7, 8, 11] {
        seeds.row_mut(j).fill(1e3 * (j as f32 - 7.5));
    }
    let seeds = Seeds::Given(seeds.view());
    let (want, found) = (cpu.kmeans(points.view(), seeds, 30).unwrap(), gpu.kmeans(points.view(), seeds, 30).unwrap());
    assert_eq!(found.labels, want.labels);
    assert_eq!(found.iterations, want.iterations);
    assert!((0..12).all(|j| want.labels.contains(&j)));
}

#[test]
fn a_large_map_is_equal() {
    let Some(mut gpu) = gpu() else { return };
    let mut cpu = Cpu::new(Some(2)).unwrap();
    let points = points(1, 131_072, 8, 11);
    let seeds = Seeds::PlusPlus { k: 24, seed: 4 };
    let (want, found) = (cpu.kmeans(points.view(), seeds, 6).unwrap(), gpu.kmeans(points.view(), seeds, 6).unwrap());
    let differ = found.labels.iter().zip(&want.labels).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0);
}

const TARGET: Target = Target { size: Size { width: 101, height: 57 }, threshold: 1.0 };

#[track_caller]
fn detect(backend: &mut dyn Backend, frame: &Frame, recipe: &Recipe) -> Detection {
    let mut out = Detection::default();
    frame.with(|maps| backend.detect(3, maps, recipe, TARGET, &mut out)).unwrap();
    out
}

#[track_caller]
fn assert_equal(found: &Detection, want: &Detection, what: &str) {
    assert_eq!((found.threshold, want.threshold), (TARGET.threshold, TARGET.threshold), "{what}");
    assert_eq!(found.labels, want.labels, "{what}: labels");
    assert_eq!(found.iterations, want.iterations, "{what}");
    assert_eq!(found.score.dim(), want.score.dim());
    for (name, a, b) in [("grid", &found.grid_score, &want.grid_score), ("score", &found.score, &want.score)] {
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{what}: {name} differs by {worst}");
    }
    for ((a, b), s) in found.mask.iter().zip(&want.mask).zip(&want.score) {
        assert!(a == b || (s - TARGET.threshold).abs() < 1e-4, "{what}: mask");
    }
    assert!((found.ood_share - want.ood_share).abs() < 1e-3);
    for (a, b) in found.clusters.iter().zip(&want.clusters) {
        assert_eq!((a.k, a.pixels), (b.k, b.pixels), "{what}");
        assert!((a.mean_confidence - b.mean_confidence).abs() < 1e-4, "{what}");
    }
    assert_eq!(found.clusters.len(), want.clusters.len());
}

/// A recipe with everything in it.
fn everything(dims: usize) -> Recipe {
    let mut recipe = recipe(
        vec![
            term(Statistic::Entropy, Unit::Cluster),
            term(Statistic::Bank, Unit::Cluster),
            term(Statistic::MaxLogit, Unit::Cluster),
            term(Statistic::Energy, Unit::Pixel),
            term(Statistic::Msp, Unit::Pixel),
            term(Statistic::Bank, Unit::Pixel),
            term(Statistic::Rba, Unit::Pixel),
            term(Statistic::NoObject, Unit::Cluster),
        ],
        &[4, 7, 55],
    );
    recipe.terms[2].weight = 0.25;
    recipe.terms[3].mean = -3.0;
    recipe.terms[3].deviation = 2.0;
    recipe.codebook = Some(codebook(4, 37, dims));
    recipe
}

#[test]
fn all_of_detect_is_equal() {
    let shapes: [([usize; 3], &[[usize; 3]]); 4] = [
        ([5, 20, 33], &[[6, 20, 33]]),
        ([7, 46, 60], &[[19, 23, 30], [33, 12, 15], [3, 46, 60]]),
        ([3, 9, 11], &[[130, 17, 23], [70, 5, 7]]),
        ([1, 64, 50], &[[2, 13, 12]]),
    ];
    let mut levels = Cpu::all_levels(Some(2)).unwrap();
    let mut gpu = gpu();
    for (i, (logits, features)) in shapes.into_iter().enumerate() {
        let frame = Frame::random(i as u64, logits, features);
        let dims = features.iter().map(|f| f[0]).sum();
        let mut without = everything(dims);
        without.unit_length = false;
        let pixel = recipe(vec![term(Statistic::MaxLogit, Unit::Pixel)], &[]);
        let guided = |recipe: &Recipe| Recipe { upsampling: Upsampling::Guided, ..recipe.clone() };
        let finest = |recipe: &Recipe| Recipe { grid: Grid::Finest, ..recipe.clone() };
        let recipes = [
            everything(dims),
            guided(&without),
            guided(&pixel),
            finest(&without),
            finest(&pixel),
            guided(&finest(&pixel)),
            without,
            pixel,
        ];
        for (n, recipe) in recipes.iter().enumerate() {
            let want = detect(&mut levels[0], &frame, recipe);
            for cpu in &mut levels[1..] {
                let name = cpu.describe();
                assert_equal(&detect(cpu, &frame, recipe), &want, &format!("shape {i}, recipe {n}, {name}"));
            }
            if let Some(gpu) = &mut gpu {
                assert_equal(&detect(gpu, &frame, recipe), &want, &format!("shape {i}, recipe {n}, GPU"));
            }
        }
    }
}

#[test]
fn a_video_is_equal_frame_by_frame_and_nothing_is_allocated_on_the_device() {
    let Some(mut gpu) = gpu() else { return };
    let mut cpu = Cpu::new(Some(2)).unwrap();
    let mut recipe = everything(12);
    recipe.warm_start = true;
    recipe.smoothing = Some(0.3);
    recipe.upsampling = Upsampling::Guided;
    let still = Frame::random(1, [4, 30, 40], &[[12, 15, 20]]);
    let drift = Frame::random(2, [4, 30, 40], &[[12, 15, 20]]);
    let mut buffers = 0;
    for n in 0..7 {
        let mut frame = still.clone();
        frame.logits.zip_mut_with(&drift.logits, |a, b| *a += 0.01 * n as f32 * b);
        frame.features[0].zip_mut_with(&drift.features[0], |a, b| *a += 0.02 * n as f32 * b);
        if n == 5 {
            // Another scene.
            frame.logits.invert_axis(ndarray::Axis(0));
            frame.features[0].invert_axis(ndarray::Axis(2));
        }
        let (want, found) = (detect(&mut cpu, &frame, &recipe), detect(&mut gpu, &frame, &recipe));
        assert_equal(&found, &want, &format!("frame {n}"));
        if n == 2 {
            buffers = gpu.buffers_created();
        }
    }
    assert_eq!(gpu.buffers_created(), buffers);
    cpu.reset(3);
    gpu.reset(3);
    assert_equal(&detect(&mut gpu, &still, &recipe), &detect(&mut cpu, &still, &recipe), "after a reset");
}

/// A network without classes: the distance to the bank, alone and averaged over clusters, over a video with a cut.
#[test]
fn features_alone_are_scored_equally() {
    let mut gpu = gpu();
    for (seed, map, rows) in [(1, [384, 13, 21], 512), (2, [20, 15, 20], 37)] {
        let terms = vec![term(Statistic::Bank, Unit::Pixel), term(Statistic::Bank, Unit::Cluster)];
        let mut video = recipe(terms, &[3, 9]);
        (video.warm_start, video.smoothing) = (true, Some(0.4));
        video.codebook = Some(codebook(4, rows, map[0]));
        let mut cpu = Cpu::new(Some(2)).unwrap();
        let mut frame = Frame::random(seed, [0, map[1], map[2]], &[map]);
        let nearest = support::compute::statistic(&frame, &video, Statistic::Bank);
        let alone = Recipe { terms: vec![term(Statistic::Bank, Unit::Pixel)], smoothing: None, ..video.clone() };
        let found = detect(&mut cpu, &frame, &alone);
        let worst = found.grid_score.iter().zip(&nearest).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-4, "{map:?}: {worst} from the formula");
        cpu.reset(3);
        for n in 0..4 {
            if n == 2 {
                frame.features[0].invert_axis(ndarray::Axis(1));
            }
            let want = detect(&mut cpu, &frame, &video);
            assert!(want.clusters.iter().all(|cluster| cluster.mean_confidence == 0.0));
            if let Some(gpu) = &mut gpu {
                assert_equal(&detect(gpu, &frame, &video), &want, &format!("{map:?}, frame {n}"));
            }
        }
        gpu.iter_mut().for_each(|gpu| gpu.reset(3));
        // What is made from logits cannot be scored.
        let mut out = Detection::default();
        let logits = recipe(vec![term(Statistic::Entropy, Unit::Pixel)], &[]);
        let error = frame.with(|maps| cpu.detect(0, maps, &logits, TARGET, &mut out)).unwrap_err();
        assert_eq!(error.kind(), oodstream::ErrorKind::Usage);
        assert!(error.to_string().contains("features alone"), "{error}");
    }
}

#[test]
fn a_lost_device_is_replaced_once_and_then_reported() {
    let Some(mut gpu) = gpu() else { return };
    let frame = Frame::random(1, [4, 12, 12], &[[5, 12, 12]]);
    let recipe = recipe(vec![term(Statistic::MaxLogit, Unit::Cluster)], &[3]);
    let want = detect(&mut gpu, &frame, &recipe);
    gpu.lose_device();
    assert_equal(&detect(&mut gpu, &frame, &recipe), &want, "on the new device");
    gpu.lose_device();
    let mut out = Detection::default();
    let error = frame.with(|maps| gpu.detect(3, maps, &recipe, TARGET, &mut out)).unwrap_err();
    assert!(error.to_string().contains("second time"), "{error}");
}

#[test]
fn maps_over_the_binding_limit_are_split() {
    let Some(mut whole) = gpu() else { return };
    let mut split = Gpu::with_binding_limit(true, 60_000).unwrap();
    let frame = Frame::random(9, [7, 70, 90], &[[19, 35, 45], [33, 18, 22], [3, 70, 90]]);
    let mut recipe = everything(55);
    recipe.k = vec![3, 6];
    let want = detect(&mut whole, &frame, &recipe);
    assert_equal(&detect(&mut split, &frame, &recipe), &want, "split");
    let points = points(1, 3000, 21, 5);
    let seeds = Seeds::PlusPlus { k: 9, seed: 2 };
    let (want, found) =
        (whole.kmeans(points.view(), seeds, 20).unwrap(), split.kmeans(points.view(), seeds, 20).unwrap());
    assert_eq!(found.labels, want.labels);

    let mut tiny = Gpu::with_binding_limit(true, 10_000).unwrap();
    let mut out = Detection::default();
    let error = frame.with(|maps| tiny.detect(0, maps, &recipe, TARGET, &mut out)).unwrap_err().to_string();
    assert!(error.contains("56320") && error.contains("10000"), "both numbers: {error}");
}
