//! Frames in flight: in order, equal to one at a time, and all told of when the device is lost.

use oodstream::compute::cpu::Cpu;
use oodstream::compute::{Backend, Collected, Detection, Gpu, Maps, Recipe, Size, Statistic, Target, Unit};
use support::adapter::gpu;
use support::compute::{Frame, recipe, term};

/// One frame of a stream and the size of its result.
struct Shot {
    stream: u32,
    frame: Frame,
    target: Target,
}

/// Three streams of two shapes in turns that are not regular, with a scene cut in one of them.
fn shots() -> Vec<Shot> {
    [0u32, 1, 0, 2, 1, 0, 0, 2, 1, 1, 0, 2, 2, 0]
        .into_iter()
        .enumerate()
        .map(|(n, stream)| {
            let small = stream == 1;
            let (logits, features, target) = if small {
                ([4, 20, 26], [9, 14, 18], Size { width: 70, height: 50 })
            } else {
                ([5, 30, 40], [12, 15, 20], Size { width: 101, height: 57 })
            };
            let mut frame = Frame::random(u64::from(stream), logits, &[features]);
            let drift = Frame::random(77, logits, &[features]);
            frame.features[0].zip_mut_with(&drift.features[0], |a, b| *a += 0.03 * n as f32 * b);
            if stream == 0 && n >= 6 {
                frame.logits.invert_axis(ndarray::Axis(0));
            }
            Shot { stream, frame, target: Target { size: target, threshold: 0.3 * stream as f32 } }
        })
        .collect()
}

fn video() -> Recipe {
    let terms = vec![term(Statistic::Entropy, Unit::Cluster), term(Statistic::MaxLogit, Unit::Pixel)];
    let mut recipe = recipe(terms, &[3, 8]);
    recipe.warm_start = true;
    recipe.smoothing = Some(0.4);
    recipe
}

#[track_caller]
fn submit(backend: &mut dyn Backend, shot: &Shot, recipe: &Recipe) {
    shot.frame.with(|maps| backend.submit(shot.stream, maps, recipe, shot.target, Detection::default())).unwrap();
}

#[track_caller]
fn collect(backend: &mut dyn Backend) -> Detection {
    match backend.collect().unwrap() {
        Collected::Done(found) => found,
        Collected::Resubmit => panic!("no device was lost"),
    }
}

/// The results with as many frames in flight as may be, in the order of collection.
fn overlapped(backend: &mut dyn Backend, shots: &[Shot], recipe: &Recipe) -> Vec<Detection> {
    let depth = backend.depth();
    let mut found = Vec::new();
    for (n, shot) in shots.iter().enumerate() {
        submit(backend, shot, recipe);
        if n + 1 >= depth {
            found.push(collect(backend));
        }
    }
    while found.len() < shots.len() {
        found.push(collect(backend));
    }
    found
}

fn one_at_a_time(backend: &mut dyn Backend, shots: &[Shot], recipe: &Recipe) -> Vec<Detection> {
    let detect = |shot: &Shot| {
        let mut out = Detection::default();
        shot.frame.with(|maps| backend.detect(shot.stream, maps, recipe, shot.target, &mut out)).unwrap();
        out
    };
    shots.iter().map(detect).collect()
}

#[track_caller]
fn assert_same(found: &Detection, want: &Detection, tolerance: f32, what: &str) {
    assert_eq!(found.labels, want.labels, "{what}: labels");
    assert_eq!(found.iterations, want.iterations, "{what}: iterations");
    assert_eq!(found.score.dim(), want.score.dim(), "{what}");
    assert_eq!(found.threshold, want.threshold, "{what}: threshold");
    let worst = found.score.iter().zip(&want.score).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: score differs by {worst}");
}

#[test]
fn interleaved_streams_in_flight_are_equal_to_one_at_a_time() {
    let (shots, recipe) = (shots(), video());
    let want = one_at_a_time(&mut Cpu::new(Some(2)).unwrap(), &shots, &recipe);
    let mut cpu = Cpu::new(Some(2)).unwrap();
    for (n, (a, b)) in overlapped(&mut cpu, &shots, &recipe).iter().zip(&want).enumerate() {
        assert_same(a, b, 0.0, &format!("CPU, frame {n}"));
    }
    let Some(mut gpu) = gpu() else { return };
    assert_eq!(gpu.depth(), 2);
    let alone = one_at_a_time(&mut gpu, &shots, &recipe);
    (0..3).for_each(|stream| gpu.reset(stream));
    overlapped(&mut gpu, &shots, &recipe);
    let buffers = gpu.buffers_created();
    (0..3).for_each(|stream| gpu.reset(stream));
    let found = overlapped(&mut gpu, &shots, &recipe);
    assert_eq!(gpu.buffers_created(), buffers, "buffers are made after warm-up");
    for (n, found) in found.iter().enumerate() {
        assert_same(found, &alone[n], 0.0, &format!("GPU, frame {n}, against one at a time"));
        assert_same(found, &want[n], 1e-4, &format!("GPU, frame {n}, against the CPU"));
    }
}

