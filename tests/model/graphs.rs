//! Graphs of kinds that other programs write, each made here: the right map, or an error that says what to do.

use std::path::Path;

use oodstream::model::runtime::{Network, SessionOptions};
use serde_json::Value;
use support::common::Place;
use support::onnx::{BFLOAT16, DOUBLE, FLOAT, Graph, INT8, INT64, UINT8};

const CLASSES: u64 = 6;

/// A picture's prepared values, `[3, height, width]`.
fn picture(width: u64, height: u64) -> Vec<f32> {
    (0..3 * width * height).map(|n| ((n * 37 + n * n % 101) % 256) as f32 / 64.0 - 2.0).collect()
}

/// `raw` is `[1, 6, height / 2, width / 2]`, `relu` what its convolution takes.
fn body(graph: Graph, input: &str) -> Graph {
    graph.conv(input, "body", 3, 8, 2).node("Relu", &["body"], "relu", &[]).conv("relu", "raw", 8, CLASSES, 1)
}

fn start(width: u64, height: u64) -> Graph {
    body(Graph::default().input("input", &[1, 3, height, width]), "input")
}

/// The logits `[C, h, w]` that the program sees, with their shape, and the features.
fn maps(graph: Graph, manifest: &str, tensor: &[f32]) -> ([usize; 3], Vec<f32>, Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    graph.save(&path);
    if !manifest.is_empty() {
        std::fs::write(path.with_extension("toml"), manifest).unwrap();
    }
    let mut network = load(&path);
    let outputs = network.infer(tensor).unwrap();
    outputs
        .with_maps(|maps| {
            let features = maps.features.first().map(|map| map.iter().copied().collect()).unwrap_or_default();
            let (c, h, w) = maps.logits.dim();
            Ok(([c, h, w], maps.logits.iter().copied().collect(), features))
        })
        .unwrap()
}

fn load(path: &Path) -> Network {
    Network::load(Some(path), &SessionOptions { threads: Some(1), ..crate::on_cpu() }).unwrap()
}

#[track_caller]
fn same(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{worst}");
}

fn inspect(place: &Place, model: &str) -> Value {
    place.run(&format!("model inspect {model} --json - --provider cpu --threads 1")).code(0).json()
}

fn assumed(found: &Value, words: &str) -> bool {
    found["assumptions"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains(words))
}

fn shape(map: &Value) -> [u64; 3] {
    ["channels", "height", "width"].map(|axis| map[axis].as_u64().unwrap())
}

/// PyTorch up to operator set 12 brings the classes to the last axis for its softmax, and back; in a square picture the
/// lengths alone would not show it.
#[test]
fn a_softmax_between_transposes_leaves_rows_and_columns_in_place() {
    for (width, height) in [(24, 16), (16, 16), (12, 12)] {
        let tensor = picture(width, height);
        let output = [1, CLASSES, height / 2, width / 2];
        let expected = maps(start(width, height).output("raw", &output), "", &tensor);
        assert_eq!(expected.0, [6, height as usize / 2, width as usize / 2]);
        let swapped = || {
            start(width, height)
                .opset(11)
                .transpose("raw", "last", &[0, 3, 2, 1])
                .node_with("Softmax", &["last"], "shares", &[("axis", 3)])
                .transpose("shares", "probabilities", &[0, 3, 2, 1])
        };
        let found = maps(swapped().output("probabilities", &output), "", &tensor);
        assert_eq!(found.0, expected.0);
        same(&found.1, &expected.1, 0.0);
        same(&found.2, &expected.2, 0.0);
        // The same with labels at the end, which have lost the axis of the classes.
        let labels = swapped()
            .node_with("ArgMax", &["probabilities"], "labels", &[("axis", 1), ("keepdims", 0)])
            .typed_output("labels", INT64, &[1, height / 2, width / 2]);
        same(&maps(labels, "", &tensor).1, &expected.1, 0.0);
    }
}

