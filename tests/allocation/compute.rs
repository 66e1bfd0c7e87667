//! After warm-up no back end allocates anything for a frame.

use oodstream::compute::cpu::Cpu;
use oodstream::compute::{Backend, Detection, Maps, Recipe, Size, Statistic, Target, Unit, Upsampling};
use support::adapter;
use support::compute::{Frame, codebook, recipe, term};
use support::counting;

const TARGET: Target = Target { size: Size { width: 160, height: 90 }, threshold: 0.0 };

/// All that a frame of a video can ask for.
fn everything() -> Recipe {
    let terms = vec![
        term(Statistic::Entropy, Unit::Cluster),
        term(Statistic::Bank, Unit::Cluster),
        term(Statistic::MaxLogit, Unit::Pixel),
    ];
    Recipe {
        warm_start: true,
        smoothing: Some(0.5),
        upsampling: Upsampling::Guided,
        codebook: Some(codebook(1, 20, 27)),
        ..recipe(terms, &[3, 5, 9])
    }
}

/// Eight frames of one stream, into the same result.
fn detect(backend: &mut dyn Backend, frames: &[Maps<'_>], recipe: &Recipe, out: &mut Detection) {
    for maps in frames.iter().cycle().take(8) {
        backend.detect(7, maps, recipe, TARGET, out).unwrap();
    }
}

/// Calls `work` with the maps of four frames.
fn with_frames(work: impl FnOnce(&[Maps<'_>])) {
    let frames: Vec<_> = (0..4).map(|i| Frame::random(i, [6, 34, 46], &[[20, 17, 23], [7, 9, 12]])).collect();
    let features: Vec<Vec<_>> =
        frames.iter().map(|frame| frame.features.iter().map(|map| map.view()).collect()).collect();
    let maps = frames.iter().zip(&features).map(|(frame, features)| Maps {
        logits: frame.logits.view(),
        features,
        picture: Some(frame.luma()),
    });
    work(&maps.collect::<Vec<_>>());
}

/// Serial, because one of them counts what all threads allocate.
#[test]
fn no_allocation_for_a_frame() {
    let _alone = counting::alone();
    with_frames(processor);
    with_frames(graphics);
}

fn processor(frames: &[Maps<'_>]) {
    let (recipe, mut out) = (everything(), Detection::default());
    let mut backend = Cpu::new(Some(2)).unwrap();
    let mut round = || counting::of_all_threads(|| detect(&mut backend, frames, &recipe, &mut out));
    assert!(round() > 0, "the counter counts");
    // Other threads allocate when they get their first turn: the workers, and the test runner. What is allocated for
    // a frame shows in every round.
    assert_eq!((0..20).map(|_| round()).min(), Some(0));
}

/// wgpu keeps lists of its own for each command buffer; this program adds nothing to them.
fn graphics(frames: &[Maps<'_>]) {
    let Some(mut backend) = adapter::gpu() else { return };
    let (recipe, mut out) = (everything(), Detection::default());
    let mut round = || counting::origins(|| detect(&mut backend, frames, &recipe, &mut out));
    let own = |origins: &[String]| -> Vec<String> {
        origins.iter().filter(|name| name.contains("oodstream::")).cloned().collect()
    };
    assert!(!own(&round()).is_empty(), "the first frame allocates");
    let (warm, later) = (round(), round());
    assert_eq!(own(&later), [""; 0]);
    assert!(later.len() <= warm.len(), "{} in the second round, {} in the third", warm.len(), later.len());
    println!("wgpu: {} allocations a frame", later.len() / 8);
}
