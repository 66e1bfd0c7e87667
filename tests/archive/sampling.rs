//! Looking less often: at one frame in a time, at key frames, not at still ones.

use std::fs;

use serde_json::Value;
use support::common::{Place, through_ffmpeg, video_times};

use crate::{RULES, boxed, place};

/// The report on the only input, and its events.
fn run(place: &Place, arguments: &str) -> (Value, Vec<Value>) {
    let arguments = format!("run a.mp4 -o events:e.jsonl --overwrite {RULES} --json - {arguments}");
    let report = place.run(&arguments).code(0).json();
    let text = fs::read_to_string(place.path("e.jsonl")).unwrap();
    (report["inputs"][0].clone(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The first and last time at which the event was seen.
fn span(events: &[Value]) -> (f64, f64) {
    let last = events.last().unwrap();
    assert_eq!(last["type"], "end");
    (last["start_s"].as_f64().unwrap(), last["end_s"].as_f64().unwrap())
}

#[test]
fn one_frame_in_a_time_is_looked_at_and_events_keep_their_times() {
    let place = place();
    boxed(&place, "a.mp4", 6);
    let (all, events) = run(&place, "-o none");
    assert_eq!((&all["frames_in"], &all["frames_looked_at"]), (&60.into(), &60.into()));
    let (start, end) = span(&events);
    let (sparse, events) = run(&place, "-o none --every 0.5s");
    assert_eq!((&sparse["frames_in"], &sparse["frames_looked_at"]), (&60.into(), &12.into()));
    let (later, sooner) = span(&events);
    assert!((0.0..=0.5).contains(&(later - start)) && (-0.01..=0.5).contains(&(end - sooner)), "{events:?}");
    for wrong in ["0", "2h"] {
        place.run(&format!("run a.mp4 -o none --every {wrong}")).code(2).says(&["every"]);
    }
}

#[test]
fn a_written_video_has_every_frame_with_the_last_result() {
    let place = place();
    boxed(&place, "a.mp4", 6);
    let (sparse, _) = run(&place, "-o out.mp4 --every 0.5s --no-legend --crf 1");
    assert_eq!((&sparse["frames_out"], &sparse["frames_looked_at"]), (&60.into(), &12.into()));
    assert_eq!(video_times(&place.path("out.mp4")).len(), 60);
    // The middle of the box is drawn on in frames that were not looked at.
    let raw = through_ffmpeg(&place.path("out.mp4"), "-f rawvideo -pix_fmt rgb24 -");
    for frame in [32, 33, 34] {
        let x = 20 + frame + 20;
        let at = frame * 160 * 90 * 3 + (55 * 160 + x) * 3;
        let pixel = &raw[at..at + 3];
        assert!(pixel[2] < 220, "frame {frame}: {pixel:?}");
    }
}

#[test]
fn the_last_result_moves_with_the_camera() {
    let place = place();
    // The camera turns to the right by 3 pixels a frame past a white box and a texture that the network knows.
    place.clip(
        "a.mp4",
        "-f lavfi -i nullsrc=size=300x90:rate=10:duration=4 -vf \
         geq=lum='if(between(X,120,159)*between(Y,40,69),235,60+40*sin(X/5)*sin(Y/4+X/17))':cb=128:cr=128,\
         crop=160:90:x=3*n:y=0:exact=1 -c:v libx264 -preset ultrafast -crf 5 -pix_fmt yuv420p",
    );
    let (sparse, events) = run(&place, "-o out.mp4 --every 0.5s --no-legend --crf 1");
    assert_eq!((&sparse["frames_out"], &sparse["frames_looked_at"]), (&40.into(), &8.into()));
    assert!(!events.is_empty());
    let raw = through_ffmpeg(&place.path("out.mp4"), "-f rawvideo -pix_fmt rgb24 -");
    for frame in [28, 29, 33, 34] {
        let left = 120 - 3 * frame;
        let pixel = |x: usize| {
            let at = frame * 160 * 90 * 3 + (55 * 160 + x) * 3;
            [raw[at], raw[at + 1], raw[at + 2]]
        };
        // The side that was elsewhere when the network looked, and what was behind the box then.
        let (front, behind) = (pixel(left + 4), pixel(left + 47));
        assert!(front[2] < 220, "frame {frame}: {front:?}");
        let tint = behind.iter().max().unwrap() - behind.iter().min().unwrap();
        assert!(tint < 40, "frame {frame}: {behind:?}");
    }
}

#[test]
fn only_key_frames_are_decoded() {
    let place = place();
    boxed(&place, "a.mp4", 6);
    let (keys, events) = run(&place, "-o none --keyframes");
    assert_eq!((&keys["frames_in"], &keys["frames_looked_at"], &keys["damaged"]), (&6.into(), &6.into(), &0.into()));
    let (start, end) = span(&events);
    assert!((start - 1.0).abs() < 0.05 && (end - 5.0).abs() < 0.05, "{start} {end}");
}

#[test]
fn still_frames_are_not_looked_at() {
    let place = place();
    boxed(&place, "a.mp4", 6);
    let (all, whole) = run(&place, "-o none");
    let (still, events) = run(&place, "-o none --skip-still");
    let count = |key: &str| still[key].as_u64().unwrap();
    // The first and the last second are black, and between them the box moves by two pixels in every other frame.
    assert!((35..=40).contains(&count("still")), "{still}");
    assert_eq!(count("still") + count("frames_looked_at"), all["frames_in"].as_u64().unwrap());
    assert_eq!(span(&events), span(&whole));
}