/// Baked preprocessing: pictures as NHWC bytes, logits as the convolution makes them.
#[test]
fn the_input_does_not_decide_the_order_of_the_output() {
    for (width, height) in [(24, 16), (12, 12)] {
        let bytes: Vec<f32> = (0..3 * width * height).map(|n| ((n * 37) % 256) as f32).collect();
        let graph = || {
            Graph::default()
                .typed_input("image", UINT8, &[1, height, width, 3])
                .node_with("Cast", &["image"], "float", &[("to", FLOAT)])
                .transpose("float", "nchw", &[0, 3, 1, 2])
        };
        let first = body(graph(), "nchw").output("raw", &[1, CLASSES, height / 2, width / 2]);
        let last = body(graph(), "nchw")
            .transpose("raw", "nhwc", &[0, 2, 3, 1])
            .output("nhwc", &[1, height / 2, width / 2, CLASSES]);
        let (first, last) = (maps(first, "", &bytes), maps(last, "", &bytes));
        assert_eq!(first.0, [6, height as usize / 2, width as usize / 2]);
        assert_eq!(first, last);
        let plain = body(Graph::default().input("input", &[1, 3, height, width]), "input");
        let expected = maps(plain.output("raw", &[1, CLASSES, height / 2, width / 2]), "", &bytes);
        same(&first.1, &expected.1, 0.0);
    }
}

/// A Reshape hides the axes, so that only the lengths speak: proportions first, then the number of classes.
#[test]
fn lengths_decide_where_operators_do_not_and_ties_are_refused() {
    let tensor = picture(24, 16);
    let expected = maps(start(24, 16).output("raw", &[1, CLASSES, 8, 12]), "", &tensor);
    let nchw = start(24, 16).reshape("raw", "out", &[1, 6, 8, 12]).output("out", &[1, 6, 8, 12]);
    assert_eq!(maps(nchw, "", &tensor).1, expected.1);
    let nhwc = start(24, 16)
        .transpose("raw", "last", &[0, 2, 3, 1])
        .reshape("last", "out", &[1, 8, 12, 6])
        .output("out", &[1, 8, 12, 6]);
    assert_eq!(maps(nhwc, "", &tensor).1, expected.1);
    // Nothing is declared: the graph is run for its shapes.
    let open = start(24, 16).reshape("raw", "out", &[1, 6, 8, 12]).output("out", &[0, 0, 0, 0]);
    assert_eq!(maps(open, "", &tensor).1, expected.1);

    // As many classes as rows and columns.
    let tie = || start(12, 12).reshape("raw", "out", &[1, 6, 6, 6]).output("out", &[1, 6, 6, 6]);
    let place = Place::new();
    tie().save(&place.path("tie.onnx"));
    place.run("model inspect tie.onnx").code(1).says(&["`out`", "[1, 6, 6, 6]", "[1, h, w, C]", "outputs.layout"]);
    let square = picture(12, 12);
    let expected = maps(start(12, 12).output("raw", &[1, 6, 6, 6]), "", &square);
    assert_eq!(maps(tie(), "[outputs]\nlayout = \"nchw\"\n", &square).1, expected.1);
    let turned = maps(tie(), "[outputs]\nlayout = \"nhwc\"\n", &square).1;
    assert_eq!(turned[..6], [0, 6, 12, 18, 24, 30].map(|at| expected.1[at]), "the first row of the first channel");
}

#[test]
fn detectors_are_refused_and_embeddings_are_no_logits() {
    let place = Place::new();
    let grid = |graph: Graph| graph.conv("input", "cells", 3, 8, 8).node("Relu", &["cells"], "relu", &[]);
    let base = || grid(Graph::default().input("input", &[1, 3, 64, 64]));
    // Ultralytics: prototypes beside what each anchor says: 64 + 16 + 4 cells.
    base()
        .conv("relu", "proto", 8, 32, 1)
        .constant("zeros", &[1, 116, 84], &vec![0.0; 116 * 84])
        .node("Identity", &["zeros"], "output0", &[])
        .output("output0", &[1, 116, 84])
        .output("proto", &[1, 32, 8, 8])
        .save(&place.path("yolo.onnx"));
    place.run("model inspect yolo.onnx").code(1).says(&["`output0`", "anchors", "semantic segmentation"]);
    base()
        .conv("relu", "map", 8, 19, 1)
        .metadata("task", "segment")
        .output("map", &[1, 19, 8, 8])
        .save(&place.path("task.onnx"));
    place.run("model inspect task.onnx").code(1).says(&["metadata", "`segment`"]);
    base()
        .conv("relu", "masks", 8, 19, 1)
        .constant("boxes_", &[1, 10, 4], &[0.0; 40])
        .node("Identity", &["boxes_"], "pred_boxes", &[])
        .output("pred_boxes", &[1, 10, 4])
        .output("masks", &[1, 19, 8, 8])
        .save(&place.path("boxes.onnx"));
    place.run("model inspect boxes.onnx").code(1).says(&["`pred_boxes`", "boxes", "detector"]);
    base()
        .conv("relu", "image_embeddings", 8, 256, 1)
        .output("image_embeddings", &[1, 256, 8, 8])
        .save(&place.path("sam.onnx"));
    // An encoder is no detector, but it has no classes either.
    let found = inspect(&place, "sam.onnx");
    assert!(found["logits"].is_null() && assumed(&found, "features alone"), "{found}");
}

