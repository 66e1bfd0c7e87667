//! Networks of other people's exporters, taken as they are: small graphs of the same shape, made here, run by the binary.

use serde_json::Value;
use support::common::{Place, score_maps};
use support::onnx::{FLOAT, FLOAT16, Graph, INT64, UINT8};

/// `features` are `[channels, height, width]` of what `inspect` says would be clustered.
fn shape(map: &Value) -> [u64; 3] {
    ["channels", "height", "width"].map(|axis| map[axis].as_u64().unwrap())
}

fn inspect(place: &Place, model: &str) -> Value {
    place.run(&format!("model inspect {model} --json - --provider cpu --threads 1")).code(0).json()
}

fn assumed(found: &Value, words: &str) -> bool {
    found["assumptions"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains(words))
}

/// The logits that the binary sees, through `eval`'s score maps, would take a data set; the report of `run` is enough to
/// know that the network ran and that something was marked or not.
fn runs(place: &Place, model: &str) {
    place.moving("a.mp4", 3);
    let report = place
        .run(&format!(
            "run a.mp4 -o out.mp4 --overwrite --model {model} --method cluster-ensemble --threshold 0 --json - -q"
        ))
        .code(0)
        .json();
    assert_eq!(report["inputs"][0]["frames_out"], 3, "{report}");
}

#[test]
fn segformer_of_hugging_face() {
    let place = Place::new();
    // Tokens of the last stage are turned into a map, all maps are fused by 1x1, logits stay at a quarter of the size.
    Graph::default()
        .input("pixel_values", &[0, 3, 0, 0])
        .conv("pixel_values", "stage", 3, 16, 4)
        .node("Shape", &["stage"], "size", &[])
        .node("Relu", &["stage"], "fused", &[])
        .conv("fused", "logits", 16, 19, 1)
        .output("logits", &[0, 19, 0, 0])
        .save(&place.path("segformer.onnx"));
    let found = inspect(&place, "segformer.onnx");
    assert_eq!(found["picture"], serde_json::json!([640, 384]));
    assert_eq!(shape(&found["logits"]), [19, 96, 160]);
    assert_eq!(shape(&found["features"][0]), [16, 96, 160]);
    assert!(assumed(&found, "tapped at `fused`"), "{found}");
    assert!(assumed(&found, "Cityscapes") && found["classes"][0] == "road", "{found}");
    runs(&place, "segformer.onnx");
}

#[test]
fn deeplab_of_torchvision() {
    let place = Place::new();
    // Two heads with outputs `out` and `aux`, enlarged to the input's size; the auxiliary one is not the logits.
    Graph::default()
        .input("input", &[1, 3, 64, 96])
        .conv("input", "backbone", 3, 8, 4)
        .node("Relu", &["backbone"], "backbone_relu", &[])
        .conv("backbone_relu", "aspp", 8, 12, 1)
        .node("Relu", &["aspp"], "classifier_in", &[])
        .conv("classifier_in", "small", 12, 21, 1)
        .resize("small", "out", &[1, 21, 64, 96])
        .conv("backbone_relu", "aux_small", 8, 21, 1)
        .resize("aux_small", "aux", &[1, 21, 64, 96])
        .output("out", &[1, 21, 64, 96])
        .output("aux", &[1, 21, 64, 96])
        .save(&place.path("deeplab.onnx"));
    let found = inspect(&place, "deeplab.onnx");
    assert_eq!(found["logits"]["name"], "out");
    assert_eq!(shape(&found["logits"]), [21, 64, 96]);
    assert_eq!(shape(&found["features"][0]), [12, 16, 24]);
    assert!(assumed(&found, "aux could be logits too"), "{found}");
    assert_eq!(found["classes"][1], "aeroplane");
    // The auxiliary head is not computed: of four convolutions three run.
    let placement = found["placement"].to_string();
    let convolutions: u64 = found["placement"]["CPUExecutionProvider"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.contains("Conv"))
        .map(|(_, count)| count.as_u64().unwrap())
        .sum();
    assert_eq!(convolutions, 3, "{placement}");
    runs(&place, "deeplab.onnx");
}

