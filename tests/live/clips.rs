//! Clips of the events of a live stream, with what came before them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::common::{Place, ffprobe, through_ffmpeg};
use support::live::until;
use support::onnx;
use support::running::Live;

/// The options by which a white box is an event, and by which nothing is drawn on the pictures.
const RULES: &str = "--method max-logit --threshold 1.5 --set events.settle_s=0 --set events.road_gate=false \
                     --opacity 0 --no-legend --policy wait";

/// A network to which white is unknown, and 14 s at 10 frames/s with a white box from 5 to 7 s and from 11 s to the
/// end; each picture is as bright as its number.
fn place() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    fs::write(place.path("model.toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    let seen = "between(t,5,6.99)+gt(t,10.99)";
    place.clip(
        "front.mp4",
        &format!(
            "-f lavfi -i color=black:size=160x90:rate=10:duration=14 -f lavfi -i color=white:size=40x30:rate=10:duration=14 \
             -filter_complex [0]geq=lum='16+mod(N,50)':cb=128:cr=128[n];[n][1]overlay=x=30+3*t:y=40:enable='{seen}' \
             -c:v libx264 -preset ultrafast -g 10 -pix_fmt yuv420p"
        ),
    );
    place
}

fn ended(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.path("e.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["type"] == "end").collect()
}

/// The numbers of the pictures, modulo 50, by a corner that nothing is drawn on; and whether the box is in them.
fn pictures(path: &Path) -> Vec<(i32, bool)> {
    let pixels = through_ffmpeg(path, "-vf scale=160:90 -pix_fmt gray -fps_mode passthrough -f rawvideo -");
    // From the range of video to the full one.
    let number = |pixel: u8| (f64::from(pixel) * 219.0 / 255.0).round() as i32;
    let picture = |pixels: &[u8]| (number(pixels[160 + 1]), pixels.iter().any(|pixel| *pixel > 180));
    pixels.chunks_exact(160 * 90).map(picture).collect()
}

#[test]
fn clips_begin_before_their_events() {
    let place = place();
    let mut run = Live::start(
        &place,
        &format!(
            "run front.mp4 --realtime -o none -o events:e.jsonl -o clips:clips -o snapshots:shots --clip-before 2 --clip-after 1 {RULES}"
        ),
    );
    run.ends(0);
    let events = ended(&place);
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, shown) in events.iter().zip([50, 110]) {
        let id = event["id"].as_str().unwrap();
        assert_eq!(event["clip"], format!("clips/front_{id}.mp4"));
        assert_eq!(event["snapshot"], format!("shots/front_{id}.jpg"));
        let path = place.path(event["clip"].as_str().unwrap());
        let seen = pictures(&path);
        // One after the other, and none is missing.
        let near = |a: i32, b: i32| (a - b).rem_euclid(50) <= 2 || (b - a).rem_euclid(50) <= 2;
        assert!(seen.windows(2).all(|pair| near(pair[1].0, pair[0].0 + 1)), "{seen:?}");
        let boxed = seen.iter().position(|(_, boxed)| *boxed).unwrap() as i32;
        assert!(near(seen[boxed as usize].0, shown), "{boxed} {seen:?}");
        let (begin, end) = (f64::from(shown - boxed) / 10.0, f64::from(shown - boxed + seen.len() as i32) / 10.0);
        let time = |key: &str| event[key].as_f64().unwrap();
        let (from, to) = (time("start_s") - 2.0, (time("end_s") + 1.0).min(14.0));
        println!("event and rolls {from:.2} to {to:.2} s, clip {begin:.2} to {end:.2} s");
        // A group of pictures is two seconds here.
        assert!(begin <= from + 0.11 && begin > from - 2.11, "{begin} for {from}: {event}");
        assert!(end >= to - 0.11 && end < to + 1.11, "{end} for {to}: {event}");
        let audio = ffprobe(&path, "-select_streams a -show_entries stream=codec_name");
        assert_eq!(audio, [""; 0], "live outputs have no sound");
    }
}

#[test]
fn a_full_disk_costs_the_clip_and_not_the_video() {
    let place = place();
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).arg(&disk).stderr(Stdio::null()).status();
    if !mount(&["-t", "tmpfs", "-o", "size=8k", "tmpfs"]).is_ok_and(|status| status.success()) {
        eprintln!("skipped: a small disk cannot be mounted here");
        return;
    }
    let mut run = Live::start(
        &place,
        &format!(
            "run front.mp4 --realtime -o x.mkv -o events:e.jsonl -o clips:disk --clip-before 2 --clip-after 1 {RULES}"
        ),
    );
    until("the disk is full", || run.log().contains("no space left"));
    until("the run ends", || !run.is_running());
    let left: Vec<_> = fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    until("the disk is free", || Command::new("umount").arg(&disk).status().unwrap().success());
    // What has a name is whole.
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "no half a clip: {left:?}");
    assert_eq!(ended(&place).len(), 2);
    assert_eq!(pictures(&place.path("x.mkv")).len(), 140);
}