#[test]
fn the_logits_are_distinguished_from_larger_maps_beside_them() {
    let place = Place::new();
    let base = || {
        Graph::default().input("input", &[1, 3, 64, 64]).conv("input", "a", 3, 64, 2).node("Relu", &["a"], "wide", &[])
    };
    // The wide map is what the logits are made from, whatever it is called.
    base()
        .conv("wide", "out", 64, 7, 2)
        .output("wide", &[1, 64, 32, 32])
        .output("out", &[1, 7, 16, 16])
        .save(&place.path("before.onnx"));
    let found = inspect(&place, "before.onnx");
    assert_eq!((found["logits"]["name"].as_str(), shape(&found["logits"])), (Some("out"), [7, 16, 16]));
    // Two heads, one with a known number of classes.
    base()
        .conv("wide", "x", 64, 48, 1)
        .conv("wide", "y", 64, 19, 2)
        .output("x", &[1, 48, 32, 32])
        .output("y", &[1, 19, 16, 16])
        .save(&place.path("heads.onnx"));
    assert_eq!(inspect(&place, "heads.onnx")["logits"]["name"], "y");
    // Two heads of which nothing is known.
    base()
        .conv("wide", "x", 64, 48, 1)
        .conv("wide", "y", 64, 47, 2)
        .output("x", &[1, 48, 32, 32])
        .output("y", &[1, 47, 16, 16])
        .save(&place.path("open.onnx"));
    place.run("model inspect open.onnx").code(1).says(&["several outputs", "`x`", "`y`", "outputs.logits"]);
    std::fs::write(place.path("open.toml"), "[outputs]\nlogits = \"y\"\n").unwrap();
    assert_eq!(shape(&inspect(&place, "open.onnx")["logits"]), [47, 16, 16]);
}

/// 8-bit convolutions: features are values, not codes.
#[test]
fn quantised_convolutions_are_tapped_as_values() {
    let (width, height) = (24u64, 16u64);
    let codes: Vec<u8> = (0..8 * 6).map(|n| ((n * 7 + 3) % 11) as u8).collect();
    let graph = |chained: bool| {
        let graph = start(width, height)
            .constant("scale", &[], &[0.05])
            .bytes("zero", UINT8, &[], &[7])
            .bytes("none", INT8, &[], &[0])
            .bytes("weights", INT8, &[6, 8, 1, 1], &codes)
            .node("QuantizeLinear", &["relu", "scale", "zero"], "codes", &[]);
        // Between two quantised operators there are no values in f32.
        let (graph, from) = if chained {
            (graph.node("MaxPool", &["codes"], "pooled", &[("kernel_shape", &[1, 1])]), "pooled")
        } else {
            (graph, "codes")
        };
        graph
            .node("QLinearConv", &[from, "scale", "zero", "weights", "scale", "none", "scale", "zero"], "low", &[])
            .node("DequantizeLinear", &["low", "scale", "zero"], "logits", &[])
            .output("logits", &[1, 6, height / 2, width / 2])
    };
    let tensor = picture(width, height);
    let (expected, _, relu) = maps(start(width, height).output("raw", &[1, 6, height / 2, width / 2]), "", &tensor);
    for chained in [false, true] {
        let (found, _, features) = maps(graph(chained), "", &tensor);
        assert_eq!(found, expected);
        let rounded: Vec<f32> = relu.iter().map(|value| value.min(248.0 * 0.05)).collect();
        same(&features, &rounded, if chained { 0.026 } else { 1e3 });
        assert!(features.contains(&0.0), "zero is zero, not its code");
    }
    // Sums in 32-bit integers, as dynamic quantisation makes them.
    let sums = start(width, height)
        .constant("scale", &[], &[0.05])
        .bytes("zero", UINT8, &[], &[7])
        .bytes("weights", INT8, &[6, 8, 1, 1], &codes)
        .node("QuantizeLinear", &["relu", "scale", "zero"], "codes", &[])
        .node("ConvInteger", &["codes", "weights", "zero"], "sums", &[])
        .node_with("Cast", &["sums"], "float", &[("to", FLOAT)])
        .node("Mul", &["float", "scale"], "logits", &[])
        .output("logits", &[1, 6, height / 2, width / 2]);
    let (found, _, features) = maps(sums, "", &tensor);
    assert_eq!(found, expected);
    same(&features, &relu, 0.0);
}

