//! Networks without classes: image encoders whose features alone are scored by their distance to ordinary ones.

use image::RgbImage;
use oodstream::model::runtime::Network;
use oodstream::model::views::Views;
use oodstream::model::views::inference::FrameInference;
use oodstream::model::views::rgb::RgbPicture;
use serde_json::Value;
use support::common::Place;
use support::onnx::Graph;

use crate::verify::save;

const WIDTH: u64 = 96;
const HEIGHT: u64 = 64;
/// Patches of 8 x 8 pixels.
const ROWS: usize = 8;
const COLUMNS: usize = 12;
const DIMS: u64 = 16;

/// `cells` is `[1, 16, 8, 12]`, one cell for each patch.
fn cells() -> Graph {
    Graph::default()
        .input("input", &[1, 3, HEIGHT, WIDTH])
        .conv("input", "patches", 3, DIMS, 8)
        .node("Relu", &["patches"], "relu", &[])
        .conv("relu", "cells", DIMS, DIMS, 1)
}

/// The cells as tokens behind `front` tokens that are no patches, as the output of that name.
fn tokens(front: u64, output: &str) -> Graph {
    list(front, output).output(output, &[1, front + (ROWS * COLUMNS) as u64, DIMS])
}

/// The same as a tensor inside the graph.
fn list(front: u64, output: &str) -> Graph {
    let count = (ROWS * COLUMNS) as u64;
    let graph = cells().reshape("cells", "flat", &[1, DIMS as i64, count as i64]);
    if front == 0 {
        return graph.transpose("flat", output, &[0, 2, 1]);
    }
    let values: Vec<f32> = (0..front * DIMS).map(|n| n as f32 * 100.0).collect();
    graph.transpose("flat", "patch_list", &[0, 2, 1]).constant("front", &[1, front, DIMS], &values).node_with(
        "Concat",
        &["front", "patch_list"],
        output,
        &[("axis", 1)],
    )
}

fn tensor() -> Vec<f32> {
    (0..3 * WIDTH * HEIGHT).map(|n| ((n * 37 + n * n % 101) % 256) as f32 / 64.0 - 2.0).collect()
}

/// Shapes of logits and features, and the features.
fn maps(graph: Graph) -> ([usize; 3], [usize; 3], Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.onnx");
    graph.save(&path);
    let mut network = Network::load(Some(&path), &crate::on_cpu()).unwrap();
    let outputs = network.infer(&tensor()).unwrap();
    let shape = |map: &ndarray::ArrayView3<'_, f32>| <[usize; 3]>::from(map.dim());
    let found = |maps: &oodstream::compute::Maps<'_>| {
        Ok((shape(&maps.logits), shape(&maps.features[0]), maps.features[0].iter().copied().collect()))
    };
    outputs.with_maps(found).unwrap()
}

fn inspect(place: &Place, model: &str) -> Value {
    place.run(&format!("model inspect {model} --json - --provider cpu --threads 1")).code(0).json()
}

fn assumed(found: &Value, words: &str) -> bool {
    found["assumptions"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains(words))
}

#[test]
fn tokens_become_the_grid_of_their_patches_without_those_in_front() {
    let map = cells().node("Identity", &["cells"], "image_embeddings", &[]);
    let (_, shape, expected) = maps(map.output("image_embeddings", &[1, DIMS, ROWS as u64, COLUMNS as u64]));
    assert_eq!(shape, [16, ROWS, COLUMNS]);
    // Nothing, a class token, and a class token with four registers.
    for front in [0, 1, 5] {
        let (logits, shape, found) = maps(tokens(front, "last_hidden_state"));
        assert_eq!((logits, shape), ([0, ROWS, COLUMNS], [16, ROWS, COLUMNS]), "{front}");
        assert_eq!(found, expected, "{front}");
    }
}

#[test]
fn an_encoder_is_recognised_by_its_names_or_by_the_normalisation_at_its_end() {
    let place = Place::new();
    tokens(5, "last_hidden_state").save(&place.path("named.onnx"));
    let found = inspect(&place, "named.onnx");
    assert_eq!((&found["logits"], &found["features"][0]["channels"]), (&Value::Null, &Value::from(16)), "{found}");
    assert!(assumed(&found, "the network gives features alone") && assumed(&found, "after the first 5"), "{found}");
    let text = place.run("model inspect named.onnx --provider cpu").code(0).stdout;
    assert!(text.contains("logits      none: features alone"), "{text}");

    let scale = |graph: Graph| graph.constant("scale", &[DIMS], &[1.5; 16]).constant("shift", &[DIMS], &[0.5; 16]);
    scale(list(1, "all"))
        .node("LayerNormalization", &["all", "scale", "shift"], "out", &[])
        .output("out", &[1, 97, DIMS])
        .save(&place.path("normalised.onnx"));
    let found = inspect(&place, "normalised.onnx");
    assert_eq!(found["logits"], Value::Null, "{found}");
    // A product with weights behind it is a classifier over tokens, whatever their number.
    let values: Vec<f32> = (0..DIMS * 7).map(|n| (n % 5) as f32 - 2.0).collect();
    scale(list(1, "all"))
        .node("LayerNormalization", &["all", "scale", "shift"], "normal", &[])
        .constant("head", &[DIMS, 7], &values)
        .node("MatMul", &["normal", "head"], "out", &[])
        .output("out", &[1, 97, 7])
        .save(&place.path("head.onnx"));
    let found = inspect(&place, "head.onnx");
    assert_eq!((&found["logits"]["channels"], &found["features"][0]["channels"]), (&7.into(), &16.into()), "{found}");

    // Two maps of which neither is made from the other.
    cells()
        .conv("relu", "other", DIMS, 4, 1)
        .output("cells", &[1, DIMS, ROWS as u64, COLUMNS as u64])
        .output("other", &[1, 4, ROWS as u64, COLUMNS as u64])
        .save(&place.path("two.onnx"));
    std::fs::write(place.path("two.toml"), "[outputs]\nfeatures = [\"cells\", \"other\"]\n").unwrap();
    let found = inspect(&place, "two.onnx");
    assert_eq!((&found["logits"], found["features"].as_array().unwrap().len()), (&Value::Null, 2), "{found}");
}

