//! Clips of events: cut from the original by copies of its packets, with its sound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::common::{Place, ffprobe, through_ffmpeg};

use crate::{RULES, json, names, place};

/// Seconds at which the box is to be seen, and the tone to be heard.
const SEEN: [(f64, f64); 2] = [(6.0, 8.0), (14.0, 15.0)];

/// 20 s at 10 frames/s with a key frame a second: a white box that is there at the times of [`SEEN`], numbered frames,
/// and a tone at the same times. `codecs` are those of ffmpeg.
fn drive(place: &Place, name: &str, codecs: &str) -> PathBuf {
    let at = |what: &str| SEEN.map(|(from, to)| format!("between({what},{from},{})", to - 0.01)).join("+");
    let seen = at("t");
    fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
    place.clip(
        name,
        &format!(
            "-f lavfi -i color=black:size=160x90:rate=10:duration=20 \
             -f lavfi -i aevalsrc='0.5*sin(880*PI*t)*({seen})':s=16000:d=20 \
             -f lavfi -i color=white:size=40x30:rate=10:duration=20 \
             -filter_complex [0]geq=lum='16+mod(N,50)':cb=128:cr=128[n];[n][2]overlay=x=30+3*t:y=40:enable='{seen}' \
             -g 10 -pix_fmt yuv420p {codecs} -shortest"
        ),
    )
}

const H264: &str = "-c:v libx264 -preset ultrafast -c:a aac";

fn events(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.path("e.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|line: &Value| line["type"] == "end").collect()
}

/// The presentation times of the video's frames, in seconds, and each as 16 x 9 pixels.
fn frames(path: &Path) -> Vec<(f64, Vec<u8>)> {
    let times = ffprobe(path, "-select_streams v:0 -show_entries frame=best_effort_timestamp_time");
    let pixels = through_ffmpeg(path, "-map 0:v:0 -vf scale=16:9 -pix_fmt gray -fps_mode passthrough -f rawvideo -");
    let pictures: Vec<_> = pixels.chunks_exact(16 * 9).map(<[u8]>::to_vec).collect();
    assert_eq!(times.len(), pictures.len(), "{}", path.display());
    times.iter().map(|time| time.parse().unwrap()).zip(pictures).collect()
}

/// The time at which the tone begins and the one at which it ends, in seconds.
fn tone(path: &Path) -> (f64, f64) {
    let filter = "-map 0:a:0 -af aresample=8000:async=1:first_pts=0 -ac 1 -f f32le -";
    let bytes = through_ffmpeg(path, filter);
    let loud = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes).abs() > 0.1;
    let samples = bytes.as_chunks::<4>().0;
    let first = samples.iter().position(loud).expect("there is a tone");
    let last = samples.iter().rposition(loud).unwrap();
    (first as f64 / 8000.0, last as f64 / 8000.0)
}

/// Where in the original the clip begins and ends, in seconds: its frames must be those of the original, in order and
/// without a gap, and its tone must begin with its box.
#[track_caller]
fn place_of(original: &Path, clip: &Path) -> (f64, f64) {
    let errors =
        Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(clip).args(["-f", "null", "-"]).output().unwrap();
    assert!(errors.stderr.is_empty(), "{}: {}", clip.display(), String::from_utf8_lossy(&errors.stderr));
    let (all, some) = (frames(original), frames(clip));
    let same =
        |at: usize| all[at..].iter().zip(&some).all(|(a, b)| a.1.iter().zip(&b.1).all(|(a, b)| a.abs_diff(*b) <= 3));
    let at = (0..=all.len() - some.len()).find(|at| same(*at)).expect("the frames are those of the original");
    let (begin, start) = (all[0].0, all[at].0);
    for (a, b) in all[at..].iter().zip(&some) {
        assert!(
            ((a.0 - start) - (b.0 - some[0].0)).abs() < 0.005,
            "times are kept: {} from {start}, {} from {}",
            a.0,
            b.0,
            some[0].0
        );
    }
    let white = |frame: &(f64, Vec<u8>)| frame.1.iter().any(|pixel| *pixel > 180);
    let shown = some.iter().find(|frame| white(frame)).expect("the event is in it").0;
    let heard = tone(clip).0;
    assert!((heard - shown).abs() < 0.12, "{}: the box at {shown} s, the tone at {heard} s", clip.display());
    (start - begin, all[at + some.len() - 1].0 - begin)
}

