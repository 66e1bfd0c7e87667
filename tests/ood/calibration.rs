//! Calibration: thresholds that hold, a file that knows its model, footage that is refused.

use std::sync::Arc;

use ndarray::{Array3, ArrayView3, Axis, s};
use oodstream::compute::cpu::Cpu;
use oodstream::compute::{Backend, Detection, Maps, Size, Target};
use oodstream::model::manifest::Colour;
use oodstream::model::views::{Resize, Views};
use oodstream::ood::alarm::still::StillWatcher;
use oodstream::ood::alarm::{EventsConfig, Filler, IgnoreMap, Ignored};
use oodstream::ood::calibrate::{CalibrateOptions, CodebookSize, FrameStore, calibrate};
use oodstream::ood::calibration::{Calibration, Footage, InputForm, ModelId, ready};
use oodstream::ood::method::Method;

const CLASSES: usize = 4;
const ROWS: usize = 12;
const COLUMNS: usize = 20;

/// A deterministic number in 0..1 for a place and a frame.
fn noise(a: usize, b: usize) -> f32 {
    let mixed = (a as u32).wrapping_mul(0x9e37_79b9) ^ (b as u32).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d);
    ((mixed ^ mixed >> 12) >> 8) as f32 / (1 << 24) as f32
}

/// Logits and features of an ordinary frame; `lift` moves all logits.
fn frame(index: usize, lift: f32) -> (Array3<f32>, Array3<f32>) {
    let logits = Array3::from_shape_fn((CLASSES, ROWS, COLUMNS), |(c, y, x)| {
        let home = (x * CLASSES / COLUMNS) == c;
        lift + if home { 6.0 } else { 0.0 } + 2.0 * noise(c * 1000 + y * 50 + x, index)
    });
    let features = Array3::from_shape_fn((6, ROWS, COLUMNS), |(d, y, x)| {
        (((x * CLASSES / COLUMNS) * 7 + d) as f32).sin() + 0.3 * noise(d * 1000 + y * 50 + x, index + 500)
    });
    (logits, features)
}

