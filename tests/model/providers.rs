//! The execution providers that other builds of ONNX Runtime bring, through the binary: WebGPU on SwiftShader and OpenVINO
//! on the CPU give the CPU provider's scores, and what cannot start says why. `make providers` installs both.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::common::{Ended, Place, score_maps};
use support::{onnx, repository};

/// Largest difference to the CPU's scores, which are logits here.
const TOLERANCE: f32 = 1e-3;

/// A folder that `make providers` installs; none, with a printed reason, where it is missing.
fn installed(name: &str) -> Option<PathBuf> {
    let folder = repository().join("target/providers").join(name);
    if folder.is_dir() {
        return Some(folder.canonicalize().unwrap());
    }
    assert!(std::env::var_os("OODSTREAM_REQUIRE_PROVIDERS").is_none() || !cfg!(target_arch = "x86_64"), "no {name}");
    eprintln!("skipped: {} is missing (make providers)", folder.display());
    None
}

/// The library of a build.
fn library(build: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(installed(build)?).unwrap();
    entries.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().contains("libonnxruntime.so."))
}

/// The binary with a build of the library, SwiftShader as the only Vulkan driver, and a cache of its own.
fn program(place: &Place, library: &Path) -> Command {
    let mut command = place.program();
    command.env("ORT_DYLIB_PATH", library).env("XDG_CACHE_HOME", place.path("cache"));
    if let Some(folder) = installed("swiftshader") {
        let driver = folder.join("vk_swiftshader_icd.json");
        command.env("VK_DRIVER_FILES", &driver).env("VK_ICD_FILENAMES", driver);
    }
    command
}

fn run(mut program: Command, arguments: &str) -> Ended {
    program.args(arguments.split_whitespace()).output().unwrap().into()
}

/// Runs the clip with both providers and compares every pixel of every frame.
fn same_scores(place: &Place, library: &Path, provider: &str, options: &str) {
    let [want, got] = ["cpu", provider].map(|provider| {
        let folder = format!("{provider}-scores");
        let command = format!(
            "run a.mp4 -o none -o scores:{folder} --overwrite --compute cpu --method max-logit --provider {provider} {options}"
        );
        run(program(place, library), &command).code(0);
        score_maps(&place.path(&folder))
    });
    assert_eq!(want.len(), 6, "{options}");
    assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>(), "{options}");
    assert!(want.values().zip(want.values().skip(1)).any(|(a, b)| a != b), "frames that are alike prove nothing");
    for (frame, want) in &want {
        let worst = got[frame].iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{options}, {frame}: {worst}");
    }
}

/// Frames are run whole, as tiles, letterboxed, and together with their mirror image.
fn same_scores_in_every_view(build: &str, provider: &str, more: &str) {
    let Some(library) = library(build) else { return };
    let place = Place::new();
    place.moving("a.mp4", 6);
    for options in ["", "--resize letterbox", "--resize tile", "--flip"] {
        same_scores(&place, &library, provider, &format!("{options} {more}"));
    }
    // With a free batch, mirror images and tiles go through the network at once.
    onnx::pass_through(64, 32, 4, 0).save(&place.path("model.onnx"));
    for options in ["--resize tile", "--flip"] {
        same_scores(&place, &library, provider, &format!("{options} {more}"));
    }
}

#[test]
fn webgpu_gives_the_scores_of_the_cpu() {
    same_scores_in_every_view("onnxruntime-webgpu", "webgpu", "");
}

#[test]
fn openvino_gives_the_scores_of_the_cpu_in_f32() {
    same_scores_in_every_view("onnxruntime-openvino", "openvino", "--precision f32 --threads 1");
}

#[test]
fn a_quantised_graph_computes_in_floats_on_webgpu_and_in_integers_with_openvino() {
    for (build, provider, precision) in
        [("onnxruntime-webgpu", "webgpu", "f32"), ("onnxruntime-openvino", "openvino", "int8")]
    {
        let Some(library) = library(build) else { continue };
        for relu in [true, false] {
            let place = Place::new();
            place.moving("a.mp4", 6);
            onnx::quantised(relu).save(&place.path("model.onnx"));
            let given = format!("model inspect model.onnx --provider {provider} --json -");
            let found = run(program(&place, &library), &given).code(0).json();
            assert_eq!(found["precision"], precision, "{found}");
            same_scores(&place, &library, provider, "--precision f32 --threads 1");
        }
    }
}

#[test]
fn streams_share_a_network_on_webgpu() {
    let Some(library) = library("onnxruntime-webgpu") else { return };
    let place = Place::new();
    onnx::pass_through(64, 32, 4, 0).save(&place.path("model.onnx"));
    let streams = ["ball", "smpte"].map(|pattern| {
        format!(
            "[[stream]]\nname = \"{pattern}\"\ninput = \"test://{pattern}?width=96&height=64&fps=10&frames=8&live=1\"\n\
             output = [\"none\"]\n"
        )
    });
    std::fs::write(place.path("streams.toml"), streams.concat()).unwrap();
    let [want, got] = ["cpu", "webgpu"].map(|provider| {
        let command = format!(
            "run -c streams.toml -o scores:{provider} --compute cpu --method max-logit --provider {provider} \
             --set live.policy=wait"
        );
        run(program(&place, &library), &command).code(0);
        score_maps(&place.path(provider))
    });
    assert_eq!(want.len(), 16, "{:?}", want.keys());
    assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
    for (frame, want) in &want {
        let worst = got[frame].iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{frame}: {worst}");
    }
}

