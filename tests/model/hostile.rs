//! Broken and hostile models: an error that says what is wrong, never a panic, never a wait, never a file outside the folder.

use std::fs;
use std::path::Path;

use oodstream::model::manifest::Manifest;
use oodstream::model::onnx_file::graph::Model;
use oodstream::model::onnx_file::plan::{Keep, Shapes, plan};
use oodstream::model::onnx_file::{quantised, tap};
use support::common::Place;
use support::onnx;
use support::onnx::Graph;

/// Everything that is done with a graph before ONNX Runtime sees it.
fn work(bytes: &[u8]) {
    let Ok(model) = Model::read(bytes) else { return };
    for output in &model.outputs {
        let _ = tap::taps(&model, tap::head(&model, output.name).logits);
    }
    let _ = model.check_external(Path::new("/nonexistent"));
    assert!(
        Model::read(&quantised::in_floats(&model))
            .map_or_else(|error| error.to_string().contains("announces"), |_| true)
    );
    for keep in [Keep::All, Keep::Needed] {
        if let Ok(plan) = plan(&model, &Manifest::default(), &[], keep, &Shapes::default()) {
            let edited = plan.edit.apply(&model);
            // What was edited can be read again and has the outputs that the plan promised.
            let again = match Model::read(&edited) {
                Ok(again) => again,
                // Without operators that nobody needs the file is shorter, and a tensor that lies about its size is found out.
                Err(error) if error.to_string().contains("announces") => continue,
                Err(error) => panic!("an edited graph reads: {error}"),
            };
            for name in plan.features.iter().chain(&plan.logits) {
                assert!(again.outputs.iter().any(|port| port.name == name), "{name}");
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let body = || {
        Graph::default()
            .input("input", &[1, 3, 0, 64])
            .conv("input", "body", 3, 7, 4)
            .node("Relu", &["body"], "relu", &[])
            .conv("relu", "raw", 7, 4, 1)
    };
    vec![
        onnx::tiny(64, 32).encoded(),
        onnx::quantised(true).encoded(),
        onnx::quantised(false).encoded(),
        body()
            .node_with("ArgMax", &["raw"], "labels", &[("axis", 1)])
            .typed_output("labels", onnx::INT64, &[1, 1, 8, 8])
            .encoded(),
        body().external("elsewhere", &[4, 4], "weights.bin").output("raw", &[1, 4, 8, 8]).encoded(),
        Graph::default()
            .typed_input("image", onnx::UINT8, &[1, 8, 8, 3])
            .node("Transpose", &["image"], "out", &[("perm", &[0, 3, 1, 2])])
            .output("out", &[1, 3, 8, 8])
            .encoded(),
    ]
}

/// xorshift64*, so that a failure can be repeated.
fn random(state: &mut u64) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
}

#[test]
fn every_truncation_is_survived() {
    for seed in seeds() {
        work(&seed);
        assert!(Model::read(&seed).is_ok());
        for length in 0..seed.len() {
            work(&seed[..length]);
        }
    }
}

#[test]
fn a_hundred_thousand_mutations_are_survived() {
    let seeds = seeds();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for round in 0..100_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random(&mut state) % 4 {
            let at = random(&mut state) % bytes.len();
            match random(&mut state) % 5 {
                0 => bytes[at] ^= 1 << (random(&mut state) % 8),
                1 => bytes[at] = random(&mut state) as u8,
                2 => bytes[at] = 0xff,
                3 => {
                    bytes.remove(at);
                }
                _ => {
                    let length = random(&mut state) % 12;
                    let copied: Vec<u8> = bytes[at..].iter().copied().take(length).collect();
                    let to = random(&mut state) % bytes.len();
                    bytes.splice(to..to, copied);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        work(&bytes);
    }
}

#[test]
fn files_that_are_cut_off_or_no_networks_are_errors() {
    let place = Place::new();
    let whole = onnx::tiny(64, 32).encoded();
    fs::write(place.path("cut.onnx"), &whole[..whole.len() / 2]).unwrap();
    fs::write(place.path("empty.onnx"), []).unwrap();
    fs::write(place.path("zip.onnx"), b"PK\x03\x04 this is an archive of another program").unwrap();
    fs::create_dir(place.path("folder.onnx")).unwrap();
    for (model, word) in [
        ("cut.onnx", "announces"),
        ("empty.onnx", "0 graphs"),
        ("zip.onnx", "broken at byte"),
        ("folder.onnx", "irectory"),
    ] {
        place.run(&format!("model inspect {model}")).code(1).says(&[model, word]);
    }
}

#[test]
fn huge_announcements_are_refused_before_anything_is_allocated() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 8, 8])
        .constant("huge", &[1 << 40, 1 << 20], &[0.0])
        .node("Mul", &["input", "huge"], "logits", &[])
        .output("logits", &[1, 3, 8, 8])
        .save(&place.path("huge.onnx"));
    place.run("model inspect huge.onnx").code(1).says(&["huge.onnx", "`huge` announces"]);
    Graph::default()
        .input("input", &[1, 3, 8, 8])
        .constant("overflow", &[1 << 40, 1 << 40], &[0.0])
        .node("Mul", &["input", "overflow"], "logits", &[])
        .output("logits", &[1, 3, 8, 8])
        .save(&place.path("overflow.onnx"));
    place.run("model inspect overflow.onnx").code(1).says(&["overflow.onnx", "impossible shape"]);
}

#[test]
fn a_cycle_is_an_error() {
    let place = Place::new();
    Graph::default()
        .input("input", &[1, 3, 8, 8])
        .node("Add", &["input", "back"], "around", &[])
        .node("Relu", &["around"], "back", &[])
        .conv("back", "logits", 3, 4, 1)
        .output("logits", &[1, 4, 8, 8])
        .save(&place.path("cycle.onnx"));
    place.run("model inspect cycle.onnx").code(1).says(&["cycle.onnx", "ONNX Runtime"]);
    Graph::default()
        .input("input", &[1, 3, 8, 8])
        .node("Identity", &["logits"], "back", &[])
        .node("Identity", &["back"], "logits", &[])
        .output("logits", &[1, 4, 8, 8])
        .save(&place.path("ring.onnx"));
    place.run("model inspect ring.onnx").code(1).says(&["ring.onnx"]);
}

/// A network with its weights in `location`.
fn outside(place: &Place, name: &str, location: &str) {
    Graph::default()
        .input("input", &[1, 3, 8, 8])
        .external("w", &[4, 3, 1, 1], location)
        .node("Conv", &["input", "w"], "logits", &[])
        .output("logits", &[1, 4, 8, 8])
        .save(&place.path(name));
}

#[test]
fn weights_in_other_files() {
    let place = Place::new();
    let weights: Vec<u8> = (0..12).flat_map(|n| (n as f32 / 6.0 - 1.0).to_le_bytes()).collect();
    fs::write(place.path("weights.bin"), &weights).unwrap();
    outside(&place, "good.onnx", "weights.bin");
    let found = place.run("model inspect good.onnx --json -").code(0).json();
    assert_eq!(found["external"][0], "weights.bin");
    // From another working directory, too: the weights are looked for beside the network.
    let elsewhere = tempfile::tempdir().unwrap();
    let path = place.path("good.onnx");
    let output = place.program().current_dir(elsewhere.path()).args(["model", "inspect"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    fs::write(place.path("weights.bin"), &weights[..40]).unwrap();
    place.run("model inspect good.onnx").code(1).says(&["`weights.bin`", "40 bytes", "48"]);
    for (name, location) in
        [("up.onnx", "../weights.bin"), ("absolute.onnx", "/etc/passwd"), ("deep.onnx", "a/../../weights.bin")]
    {
        outside(&place, name, location);
        place.run(&format!("model inspect {name}")).code(1).says(&[location, "outside"]);
    }
    outside(&place, "absent.onnx", "nothing.bin");
    place.run("model inspect absent.onnx").code(1).says(&["`nothing.bin`", "not there"]);
    #[cfg(unix)]
    {
        fs::write(elsewhere.path().join("secret.bin"), &weights).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("secret.bin"), place.path("link.bin")).unwrap();
        outside(&place, "link.onnx", "link.bin");
        place.run("model inspect link.onnx").code(1).says(&["`link.bin`", "outside"]);
    }
}

#[test]
fn wrong_types_of_pictures_and_outputs() {
    let place = Place::new();
    Graph::default()
        .typed_input("input", onnx::INT64, &[1, 3, 8, 8])
        .node("Identity", &["input"], "logits", &[])
        .typed_output("logits", onnx::INT64, &[1, 3, 8, 8])
        .save(&place.path("integers.onnx"));
    place.run("model inspect integers.onnx").code(1).says(&["`input` takes i64", "f32, f16 or u8"]);
    Graph::default()
        .input("input", &[1, 5, 8, 8])
        .node("Identity", &["input"], "logits", &[])
        .output("logits", &[1, 5, 8, 8])
        .save(&place.path("five.onnx"));
    place.run("model inspect five.onnx").code(1).says(&["[1, 5, 8, 8]", "expected [1, 3, height, width]"]);
}
