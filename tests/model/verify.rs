//! `oodstream model verify`: agreement is seen, and each reason for a difference is named.

use std::path::Path;

use image::RgbImage;
use ndarray::{Array3, Axis};
use oodstream::model::runtime::Network;
use oodstream::model::views::Views;
use oodstream::model::views::inference::FrameInference;
use oodstream::model::views::rgb::RgbPicture;
use serde_json::Value;
use support::common::Place;
use support::onnx::Graph;

const WIDTH: u32 = 24;
const HEIGHT: u32 = 16;

fn graph() -> Graph {
    let (width, height) = (u64::from(WIDTH), u64::from(HEIGHT));
    Graph::default()
        .input("input", &[1, 3, height, width])
        .conv("input", "body", 3, 8, 2)
        .node("Relu", &["body"], "relu", &[])
        .conv("relu", "logits", 8, 6, 1)
        .output("logits", &[1, 6, height / 2, width / 2])
}

/// A NumPy file of f32.
pub fn save(path: &Path, shape: &[usize], values: impl Iterator<Item = f32>) {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.flat_map(f32::to_le_bytes));
    std::fs::write(path, bytes).unwrap();
}

/// The logits of the picture by a network with another manifest.
fn logits(place: &Place, manifest: &str, picture: &RgbImage) -> Array3<f32> {
    let path = place.path("other.onnx");
    graph().save(&path);
    std::fs::write(path.with_extension("toml"), manifest).unwrap();
    let mut network = Network::load(Some(&path), &crate::on_cpu()).unwrap();
    let views = Views { resize: network.manifest().input.resize.unwrap_or_default(), ..Views::default() };
    let layout = oodstream::model::views::layout::Layout::new(
        &views,
        network.input(),
        (picture.width() as usize, picture.height() as usize),
    )
    .unwrap();
    let rgb = RgbPicture::new(picture.as_raw(), picture.width(), picture.height()).unwrap();
    if layout.is_plain() {
        let mut inference = FrameInference::new(&network, views).unwrap();
        return inference.run_rgb(&mut network, &rgb, |maps| Ok(maps.logits.to_owned())).unwrap();
    }
    // A letterboxed picture goes through the network with its bars.
    let mut tensor = Vec::new();
    oodstream::model::views::rgb::prepare_rgb(&rgb, &layout, network.input(), &mut tensor);
    network.infer(&tensor).unwrap().with_maps(|maps| Ok(maps.logits.to_owned())).unwrap()
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 9 % 256) as u8, (y * 15 % 256) as u8, ((x * y * 7 + 31 * x) % 256) as u8])
    })
}

fn report(place: &Place, code: i32) -> Value {
    place.run("model verify n.onnx --image p.png --logits r.npy --json - --provider cpu").code(code).json()
}

#[track_caller]
fn prints(place: &Place, code: i32, words: &[&str]) {
    let text = place.run("model verify n.onnx --image p.png --logits r.npy --provider cpu").code(code).stdout;
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
}

fn explained(found: &Value) -> Vec<&str> {
    found["explanations"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect()
}

#[test]
fn agreement_and_every_reason_for_a_difference() {
    let place = Place::new();
    graph().save(&place.path("n.onnx"));
    let plain = picture(WIDTH, HEIGHT);
    plain.save(place.path("p.png")).unwrap();
    let path = place.path("r.npy");
    let whole = |map: &Array3<f32>| save(&path, &[1, map.dim().0, map.dim().1, map.dim().2], map.iter().copied());
    let ours = logits(&place, "", &plain);

    whole(&ours);
    let found = report(&place, 0);
    assert_eq!((&found["agrees"], &found["same_class"]), (&Value::Bool(true), &Value::from(1.0)));
    assert_eq!(found["shape"], serde_json::json!([6, 8, 12]));
    prints(&place, 0, &["correlation 1.0000", "Both agree"]);

    for (manifest, reasons) in [
        ("[input]\ncolour = \"bgr\"\n", &["colour"][..]),
        ("[input]\nrange = \"0..255\"\n", &["scale"]),
        ("[input]\nrange = \"0..1\"\n", &["scale"]),
        ("[input]\ncolour = \"bgr\"\nrange = \"0..255\"\n", &["colour", "scale"]),
        ("[input]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n", &["scale"]),
        // The order turned around, and mean and deviation left as they were.
        ("[input]\ncolour = \"bgr\"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n", &["colour"]),
    ] {
        whole(&logits(&place, manifest, &plain));
        let found = report(&place, 1);
        assert_eq!(explained(&found), reasons, "{manifest}");
        assert!(found["explained"]["correlation"].as_f64().unwrap() > 0.9999, "{found}");
        // What it says to write makes both agree.
        std::fs::write(place.path("n.toml"), manifest).unwrap();
        assert_eq!(report(&place, 0)["agrees"], true, "{manifest}");
        std::fs::remove_file(place.path("n.toml")).unwrap();
    }

    let mut shares = ours.clone();
    for mut pixel in shares.lanes_mut(Axis(0)) {
        pixel.mapv_inplace(f32::exp);
        let sum = pixel.sum();
        pixel /= sum;
    }
    whole(&shares);
    assert_eq!(explained(&report(&place, 1)), ["softmax"]);
    let last = ours.view().permuted_axes([1, 2, 0]);
    save(&path, last.shape(), last.iter().copied());
    assert_eq!(explained(&report(&place, 1)), ["layout"]);
    prints(&place, 1, &["They differ", "layout", "[h, w, C]"]);

    whole(&ours.mapv(|value| (value * 1e3).sin()));
    let found = report(&place, 1);
    assert_eq!(found["explanations"], serde_json::json!([]));
    prints(&place, 1, &["neither layout", "same weights"]);
}

#[test]
fn another_resize_rule_is_named() {
    let place = Place::new();
    graph().save(&place.path("n.onnx"));
    let wide = picture(96, 32);
    wide.save(place.path("p.png")).unwrap();
    let reference = logits(&place, "[input]\nresize = \"letterbox\"\n", &wide);
    save(&place.path("r.npy"), reference.shape(), reference.iter().copied());
    assert_eq!(explained(&report(&place, 1)), ["resize"]);
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let place = Place::new();
    graph().save(&place.path("n.onnx"));
    picture(WIDTH, HEIGHT).save(place.path("p.png")).unwrap();
    let run = "model verify n.onnx --image p.png --logits r.npy";
    place.run(run).code(1).says(&["r.npy"]);
    save(&place.path("r.npy"), &[5, 8, 12], std::iter::repeat_n(1.0, 480));
    place.run(run).code(2).says(&["r.npy", "[5, 8, 12]", "[6, 8, 12]"]);
    save(&place.path("r.npy"), &[6, 8, 12], std::iter::repeat_n(f32::NAN, 576));
    place.run(run).code(2).says(&["r.npy", "not finite"]);
    save(&place.path("r.npy"), &[6, 96], std::iter::repeat_n(1.0, 576));
    place.run(run).code(2).says(&["r.npy", "no map"]);
    std::fs::write(place.path("p.png"), "<html>").unwrap();
    place.run(run).code(1).says(&["p.png"]);
}
