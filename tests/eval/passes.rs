//! The passes over a set: scores in, metrics out, with a stand-in for the network.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use ndarray::{Array2, s};
use oodstream::Result;
use oodstream::eval::components::SizeLimits;
use oodstream::eval::dataset::{Dataset, SetLayout};
use oodstream::eval::gather::{GatherOptions, GridSink, ScoreSource, gather, gather_files};
use oodstream::eval::measure::{EXACT_PIXELS, MethodResult, measure, total_counts};
use oodstream::eval::report::Evaluation;
use oodstream::eval::save::save_scores;
use oodstream::eval::{html, ranking};
use oodstream::npy::FloatType;

const OPTIONS: GatherOptions = GatherOptions { skip_bad: false, decoders: 2 };
const SKIP: GatherOptions = GatherOptions { skip_bad: true, decoders: 2 };
const LIMITS: SizeLimits = SizeLimits { predicted: 4, truth: 4 };

/// Takes every fourth pixel's red, and green and blue as its fraction, for the score of method 0, its opposite for method 1.
struct Red;

impl ScoreSource for Red {
    fn score(&mut self, picture: &RgbImage, sink: &mut GridSink<'_>) -> Result<()> {
        let grid = Array2::from_shape_fn((picture.height() as usize / 4, picture.width() as usize / 4), |(y, x)| {
            let Rgb([r, g, b]) = *picture.get_pixel(x as u32 * 4, y as u32 * 4);
            f32::from(r) + f32::from(g) / 256.0 + f32::from(b) / 65536.0
        });
        sink(0, grid.view())?;
        sink(1, grid.mapv(|value| -value).slice(s![.., ..]))
    }
}

/// A deterministic fraction, so that hardly two scores are equal.
fn noise(x: u32, y: u32, index: u32) -> u8 {
    ((x * 7919 + y * 104_729 + index * 1_299_709).wrapping_mul(2_654_435_761) >> 24) as u8
}

/// Pictures of 32x16 with a red box that is the anomaly, moving with the index; `boxes` false leaves the masks empty.
fn set(root: &Path, images: u32, boxes: bool) {
    for folder in ["images", "masks"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for index in 0..images {
        let inside = |x: u32, y: u32| (4 + index..16 + index).contains(&x) && (4..12).contains(&y);
        RgbImage::from_fn(32, 16, |x, y| {
            Rgb([if inside(x, y) { 200 } else { (x * 3) as u8 }, noise(x, y, index), noise(y, x, index)])
        })
        .save(root.join(format!("images/{index}.png")))
        .unwrap();
        GrayImage::from_fn(32, 16, |x, y| Luma([if y == 0 { 255 } else { u8::from(boxes && inside(x, y)) }]))
            .save(root.join(format!("masks/{index}.png")))
            .unwrap();
    }
}

fn evaluate(root: &Path, exact: u64) -> (Evaluation, oodstream::eval::gather::Gathered) {
    let dataset = Dataset::open(root, SetLayout::Pairs, None).unwrap();
    let gathered = gather(&dataset, 2, &mut Red, OPTIONS, |_| {}).unwrap();
    let methods: Vec<MethodResult> = ["red", "not-red"]
        .iter()
        .enumerate()
        .map(|(index, name)| measure(&gathered, index, name, LIMITS, exact, &|| {}).unwrap())
        .collect();
    let evaluation = Evaluation {
        dataset: dataset.name,
        layout: "pairs".to_owned(),
        model: None,
        images: gathered.samples.len(),
        unlabelled: 0,
        skipped: gathered.skipped.clone(),
        pixels: total_counts(&gathered.truths),
        limits: LIMITS,
        default_method: "red".to_owned(),
        needs_footage: vec![false, false],
        methods,
    };
    (evaluation, gathered)
}

#[test]
fn a_good_score_is_good_and_its_opposite_is_not() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 6, true);
    let (evaluation, _) = evaluate(root.path(), EXACT_PIXELS);
    let [red, opposite] = [0, 1].map(|index| evaluation.methods[index].pixels.clone().unwrap());
    assert!(red.ap > 0.8 && red.auroc > 0.9, "{red:?}");
    assert!((red.auroc + opposite.auroc - 1.0).abs() < 1e-12);
    assert!(evaluation.methods[0].components.unwrap().f1.unwrap() > 0.5);
    assert_eq!(evaluation.pixels.void, 6 * 32);
    let json = evaluation.json();
    for key in ["ap", "auroc", "fpr95", "siou", "ppv", "f1"] {
        let value = json["methods"]["red"][key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{key}: {value}");
    }
    assert_eq!(json["images"], 6);
    assert_eq!(json["default_method"], "red");
    assert_eq!(json["methods"]["red"]["per_image"].as_array().unwrap().len(), 6);
    assert!(evaluation.table().contains("not-red"));
}