#[test]
fn the_placement_of_operators_is_reported() {
    let place = Place::new();
    for (build, provider, kind) in [
        ("onnxruntime-webgpu", "webgpu", "WebGpuExecutionProvider"),
        ("onnxruntime-openvino", "openvino", "OpenVINOExecutionProvider"),
    ] {
        let Some(library) = library(build) else { continue };
        let found = run(program(&place, &library), &format!("model inspect model.onnx --provider {provider} --json -"))
            .code(0)
            .json();
        assert_eq!(found["provider"], provider, "{found}");
        assert!(found["placement"][kind].as_object().is_some_and(|operators| !operators.is_empty()), "{found}");
    }
}

#[test]
fn auto_reports_why_it_skips_a_provider() {
    let Some(library) = library("onnxruntime-webgpu") else { return };
    let place = Place::new();
    // SwiftShader is no hardware: the CPU is as good.
    let found = run(program(&place, &library), "model inspect model.onnx --json -").code(0).json();
    assert_eq!(found["provider"], "cpu", "{found}");
    let reasons = found["passed_by"].to_string();
    for words in ["webgpu: no hardware graphics adapter", "openvino: not in the library that is loaded"] {
        assert!(reasons.contains(words), "no `{words}` in {reasons}");
    }
}

#[test]
fn the_library_of_a_provider_is_found_beside_the_others() {
    let Some(folder) = installed("onnxruntime-openvino") else { return };
    let place = Place::new();
    let data = place.path("share/oodstream");
    std::fs::create_dir_all(&data).unwrap();
    std::os::unix::fs::symlink(folder, data.join("onnxruntime-openvino")).unwrap();
    for (choice, provider) in [("openvino", "openvino"), ("auto", "openvino"), ("cpu", "cpu")] {
        let mut program = place.program();
        program.env("XDG_DATA_HOME", place.path("share")).env("XDG_CACHE_HOME", place.path("cache"));
        program.env_remove("ORT_DYLIB_PATH");
        let found = run(program, &format!("model inspect model.onnx --provider {choice} --json -")).code(0).json();
        assert_eq!(found["provider"], provider, "--provider {choice}");
    }
}

#[test]
fn a_provider_that_cannot_start_says_why() {
    let place = Place::new();
    place.moving("a.mp4", 2);
    // Not in the library.
    place.run("run a.mp4 -o none --provider cuda").code(1).says(&[
        "provider cuda",
        "does not have it",
        "onnxruntime-gpu",
    ]);
    // A mode or a device that it does not have.
    place.run("run a.mp4 -o none --provider cpu --precision bf16").code(2).says(&["provider cpu", "bf16", "openvino"]);
    place.run("run a.mp4 -o none --provider cuda --device NPU").code(2).says(&["provider cuda", "NPU", "number"]);
    place
        .run("run a.mp4 -o none --set model.fp16=true --set model.precision=bf16")
        .code(2)
        .says(&["model.fp16", "model.precision"]);
    // No adapter: by name an error, for `auto` a reason to go on.
    let Some(library) = library("onnxruntime-webgpu") else { return };
    let blind = || {
        let mut command = program(&place, &library);
        command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
        command
    };
    run(blind(), "run a.mp4 -o none --provider webgpu").code(1).says(&["provider webgpu", "adapter", "--provider cpu"]);
    run(blind(), "run a.mp4 -o none").code(0);
}

#[test]
fn an_unwritable_cache_is_reported_and_skipped() {
    let Some(library) = library("onnxruntime-openvino") else { return };
    let place = Place::new();
    place.moving("a.mp4", 2);
    std::fs::write(place.path("file"), "not a folder").unwrap();
    let mut command = program(&place, &library);
    command.env("XDG_CACHE_HOME", place.path("file"));
    run(command, "run a.mp4 -o none --provider openvino").code(0).says(&["not kept", "cannot be written"]);
    // With a folder it is used.
    run(program(&place, &library), "run a.mp4 -o none --provider openvino").code(0);
    assert!(place.path("cache/oodstream/openvino").is_dir());
}

#[test]
fn a_file_that_is_no_library_is_named() {
    let place = Place::new();
    place.moving("a.mp4", 2);
    std::fs::write(place.path("libonnxruntime.so"), "no library").unwrap();
    let mut command = place.program();
    command.env("ORT_DYLIB_PATH", place.path("libonnxruntime.so"));
    run(command, "run a.mp4 -o none").code(1).says(&["libonnxruntime.so", "make deps"]);
}

/// A library that answers as ONNX Runtime 1.10 does: it has no table of functions of a newer version.
#[test]
fn a_library_of_another_version_is_refused_with_both_versions() {
    let place = Place::new();
    place.moving("a.mp4", 2);
    let source = "struct base { const void *(*api)(unsigned); const char *(*version)(void); };\n\
        static const void *api(unsigned v) { (void)v; return 0; }\n\
        static const char *version(void) { return \"1.10.0\"; }\n\
        static const struct base BASE = { api, version };\n\
        const struct base *OrtGetApiBase(void) { return &BASE; }\n";
    std::fs::write(place.path("old.c"), source).unwrap();
    let library = place.path("libonnxruntime.so.1.10.0");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(place.path("old.c")).status();
    assert!(compiled.unwrap().success());
    let mut command = place.program();
    command.env("ORT_DYLIB_PATH", &library);
    run(command, "run a.mp4 -o none").code(1).says(&["libonnxruntime.so.1.10.0", "1.10", "make deps"]);
}
