//! Query-mask networks: queries and masks become one value per class and pixel.

use oodstream::model::runtime::Network;
use serde_json::Value;
use support::common::Place;
use support::onnx::Graph;

const QUERIES: usize = 5;
/// Classes, without "no object".
const CLASSES: usize = 3;
const WIDTH: usize = 24;
const HEIGHT: usize = 16;

/// What each query says of its class, `[5, 4]`; the last one claims no object.
fn class_values() -> Vec<f32> {
    (0..QUERIES * (CLASSES + 1)).map(|n| ((n * 7 + 3) % 11) as f32 / 3.0 - 1.0).collect()
}

/// Masks are products of five embeddings with the pixel decoder's map of 8 channels.
fn graph(classes: &str, masks: &str) -> Graph {
    let (height, width) = (HEIGHT as u64, WIDTH as u64);
    let embeddings: Vec<f32> = (0..QUERIES * 8).map(|n| ((n * 5 + 1) % 9) as f32 / 4.0 - 1.0).collect();
    Graph::default()
        .input("input", &[1, 3, height, width])
        .conv("input", "body", 3, 16, 2)
        .node("Relu", &["body"], "relu", &[])
        .conv("relu", "pixels", 16, 8, 1)
        .constant("embeddings", &[1, 5, 8], &embeddings)
        .reshape("pixels", "flat", &[1, 8, 96])
        .node("MatMul", &["embeddings", "flat"], "product", &[])
        .reshape("product", masks, &[1, 5, 8, 12])
        .constant("says", &[1, 5, 4], &class_values())
        .node("Identity", &["says"], classes, &[])
        .output(classes, &[1, 5, 4])
        .output(masks, &[1, 5, 8, 12])
}

fn tensor() -> Vec<f32> {
    (0..3 * WIDTH * HEIGHT).map(|n| ((n * 37 + n * n % 101) % 256) as f32 / 64.0 - 2.0).collect()
}

/// Logits and features, each with its channels, row-major.
fn maps(place: &Place, manifest: &str) -> [(usize, Vec<f32>); 2] {
    let path = place.path("n.onnx");
    graph("class_queries_logits", "masks_queries_logits").save(&path);
    std::fs::write(path.with_extension("toml"), manifest).unwrap();
    let mut network = Network::load(Some(&path), &crate::on_cpu()).unwrap();
    let outputs = network.infer(&tensor()).unwrap();
    outputs
        .with_maps(|maps| {
            let all = |map: &ndarray::ArrayView3<'_, f32>| (map.dim().0, map.iter().copied().collect());
            Ok([all(&maps.logits), all(&maps.features[0])])
        })
        .unwrap()
}

#[test]
fn the_fold_is_softmax_times_sigmoid_summed_over_queries() {
    let place = Place::new();
    let [(count, masks), _] = maps(&place, "[outputs]\nlogits = \"masks_queries_logits\"\nfeatures = [\"pixels\"]\n");
    assert_eq!(count, QUERIES);
    let [(count, folded), (dims, features)] = maps(&place, "");
    assert_eq!((count, dims), (CLASSES, 8), "features are the map that the masks are made from");
    let pixels = folded.len() / CLASSES;
    let values = class_values();
    for pixel in 0..pixels {
        for class in 0..CLASSES {
            let expected: f64 = (0..QUERIES)
                .map(|query| {
                    let says = &values[query * (CLASSES + 1)..][..CLASSES + 1];
                    let sum: f64 = says.iter().map(|value| f64::from(*value).exp()).sum();
                    let mask = 1.0 / (1.0 + (-f64::from(masks[query * pixels + pixel])).exp());
                    f64::from(says[class]).exp() / sum * mask
                })
                .sum();
            let found = f64::from(folded[class * pixels + pixel]);
            assert!((found - expected).abs() < 1e-5, "class {class}, pixel {pixel}: {found} and {expected}");
        }
    }
    assert!(features.iter().any(|value| value.abs() > 0.5));
}

fn inspect(place: &Place, model: &str) -> Value {
    place.run(&format!("model inspect {model} --json - --provider cpu --threads 1")).code(0).json()
}

#[test]
fn queries_are_found_by_name_by_shape_and_by_the_manifest() {
    let place = Place::new();
    for (classes, masks, manifest) in [
        ("class_queries_logits", "masks_queries_logits", ""),
        ("pred_logits", "pred_masks", ""),
        ("a", "b", ""),
        ("a", "b", "[outputs]\nqueries = \"a\"\nmasks = \"b\"\n"),
    ] {
        graph(classes, masks).save(&place.path("q.onnx"));
        std::fs::write(place.path("q.toml"), manifest).unwrap();
        let found = inspect(&place, "q.onnx");
        assert_eq!(found["logits"]["channels"], 3, "{found}");
        assert_eq!(found["features"][0]["channels"], 8, "{found}");
        let said = found["assumptions"].to_string().contains("a query-mask network");
        assert_eq!(said, manifest.is_empty(), "{found}");
    }
    std::fs::write(place.path("q.toml"), "[outputs]\nqueries = \"a\"\nmasks = \"nowhere\"\n").unwrap();
    place.run("model inspect q.onnx").code(2).says(&["outputs.masks", "`nowhere`"]);
}

#[test]
fn scores_over_queries_run_and_are_refused_without() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    graph("pred_logits", "pred_masks").save(&place.path("q.onnx"));
    for method in ["rba", "no-object", "rba-cluster", "cluster-ensemble@3,5", "max-logit"] {
        let run = format!("run a.mp4 -o none -m q.onnx --method {method} --threshold 0 --json - -q");
        assert_eq!(place.run(&run).code(0).json()["inputs"][0]["frames_in"], 3, "{method}");
    }
    let ended = place.run("run a.mp4 -o none --method rba --threshold 0").code(2);
    ended.says(&["`rba`", "query-mask", "max-logit"]);
}