fn with_maps<R>(frame: &(Array3<f32>, Array3<f32>), use_maps: impl FnOnce(&Maps<'_>) -> R) -> R {
    let features: [ArrayView3<'_, f32>; 1] = [frame.1.view()];
    use_maps(&Maps { logits: frame.0.view(), features: &features, picture: None })
}

fn store(frames: usize, odd: &[usize]) -> FrameStore {
    let mut store = FrameStore::new(400).unwrap();
    for index in 0..frames {
        let lift = if odd.contains(&index) { -40.0 } else { 0.0 };
        with_maps(&frame(index, lift), |maps| store.push(maps)).unwrap();
    }
    store
}

fn model() -> ModelId {
    ModelId { file: "m.onnx".to_owned(), sha256: "ab".repeat(32), features: vec!["features".to_owned()], input: None }
}

fn empty() -> Calibration {
    let model = model();
    let footage = Footage { inputs: vec!["a.mp4".to_owned()], frames: 0, odd_frames: 0, false_positive_share: 0.0 };
    Calibration::new(model, Views::default(), footage)
}

fn options(methods: &[&str], codebook: Option<usize>) -> CalibrateOptions {
    let codebook = codebook.map_or(CodebookSize::None, CodebookSize::Centroids);
    let methods = methods.iter().map(|name| Method::parse(name, None).unwrap()).collect();
    CalibrateOptions {
        false_positive_share: 0.02,
        codebook,
        methods,
        classes: Vec::new(),
        events: EventsConfig::default(),
    }
}

fn run(mut frames: FrameStore, options: &CalibrateOptions) -> oodstream::Result<Calibration> {
    let mut calibration = empty();
    calibrate(&mut frames, &mut Cpu::new(Some(1))?, options, &mut calibration, || {})?;
    Ok(calibration)
}

/// Share of pixels marked on frames that the calibration has not seen.
fn marked_share(calibration: &Calibration, name: &str) -> f64 {
    let method = ready(Method::parse(name, None).unwrap(), Some(calibration)).unwrap();
    let mut cpu = Cpu::new(Some(1)).unwrap();
    let mut detection = Detection::default();
    let mut sum = 0.0;
    for index in 1000..1040 {
        let size = Size { width: COLUMNS, height: ROWS };
        let target = Target { size, threshold: method.threshold.unwrap() };
        with_maps(&frame(index, 0.0), |maps| cpu.detect(0, maps, &method.recipe, target, &mut detection)).unwrap();
        sum += f64::from(detection.ood_share);
    }
    sum / 40.0
}

const SUM: &str = "cluster:entropy*1.0+pixel:max-logit*0.5@2,4";

#[test]
fn thresholds_mark_the_wanted_share_of_new_frames() {
    let calibration = run(store(80, &[]), &options(&["max-logit", "entropy", SUM], None)).unwrap();
    assert_eq!((calibration.footage.frames, calibration.footage.odd_frames), (80, 0));
    for name in ["max-logit", "entropy", SUM] {
        let share = marked_share(&calibration, name);
        assert!((0.01..0.03).contains(&share), "{name}: {share}");
    }
    // The sum's terms are standardised: each has mean 0 and deviation 1 on ordinary pixels.
    let sum = calibration.methods.iter().find(|method| method.name == SUM).unwrap();
    assert!(sum.terms.iter().all(|term| term.deviation != 1.0 && term.mean != 0.0));
}

#[test]
fn a_few_odd_frames_change_nothing() {
    let clean = run(store(80, &[]), &options(&["max-logit"], None)).unwrap();
    let odd = run(store(80, &[7, 30, 55]), &options(&["max-logit"], None)).unwrap();
    assert_eq!(odd.footage.odd_frames, 3);
    let (a, b) = (clean.methods[0].threshold, odd.methods[0].threshold);
    assert!((a - b).abs() < 0.02, "{a} and {b}");
}

/// A frame in which a square of nine pixels scores high.
fn frame_with_a_square(index: usize) -> (Array3<f32>, Array3<f32>) {
    let (mut logits, features) = frame(index, 0.0);
    logits.slice_mut(s![.., 4..7, 6..9]).mapv_inplace(|value| value - 8.0);
    (logits, features)
}

fn with_squares(frames: &[usize], ignored: &[&str]) -> Calibration {
    let parts: Vec<Ignored> = ignored.iter().map(|part| Ignored::parse(part).unwrap()).collect();
    let mut store = FrameStore::new(400).unwrap();
    store.leave_out(Filler::new(Arc::new(IgnoreMap::load(&parts).unwrap())));
    for index in 0..80 {
        let shown = if frames.contains(&index) { frame_with_a_square(index) } else { frame(index, 0.0) };
        with_maps(&shown, |maps| store.push(maps)).unwrap();
    }
    run(store, &CalibrateOptions { false_positive_share: 0.1, ..options(&["max-logit"], None) }).unwrap()
}

#[test]
fn regions_of_ordinary_footage_are_below_the_alarm_threshold_and_those_of_a_few_odd_frames_are_not() {
    let all: Vec<usize> = (0..80).collect();
    let found = [vec![], vec![40], all].map(|frames| {
        let calibration = with_squares(&frames, &[]);
        let method = ready(Method::parse("max-logit", None).unwrap(), Some(&calibration)).unwrap();
        (method.threshold.unwrap(), method.alarm_threshold.unwrap())
    });
    let [(plain, quiet), (_, with_one), (usual, with_all)] = found;
    let ignored = with_squares(&(0..80).collect::<Vec<_>>(), &["poly:0.25,0.25 0.5,0.25 0.5,0.65 0.25,0.65"]);
    assert!(ignored.methods[0].alarm_threshold.unwrap() < plain + 1.5, "{:?}", ignored.methods);
    assert!(quiet < plain + 1.5 && (with_one - quiet).abs() < 0.5, "{found:?}");
    assert!(with_all > usual + 4.0 && usual < plain + 1.5, "{found:?}");
    // A new frame of the same kind raises no alarm there, and would at the threshold of the pixels.
    let (logits, _) = frame_with_a_square(2000);
    let score = logits.fold_axis(Axis(0), f32::NEG_INFINITY, |a, b| a.max(*b)).mapv(|value| -value);
    let mut watcher = StillWatcher::new(&[], EventsConfig::default());
    let mut needed = |threshold: f32| watcher.quiet_threshold(score.view(), logits.view(), threshold).unwrap();
    assert!(needed(usual) > usual + 4.0 && needed(with_all) < with_all + 0.5, "{found:?}");
}

#[test]
fn too_many_odd_frames_are_refused() {
    let odd: Vec<usize> = (0..80).filter(|index| index % 3 == 0).collect();
    let error = run(store(80, &odd), &options(&["max-logit"], None)).unwrap_err().to_string();
    assert!(error.contains("27 of 80"), "{error}");
}

#[test]
fn too_little_and_constant_footage_are_refused_with_what_is_needed() {
    let error = run(store(5, &[]), &options(&["max-logit"], None)).unwrap_err().to_string();
    assert!(error.contains("5 different frames") && error.contains("20"), "{error}");
    let mut constant = FrameStore::new(400).unwrap();
    let still = frame(0, 0.0);
    for _ in 0..100 {
        with_maps(&still, |maps| constant.push(maps)).unwrap();
    }
    let error = run(constant, &options(&["max-logit"], None)).unwrap_err().to_string();
    assert!(error.contains("does not change") && error.contains("20"), "{error}");
}

#[test]
fn long_footage_is_thinned_evenly() {
    let mut store = FrameStore::new(50).unwrap();
    for index in 0..1000 {
        with_maps(&frame(index, 0.0), |maps| store.push(maps)).unwrap();
    }
    assert!((25..=50).contains(&store.len()), "{}", store.len());
    assert_eq!(store.distinct(), 1000);
    run(store, &options(&["max-logit"], None)).unwrap();
}

#[test]
fn the_file_is_read_back_and_refuses_another_model_or_views() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let mut written = run(store(80, &[]), &options(&["max-logit", "bank", SUM], Some(16))).unwrap();
    written.save(&path).unwrap();
    assert_eq!(written.centroids.as_ref().unwrap().centroids.dim(), (16, 6));
    let read = Calibration::load(&path, &model(), &Views::default()).unwrap();
    assert_eq!(read, written);
    let share = marked_share(&read, "bank");
    assert!((0.005..0.04).contains(&share), "{share}");

    let other = ModelId { sha256: "cd".repeat(32), ..model() };
    let error = Calibration::load(&path, &other, &Views::default()).unwrap_err();
    assert_eq!(error.kind(), oodstream::ErrorKind::Usage);
    assert!(error.to_string().contains("another model") && error.to_string().contains("m.onnx"), "{error}");
    let tapped = ModelId { features: vec!["a/Relu".to_owned()], ..model() };
    let error = Calibration::load(&path, &tapped, &Views::default()).unwrap_err().to_string();
    assert!(error.contains("the features features") && error.contains("a/Relu"), "{error}");

    let letterbox = Views { resize: Resize::Letterbox, ..Views::default() };
    let error = Calibration::load(&path, &model(), &letterbox).unwrap_err();
    assert_eq!(error.kind(), oodstream::ErrorKind::Usage);
    let error = error.to_string();
    assert!(
        error.contains("views stretch") && error.contains("are letterbox") && error.contains("--resize"),
        "{error}"
    );
    // An overlap says nothing where there are no tiles.
    let unused = Views { tile_overlap: 0.1, ..Views::default() };
    assert!(Calibration::load(&path, &model(), &unused).is_ok());

    std::fs::write(folder.path().join("c.codebook.npy"), b"x").unwrap();
    let error = Calibration::load(&path, &model(), &Views::default()).unwrap_err().to_string();
    assert!(error.contains("c.codebook.npy"), "{error}");
}

#[test]
fn missing_statistics_of_a_calibration_are_named() {
    let calibration = run(store(80, &[]), &options(&["max-logit"], None)).unwrap();
    for (name, part) in [("bank", "codebook"), (SUM, "cluster:entropy")] {
        let error = ready(Method::parse(name, None).unwrap(), Some(&calibration)).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("calibrate"), "{error}");
    }
    let error = ready(Method::parse("bank", None).unwrap(), None).unwrap_err().to_string();
    assert!(error.contains("oodstream calibrate"), "{error}");
}

