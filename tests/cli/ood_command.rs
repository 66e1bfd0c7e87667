//! Controls of alarms through the binary: wrong ones give one clear line before anything is decoded.

use std::path::Path;
use std::process::{Command, Output};

use image::{GrayImage, Luma};

const PATTERN: &str = "test://ball?frames=6&width=64&height=32";

fn oodstream(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(support::binary()).current_dir(folder).args(arguments).output().unwrap()
}

fn refused(arguments: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    GrayImage::from_pixel(10, 10, Luma([255])).save(folder.path().join("small.png")).unwrap();
    let output = oodstream(folder.path(), arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    let line = said.lines().find(|line| line.contains("error")).unwrap_or_default().to_owned();
    assert!(words.iter().all(|word| line.contains(word)), "{arguments:?}: {said}");
    assert!(!folder.path().join("o.mp4").exists(), "{arguments:?}");
}

#[test]
fn wrong_ignored_parts_are_refused() {
    let run = |part: &'static str, words: &[&str]| refused(&["run", PATTERN, "-o", "o.mp4", "--ignore", part], words);
    run("poly:0,0 1,1 1,0 0,1", &["poly:0,0 1,1 1,0 0,1", "crosses itself"]);
    run("poly:0,0 1.5,0 1,1", &["1.5,0", "outside the picture"]);
    run("poly:0,0 1,0", &["three corners"]);
    run("absent.png", &["absent.png"]);
    run("small.png", &["small.png", "10x10", "64x32"]);
}

#[test]
fn unknown_classes_are_refused() {
    refused(&["run", PATTERN, "-o", "o.mp4", "--known", "car,unicorn"], &["unicorn", "no class"]);
}

#[test]
fn wrong_rules_are_refused() {
    for (key, value) in [("min_area", "2"), ("min_seconds", "-1"), ("max_per_minute", "0"), ("nonsense", "1")] {
        refused(&["run", PATTERN, "-o", "o.mp4", "--set", &format!("events.{key}={value}")], &[key]);
    }
}

#[test]
fn wrong_clips_are_refused() {
    refused(&["eval", PATTERN, "--truth", "absent"], &["--truth absent"]);
    refused(&["eval", PATTERN, "--truth", "."], &["no mask"]);
    refused(&["eval", PATTERN, PATTERN, "--truth", "."], &["no mask"]);
    refused(&["eval", "rtsp://127.0.0.1:1/x", "--ordinary"], &["no live inputs"]);
}

#[test]
fn ordinary_videos_get_figures() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        oodstream(folder.path(), &["-q", "eval", PATTERN, "--ordinary", "--json", "r.json", "--report", "page"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["clips"][0]["frames"], 6);
    for key in ["events_per_minute", "alarm_time_share", "alarm_area_share", "marked_share", "classes"] {
        assert!(!json["clips"][0][key].is_null(), "{key}");
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("per min"));
    assert!(folder.path().join("page/index.html").is_file());
}

/// Pictures have no duration: no figure per minute is made up.
#[test]
fn pictures_one_by_one_have_no_rate() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("stills")).unwrap();
    for (name, width) in [("a.png", 64), ("b.png", 96)] {
        GrayImage::from_fn(width, 48, |x, y| Luma([(x * y % 251) as u8]))
            .save(folder.path().join("stills").join(name))
            .unwrap();
    }
    let output = oodstream(folder.path(), &["-q", "eval", "stills", "--ordinary", "--stills", "--json", "r.json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("r.json")).unwrap()).unwrap();
    let clip = &json["clips"][0];
    assert_eq!((&clip["frames"], &clip["seconds"]), (&2.into(), &0.0.into()));
    for key in ["events_per_minute", "alarm_time_share"] {
        assert!(clip[key].is_null(), "{key}: {}", clip[key]);
    }
    assert!(json["events_per_minute"].is_null(), "{json}");
    let total = format!("all: {} events in 2 pictures", clip["events"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&total), "{total}");
}