#[test]
fn clips_cover_their_events_and_keep_the_sound() {
    let place = place();
    let variants = [
        ("plain.mp4", H264, "mp4"),
        ("reordered.mkv", "-c:v libx264 -bf 2 -c:a libopus", "mp4"),
        ("stream.ts", "-c:v libx264 -bf 2 -c:a aac", "mp4"),
        ("hevc.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10 -c:a aac", "mp4"),
        ("camera.avi", "-c:v mjpeg -q:v 3 -c:a pcm_s16le", "mkv"),
        ("camera.mov", "-c:v libx264 -preset ultrafast -c:a pcm_mulaw", "mkv"),
    ];
    for (name, codecs, extension) in variants {
        let original = drive(&place, name, codecs);
        let base = name.split('.').next().unwrap();
        let rolls = "--clip-before 2s --clip-after 1s";
        place.run(&format!("run {name} -o none -o events:e.jsonl -o clips:clips --overwrite {RULES} {rolls}")).code(0);
        let events = events(&place);
        assert_eq!(events.len(), 2, "{name}: {events:?}");
        for event in events {
            let path = event["clip"].as_str().unwrap();
            assert_eq!(path, format!("clips/{base}_{}.{extension}", event["id"].as_str().unwrap()));
            let (start, end) = place_of(&original, &place.path(path));
            let time = |key: &str| event[key].as_f64().unwrap();
            let (from, to) = (time("start_s") - 2.0, time("end_s") + 1.0);
            println!("{name}: event and rolls {from:.2} to {to:.2} s, clip {start:.2} to {end:.2} s");
            // One group of pictures is a second, one frame a tenth.
            assert!(start <= from + 0.11 && start > from - 1.11, "{name}: {start} for {from}");
            assert!(end >= to - 0.15 && end < to + 1.21, "{name}: {end} for {to}");
        }
    }
}

/// The first packet of the sound comes after the first one of the pictures.
#[test]
fn a_clip_from_the_beginning_keeps_the_sound() {
    let place = place();
    for (name, codecs) in [("a.mp4", H264), ("b.mkv", "-c:v libx264 -bf 0 -c:a pcm_s16le"), ("c.ts", H264)] {
        let original = drive(&place, name, codecs);
        let rolls = "--clip-before 30s --clip-after 1s";
        place.run(&format!("run {name} -o none -o events:e.jsonl -o clips:clips --overwrite {RULES} {rolls}")).code(0);
        let (start, end) = place_of(&original, &place.path(events(&place)[0]["clip"].as_str().unwrap()));
        assert!(start < 0.05 && end > 8.0, "{name}: {start} {end}");
    }
}

#[test]
fn events_that_overlap_share_a_clip() {
    let place = place();
    drive(&place, "a.mp4", H264);
    place.run(&format!("run a.mp4 -o none -o events:e.jsonl -o clips:clips {RULES}")).code(0);
    let events = events(&place);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["clip"], events[1]["clip"]);
    assert_eq!(names(&place.path("clips")), [format!("a_{}.mp4", events[0]["id"].as_str().unwrap())]);
    // From the first second to the end of the video.
    let (start, end) = place_of(&place.path("a.mp4"), &place.path(events[0]["clip"].as_str().unwrap()));
    assert!(start <= 1.1 && end > 19.8, "{start} {end}");
    let again = format!("run a.mp4 -o none -o clips:clips {RULES}");
    place.run(&again).code(2).says(&["clips/a_", "exists already"]);
}

#[test]
fn annotated_clips_are_cut_from_the_video_that_is_written_or_from_one_that_is_not_kept() {
    let place = place();
    drive(&place, "a.mp4", H264);
    let arguments =
        format!("run a.mp4 -o events:e.jsonl -o clips:clips --annotated-clips --clip-before 1 --clip-after 1 {RULES}");
    place.run(&format!("{arguments} -o m.mp4")).code(0);
    let marked = frames(&place.path("m.mp4"));
    let written = events(&place);
    let path = place.path(written[0]["clip"].as_str().unwrap());
    let (start, end) = place_of(&place.path("m.mp4"), &path);
    assert!(start <= 5.1 && end >= 8.9 && end - start < 8.0, "{start} {end}");
    let (with_video, begun) = (frames(&path), tone(&path));

    place.run(&format!("{arguments} -o none --overwrite --json r.json")).code(0);
    assert_eq!(events(&place), written);
    let alone = frames(&path);
    // What is drawn is on them, and they are those of before.
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) > 12);
    assert_eq!(alone.len(), with_video.len());
    assert!(!alone.iter().zip(&with_video).any(|(a, b)| differ(&a.1, &b.1)) && marked.len() > alone.len());
    let clean = frames(&place.path("a.mp4"));
    assert!(alone.iter().any(|(_, picture)| clean.iter().all(|(_, other)| differ(picture, other))));
    assert_eq!(tone(&path), begun);
    assert_eq!(names(&place.path("clips")).len(), 2, "nothing else is left there");
    assert_eq!(fs::read_dir(place.path("clips")).unwrap().count(), 2);
    assert!(json(&place.path("r.json"))["inputs"][0]["output"].is_null());
}