/// A linear classifier over NHWC and over tokens: the product's input is what it sees.
#[test]
fn products_with_weights_are_tapped_and_tokens_become_a_grid() {
    let (width, height) = (24u64, 16u64);
    let weights: Vec<f32> = (0..8 * CLASSES).map(|n| ((n / CLASSES + n % CLASSES * 8) * 7 % 11) as f32 / 5.0).collect();
    let tensor = picture(width, height);
    let shared = || start(width, height).constant("w", &[8, CLASSES], &weights);
    let (_, _, relu) = maps(start(width, height).output("raw", &[1, 6, 8, 12]), "", &tensor);
    let nhwc = shared()
        .transpose("relu", "last", &[0, 2, 3, 1])
        .node("MatMul", &["last", "w"], "product", &[])
        .transpose("product", "out", &[0, 3, 1, 2])
        .output("out", &[1, CLASSES, 8, 12]);
    let (expected, logits, features) = maps(nhwc, "", &tensor);
    assert_eq!(expected, [6, 8, 12]);
    same(&features, &relu, 0.0);
    // One token in front of 96 patches, logits for all of them.
    let tokens = || {
        shared()
            .reshape("relu", "flat", &[1, 8, 96])
            .transpose("flat", "patches", &[0, 2, 1])
            .constant("class", &[1, 1, 8], &[9.0; 8])
            .node_with("Concat", &["class", "patches"], "tokens", &[("axis", 1)])
            .node("MatMul", &["tokens", "w"], "out", &[])
    };
    let (found, values, features) = maps(tokens().output("out", &[1, 97, CLASSES]), "", &tensor);
    assert_eq!(found, expected);
    same(&values, &logits, 1e-5);
    same(&features, &relu, 0.0);
    let place = Place::new();
    tokens().output("out", &[1, 97, CLASSES]).save(&place.path("tokens.onnx"));
    assert!(assumed(&inspect(&place, "tokens.onnx"), "97 tokens of `out` after the first 1"));
    shared()
        .constant("odd", &[1, 77, 8], &[0.5; 77 * 8])
        .node("MatMul", &["odd", "w"], "out", &[])
        .output("out", &[1, 77, CLASSES])
        .save(&place.path("odd.onnx"));
    place.run("model inspect odd.onnx").code(1).says(&["`out`", "77 tokens", "no grid over the picture of 24x16"]);
}

/// Tokens without a batch axis, as exporters flatten them for a Gemm.
#[test]
fn a_gemm_is_tapped_and_its_rows_become_a_grid() {
    let (width, height) = (24u64, 16u64);
    let weights: Vec<f32> = (0..8 * CLASSES).map(|n| ((n / CLASSES + n % CLASSES * 8) * 7 % 11) as f32 / 5.0).collect();
    let tensor = picture(width, height);
    let (_, _, relu) = maps(start(width, height).output("raw", &[1, 6, 8, 12]), "", &tensor);
    let rows = |front: u64| {
        let graph = start(width, height)
            .constant("w", &[8, CLASSES], &weights)
            .constant("bias", &[CLASSES], &[0.0; CLASSES as usize])
            .reshape("relu", "flat", &[8, 96])
            .transpose("flat", "patches", &[1, 0]);
        let (graph, rows) = match front {
            0 => (graph, "patches"),
            _ => {
                let class = graph.constant("class", &[front, 8], &vec![9.0; front as usize * 8]);
                (class.node_with("Concat", &["class", "patches"], "rows", &[("axis", 0)]), "rows")
            }
        };
        graph.node("Gemm", &[rows, "w", "bias"], "product", &[])
    };
    let map = rows(0).transpose("product", "channels", &[1, 0]).reshape("channels", "out", &[1, CLASSES as i64, 8, 12]);
    let (shape, expected, features) = maps(map.output("out", &[1, CLASSES, 8, 12]), "", &tensor);
    assert_eq!(shape, [6, 8, 12]);
    same(&features, &relu, 0.0);
    for front in [0, 1] {
        let flat = rows(front).output("product", &[96 + front, CLASSES]);
        let manifest = "[outputs]\nlogits = \"product\"\n";
        let (shape, logits, features) = maps(flat, manifest, &tensor);
        assert_eq!(shape, [6, 8, 12]);
        same(&logits, &expected, 1e-5);
        same(&features, &relu, 0.0);
    }
    let place = Place::new();
    rows(3).output("product", &[99, CLASSES]).save(&place.path("rows.onnx"));
    std::fs::write(place.path("rows.toml"), "[outputs]\nlogits = \"product\"\n").unwrap();
    assert!(assumed(&inspect(&place, "rows.onnx"), "99 tokens of `product` after the first 3"));
}