#[test]
fn a_frame_that_is_refused_leaves_those_in_flight_alone() {
    let (shots, recipe) = (shots(), video());
    let backends: [Option<Box<dyn Backend>>; 2] =
        [Some(Box::new(Cpu::new(Some(1)).unwrap())), gpu().map(|gpu| Box::new(gpu) as _)];
    for mut backend in backends.into_iter().flatten() {
        let want = one_at_a_time(backend.as_mut(), &shots[..1], &recipe);
        backend.reset(shots[0].stream);
        submit(backend.as_mut(), &shots[0], &recipe);
        let mut broken = shots[1].frame.clone();
        broken.logits[[1, 2, 3]] = f32::NAN;
        let refuse = |backend: &mut dyn Backend, frame: &Frame| {
            let submit = |maps: &Maps<'_>| backend.submit(9, maps, &recipe, shots[1].target, Detection::default());
            frame.with(submit).unwrap_err().to_string()
        };
        if backend.depth() > 1 {
            let error = refuse(backend.as_mut(), &broken);
            assert!(error.contains("logits") && error.contains("[1, 2, 3]"), "{error}");
        }
        (1..backend.depth()).for_each(|n| submit(backend.as_mut(), &shots[n], &recipe));
        let error = refuse(backend.as_mut(), &shots[1].frame);
        assert!(error.contains("may be in flight"), "{error}");
        let found = collect(backend.as_mut());
        assert_same(&found, &want[0], 0.0, backend.name());
        (1..backend.depth()).for_each(|_| drop(collect(backend.as_mut())));
        let error = backend.collect().unwrap_err().to_string();
        assert!(error.contains("no frame is in flight"), "{error}");
    }
}

#[test]
fn frames_in_flight_on_a_lost_device_are_told_of_once() {
    let Some(mut gpu) = gpu() else { return };
    let (shots, recipe) = (shots(), video());
    let want = one_at_a_time(&mut gpu, &shots[..2], &recipe);
    (0..2).for_each(|stream| gpu.reset(stream));
    // Lost between the two: the second is submitted to a device that is gone.
    submit(&mut gpu, &shots[0], &recipe);
    gpu.lose_device();
    submit(&mut gpu, &shots[1], &recipe);
    assert!(matches!(gpu.collect().unwrap(), Collected::Resubmit), "both are to be submitted again");
    assert!(gpu.collect().unwrap_err().to_string().contains("no frame is in flight"));
    for (n, found) in overlapped(&mut gpu, &shots[..2], &recipe).iter().enumerate() {
        assert_same(found, &want[n], 0.0, &format!("frame {n} on the new device"));
    }
    // The same again, and now for good.
    submit(&mut gpu, &shots[0], &recipe);
    gpu.lose_device();
    submit(&mut gpu, &shots[1], &recipe);
    let error = gpu.collect().unwrap_err().to_string();
    assert!(error.contains("second time"), "{error}");
    assert!(gpu.collect().unwrap_err().to_string().contains("no frame is in flight"));
}

/// Rounds of `shots` through `gpu`, with as many in flight as may be; how many programs that took.
fn programs(gpu: &mut Gpu, shots: &[Shot], recipe: &Recipe) -> u64 {
    let before = gpu.programs_built();
    for _ in 0..3 {
        for (found, shot) in overlapped(gpu, shots, recipe).iter().zip(shots) {
            assert_eq!(found.threshold, shot.target.threshold);
            let marked = |(score, mask): (&f32, &u8)| (*score >= shot.target.threshold) == (*mask == 1);
            assert!(found.score.iter().zip(&found.mask).all(marked), "stream {} has another's threshold", shot.stream);
        }
    }
    gpu.programs_built() - before
}

/// One frame of each of `streams`, all of one network, of sizes in turn and of a threshold that no other stream has.
fn crowd(streams: u32, sizes: &[Size]) -> Vec<Shot> {
    let shot = |stream: u32| {
        let frame = Frame::random(u64::from(stream), [4, 20, 26], &[[9, 14, 18]]);
        let size = sizes[stream as usize % sizes.len()];
        Shot { stream, frame, target: Target { size, threshold: -0.2 * stream as f32 } }
    };
    (0..streams).map(shot).collect()
}

#[test]
fn streams_build_one_program_per_shape_whatever_their_thresholds() {
    let Some(mut gpu) = gpu() else { return };
    let size = |n: usize| Size { width: 70 + 6 * n, height: 50 + 2 * n };
    assert_eq!(programs(&mut gpu, &crowd(8, &[size(0), size(1)]), &video()), 2);
    // Every stream of a size of its own, which are more than a single stream would keep.
    let sizes: Vec<_> = (2..10).map(size).collect();
    assert_eq!(programs(&mut gpu, &crowd(8, &sizes), &video()), 8);
}