#[test]
fn binned_and_exact_agree_within_the_stated_error() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 6, true);
    let exact = evaluate(root.path(), EXACT_PIXELS).0.methods[0].pixels.clone().unwrap();
    let binned = evaluate(root.path(), 0).0.methods[0].pixels.clone().unwrap();
    // Of 288 anomalous pixels one that shares its bin already counts; on real sets the bound is far below 1e-4.
    assert!(binned.binning_error < 1e-2, "{}", binned.binning_error);
    assert!((exact.ap - binned.ap).abs() <= binned.binning_error);
}

#[test]
fn without_anomalous_pixels_metrics_are_undefined_with_a_reason() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 2, false);
    let (evaluation, gathered) = evaluate(root.path(), EXACT_PIXELS);
    assert!(evaluation.methods[0].pixels.is_none());
    assert!(evaluation.json()["methods"]["red"]["ap"].is_null());
    assert!(evaluation.table().contains("no anomalous pixel"));
    html::write(&root.path().join("report"), &evaluation, &gathered).unwrap();
    let page = fs::read_to_string(root.path().join("report/index.html")).unwrap();
    assert!(page.contains("no anomalous pixel") && !page.contains("NaN"));
}

#[test]
fn the_report_is_self_contained() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 6, true);
    let (evaluation, gathered) = evaluate(root.path(), EXACT_PIXELS);
    html::write(&root.path().join("report"), &evaluation, &gathered).unwrap();
    let page = fs::read_to_string(root.path().join("report/index.html")).unwrap();
    for part in ["Precision-recall", "ROC", "Best images", "Worst images", "data:image/jpeg;base64,", "not-red"] {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["http://", "https://", "src=\"/", "NaN"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn saved_scores_give_the_same_metrics() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 4, true);
    let (evaluation, gathered) = evaluate(root.path(), EXACT_PIXELS);
    let folder = root.path().join("scores");
    save_scores(&folder, &["red", "not-red"], &gathered, FloatType::F32).unwrap();
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, None).unwrap();
    let (names, from_files) = gather_files(&dataset, &folder, OPTIONS, |_| {}).unwrap();
    assert_eq!(names, ["not-red", "red"]);
    let again = measure(&from_files, 1, "red", LIMITS, EXACT_PIXELS, &|| {}).unwrap();
    let (a, b) = (again.pixels.unwrap(), evaluation.methods[0].pixels.clone().unwrap());
    assert_eq!((a.ap, a.auroc, a.fpr95, a.best_threshold), (b.ap, b.auroc, b.fpr95, b.best_threshold));
    assert_eq!(again.components, evaluation.methods[0].components);
    // A folder of plain files is one method; a missing file is named, or skipped.
    let folder = folder.join("red");
    fs::remove_file(folder.join("2.npy")).unwrap();
    let error = gather_files(&dataset, &folder, OPTIONS, |_| {}).unwrap_err().to_string();
    assert!(error.contains("2.npy") && error.contains("--skip-bad"), "{error}");
    let (names, rest) = gather_files(&dataset, &folder, SKIP, |_| {}).unwrap();
    assert_eq!((names, rest.samples.len(), rest.skipped.len()), (vec!["red".to_owned()], 3, 1));
    measure(&rest, 0, "red", LIMITS, EXACT_PIXELS, &|| {}).unwrap();
}

#[test]
fn damaged_pictures_stop_it_or_are_counted() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 5, true);
    fs::write(root.path().join("images/1.png"), b"no").unwrap();
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, None).unwrap();
    let error = gather(&dataset, 2, &mut Red, OPTIONS, |_| {}).unwrap_err().to_string();
    assert!(error.contains("images/1.png") && error.contains("--skip-bad"), "{error}");
    let gathered = gather(&dataset, 2, &mut Red, SKIP, |_| {}).unwrap();
    let names: Vec<&str> = gathered.samples.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names, ["0", "2", "3", "4"]);
    assert_eq!(gathered.skipped.len(), 1);
    let result = measure(&gathered, 0, "red", LIMITS, EXACT_PIXELS, &|| {}).unwrap();
    assert_eq!(result.images.len(), 4);
    assert!(result.pixels.unwrap().ap > 0.8);
}

#[test]
fn a_threshold_cuts_where_the_ranking_says() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 3, true);
    let (evaluation, gathered) = evaluate(root.path(), EXACT_PIXELS);
    let threshold = evaluation.methods[0].pixels.as_ref().unwrap().best_threshold;
    let (mut hit, mut marked, mut anomalous) = (0_u64, 0_u64, 0_u64);
    for (image, truth) in gathered.truths.iter().enumerate() {
        let mut scores = Vec::new();
        gathered.scores.load(0, image, truth.height(), truth.width(), &mut scores).unwrap();
        truth.for_each(&scores, |is_anomalous, scores| {
            let above = scores.iter().filter(|score| ranking::key(**score) >= ranking::key(threshold)).count() as u64;
            marked += above;
            if is_anomalous {
                hit += above;
                anomalous += scores.len() as u64;
            }
        });
    }
    let f1 = 2.0 * hit as f64 / (marked + anomalous) as f64;
    assert!((f1 - evaluation.methods[0].pixels.as_ref().unwrap().best_f1).abs() < 1e-12);
}
