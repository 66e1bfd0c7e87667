//! The main job through the binary: the frames, their times and the audio that go in come out.

use std::path::Path;

use support::common;
use support::common::{Place, audio_hash, ffprobe, shared, video_times};

/// Runs `input` to `out.mp4` and checks that frames, running times and audio are kept; the report of the run.
#[track_caller]
fn kept(place: &Place, input: &Path, audio: bool) -> serde_json::Value {
    let output = place.path("out.mp4");
    let ended = common::Ended::from(
        place.program().arg("run").arg(input).args(["-o", "out.mp4", "--overwrite", "--json", "-"]).output().unwrap(),
    )
    .code(0);
    let report = ended.json();
    let (before, after) = (video_times(input), video_times(&output));
    assert_eq!(before.len(), after.len(), "frames of {}: {report}", input.display());
    for (frame, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(
            (before - after).abs() < 0.0011,
            "{}: frame {frame} at {before} s came out at {after} s",
            input.display()
        );
    }
    assert_eq!(report["inputs"][0]["frames_in"], before.len() as u64);
    assert_eq!(report["inputs"][0]["frames_out"], before.len() as u64);
    assert_eq!(report["inputs"][0]["dropped"], 0);
    if audio {
        assert_eq!(audio_hash(input), audio_hash(&output));
    }
    report
}

/// Width and height of the first video stream.
fn size(path: &Path) -> Vec<String> {
    ffprobe(path, "-select_streams v:0 -show_entries stream=width,height")
}

#[test]
fn frames_times_and_audio_are_kept() {
    let place = Place::new();
    let clip = place.moving("plain.mp4", 60);
    let report = kept(&place, &clip, true);
    for key in ["wall_s", "stages", "compute", "provider"] {
        assert!(!report[key].is_null(), "{key}: {report}");
    }
    for stage in ["source", "prepare", "infer", "detect", "track", "draw", "sink"] {
        assert_eq!(report["stages"][stage]["frames"], 60, "{stage}: {report}");
        assert!(
            report["stages"][stage]["busy_p95_s"].as_f64().unwrap()
                >= report["stages"][stage]["busy_p50_s"].as_f64().unwrap()
        );
    }
    assert_eq!(place.names(), ["model.onnx", "out.mp4", "plain.mp4"]);
}

#[test]
fn the_shared_clips_are_kept() {
    for name in ["video/solidWhiteRight.mp4", "video/carnd_vehicle_test_video.mp4"] {
        if let Some(clip) = shared(name) {
            kept(&Place::new(), &clip, false);
        }
    }
}

#[test]
fn a_variable_frame_rate_is_kept() {
    let place = Place::new();
    // Drops two frames of three in the second half.
    let clip = place.clip(
        "vfr.mp4",
        "-f lavfi -i testsrc2=size=160x90:rate=30:duration=2 -vf select='lt(n,30)+not(mod(n,3))' -fps_mode vfr -c:v libx264 -preset ultrafast",
    );
    let times = video_times(&clip);
    let steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().any(|step| *step < 0.04) && steps.iter().any(|step| *step > 0.09), "{steps:?}");
    kept(&place, &clip, false);
}

#[test]
fn a_rotated_clip_is_turned() {
    let place = Place::new();
    let flat = place.moving("flat.mp4", 20);
    let clip = place.clip("turned.mp4", &format!("-i {} -c copy -metadata:s:v:0 rotate=90", flat.display()));
    kept(&place, &clip, true);
    assert_eq!(size(&place.path("out.mp4")), ["90,160"]);
}

#[test]
fn ten_bits_and_422_are_converted() {
    let place = Place::new();
    let clip = place.clip(
        "deep.mp4",
        "-f lavfi -i testsrc2=size=160x90:rate=25:duration=0.8 -c:v libx264 -preset ultrafast -pix_fmt yuv422p10le",
    );
    kept(&place, &clip, false);
    assert_eq!(ffprobe(&place.path("out.mp4"), "-select_streams v:0 -show_entries stream=pix_fmt"), ["yuv420p"]);
}

