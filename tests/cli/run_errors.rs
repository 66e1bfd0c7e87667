//! Bad input through the binary: a clear error that names the thing and says what to do, the right exit code, nothing lost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::common;
use support::common::{Place, ffprobe};
use support::onnx;

#[test]
fn a_missing_input() {
    Place::new().run("run absent.mp4").code(1).says(&["absent.mp4"]);
}

#[test]
fn an_input_that_is_not_a_video() {
    let place = Place::new();
    fs::write(place.path("notes.mp4"), "these are only notes\n".repeat(100)).unwrap();
    place.run("run notes.mp4").code(1).says(&["notes.mp4"]);
    assert!(!place.names().iter().any(|name| name.contains("ood")), "{:?}", place.names());
}

#[test]
fn an_empty_file() {
    let place = Place::new();
    fs::write(place.path("empty.mp4"), "").unwrap();
    place.run("run empty.mp4").code(1).says(&["empty.mp4", "empty"]);
}

#[test]
fn a_folder_without_videos() {
    let place = Place::new();
    fs::create_dir(place.path("letters")).unwrap();
    fs::write(place.path("letters/a.txt"), "a").unwrap();
    place.run("run letters").code(1).says(&["letters", "mp4"]);
}

#[test]
fn an_mp4_without_its_index() {
    let place = Place::new();
    let whole = fs::read(place.moving("whole.mp4", 50)).unwrap();
    fs::write(place.path("cut.mp4"), &whole[..whole.len() / 2]).unwrap();
    place.run("run cut.mp4 -o out.mp4").code(1).says(&["cut.mp4"]);
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn a_truncated_mkv_is_written_as_far_as_it_goes() {
    let place = Place::new();
    let whole = fs::read(place.moving("whole.mkv", 100)).unwrap();
    fs::write(place.path("cut.mkv"), &whole[..whole.len() / 2]).unwrap();
    let ended = place.run("run cut.mkv -o out.mkv --json -").code(3).says(&["cut.mkv"]);
    let report = ended.json();
    let frames = report["inputs"][0]["frames_out"].as_u64().unwrap();
    assert!((10..100).contains(&frames), "{report}");
    assert_eq!(report["inputs"][0]["truncated"], true, "{report}");
    let counted =
        ffprobe(&place.path("out.mkv"), "-count_frames -select_streams v:0 -show_entries stream=nb_read_frames");
    assert_eq!(counted, [frames.to_string()]);
}

#[test]
fn damage_in_the_middle_is_concealed_and_reported() {
    let place = Place::new();
    let mut bytes = fs::read(place.moving("whole.mkv", 100)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3000].fill(0x55);
    fs::write(place.path("hurt.mkv"), bytes).unwrap();
    let ended = place.run("run hurt.mkv -o out.mkv --json -");
    let report = ended.json();
    let frames = report["inputs"][0]["frames_out"].as_u64().unwrap();
    let damaged = report["inputs"][0]["damaged"].as_u64().unwrap() > 0 || report["inputs"][0]["truncated"] == true;
    assert_eq!(ended.code, Some(if damaged { 3 } else { 0 }), "{report}\n{}", ended.stderr);
    assert!(damaged && frames >= 40, "{report}\n{}", ended.stderr);
}

#[test]
fn sound_without_a_picture() {
    let place = Place::new();
    place.clip("sound.m4a", "-f lavfi -i sine=duration=1 -c:a aac");
    place.run("run sound.m4a").code(1).says(&["sound.m4a", "video"]);
}

#[test]
fn a_codec_without_a_decoder_names_the_package() {
    let place = Place::new();
    place.clip(
        "vp9.webm",
        "-f lavfi -i testsrc2=size=64x64:rate=10:duration=0.5 -c:v libvpx-vp9 -deadline realtime -cpu-used 8",
    );
    let output = place
        .program()
        .args(["run", "vp9.webm"])
        .env("GST_PLUGIN_FEATURE_RANK", "vp9dec:NONE,avdec_vp9:NONE,vavp9dec:NONE,vaapivp9dec:NONE")
        .output()
        .unwrap();
    common::Ended::from(output).code(1).says(&["vp9.webm", "VP9", "gstreamer1.0-"]);
}

#[test]
fn a_missing_output_folder() {
    let place = Place::new();
    place.moving("a.mp4", 10);
    place.run("run a.mp4 -o nowhere/out.mp4").code(1).says(&["nowhere"]);
}

#[test]
fn an_output_folder_that_cannot_be_written_to() {
    let place = Place::new();
    place.moving("a.mp4", 10);
    // Nobody can make files there, not even root.
    place.run("run a.mp4 -o /proc/out.mp4").code(1).says(&["/proc"]);
}

#[test]
fn a_full_disk_is_reported_and_the_input_kept() {
    let place = Place::new();
    place.moving("a.mp4", 100);
    // A limit on the size of files stands for the full disk: write() fails half way with EFBIG instead of ENOSPC.
    let output = Command::new("bash")
        .current_dir(place.path(""))
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" run a.mp4 -o out.mp4 --crf 1"])
        .arg(support::binary())
        .env("OODSTREAM_MODEL", place.path("model.onnx"))
        .output()
        .unwrap();
    common::Ended::from(output).code(1).says(&["out.mp4"]);
    assert!(!place.path("out.mp4").exists());
    assert!(place.path("a.mp4").exists());
}

