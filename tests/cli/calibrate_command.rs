//! `oodstream calibrate` through the binary, and `run` and `eval` with what it wrote.

use std::fs;

use image::{GrayImage, Luma, RgbImage};
use support::common::{Ended, Place};
use support::onnx;

const FOOTAGE: &str = "calibrate test://snow?frames=30&width=64&height=32 --every 0";

/// A folder with footage's calibration `c.toml`, made with further `options`.
fn calibrated(options: &str) -> Place {
    let place = Place::new();
    place.run(&format!("{FOOTAGE} -o c.toml {options}")).code(0);
    place
}

/// A run of a clip, and the threshold that it was made with.
fn run(place: &Place, options: &str) -> (Ended, Option<f64>) {
    place.moving("a.mp4", 5);
    let ended = place.run(&format!("run a.mp4 -o out.mp4 --overwrite --json - {options}"));
    let threshold = serde_json::from_str::<serde_json::Value>(&ended.stdout).ok().and_then(|v| v["threshold"].as_f64());
    (ended, threshold)
}

#[test]
fn its_threshold_is_used() {
    let place = calibrated("--false-positives 0.05");
    let written: toml::Table = fs::read_to_string(place.path("c.toml")).unwrap().parse().unwrap();
    let methods = written["methods"].as_array().unwrap();
    let found = methods.iter().find(|method| method["name"].as_str() == Some("max-logit")).unwrap();
    let (ended, threshold) = run(&place, "--calibration c.toml --method max-logit");
    ended.code(0);
    assert!((threshold.unwrap() - found["threshold"].as_float().unwrap()).abs() < 1e-5, "{threshold:?} {found}");
}

#[test]
fn other_k_come_from_the_pipeline_file_or_are_told() {
    let place = calibrated("--set detect.method=\"cluster-ensemble\" --set detect.k=[3,4]");
    let (ended, threshold) = run(&place, "--calibration c.toml --method cluster-ensemble --set detect.k=[3,4]");
    assert!(!ended.code(0).stderr.contains("has no threshold") && threshold.is_some());
    let (ended, threshold) = run(&place, "--calibration c.toml --method cluster-ensemble --set detect.k=[6]");
    ended.code(0).says(&["c.toml has no threshold", "cluster-ensemble", "[6]", "calibrate again"]);
    assert_eq!(threshold, None);
}

#[test]
fn another_model_or_other_features_are_refused() {
    let place = calibrated("");
    onnx::tiny(32, 32).save(&place.path("other.onnx"));
    let (ended, _) = run(&place, "--calibration c.toml -m other.onnx");
    ended.code(2).says(&["c.toml", "another model", "model.onnx"]);
    for folder in ["images", "masks"] {
        fs::create_dir_all(place.path("set").join(folder)).unwrap();
    }
    RgbImage::new(64, 32).save(place.path("set/images/0.png")).unwrap();
    GrayImage::from_fn(64, 32, |x, _| Luma([u8::from(x > 40)])).save(place.path("set/masks/0.png")).unwrap();
    place.run("eval set --layout pairs --calibration c.toml -m other.onnx").code(2).says(&["c.toml", "another model"]);
    place.run("eval set --layout pairs --calibration c.toml --methods max-logit").code(0);
    onnx::tiny(64, 32).node("Relu", &["features"], "deep", &[]).save(&place.path("model.onnx"));
    place.run(&format!("{FOOTAGE} -o deep.toml --feature deep")).code(0);
    run(&place, "--calibration deep.toml --feature deep").0.code(0);
    run(&place, "--calibration deep.toml").0.code(2).says(&["deep.toml", "the features deep", "--feature"]);
}

#[test]
fn what_cannot_be_written_is_told_before_the_footage_is_looked_at() {
    let place = Place::new();
    // Endless: only a check at the start ends it.
    let endless = "calibrate test://snow?live=1&width=64&height=32 --calibrate-for 86400";
    place.run(&format!("{endless} -o missing/c.toml")).code(1).says(&["missing/c.toml"]);
    fs::write(place.path("c.toml"), "mine").unwrap();
    place.run(&format!("{endless} -o c.toml")).code(2).says(&["c.toml", "--overwrite"]);
    assert_eq!(fs::read_to_string(place.path("c.toml")).unwrap(), "mine");
}

#[test]
fn footage_that_will_not_do() {
    let place = Place::new();
    fs::write(place.path("c.toml"), "mine").unwrap();
    for (footage, words) in [
        ("test://snow?frames=5&width=64&height=32", ["5 different frames", "20"]),
        ("test://black?frames=40&width=64&height=32", ["still or black", "20"]),
    ] {
        place.run(&format!("calibrate {footage} --every 0 -o c.toml --overwrite")).code(1).says(&words);
        assert_eq!(fs::read_to_string(place.path("c.toml")).unwrap(), "mine");
        assert_eq!(place.names(), ["c.toml", "model.onnx"]);
    }
}