#[test]
fn odd_sizes_are_kept() {
    let place = Place::new();
    let clip = place.clip(
        "odd.mkv",
        "-f lavfi -i testsrc2=size=320x180:rate=25:duration=0.8 -vf scale=161:91 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p",
    );
    kept(&place, &clip, false);
    // H.264 in 4:2:0 has even sizes only: the last column and row are cropped.
    assert_eq!(size(&place.path("out.mp4")), ["160,90"]);
}

#[test]
fn every_view_gives_a_video_of_the_right_size() {
    let place = Place::new();
    place.moving("a.mp4", 5);
    for (view, expected) in
        [("overlay", "160,90"), ("heatmap", "160,90"), ("side-by-side", "320,90"), ("mask", "160,90")]
    {
        place.run(&format!("run a.mp4 -o {view}.mp4 --view {view}")).code(0);
        assert_eq!(size(&place.path(&format!("{view}.mp4"))), [expected]);
    }
}

#[test]
fn a_folder_gives_one_output_per_video_and_one_bad_file_does_not_stop_it() {
    let place = Place::new();
    std::fs::create_dir(place.path("archive")).unwrap();
    place.moving("archive/a.mp4", 5);
    place.moving("archive/b.mkv", 7);
    std::fs::write(place.path("archive/c.mp4"), "no video").unwrap();
    let report = place.run("run archive -o marked/ --json -").code(1).says(&["c.mp4"]).json();
    assert_eq!(report["inputs"].as_array().unwrap().len(), 3, "{report}");
    assert_eq!(video_times(&place.path("marked/a.ood.mp4")).len(), 5);
    assert_eq!(video_times(&place.path("marked/b.ood.mp4")).len(), 7);
    assert!(!place.path("marked/c.ood.mp4").exists());
}

#[test]
fn images_and_the_test_pattern_are_inputs() {
    let place = Place::new();
    std::fs::create_dir(place.path("pictures")).unwrap();
    place.clip("pictures/%03d.png", "-f lavfi -i testsrc2=size=64x48:rate=5 -frames:v 4");
    place.run("run pictures -o pictures.mp4").code(0);
    assert_eq!(video_times(&place.path("pictures.mp4")).len(), 4);
    place.run("run test://ball?width=64&height=48&frames=6 -o ball.mkv").code(0);
    assert_eq!(video_times(&place.path("ball.mkv")).len(), 6);
}

#[test]
fn a_single_frame_is_a_video() {
    let place = Place::new();
    place.run("run test://ball?width=64&height=48&frames=1 -o ball.mp4").code(0);
    assert_eq!(video_times(&place.path("ball.mp4")).len(), 1);
    kept(&place, &place.moving("one.mp4", 1), false);
}

#[test]
fn equal_seeds_give_equal_videos() {
    let place = Place::new();
    place.moving("a.mp4", 10);
    for name in ["one.mkv", "two.mkv"] {
        place.run(&format!("run a.mp4 -o {name} --encoder x264enc --set model.threads=1")).code(0);
    }
    let pictures = |name: &str| {
        let output = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(place.path(name))
            .args(["-map", "0:v", "-f", "framemd5", "-"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(pictures("one.mkv"), pictures("two.mkv"));
}

#[test]
fn the_ready_pipeline_file_runs_and_is_the_default() {
    let place = Place::new();
    place.moving("a.mp4", 5);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/dashcam.toml");
    place.run(&format!("run a.mp4 -o out.mp4 -c {}", file.display())).code(0);
    let written = oodstream::config::Config::load(Some(&file), &[]).unwrap();
    assert_eq!(written, oodstream::config::Config::default());
}

#[test]
fn doctor_finds_what_run_needs() {
    let place = Place::new();
    let ended = place.run("doctor").code(0);
    for word in ["GStreamer 1.", "x264enc", "onnxruntime", "model.onnx", "sha256"] {
        assert!(ended.stdout.contains(word), "no `{word}` in {}", ended.stdout);
    }
    let missing = place.program().args(["doctor", "--model", "absent.onnx"]).output().unwrap();
    common::Ended::from(missing).code(1);
}