#[test]
fn an_output_that_is_the_input() {
    let place = Place::new();
    let before = fs::read(place.moving("a.mp4", 10)).unwrap();
    std::os::unix::fs::symlink(place.path("a.mp4"), place.path("link.mp4")).unwrap();
    for output in ["a.mp4", "./a.mp4", "link.mp4"] {
        place.run(&format!("run a.mp4 -o {output} --overwrite")).code(2).says(&[output, "the output is the input"]);
    }
    assert_eq!(fs::read(place.path("a.mp4")).unwrap(), before);
}

#[test]
fn an_existing_output_needs_overwrite() {
    let place = Place::new();
    place.moving("a.mp4", 10);
    fs::write(place.path("out.mp4"), "precious").unwrap();
    let ended = place.run("run a.mp4 -o out.mp4").code(2).says(&["out.mp4", "--overwrite"]);
    assert!(!ended.stderr.contains("queue max"), "nothing ran, so there is nothing to tell: {}", ended.stderr);
    assert_eq!(fs::read(place.path("out.mp4")).unwrap(), b"precious");
    place.run("run a.mp4 -o out.mp4 --overwrite").code(0);
    assert_eq!(common::video_times(&place.path("out.mp4")).len(), 10);
}

#[test]
fn models_that_cannot_be_used() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    fs::write(place.path("text.onnx"), "not a protocol buffer").unwrap();
    onnx::wrong_rank().save(&place.path("rank.onnx"));
    onnx::no_logits().save(&place.path("classes.onnx"));
    for (model, words) in [
        ("absent.onnx", &["absent.onnx", "--model"][..]),
        ("text.onnx", &["text.onnx", "ONNX"]),
        ("rank.onnx", &["rank.onnx", "`input`", "rank 3"]),
        ("classes.onnx", &["classes.onnx", "logits", "`classes`"]),
    ] {
        place.run(&format!("run a.mp4 -o out.mp4 --model {model}")).code(1).says(words);
    }
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn logits_that_are_not_numbers() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    onnx::not_a_number(64, 32).save(&place.path("nan.onnx"));
    place.run("run a.mp4 -o out.mp4 --model nan.onnx").code(1).says(&["logits"]);
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn manifests_that_do_not_fit_the_graph() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    for (manifest, words) in [
        ("[input]\nwidth = 100\n", &["input.width is 100", "64"][..]),
        ("[outputs]\nlogits = \"scores\"\n", &["outputs.logits", "`scores`", "`logits`"]),
        ("[classes]\nnames = [\"road\"]\n", &["classes.names has 1", "4 channels"]),
        ("[input]\nwdth = 64\n", &["model.toml", "wdth", "line 2"]),
    ] {
        fs::write(place.path("model.toml"), manifest).unwrap();
        place.run("run a.mp4 -o out.mp4").code(2).says(words);
    }
    fs::write(place.path("model.toml"), "[model]\nsha256 = \"00\"\n").unwrap();
    place.run("run a.mp4 -o out.mp4").code(1).says(&["SHA-256", "00"]);
}

#[test]
fn a_missing_runtime_library_says_where_it_looked() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    let output =
        place.program().args(["run", "a.mp4"]).env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so").output().unwrap();
    common::Ended::from(output).code(1).says(&["ONNX Runtime", "/nowhere/libonnxruntime.so"]);
}

