//! The grid of a score: methods of the logits alone see what the features' grid does not.

use std::fs;

use image::{GrayImage, Luma, Rgb, RgbImage};
use support::common::Place;
use support::onnx;

const WIDTH: u32 = 96;
const HEIGHT: u32 = 64;

/// A small white thing: 36 of the 1,024 pixels of a cell of the features.
fn inside(x: u32, y: u32) -> bool {
    (40..46).contains(&x) && (24..30).contains(&y)
}

/// A network with logits for every pixel and features for every 32 x 32, and a picture with something small on it.
fn place() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(u64::from(WIDTH), u64::from(HEIGHT))
        .node("AveragePool", &["input"], "features", &[("kernel_shape", &[32, 32]), ("strides", &[32, 32])])
        .output("features", &[1, 3, 2, 3])
        .save(&place.path("model.onnx"));
    for folder in ["set/images", "set/masks"] {
        fs::create_dir_all(place.path(folder)).unwrap();
    }
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb([if inside(x, y) { 255 } else { 40 }; 3]))
        .save(place.path("set/images/0.png"))
        .unwrap();
    GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([u8::from(inside(x, y))]))
        .save(place.path("set/masks/0.png"))
        .unwrap();
    place
}

#[test]
fn a_small_obstacle_is_marked_by_methods_of_the_logits_alone() {
    let place = place();
    for (method, grid, finds_it) in [
        ("max-logit", "finest", true),
        ("energy", "finest", true),
        ("pixel:max-logit", "finest", true),
        ("cluster@2", "features", false),
    ] {
        let marked = format!("run set/images/0.png -o none -o masks:m --overwrite --method {method} --threshold 1.5");
        let report = place.run(&format!("{marked} --json -")).code(0).json();
        assert_eq!(report["grid"], grid, "{method}");
        let mask = fs::read_dir(place.path("m")).unwrap().next().unwrap().unwrap().path();
        let mask = image::open(mask).unwrap().into_luma8();
        for (x, y, Luma([marked])) in mask.enumerate_pixels() {
            assert_eq!(*marked == 255, finds_it && inside(x, y), "{method} at {x}, {y}");
        }
    }
    let found = place.run("eval set --layout pairs --methods max-logit,cluster@2 --json -").code(0).json();
    let ap = |method: &str| found["methods"][method]["ap"].as_f64().unwrap();
    assert!(ap("max-logit") > 0.99 && ap("cluster@2") < 0.2, "{found}");
    let text = place.run("model inspect model.onnx --provider cpu").code(0).stdout;
    assert!(text.contains("scored on   2 x 3; methods of the logits alone on 64 x 96"), "{text}");
}

#[test]
fn a_threshold_from_another_grid_is_refused() {
    let place = place();
    let sum = "pixel:max-logit*1+pixel:energy*1";
    let footage = "test://snow?frames=30&width=96&height=64";
    let methods = format!("max-logit,cluster@2,{sum},pixel:max-logit*1+cluster:energy*1@2");
    place.run(&format!("calibrate {footage} --every 0 -o c.toml --methods {methods}")).code(0);
    let text = fs::read_to_string(place.path("c.toml")).unwrap();
    let run = |method: &str| {
        place.run(&format!("run set/images/0.png -o none --calibration c.toml --method {method} --json -"))
    };
    for method in methods.split(',') {
        assert!(run(method).code(0).json()["threshold"].as_f64().is_some(), "{method}");
    }
    // One term, measured on two grids.
    let statistics = &text[text.find("[[statistics]]").unwrap()..];
    assert_eq!(statistics.matches("statistic = \"max-logit\"\nunit = \"pixel\"").count(), 2, "{text}");
    // As an earlier version wrote it: all on the features' grid.
    fs::write(place.path("c.toml"), text.replace("grid = \"finest\"\n", "")).unwrap();
    run("cluster@2").code(0);
    for method in ["max-logit", sum] {
        run(method).code(2).says(&[method, "`features`", "`finest`", "calibrate again"]);
    }
}
