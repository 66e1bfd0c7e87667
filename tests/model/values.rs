//! What is put around a graph changes its form, never its values.

use std::path::Path;

use oodstream::compute::Maps;
use oodstream::model::runtime::{Network, SessionOptions};
use support::onnx;
use support::onnx::{FLOAT, FLOAT16, Graph, UINT8};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
const WIDTH: usize = 24;
const HEIGHT: usize = 16;

/// Code values of a picture, `[3, HEIGHT, WIDTH]`.
fn picture() -> Vec<f32> {
    (0..3 * HEIGHT * WIDTH).map(|n| ((n * 37 + n * n % 101) % 256) as f32).collect()
}

fn normalised() -> Vec<f32> {
    let plane = WIDTH * HEIGHT;
    picture().iter().enumerate().map(|(n, value)| (value / 255.0 - MEAN[n / plane]) / STD[n / plane]).collect()
}

/// Everything after a normalised f32 NCHW picture: `body` is the first tensor, `raw` the logits, `relu` the features.
fn network(graph: Graph, input: &str) -> Graph {
    graph.conv(input, "body", 3, 8, 2).node("Relu", &["body"], "relu", &[]).conv("relu", "raw", 8, 6, 1)
}

fn reference() -> Graph {
    let shape = [1, 3, HEIGHT as u64, WIDTH as u64];
    network(Graph::default().input("input", &shape), "input")
        .output("raw", &[1, 6, HEIGHT as u64 / 2, WIDTH as u64 / 2])
        .output("relu", &[1, 8, HEIGHT as u64 / 2, WIDTH as u64 / 2])
}

/// Logits and features of `graph` for `tensor`, row-major.
fn maps(folder: &Path, graph: Graph, tensor: &[f32], features: &[&str]) -> [Vec<f32>; 2] {
    let path = folder.join("network.onnx");
    graph.save(&path);
    let features = features.iter().map(|name| (*name).to_owned()).collect();
    let mut network =
        Network::load(Some(&path), &SessionOptions { features, threads: Some(1), ..crate::on_cpu() }).unwrap();
    let outputs = network.infer(tensor).unwrap();
    outputs
        .with_maps(|maps| {
            assert_eq!(maps.logits.dim(), (6, HEIGHT / 2, WIDTH / 2));
            assert_eq!(maps.features[0].dim(), (8, HEIGHT / 2, WIDTH / 2));
            Ok([maps.logits.iter().copied().collect(), maps.features[0].iter().copied().collect()])
        })
        .unwrap()
}

#[track_caller]
fn close(found: &[Vec<f32>; 2], expected: &[Vec<f32>; 2], tolerance: f32) {
    for (found, expected) in found.iter().zip(expected) {
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{worst}");
    }
}

#[test]
fn tapped_features_and_unsquashed_logits_are_the_graphs_own() {
    let folder = tempfile::tempdir().unwrap();
    let expected = maps(folder.path(), reference(), &normalised(), &["relu"]);
    assert!(expected[0].iter().any(|value| value.abs() > 0.5), "the check needs values");
    let shape = [1, 3, HEIGHT as u64, WIDTH as u64];
    let squashed = network(Graph::default().input("input", &shape), "input")
        .node_with("Softmax", &["raw"], "probabilities", &[("axis", 1)])
        .output("probabilities", &[1, 6, HEIGHT as u64 / 2, WIDTH as u64 / 2]);
    close(&maps(folder.path(), squashed, &normalised(), &[]), &expected, 0.0);
}

#[test]
fn bytes_in_nhwc_order() {
    let folder = tempfile::tempdir().unwrap();
    let expected = maps(folder.path(), reference(), &normalised(), &["relu"]);
    let rows = |values: [f32; 3], scale: f32| values.map(|value| value * scale);
    let graph = Graph::default()
        .typed_input("image", UINT8, &[1, HEIGHT as u64, WIDTH as u64, 3])
        .constant("mean", &[3], &rows(MEAN, 255.0))
        .constant("std", &[3], &rows(STD, 255.0))
        .node_with("Cast", &["image"], "float", &[("to", FLOAT)])
        .node("Sub", &["float", "mean"], "centred", &[])
        .node("Div", &["centred", "std"], "scaled", &[])
        .node("Transpose", &["scaled"], "nchw", &[("perm", &[0, 3, 1, 2])]);
    let graph = network(graph, "nchw")
        .node("Transpose", &["raw"], "last", &[("perm", &[0, 2, 3, 1])])
        .output("last", &[1, HEIGHT as u64 / 2, WIDTH as u64 / 2, 6]);
    close(&maps(folder.path(), graph, &picture(), &[]), &expected, 1e-4);
}