/// Convolutions as ONNX Runtime's optimiser writes them into a graph that it saves.
#[test]
fn fused_convolutions_are_tapped() {
    let (width, height) = (24u64, 16u64);
    let tensor = picture(width, height);
    let (shape, expected, relu) = maps(start(width, height).output("raw", &[1, 6, 8, 12]), "", &tensor);
    let fused = start(width, height).own_node("FusedConv", &["relu", "raw.weight"], "logits");
    let (found, logits, features) = maps(fused.output("logits", &[1, 6, 8, 12]), "", &tensor);
    assert_eq!(found, shape);
    same(&logits, &expected, 1e-5);
    same(&features, &relu, 0.0);
}

#[test]
fn the_picture_itself_is_no_feature() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 32, 32])
        .constant("half", &[1], &[0.5])
        .node("Mul", &["input", "half"], "scaled", &[])
        .conv("scaled", "logits", 3, 4, 2)
        .output("logits", &[1, 4, 16, 16])
        .save(&place.path("shallow.onnx"));
    let found = inspect(&place, "shallow.onnx");
    assert_eq!(found["features"], serde_json::json!([]));
    assert!(assumed(&found, "only pixel-wise methods work"), "{found}");
}

#[test]
fn other_shapes_and_types_of_outputs() {
    let (width, height) = (24u64, 16u64);
    let tensor = picture(width, height);
    let expected = maps(start(width, height).output("raw", &[1, 6, 8, 12]), "", &tensor).1;
    // Without a batch, in either order.
    let chw = start(width, height).integers("first", &[0]).node("Squeeze", &["raw", "first"], "out", &[]);
    assert_eq!(maps(chw.output("out", &[6, 8, 12]), "", &tensor).1, expected);
    let hwc = start(width, height).transpose("raw", "last", &[0, 2, 3, 1]).reshape("last", "out", &[8, 12, 6]);
    assert_eq!(maps(hwc.output("out", &[8, 12, 6]), "", &tensor).1, expected);
    // Other floats; bf16 keeps 8 bits.
    for (element, tolerance) in [(DOUBLE, 0.0), (BFLOAT16, 0.2)] {
        let graph = start(width, height).node_with("Cast", &["raw"], "out", &[("to", element)]);
        same(&maps(graph.typed_output("out", element, &[1, 6, 8, 12]), "", &tensor).1, &expected, tolerance);
    }
    // Labels as bytes and as floats.
    for (element, keep, shape) in [(UINT8, 0, &[1, 8, 12][..]), (FLOAT, 1, &[1, 1, 8, 12]), (FLOAT, 0, &[1, 8, 12])] {
        let graph = start(width, height)
            .node_with("ArgMax", &["raw"], "labels", &[("axis", 1), ("keepdims", keep)])
            .node_with("Cast", &["labels"], "out", &[("to", element)]);
        assert_eq!(maps(graph.typed_output("out", element, shape), "", &tensor).1, expected);
    }
    // One value per pixel.
    let place = Place::new();
    start(width, height)
        .reshape("raw", "many", &[6, 8, 12])
        .integers("axis", &[0])
        .node("ReduceMax", &["many"], "out", &[("axes", &[0])])
        .output("out", &[1, 8, 12])
        .save(&place.path("depth.onnx"));
    place.run("model inspect depth.onnx").code(1).says(&["`out`", "one value per pixel"]);
}

