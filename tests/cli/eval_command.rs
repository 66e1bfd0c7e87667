//! `oodstream eval` through the binary, on score maps, so that no network is needed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{GrayImage, Luma, RgbImage};
use ndarray::Array2;
use oodstream::npy::{self, FloatType};
use support::onnx;

/// Three images of 24x16 with an anomalous box, and scores that find it, mostly.
fn set(root: &Path) {
    for folder in ["images", "masks", "scores"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for index in 0..3_u32 {
        let inside = |x: u32, y: u32| (4..14).contains(&x) && (2 + index..12).contains(&y);
        RgbImage::new(24, 16).save(root.join(format!("images/{index}.png"))).unwrap();
        GrayImage::from_fn(24, 16, |x, y| Luma([u8::from(inside(x, y))]))
            .save(root.join(format!("masks/{index}.png")))
            .unwrap();
        let scores = Array2::from_shape_fn((16, 24), |(y, x)| {
            let shifted = inside(x as u32 + 1, y as u32);
            (if shifted { 1.0 } else { 0.0 }) + ((x * 31 + y * 17) % 23) as f32 / 100.0
        });
        npy::write(&root.join(format!("scores/{index}.npy")), scores.view(), FloatType::F32).unwrap();
    }
}

fn eval(root: &Path, options: &[&str]) -> Output {
    Command::new(support::binary()).arg("eval").arg(root).args(options).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_json_contract_holds_on_standard_output() {
    let root = tempfile::tempdir().unwrap();
    set(root.path());
    let scores = root.path().join("scores");
    let report = root.path().join("report");
    let output = eval(
        root.path(),
        &[
            "--layout",
            "pairs",
            "--from-scores",
            scores.to_str().unwrap(),
            "--json",
            "-",
            "--report",
            report.to_str().unwrap(),
        ],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["images"], 3);
    assert_eq!(json["default_method"], "scores");
    for key in ["ap", "auroc", "fpr95"] {
        let value = json["methods"]["scores"][key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{key}: {value}");
    }
    // The boxes have 100, 90 and 80 pixels: only the first is a ground truth component by the benchmark's limits, and no
    // prediction reaches 500 pixels.
    assert_eq!(json["methods"]["scores"]["components_truth"], 1);
    assert_eq!(json["methods"]["scores"]["siou"], 0.0);
    assert!(json["methods"]["scores"]["ppv"].is_null());
    assert!(text(&output.stderr).contains("AUROC"));
    assert!(report.join("index.html").is_file());
}

#[test]
fn the_table_goes_to_standard_output_and_size_limits_can_be_set() {
    let root = tempfile::tempdir().unwrap();
    set(root.path());
    let scores = root.path().join("scores");
    let json = root.path().join("r.json");
    let options = ["--layout", "pairs", "--from-scores", scores.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let output = eval(root.path(), &[&options[..], &["--min-predicted", "10", "--min-truth", "10"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("3 images") && text(&output.stdout).contains("scores"));
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    // Each box is found one column to the left: 9 of 10 columns are shared, the union is 11 columns wide.
    let siou = json["methods"]["scores"]["siou"].as_f64().unwrap();
    assert!((siou - 9.0 / 11.0).abs() < 1e-9, "{siou}");
    let ppv = json["methods"]["scores"]["ppv"].as_f64().unwrap();
    assert!((ppv - 0.9).abs() < 1e-9, "{ppv}");
    assert_eq!(json["methods"]["scores"]["f1"], 1.0);
}

#[test]
fn bad_files_are_named_and_skipped_only_on_request() {
    let root = tempfile::tempdir().unwrap();
    set(root.path());
    let scores = root.path().join("scores");
    npy::write(&scores.join("1.npy"), Array2::zeros((4, 4)).view(), FloatType::F32).unwrap();
    let options = ["--layout", "pairs", "--from-scores", scores.to_str().unwrap()];
    let output = eval(root.path(), &options);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("1.npy") && text(&output.stderr).contains("4x4"), "{}", text(&output.stderr));
    fs::remove_file(scores.join("1.npy")).unwrap();
    let output = eval(root.path(), &options);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--skip-bad"), "{}", text(&output.stderr));
    let output = eval(root.path(), &[&options[..], &["--skip-bad"]].concat());
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("2 images, 1 skipped"), "{}", text(&output.stdout));
}

#[test]
fn usage_errors_have_exit_code_2() {
    let root = tempfile::tempdir().unwrap();
    for options in [&["--layout", "pairs"][..], &["--layout", "nonsense"], &[]] {
        assert_eq!(eval(&root.path().join("nowhere"), options).status.code(), Some(2), "{options:?}");
    }
}

/// A network that sees white as unknown, on a grid of 8x8 pixels, and white boxes whose edges lie within its cells.
#[test]
fn guided_upsampling_follows_edges_that_the_grid_does_not_see() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["images", "masks"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    for index in 0..3_u32 {
        let inside = |x: u32, y: u32| (19 + 2 * index..77).contains(&x) && (13..38 + index).contains(&y);
        let white = |x, y| if inside(x, y) { 255 } else { 40 };
        RgbImage::from_fn(128, 64, |x, y| image::Rgb([white(x, y); 3]))
            .save(root.path().join(format!("images/{index}.png")))
            .unwrap();
        GrayImage::from_fn(128, 64, |x, y| Luma([u8::from(inside(x, y))]))
            .save(root.path().join(format!("masks/{index}.png")))
            .unwrap();
    }
    let model = root.path().join("model.onnx");
    onnx::white_is_unknown(128, 64)
        .node("AveragePool", &["input"], "features", &[("kernel_shape", &[8, 8]), ("strides", &[8, 8])])
        .output("features", &[1, 3, 8, 16])
        .save(&model);
    let ap = |upsampling: &str| {
        let json = root.path().join("r.json");
        let arguments = ["--layout", "pairs", "--methods", "max-logit", "--upsampling", upsampling, "--model"];
        let places = [model.to_str().unwrap(), "--json", json.to_str().unwrap()];
        let output = eval(root.path(), &[&arguments[..], &places].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        json["methods"]["max-logit"]["ap"].as_f64().unwrap()
    };
    let (bilinear, guided) = (ap("bilinear"), ap("guided"));
    assert!(1.0 - guided < 0.4 * (1.0 - bilinear), "guided {guided}, bilinear {bilinear}");
}

/// Pictures whose right half is white, which the network does not know, with labels of three classes and void.
fn classes(root: &Path) {
    for folder in ["images", "labels"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for index in 0..2_u32 {
        RgbImage::from_fn(64, 32, |x, _| image::Rgb([if x < 32 { 0 } else { 255 }; 3]))
            .save(root.join(format!("images/{index}.png")))
            .unwrap();
        // Class 0 on the left, class 1 in the middle, half of it white, class 2 on the right, a row of void.
        GrayImage::from_fn(64, 32, |x, y| Luma([if y == 0 { 255 } else { (x / 24) as u8 }]))
            .save(root.join(format!("labels/{index}.png")))
            .unwrap();
    }
    onnx::white_is_unknown(64, 32).save(&root.join("white.onnx"));
}

#[test]
fn the_marked_share_of_each_class_is_counted() {
    let root = tempfile::tempdir().unwrap();
    classes(root.path());
    let (model, report) = (root.path().join("white.onnx"), root.path().join("report"));
    let common = [
        "--classes",
        "-m",
        model.to_str().unwrap(),
        "--set",
        "detect.method=max-logit",
        "--set",
        "detect.threshold=0",
        "--set",
        "detect.upsampling=bilinear",
    ];
    let options = ["--class-names", "road,car", "--json", "-", "--report", report.to_str().unwrap()];
    let output = eval(root.path(), &[&common[..], &options[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows: Vec<(&str, f64)> = json["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["marked_share"].as_f64().unwrap()))
        .collect();
    // A value without a name keeps its number.
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["road", "car", "2"]);
    for ((name, share), want) in rows.iter().zip([0.0, 2.0 / 3.0, 1.0]) {
        assert!((share - want).abs() < 0.05, "{name}: {share}, not {want}");
    }
    assert!(text(&output.stderr).contains("road"), "the table goes to standard error");
    assert!(fs::read_to_string(report.join("index.html")).unwrap().contains("<td>car</td>"));

    fs::remove_file(root.path().join("labels/1.png")).unwrap();
    let output = eval(root.path(), &common);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("images/1.png"), "{}", text(&output.stderr));
    assert!(eval(root.path(), &[&common[..], &["--skip-bad"]].concat()).status.success());

    GrayImage::new(8, 8).save(root.path().join("labels/1.png")).unwrap();
    let output = eval(root.path(), &common);
    assert!(text(&output.stderr).contains("the labels are 8x8"), "{}", text(&output.stderr));
}