#[test]
fn padding_as_in_tensorflow_is_part_of_the_convolution() {
    let place = Place::new();
    // PyTorch's exporter writes an empty name in place of the value 0, with which ONNX Runtime keeps the two apart.
    let padded = |value: &str| {
        Graph::default()
            .input("input", &[1, 3, 64, 96])
            .integers("pads", &[0, 0, 4, 4, 0, 0, 4, 4])
            .constant("zero", &[], &[0.0])
            .node("Pad", &["input", "pads", value], "padded", &[])
            .conv("padded", "backbone", 3, 8, 4)
            .node("Relu", &["backbone"], "features", &[])
            .conv("features", "logits", 8, 12, 1)
            .output("logits", &[1, 12, 18, 26])
    };
    place.moving("a.mp4", 1);
    for (name, value) in [("empty", ""), ("zero", "zero")] {
        padded(value).save(&place.path(&format!("{name}.onnx")));
        let found = inspect(&place, &format!("{name}.onnx"));
        assert!(!found["placement"].to_string().contains("Pad"), "{name}: {found}");
        assert_eq!(shape(&found["features"][0]), [8, 18, 26]);
        place
            .run(&format!("run a.mp4 -o none -o scores:{name} --model {name}.onnx --method max-logit --threshold 0 -q"))
            .code(0);
    }
    assert!(score_maps(&place.path("empty")) == score_maps(&place.path("zero")), "the scores differ");
}

#[test]
fn mmseg_with_argmax_at_its_end() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 64, 64])
        .conv("input", "neck", 3, 8, 2)
        .node("Relu", &["neck"], "neck_relu", &[])
        .conv("neck_relu", "seg", 8, 19, 1)
        .resize("seg", "enlarged", &[1, 19, 64, 64])
        .node_with("ArgMax", &["enlarged"], "output", &[("axis", 1), ("keepdims", 1)])
        .typed_output("output", INT64, &[1, 1, 64, 64])
        .save(&place.path("mmseg.onnx"));
    let found = inspect(&place, "mmseg.onnx");
    assert!(assumed(&found, "`output` is the argmax of logits: the raw logits `enlarged`"), "{found}");
    assert_eq!(shape(&found["logits"]), [19, 64, 64]);
    assert_eq!(shape(&found["features"][0]), [8, 32, 32]);
    assert!(found["placement"].to_string().matches("ArgMax").count() == 0, "{found}");
    runs(&place, "mmseg.onnx");
}

#[test]
fn softmax_is_undone_and_binary_sigmoid_is_refused() {
    let place = Place::new();
    let body = |classes: u64| {
        Graph::default()
            .input("input", &[1, 3, 32, 32])
            .conv("input", "body", 3, 8, 2)
            .node("Relu", &["body"], "relu", &[])
            .conv("relu", "raw", 8, classes, 1)
    };
    body(5)
        .node_with("Softmax", &["raw"], "probabilities", &[("axis", 1)])
        .output("probabilities", &[1, 5, 16, 16])
        .save(&place.path("softmax.onnx"));
    let found = inspect(&place, "softmax.onnx");
    assert!(assumed(&found, "softmax of logits: the raw logits `raw`"), "{found}");
    assert_eq!(shape(&found["logits"]), [5, 16, 16]);

    body(5).node("Sigmoid", &["raw"], "each", &[]).output("each", &[1, 5, 16, 16]).save(&place.path("sigmoid.onnx"));
    assert!(assumed(&inspect(&place, "sigmoid.onnx"), "independent of each other"));

    body(1).node("Sigmoid", &["raw"], "each", &[]).output("each", &[1, 1, 16, 16]).save(&place.path("binary.onnx"));
    place.run("model inspect binary.onnx").code(1).says(&["`each`", "binary", "raw logits"]);
    place.moving("a.mp4", 2);
    place.run("run a.mp4 -o out.mp4 --model binary.onnx").code(1).says(&["binary.onnx", "several classes"]);
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn keras_order_and_bytes() {
    let place = Place::new();
    // NHWC in and out, u8 pictures that the graph normalises itself, as tf2onnx writes them.
    Graph::default()
        .typed_input("image", UINT8, &[1, 48, 64, 3])
        .node_with("Cast", &["image"], "float", &[("to", FLOAT)])
        .node("Transpose", &["float"], "nchw", &[("perm", &[0, 3, 1, 2])])
        .conv("nchw", "body", 3, 8, 4)
        .node("Relu", &["body"], "relu", &[])
        .conv("relu", "raw", 8, 6, 1)
        .node("Transpose", &["raw"], "nhwc", &[("perm", &[0, 2, 3, 1])])
        .node_with("Softmax", &["nhwc"], "probabilities", &[("axis", 3)])
        .output("probabilities", &[1, 12, 16, 6])
        .save(&place.path("keras.onnx"));
    let found = inspect(&place, "keras.onnx");
    assert_eq!(found["picture"], serde_json::json!([64, 48]));
    assert_eq!(shape(&found["logits"]), [6, 12, 16]);
    assert_eq!(shape(&found["features"][0]), [8, 12, 16]);
    assert!(assumed(&found, "u8 in NHWC order"), "{found}");
    runs(&place, "keras.onnx");
    std::fs::write(place.path("keras.toml"), "[input]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n").unwrap();
    place.run("model inspect keras.onnx").code(2).says(&["input.mean", "u8"]);
}

#[test]
fn half_floats_in_and_out() {
    let place = Place::new();
    Graph::default()
        .typed_input("input", FLOAT16, &[1, 3, 32, 64])
        .node_with("Cast", &["input"], "float", &[("to", FLOAT)])
        .conv("float", "body", 3, 8, 4)
        .node("Relu", &["body"], "relu", &[])
        .conv("relu", "raw", 8, 6, 1)
        .node_with("Cast", &["raw"], "logits", &[("to", FLOAT16)])
        .typed_output("logits", FLOAT16, &[1, 6, 8, 16])
        .save(&place.path("half.onnx"));
    let found = inspect(&place, "half.onnx");
    assert_eq!(shape(&found["logits"]), [6, 8, 16]);
    assert!(assumed(&found, "f16 in NCHW order"), "{found}");
    runs(&place, "half.onnx");
}

#[test]
fn a_chosen_feature_and_a_missing_one() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 64, 64])
        .conv("input", "early", 3, 6, 8)
        .node("Relu", &["early"], "early_relu", &[])
        .conv("early_relu", "late", 6, 10, 1)
        .node("Relu", &["late"], "late_relu", &[])
        .conv("late_relu", "logits", 10, 4, 1)
        .output("logits", &[1, 4, 8, 8])
        .save(&place.path("chosen.onnx"));
    let found = inspect(&place, "chosen.onnx");
    assert_eq!(shape(&found["features"][0]), [10, 8, 8]);
    let taps: Vec<[u64; 3]> = found["taps"].as_array().unwrap().iter().map(shape).collect();
    assert_eq!(taps, [[10, 8, 8], [6, 8, 8]], "the nearest to the logits first");
    let found: Value =
        place.run("model inspect chosen.onnx --feature early_relu --feature late_relu --json -").code(0).json();
    assert_eq!([shape(&found["features"][0]), shape(&found["features"][1])], [[6, 8, 8], [10, 8, 8]]);
    place.moving("a.mp4", 2);
    place.run("model inspect chosen.onnx --feature logits").code(2).says(&["`logits` is named twice"]);
    let ended = place.run("run a.mp4 -o out.mp4 --model chosen.onnx --feature nowhere").code(2);
    ended.says(&["--feature `nowhere`", "`logits`", "model inspect"]);
}