/// The edge at which the first picture of a file is the brightest as a player shows it: top, right, bottom, left.
fn bright_edge(path: &Path) -> usize {
    let pixels = through_ffmpeg(path, "-map 0:v:0 -frames:v 1 -vf scale=32:32 -pix_fmt gray -f rawvideo -");
    let mean = |part: &dyn Fn(usize, usize) -> bool| {
        let inside = (0..32 * 32).filter(|i| part(i % 32, i / 32)).map(|i| f64::from(pixels[i]));
        inside.clone().sum::<f64>() / inside.count() as f64
    };
    let edges = [mean(&|_, y| y < 4), mean(&|x, _| x > 27), mean(&|_, y| y > 27), mean(&|x, _| x < 4)];
    (0..4).max_by(|a, b| edges[*a].total_cmp(&edges[*b])).unwrap()
}

#[test]
fn the_clip_of_a_phone_held_upright_plays_upright() {
    let place = place();
    let flat = drive(&place, "flat.mp4", H264);
    // Bright at the top, as it was coded.
    let bright = place.clip(
        "bright.mp4",
        &format!(
            "-i {} -vf drawbox=x=0:y=0:w=iw:h=8:color=0x707070:t=fill -c:v libx264 -preset ultrafast -g 10 -c:a copy",
            flat.display()
        ),
    );
    let mut seen = Vec::new();
    for degrees in [0, 90, 180, 270] {
        let name = format!("phone{degrees}.mp4");
        place.clip(&name, &format!("-i {} -c copy -metadata:s:v:0 rotate={degrees}", bright.display()));
        place.run(&format!("run {name} -o none -o events:e.jsonl -o clips:clips --overwrite {RULES}")).code(0);
        let edge = bright_edge(&place.path(&name));
        for event in events(&place) {
            assert_eq!(bright_edge(&place.path(event["clip"].as_str().unwrap())), edge, "{degrees}");
        }
        seen.push(edge);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3], "each is turned another way");
}

#[test]
fn the_clips_of_a_tree_are_in_its_records_and_its_page() {
    let place = place();
    drive(&place, "tree/cam/a.mp4", H264);
    drive(&place, "tree/cam/b.mp4", "-c:v mjpeg -q:v 3 -c:a pcm_s16le -f mov");
    let arguments =
        format!("run -r tree -o none -o events:events -o clips:clips --clip-before 1 --clip-after 1 {RULES}");
    place.run(&arguments).code(0);
    let record = json(&place.path("events/cam/a.done.json"));
    assert_eq!(record["outputs"]["clips"], "../../clips/cam/a_*.mp4");
    let clips = names(&place.path("clips"));
    assert_eq!(
        clips.iter().filter(|name| name.starts_with("cam/a_") && name.ends_with(".mp4")).count(),
        2,
        "{clips:?}"
    );
    assert_eq!(
        clips.iter().filter(|name| name.starts_with("cam/b_") && name.ends_with(".mkv")).count(),
        2,
        "{clips:?}"
    );
    place.run("report events -o review.html").code(0);
    let page = fs::read_to_string(place.path("review.html")).unwrap();
    assert_eq!(clips.iter().filter(|name| page.contains(&format!("clips/{name}"))).count(), 4);
    // Done anew, the clips of before are replaced, whatever their container.
    place.run(&format!("{arguments} --no-resume")).code(0);
    assert_eq!(names(&place.path("clips")), clips);
    // Nothing but clips depends on the rolls.
    place.run(&arguments.replace("--clip-before 1", "--clip-before 2")).code(0).says(&["2 ok"]);
}

#[test]
fn what_is_wrong_with_clips_is_said_and_nothing_else_is_lost() {
    let place = place();
    drive(&place, "a.mp4", H264);
    fs::write(place.path("file"), "").unwrap();
    let arguments = format!("run a.mp4 -o m.mp4 -o events:e.jsonl {RULES}");
    place.run(&format!("{arguments} -o clips:file")).code(1).says(&["clips:file"]);
    place
        .run(&format!("run test://ball?frames=9 -o none -o clips:clips {RULES}"))
        .code(2)
        .says(&["clips:", "--annotated-clips"]);
    place.run("run a.mp4 -o none -o clips:clips --clip-before 2h").code(2).says(&["archive.clip_before_s"]);

    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).arg(&disk).stderr(Stdio::null()).status();
    if !mount(&["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).is_ok_and(|status| status.success()) {
        eprintln!("skipped: a small disk cannot be mounted here");
        return;
    }
    let ended = place.run(&format!("{arguments} -o clips:disk --overwrite"));
    let left = names(&disk);
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    ended.code(1).says(&["clips", "no space left"]);
    assert_eq!(left, [""; 0], "no half a clip");
    assert_eq!(events(&place).len(), 2);
    assert_eq!(frames(&place.path("m.mp4")).len(), 200);
}