#[test]
fn colours_and_their_range() {
    let (width, height) = (24usize, 16usize);
    let shape = [1, 3, height as u64, width as u64];
    // Logits are the picture itself: what the graph gets can be read off.
    let graph =
        || Graph::default().input("input", &shape).node("Identity", &["input"], "logits", &[]).output("logits", &shape);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.onnx");
    graph().save(&path);
    let spec = |manifest: &str| {
        std::fs::write(path.with_extension("toml"), manifest).unwrap();
        let input = *load(&path).input();
        // What a pixel of 0.5 in every channel becomes, and its slope.
        let rounded = |value: f32| (value * 1e3).round() / 1e3;
        (
            [0, 1, 2].map(|c| rounded((0.5 - input.mean[c]) / input.std[c])),
            [0, 1, 2].map(|c| rounded(1.0 / input.std[c])),
        )
    };
    assert_eq!(spec("[input]\nrange = \"0..255\"\n"), ([127.5; 3], [255.0; 3]));
    assert_eq!(spec("[input]\nrange = \"0..1\"\n"), ([0.5; 3], [1.0; 3]));
    let caffe = "[input]\ncolour = \"bgr\"\nrange = \"0..255\"\nmean = [104, 117, 123]\n";
    let (values, slopes) = spec(caffe);
    for (found, expected) in values.iter().zip([4.5, 10.5, 23.5]) {
        assert!((found - expected).abs() < 1e-4, "{values:?}, in R, G, B");
    }
    assert_eq!(slopes, [255.0; 3]);

    // The planes reach the graph turned around.
    let plane = width * height;
    let tensor = picture(width as u64, height as u64);
    let bgr = maps(graph(), "[input]\ncolour = \"bgr\"\n", &tensor).1;
    let turned = [&tensor[2 * plane..], &tensor[plane..2 * plane], &tensor[..plane]].concat();
    assert_eq!(bgr, turned);

    let place = Place::new();
    graph().save(&place.path("n.onnx"));
    assert!(assumed(&inspect(&place, "n.onnx"), "taken to be RGB, which no graph says"));
    assert!(assumed(&inspect(&place, "n.onnx"), "ImageNet mean and deviation, which no graph says"));
    place.moving("a.mp4", 2);
    let report = place
        .run("run a.mp4 -o out.mp4 -m n.onnx --method max-logit --threshold 0 --colour bgr --json -")
        .code(0)
        .says(&["what neither its graph nor a manifest says is assumed", "takes BGR f32 in NCHW order"])
        .json();
    let lines = report["assumptions"].as_array().unwrap();
    assert!(lines.iter().any(|line| line.as_str().unwrap().contains("BGR")), "{report}");
    assert_eq!(report["classes_guessed"], false);
}

#[test]
fn what_exporters_note_beside_the_graph_is_used() {
    let place = Place::new();
    let graph = || {
        Graph::default()
            .input("input", &[1, 3, 32, 32])
            .conv("input", "logits", 3, 3, 2)
            .output("logits", &[1, 3, 16, 16])
    };
    graph()
        .metadata("names", "{0: 'road', 1: 'car', 2: \"driver's seat\"}")
        .metadata("model_info reverse_input_channels", "False")
        .metadata("model_info mean_values", "123.675 116.28 103.53")
        .metadata("model_info scale_values", "58.395 57.12 57.375")
        .save(&place.path("noted.onnx"));
    let found = inspect(&place, "noted.onnx");
    assert_eq!(found["classes"], serde_json::json!(["road", "car", "driver's seat"]));
    assert_eq!(found["classes_guessed"], false);
    assert!(assumed(&found, "metadata says that its pictures are BGR"), "{found}");
    assert!(!assumed(&found, "ImageNet"), "{found}");
    // A graph that normalises by itself gets what it expects.
    for (values, range) in [([123.675, 58.395], "0..255"), ([0.485, 0.229], "0..1")] {
        Graph::default()
            .input("input", &[1, 3, 32, 32])
            .constant("mean", &[1, 3, 1, 1], &[values[0]; 3])
            .constant("std", &[1, 3, 1, 1], &[values[1]; 3])
            .node("Sub", &["input", "mean"], "centred", &[])
            .node("Div", &["centred", "std"], "scaled", &[])
            .conv("scaled", "logits", 3, 3, 2)
            .output("logits", &[1, 3, 16, 16])
            .save(&place.path("baked.onnx"));
        let found = inspect(&place, "baked.onnx");
        assert!(assumed(&found, &format!("it gets the values {range}")), "{found}");
    }
}