#[test]
fn wrong_options_are_usage_errors() {
    let place = Place::new();
    place.moving("a.mp4", 3);
    fs::write(place.path("p.toml"), "[draw]\nopacity = 0.5\n\n[detect]\nmetod = \"msp\"\n").unwrap();
    for (arguments, words) in [
        ("run", &["INPUT"][..]),
        ("run a.mp4 -o out.gif", &["out.gif", "x.mp4"]),
        ("run a.mp4 --opacity 7", &["opacity", "0 to 1"]),
        ("run a.mp4 --set draw.opcity=1", &["--set draw.opcity: ", "opcity"]),
        ("run a.mp4 -c p.toml", &["p.toml", "line 5", "metod"]),
        ("run a.mp4 --method magic", &["magic", "max-logit"]),
        ("run a.mp4 --encoder nonsenseenc", &["nonsenseenc"]),
        ("run rtmp://127.0.0.1/x", &["rtmp", "rtsp://"]),
    ] {
        place.run(arguments).code(2).says(words);
    }
    assert!(!place.names().iter().any(|name| name.contains("ood")), "{:?}", place.names());
}

/// Starts a run that would take minutes and gives it back once its tenth frame is through.
fn in_the_middle(place: &Place) -> std::process::Child {
    let mut child = place
        .program()
        .args(["run", "test://ball?width=320&height=180&frames=100000", "-o", "out.mp4"])
        .env("RUST_LOG", "oodstream=trace")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("frame 10 ")), "the run ended early");
    // Keep reading, so that the child never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn kill(child: &std::process::Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn ctrl_c_finishes_the_output() {
    for signal in ["-INT", "-TERM"] {
        let place = Place::new();
        let mut child = in_the_middle(&place);
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(common::video_times(&place.path("out.mp4")).len() >= 10);
        assert_eq!(place.names(), ["model.onnx", "out.mp4"]);
    }
}

#[test]
fn after_kill_9_nothing_has_the_final_name_and_the_rest_is_playable() {
    let place = Place::new();
    let mut child = in_the_middle(&place);
    kill(&child, "-KILL");
    child.wait().unwrap();
    assert!(!place.path("out.mp4").exists());
    let left: Vec<String> = place.names().into_iter().filter(|name| name != "model.onnx").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with('.') && left[0].contains("out"), "{left:?}");
}

#[test]
fn no_message_holds_a_password() {
    const PASSWORD: &str = "pa55-phrase";
    let place = Place::new();
    place.moving("a.mp4", 5);
    let push = format!("rtsp+push://viewer:{PASSWORD}@127.0.0.1:9/x");
    let broken = [
        format!("[[stream]]\ninput = \"rtsp://viewer:{PASSWORD}@127.0.0.1:9/x\"\noutput = \"{push}\"\n"),
        format!("[[stream]]\ninputs = \"rtsp://viewer:{PASSWORD}@127.0.0.1:9/x\"\n"),
        format!("[[stream]]\ninput = \"rtsp://viewer:{PASSWORD}@127.0.0.1:9/x\n"),
    ];
    let mut runs = vec![
        format!("run a.mp4 -o {push}"),
        format!("run a.mp4 -o {push} -o {push}"),
        format!("run test://ball?live=1 test://snow?live=1 -o {push}"),
        format!("run test://ball?live=1 -o rtsp+push://viewer:{PASSWORD}@127.0.0.1:port/x"),
        format!("run test://ball?live=1 -o rtsp+push://viewer:a/{PASSWORD}@127.0.0.1/x"),
        format!("run test://ball?live=1 -o http://viewer:{PASSWORD}@127.0.0.1/x"),
        format!("run a.mp4 --set stream.input=rtsp://viewer:{PASSWORD}@127.0.0.1/x"),
    ];
    for (number, text) in broken.iter().enumerate() {
        fs::write(place.path(&format!("{number}.toml")), text).unwrap();
        runs.push(format!("run -c {number}.toml"));
    }
    for arguments in runs {
        let ended = place.run(&arguments);
        assert!(!ended.stderr.contains(PASSWORD) && !ended.stdout.contains(PASSWORD), "{arguments}: {}", ended.stderr);
        ended.code(2);
    }
    place.run("run -c 0.toml").says(&["0.toml, line 3 output", "expected a sequence"]);
}