#[test]
fn half_floats() {
    let folder = tempfile::tempdir().unwrap();
    let expected = maps(folder.path(), reference(), &normalised(), &["relu"]);
    let graph = Graph::default().typed_input("image", FLOAT16, &[1, 3, HEIGHT as u64, WIDTH as u64]).node_with(
        "Cast",
        &["image"],
        "float",
        &[("to", FLOAT)],
    );
    let graph = network(graph, "float").node_with("Cast", &["raw"], "logits", &[("to", FLOAT16)]).typed_output(
        "logits",
        FLOAT16,
        &[1, 6, HEIGHT as u64 / 2, WIDTH as u64 / 2],
    );
    let found = maps(folder.path(), graph, &normalised(), &[]);
    close(&found, &expected, 0.02);
    assert_ne!(found[0], expected[0], "f16 rounds, or it was not used");
}

#[test]
fn several_pictures_at_once_give_what_each_gives_alone() {
    let folder = tempfile::tempdir().unwrap();
    let shape = [0, 3, HEIGHT as u64, WIDTH as u64];
    let free = network(Graph::default().input("input", &shape), "input")
        .output("raw", &[0, 6, HEIGHT as u64 / 2, WIDTH as u64 / 2])
        .output("relu", &[0, 8, HEIGHT as u64 / 2, WIDTH as u64 / 2]);
    let path = folder.path().join("network.onnx");
    free.save(&path);
    let options = SessionOptions { features: vec!["relu".into()], threads: Some(1), ..crate::on_cpu() };
    let mut network = Network::load(Some(&path), &options).unwrap();
    assert_eq!(network.max_batch(), None);
    let pictures: Vec<Vec<f32>> =
        (0..3).map(|n| normalised().iter().map(|value| value * (1.0 + n as f32)).collect()).collect();
    let logits = |outputs: &oodstream::model::runtime::Outputs| {
        outputs.with_maps(|maps| Ok((maps.logits.to_owned(), maps.features[0].to_owned()))).unwrap()
    };
    let alone: Vec<_> = pictures.iter().map(|picture| logits(&network.infer(picture).unwrap())).collect();
    let together = network.infer_batch(&pictures.concat(), 3).unwrap();
    for (outputs, alone) in together.iter().zip(&alone) {
        let (found, features) = logits(outputs);
        assert!((&found - &alone.0).iter().all(|difference| difference.abs() < 1e-5));
        assert!((&features - &alone.1).iter().all(|difference| difference.abs() < 1e-5));
    }
    // More than there are is an error, not a panic.
    assert!(network.infer_batch(&pictures[0], 2).is_err());
    reference().save(&path);
    assert_eq!(Network::load(Some(&path), &options).unwrap().max_batch(), Some(1));
}

/// What is bound to pinned memory on CUDA, here bound to ordinary memory: the values are the same, and those of earlier calls
/// are left alone.
#[test]
fn bound_outputs_are_those_of_a_plain_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    onnx::pass_through(WIDTH as u64, HEIGHT as u64, 4, 0).save(&path);
    let mut network = Network::load(Some(&path), &crate::on_cpu()).unwrap();
    let pictures: Vec<f32> = (0..3).flat_map(|n| picture().into_iter().map(move |v| v + 1000.0 * n as f32)).collect();
    let length = 3 * WIDTH * HEIGHT;
    let mut run = |bound: bool| -> Vec<Vec<f32>> {
        if bound {
            network.bind_outputs().unwrap();
        }
        // Batches of several sizes; all outputs are kept to the end.
        let sizes = [(0, 1), (1, 2), (0, 3), (2, 1), (0, 2)];
        let parts = sizes.map(|(first, count)| network.infer_batch(&pictures[first * length..], count).unwrap());
        let values = |maps: &Maps<'_>| Ok(maps.logits.iter().chain(maps.features[0].iter()).copied().collect());
        parts.iter().flatten().map(|outputs| outputs.with_maps(values).unwrap()).collect()
    };
    let (plain, bound) = (run(false), run(true));
    assert_eq!(plain.len(), 9);
    assert!(plain == bound, "other values");
    assert!(plain[0] == plain[3] && plain[0] != plain[1], "each picture has its own");
}