/// The thresholds and the codebook are judged on frames that they were not made from.
#[test]
fn held_back_frames_are_measured() {
    let calibration = run(store(80, &[]), &options(&["max-logit", "bank"], Some(16))).unwrap();
    for method in &calibration.methods {
        let share = method.held_back_share.unwrap();
        assert!((0.005..0.05).contains(&share), "{}: {share}", method.name);
    }
    let bank = calibration.bank.unwrap();
    assert_eq!((bank.centroids, bank.vectors), (16, 40 * ROWS * COLUMNS));
    assert!((bank.held_back_auroc - 0.5).abs() < 0.02, "{bank:?}");
    // A codebook of as many centroids as vectors knows its own frames by heart.
    let mut few = options(&["bank"], None);
    few.codebook = CodebookSize::Default;
    let bank = run(store(24, &[]), &few).unwrap().bank.unwrap();
    assert_eq!(bank.centroids, bank.vectors / 2);
    assert!(bank.held_back_auroc > 0.6, "{bank:?}");
}

/// Colour order, size and normalisation change what a network gives as much as other weights do.
#[test]
fn a_calibration_of_other_pictures_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let form = InputForm { width: 64, height: 32, colour: Colour::Rgb, mean: [0.485, 0.456, 0.406], std: [0.25; 3] };
    let with = |input: Option<InputForm>| ModelId { input, ..model() };
    let mut written = run(store(40, &[]), &options(&["max-logit"], None)).unwrap();
    written.model = with(Some(form));
    written.save(&path).unwrap();
    let load = |input| Calibration::load(&path, &with(Some(input)), &Views::default());
    assert_eq!(load(form).unwrap(), written);
    for (other, words) in [
        (InputForm { colour: Colour::Bgr, ..form }, ["colour order RGB", "BGR"]),
        (InputForm { width: 128, ..form }, ["size 64x32", "128x32"]),
        (InputForm { mean: [0.0; 3], ..form }, ["mean [0.485", "[0.0, 0.0"]),
        (InputForm { std: [1.0; 3], ..form }, ["std [0.25", "[1.0, 1.0"]),
    ] {
        let error = load(other).unwrap_err();
        assert_eq!(error.kind(), oodstream::ErrorKind::Usage);
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
    // A file from before that was noted is taken, with a warning.
    written.model = with(None);
    written.save(&path).unwrap();
    assert!(load(form).is_ok());
}
