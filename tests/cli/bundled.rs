//! The models that ship with the program, by name.

use std::fs;
use std::process::Command;

use support::common::Place;
use support::onnx;

const CLIP: &str = "test://ball?frames=2&width=64&height=48";

/// `run` from a folder of its own, with its data folder there, and the model that it took, or the error.
fn run(place: &Place, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(support::binary())
        .current_dir(place.path(""))
        .env_remove("OODSTREAM_MODEL")
        .env("XDG_DATA_HOME", place.path("data"))
        .args(["-q", "run", CLIP, "-o", "none", "--json", "-"])
        .args(arguments)
        .output()
        .unwrap();
    match output.status.success() {
        true => {
            Ok(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["model"].as_str().unwrap().into())
        }
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn a_model_is_named_on_the_command_line_and_in_a_pipeline_file() {
    let place = Place::new();
    fs::create_dir(place.path("pipelines")).unwrap();
    for name in ["default", "free"] {
        let taken = run(&place, &["-m", name]).unwrap();
        assert!(taken.ends_with(&format!("models/{name}.onnx")), "{taken}");
        fs::write(place.path("pipelines/p.toml"), format!("[model]\npath = \"{name}\"\n")).unwrap();
        assert_eq!(run(&place, &["-c", "pipelines/p.toml"]).unwrap(), taken);
    }
}

#[test]
fn a_file_precedes_a_bundled_model_and_a_path_is_never_one() {
    let place = Place::new();
    onnx::white_is_unknown(64, 48).save(&place.path("free"));
    assert_eq!(run(&place, &["-m", "free", "--method", "max-logit"]).unwrap(), "free");
    let error = run(&place, &["-m", "absent/free"]).unwrap_err();
    assert!(error.contains("absent/free"), "{error}");
}