#[test]
fn tap_writes_a_network_that_gives_its_features() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 32, 32])
        .conv("input", "body", 3, 7, 4)
        .node("Relu", &["body"], "relu", &[])
        .conv("relu", "logits", 7, 4, 1)
        .output("logits", &[1, 4, 8, 8])
        .save(&place.path("plain.onnx"));
    std::fs::write(place.path("plain.toml"), "[model]\nname = \"plain\"\n").unwrap();
    place.run("model tap plain.onnx -o plain.onnx").code(2).says(&["another name"]);
    place.run("model tap plain.onnx -o tapped.onnx").code(0);
    place.run("model tap plain.onnx -o tapped.onnx").code(2).says(&["tapped.onnx exists", "--overwrite"]);
    let found = inspect(&place, "tapped.onnx");
    let outputs: Vec<&str> = found["outputs"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(outputs, ["`logits` f32 [1, 4, 8, 8]", "`features` f32 [1, 7, 8, 8]"]);
    assert!(!assumed(&found, "tapped"), "{found}");
    let manifest = std::fs::read_to_string(place.path("tapped.toml")).unwrap();
    assert!(manifest.contains("name = \"plain\"") && manifest.contains("features = [\"features\"]"), "{manifest}");
    place.run("model tap tapped.onnx -o again.onnx").code(2).says(&["nothing to add"]);
    runs(&place, "tapped.onnx");
}

#[test]
fn wrong_batch_and_a_missing_provider() {
    let place = Place::new();
    Graph::default()
        .input("input", &[4, 3, 32, 32])
        .conv("input", "logits", 3, 4, 4)
        .output("logits", &[4, 4, 8, 8])
        .save(&place.path("batch.onnx"));
    place.run("model inspect batch.onnx").code(1).says(&["[4, 3, 32, 32]", "several pictures", "batch size 1"]);
    let doctor = place.run("doctor").stdout;
    if doctor.lines().any(|line| line.contains("providers") && line.contains("cuda")) {
        eprintln!("skipped: this machine's runtime has CUDA");
        return;
    }
    place.run("model inspect model.onnx --provider cuda").code(1).says(&["provider cuda", "--provider cpu"]);
    let found = place.run("model inspect model.onnx --provider auto --json -").code(0).json();
    let has_openvino = doctor.contains("auto selects openvino");
    assert_eq!(found["provider"], if has_openvino { "openvino" } else { "cpu" });
}