#[test]
fn free_sizes_are_tried() {
    let place = Place::new();
    let only = |side: u64| {
        Graph::default()
            .input("input", &[1, 3, 0, 0])
            .conv("input", "body", 3, 4, 32)
            .constant("positions", &[1, 4, side / 32, side / 32], &vec![0.1; (4 * (side / 32) * (side / 32)) as usize])
            .node("Add", &["body", "positions"], "placed", &[])
            .conv("placed", "logits", 4, 5, 1)
            .output("logits", &[1, 5, 0, 0])
    };
    only(512).save(&place.path("square.onnx"));
    let found = inspect(&place, "square.onnx");
    assert_eq!(found["picture"], serde_json::json!([512, 512]));
    assert!(assumed(&found, "does not run at 640x384: running at 512x512"), "{found}");
    std::fs::write(place.path("square.toml"), "[input]\nwidth = 1024\nheight = 512\n").unwrap();
    place.run("model inspect square.onnx").code(2).says(&["does not run at 1024x512", "at 512x512", "input.width"]);
    only(96).save(&place.path("odd.onnx"));
    place.run("model inspect odd.onnx").code(1).says(&["640x384", "518x518", "input.width"]);
    std::fs::write(place.path("odd.toml"), "[input]\nwidth = 96\nheight = 96\n").unwrap();
    assert_eq!(inspect(&place, "odd.onnx")["picture"], serde_json::json!([96, 96]));
}

#[test]
fn a_graph_that_does_not_load_is_still_called_one() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 32, 32])
        .node("Frobnicate", &["input"], "logits", &[])
        .output("logits", &[1, 3, 32, 32])
        .save(&place.path("operator.onnx"));
    let ended = place.run("model inspect operator.onnx").code(1);
    let ended = ended.says(&["Frobnicate", "operator that this ONNX Runtime does not have"]);
    assert!(!ended.stderr.contains("must be an ONNX graph"), "{}", ended.stderr);
}

#[test]
fn the_values_of_the_first_picture_are_looked_at() {
    let place = Place::new();
    place.moving("a.mp4", 2);
    start(64, 64)
        .node("Exp", &["raw"], "powers", &[])
        .node("ReduceSum", &["powers", "channel"], "sum", &[])
        .integers("channel", &[1])
        .node("Div", &["powers", "sum"], "shares", &[])
        .output("shares", &[1, CLASSES, 32, 32])
        .save(&place.path("shares.onnx"));
    let run = "run a.mp4 -o none -m shares.onnx --method msp --threshold 0 --json -";
    let ended = place.run(run).code(0);
    let ended = ended.says(&["`shares` are probabilities", "outputs.logits"]);
    assert_eq!(ended.stderr.matches("are probabilities").count(), 1, "once: {}", ended.stderr);
    let lines = ended.json()["assumptions"].to_string();
    assert!(lines.contains("are probabilities"), "{lines}");
    assert!(assumed(&inspect(&place, "shares.onnx"), "with sum 1"));
    Graph::default()
        .input("input", &[1, 3, 64, 64])
        .conv("input", "raw", 3, 4, 4)
        .constant("nothing", &[1], &[0.0])
        .node("Mul", &["raw", "nothing"], "logits", &[])
        .output("logits", &[1, 4, 16, 16])
        .save(&place.path("dead.onnx"));
    place.run(&run.replace("shares", "dead")).code(0).says(&["`logits` are the same all over", "input.range"]);
}

#[test]
fn networks_opened_at_once_read_their_own_profiles() {
    let place = Place::new();
    let path = place.path("network.onnx");
    support::onnx::tiny(64, 32).save(&path);
    std::thread::scope(|scope| {
        let open = || {
            let options = SessionOptions { threads: Some(1), profile: true, ..crate::on_cpu() };
            (0..4).try_for_each(|_| Network::load(Some(&path), &options).map(drop))
        };
        let opened: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        opened.into_iter().for_each(|opened| opened.join().unwrap().unwrap());
    });
}