/// 100 x 68 pixels are 12 x 8 whole patches of 8, and some are seen by none.
#[test]
fn a_picture_that_patches_do_not_cover_is_named() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 68, 100])
        .conv("input", "more", 3, DIMS, 8)
        .integers("from", &[0, 0])
        .integers("to", &[ROWS as i64, COLUMNS as i64])
        .integers("along", &[2, 3])
        .node("Slice", &["more", "from", "to", "along"], "cells", &[])
        .reshape("cells", "flat", &[1, DIMS as i64, (ROWS * COLUMNS) as i64])
        .transpose("flat", "tokens", &[0, 2, 1])
        .output("tokens", &[1, (ROWS * COLUMNS) as u64, DIMS])
        .save(&place.path("n.onnx"));
    let found = inspect(&place, "n.onnx");
    assert!(assumed(&found, "misses the last 4 columns and 4 rows of the picture of 100x68"), "{found}");
    assert!(assumed(&found, "multiples of 8"), "{found}");
}

#[test]
fn what_needs_logits_is_refused_with_what_to_do() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    tokens(1, "last_hidden_state").save(&place.path("n.onnx"));
    for method in ["default", "max-logit", "cluster", "entropy-cluster", "rba", "pixel:bank*1+cluster:entropy*1"] {
        let ended = place.run(&format!("run a.mp4 -o none -m n.onnx --method {method} --threshold 0")).code(2);
        ended.says(&["gives features alone", "--method bank", "outputs.logits"]);
    }
    place.run("run a.mp4 -o none -m n.onnx --method bank").code(2).says(&["needs a calibration"]);
    place.run("run a.mp4 -o none -m n.onnx --known car").code(2).says(&["--known car", "no class of this name"]);
    for section in [
        "[classes]\nnames = [\"a\", \"b\"]\n",
        "[scoring]\nk = []\nthreshold = 1.0\nterms = [{statistic=\"bank\", unit=\"pixel\"}]\n",
    ] {
        std::fs::write(place.path("n.toml"), section).unwrap();
        place.run("model inspect n.onnx").code(2).says(&["[classes] or [scoring]", "outputs.logits"]);
    }
}

/// Ordinary footage of grey noise makes the bank; with it, a run marks colours and little else.
#[test]
fn footage_makes_the_bank_and_runs_are_scored_by_it() {
    let place = Place::new();
    tokens(5, "last_hidden_state").save(&place.path("n.onnx"));
    let footage = "test://snow?width=192&height=128&frames=48";
    let made = place.run(&format!("calibrate {footage} --every 0 -m n.onnx -o c.toml")).code(0);
    for words in ["centroids from", "held-back", "AUROC", "bank-cluster-ensemble"] {
        assert!(made.stdout.contains(words), "{words} in {}", made.stdout);
    }
    let text = std::fs::read_to_string(place.path("c.toml")).unwrap();
    for words in ["[bank]", "held_back_auroc", "held_back_share", "[model.input]", "colour = \"rgb\""] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains("max-logit"), "{text}");
    place.run(&format!("calibrate {footage} --every 0 --resize letterbox -m n.onnx -o d.toml")).code(0);
    for options in ["--calibration c.toml", "--calibration d.toml --resize letterbox"] {
        let share = |input: &str| {
            let run = format!("run {input} -o none -m n.onnx --method bank {options} --json - -q");
            place.run(&run).code(0).json()["inputs"][0]["ood_share_mean"].as_f64().unwrap()
        };
        // Wider than the network's input, so that a letterbox has bars.
        let (ordinary, unknown) = (share(footage), share("test://smpte?width=256&height=128&frames=12"));
        assert!(ordinary < 0.05 && unknown > 0.3, "{options}: {ordinary} and {unknown} are marked");
    }
    // The same network with other pictures is another one to a calibration.
    place
        .run(&format!("run {footage} -o none -m n.onnx --method bank --calibration c.toml --colour bgr"))
        .code(2)
        .says(&["colour order RGB", "have BGR", "--colour"]);
}

#[test]
fn the_features_are_verified_where_there_are_no_logits() {
    let place = Place::new();
    tokens(1, "last_hidden_state").save(&place.path("n.onnx"));
    let value = |n: u32| (n * 37 + n * n % 101) as u8;
    let picture = RgbImage::from_fn(WIDTH as u32, HEIGHT as u32, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| value(3 * (y * WIDTH as u32 + x) + channel)))
    });
    picture.save(place.path("p.png")).unwrap();
    let mut network = Network::load(Some(&place.path("n.onnx")), &crate::on_cpu()).unwrap();
    let rgb = RgbPicture::new(picture.as_raw(), picture.width(), picture.height()).unwrap();
    let mut inference = FrameInference::new(&network, Views::default()).unwrap();
    let reference = inference.run_rgb(&mut network, &rgb, |maps| Ok(maps.features[0].to_owned())).unwrap();
    save(&place.path("r.npy"), reference.shape(), reference.iter().copied());
    let found = place.run("model verify n.onnx --image p.png --logits r.npy --json -").code(0).json();
    assert_eq!((found["compared"].as_str(), found["agrees"].as_bool()), (Some("features"), Some(true)), "{found}");
}
