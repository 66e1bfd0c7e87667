//! What is kept of an event: wall times, snapshots, regions, tables, chapters, and exports of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::common::{Place, ffprobe};

use crate::{RULES, boxed, json, names, place};

/// The lines of a file of JSON.
pub fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last line of the event of a clip of [`boxed`].
fn event(place: &Place, arguments: &str) -> Value {
    place.run(&format!("run {arguments} -o none -o events:e.jsonl --overwrite {RULES}")).code(0);
    lines(&place.path("e.jsonl")).pop().unwrap()
}

#[test]
fn files_have_wall_times_from_their_names_or_their_containers() {
    let place = place();
    boxed(&place, "20210304_050607_NF.mp4", 3);
    let found = event(&place, "20210304_050607_NF.mp4 --time-zone +01:00");
    let seconds = found["start_s"].as_f64().unwrap();
    assert!((0.9..1.3).contains(&seconds), "{found}");
    assert_eq!(found["time_source"], "file-name");
    let expected = format!("2021-03-04T04:06:{:06.3}Z", 7.0 + seconds);
    assert_eq!(found["start_wall"], expected);
    assert_eq!(event(&place, "20210304_050607_NF.mp4 --time-zone Europe/Berlin")["start_wall"], expected);
    let report = place
        .run(&format!("run 20210304_050607_NF.mp4 -o none -o events:n.jsonl {RULES} --time-zone +01:00 --json -"))
        .code(0)
        .says(&["BlackVue", "+01:00"])
        .json();
    assert!(report["inputs"][0]["notes"].to_string().contains("BlackVue"), "{report}");

    fs::copy(place.path("20210304_050607_NF.mp4"), place.path("bus 04.03.2021-050607.mp4")).unwrap();
    fs::write(place.path("list"), "bus 04.03.2021-050607.mp4\n").unwrap();
    let arguments = format!("run --inputs-from list -o none -o events:own {RULES} --time-zone UTC --time-pattern");
    let output = place.program().args(arguments.split(' ')).arg("bus %d.%m.%Y-%H%M%S").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let own = lines(&place.path("own/bus 04.03.2021-050607.jsonl")).pop().unwrap();
    assert_eq!(own["start_wall"], format!("2021-03-04T05:06:{:06.3}Z", 7.0 + seconds));

    let clip = place.path("20210304_050607_NF.mp4").display().to_string();
    place.clip("drive.mp4", &format!("-i {clip} -c copy -metadata creation_time=2022-01-02T03:04:05Z"));
    let found = event(&place, "drive.mp4");
    assert_eq!(
        (&found["time_source"], &found["start_wall"]),
        (&"container".into(), &format!("2022-01-02T03:04:{:06.3}Z", 5.0 + seconds).into())
    );
    place.clip("bare.mp4", &format!("-i {clip} -c copy -map_metadata -1"));
    let found = event(&place, "bare.mp4");
    assert_eq!((&found["time_source"], &found["start_wall"]), (&"running".into(), &Value::Null));

    for (option, value) in [("--time-pattern", "%Y-%m"), ("--time-zone", "Mars/Olympus")] {
        place.run(&format!("run drive.mp4 -o none {option} {value}")).code(2).says(&[value]);
    }
}

#[test]
fn snapshots_show_the_event_at_its_peak() {
    let place = place();
    boxed(&place, "a.mp4", 3);
    place.run(&format!("run a.mp4 -o none -o events:e.jsonl -o snapshots:shots {RULES}")).code(0);
    let events = lines(&place.path("e.jsonl"));
    let last = events.last().unwrap();
    let (id, path) = (last["id"].as_str().unwrap(), last["snapshot"].as_str().unwrap());
    assert_eq!(path, format!("shots/a_{id}.jpg"));
    assert!(events.iter().all(|event| event["thumbnail"] == path && event["snapshot"] == path));
    assert_eq!(names(&place.path("shots")), [format!("a_{id}-clean.jpg"), format!("a_{id}.jpg")]);
    let open = |name: String| image::open(place.path(&name)).unwrap().to_rgb8();
    let (clean, annotated) = (open(format!("shots/a_{id}-clean.jpg")), open(path.to_owned()));
    assert_eq!((clean.dimensions(), annotated.dimensions()), ((160, 90), (160, 90)));
    // Where the event has its box the clean picture is white, and the other one is drawn on.
    let part = |key: &str| last["box"][key].as_u64().unwrap() as u32;
    let (x, y) = (part("x") + part("width") / 2, part("y") + part("height") / 2);
    assert!(clean.get_pixel(x, y).0.iter().all(|value| *value > 230), "{:?}", clean.get_pixel(x, y));
    assert!(clean.get_pixel(5, 5).0.iter().all(|value| *value < 25), "{:?}", clean.get_pixel(5, 5));
    assert!(annotated.get_pixel(x, y).0[2] < 220, "{:?}", annotated.get_pixel(x, y));
}

/// The mask of COCO run lengths, column by column, by the definition of the format.
fn decode(counts: &str) -> Vec<bool> {
    let (mut lengths, mut value, mut shift): (Vec<i64>, i64, u32) = (Vec::new(), 0, 0);
    for byte in counts.bytes() {
        let bits = i64::from(byte) - 48;
        value |= (bits & 0x1f) << (5 * shift);
        shift += 1;
        if bits & 0x20 == 0 {
            if bits & 0x10 != 0 {
                value |= -1 << (5 * shift);
            }
            if lengths.len() > 2 {
                value += lengths[lengths.len() - 2];
            }
            lengths.push(value);
            (value, shift) = (0, 0);
        }
    }
    lengths.iter().enumerate().flat_map(|(n, length)| std::iter::repeat_n(n % 2 == 1, *length as usize)).collect()
}

#[test]
fn regions_are_the_masks_and_pycocotools_agrees() {
    let place = place();
    boxed(&place, "a.mp4", 3);
    place.run(&format!("run a.mp4 -o none -o regions:a.regions.jsonl -o masks:masks {RULES}")).code(0);
    let frames = lines(&place.path("a.regions.jsonl"));
    assert!(frames.len() >= 9, "{}", frames.len());
    let mut marked = 0;
    for frame in &frames {
        let mut mask = vec![false; 160 * 90];
        for region in frame["regions"].as_array().unwrap() {
            assert_eq!(region["segmentation"]["size"], serde_json::json!([90, 160]));
            let pixels = decode(region["segmentation"]["counts"].as_str().unwrap());
            assert_eq!(pixels.len(), mask.len());
            assert_eq!(pixels.iter().filter(|pixel| **pixel).count() as u64, region["area"].as_u64().unwrap());
            for (pixel, of_region) in mask.iter_mut().zip(pixels) {
                assert!(!(*pixel && of_region), "a pixel is in two regions");
                *pixel |= of_region;
            }
        }
        let name = format!("masks/a_{:06}.png", frame["frame"].as_u64().unwrap());
        let png = image::open(place.path(&name)).unwrap().to_luma8();
        for (x, y, pixel) in png.enumerate_pixels() {
            assert_eq!(mask[(x * 90 + y) as usize], pixel.0[0] > 0, "{name} {x} {y}");
        }
        marked += u64::from(png.pixels().any(|pixel| pixel.0[0] > 0));
    }
    let all = names(&place.path("masks"));
    let with_pixels = all.iter().filter(|name| {
        image::open(place.path(&format!("masks/{name}"))).unwrap().to_luma8().pixels().any(|pixel| pixel.0[0] > 0)
    });
    assert_eq!(with_pixels.count() as u64, marked, "every frame with something marked has a line");
    assert!(frames.last().unwrap()["regions"].as_array().unwrap().is_empty(), "the frame that ends them has a line");
    let alarms = frames.iter().filter(|frame| frame["regions"].to_string().contains("\"alarm\"")).count();
    assert!(alarms > 5, "{alarms}");

    place.run("export a.regions.jsonl --format coco -o a.json").code(0);
    let coco = json(&place.path("a.json"));
    assert_eq!(coco["images"].as_array().unwrap().len(), frames.len());
    assert_eq!(coco["images"][0]["file_name"], format!("a_{:06}.png", frames[0]["frame"].as_u64().unwrap()));
    let Some(python) = python("pycocotools") else { return };
    let script = "
import json, sys
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
coco = COCO('a.json')
for image in coco.loadImgs(coco.getImgIds()):
    mask = np.zeros((image['height'], image['width']), bool)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image['id'])):
        one = coco.annToMask(annotation).astype(bool)
        assert one.sum() == annotation['area'], annotation
        rows, columns = np.where(one)
        x, y, w, h = annotation['bbox']
        assert (columns.min(), rows.min()) == (x, y) and (columns.max() + 1, rows.max() + 1) == (x + w, y + h)
        mask |= one
    assert (mask == (np.asarray(Image.open('masks/' + image['file_name'])) > 0)).all(), image
print('equal', len(coco.getImgIds()))
";
    let output = Command::new(python).current_dir(place.path("")).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("equal {}", frames.len())));
}

/// The first Python that has `module`, of those that `OODSTREAM_PYTHON` names with `:` between them, or else of `python3`
/// and those of `make python`; none with a printed reason.
pub fn python(module: &str) -> Option<String> {
    let named = std::env::var("OODSTREAM_PYTHON").ok();
    let pythons: Vec<String> = match &named {
        Some(named) => named.split(':').map(ToOwned::to_owned).collect(),
        None => {
            let own = fs::read_dir(support::repository().join("target/python")).into_iter().flatten().flatten();
            let own = own.map(|entry| entry.path().join("bin/python").display().to_string());
            std::iter::once("python3".to_owned()).chain(own).collect()
        }
    };
    let has = |python: &&String| {
        let there = Command::new(python).args(["-c", &format!("import {module}")]).output();
        there.is_ok_and(|output| output.status.success())
    };
    let found = pythons.iter().find(has).cloned();
    if found.is_none() {
        eprintln!("skipped: no Python has {module}; `make python` installs one, OODSTREAM_PYTHON names others");
    }
    found
}

#[test]
fn tables_and_chapters_hold_every_event() {
    let place = place();
    boxed(&place, "a,b.mp4", 3);
    let outputs = "-o none -o events:e.jsonl -o csv:e.csv -o chapters:e.vtt";
    place.run(&format!("run a,b.mp4 {outputs} {RULES}")).code(0);
    let last = lines(&place.path("e.jsonl")).pop().unwrap();
    let table = fs::read_to_string(place.path("e.csv")).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].starts_with("id,stream,track_id,label"), "{table}");
    assert!(rows[1].starts_with(&format!("{},\"a,b.mp4\",1,unknown,true,", last["id"].as_str().unwrap())), "{table}");
    let chapters = fs::read_to_string(place.path("e.vtt")).unwrap();
    assert!(chapters.starts_with("WEBVTT\n\n00:00:01."), "{chapters}");
    // A player's parser finds one cue with the times of the event.
    let cue = ffprobe(&place.path("e.vtt"), "-show_entries packet=pts_time,duration_time");
    let times: Vec<f64> = cue[0].split(',').map(|time| time.parse().unwrap()).collect();
    let [start, end] = ["start_s", "end_s"].map(|key| last[key].as_f64().unwrap());
    assert!((times[0] - start).abs() < 0.002 && (times[0] + times[1] - end).abs() < 0.002, "{cue:?} {last}");
    place
        .run(&format!("run a,b.mp4 a,b.mp4 -o none -o chapters:two.vtt {RULES}"))
        .code(2)
        .says(&["chapters", "2 inputs"]);
}

#[test]
fn events_have_the_position_of_the_camera_where_the_file_has_it() {
    let place = place();
    let clip = boxed(&place, "bare.mp4", 4).display().to_string();
    // One sentence a second, a minute of latitude further north each time.
    let lines: String = (0..4)
        .map(|n| {
            format!(
                "{}\n00:00:0{n},000 --> 00:00:0{},000\n$GPRMC,12000{n},A,480{n}.000,N,01130.000,W,,,,,\n\n",
                n + 1,
                n + 1
            )
        })
        .collect();
    fs::write(place.path("gps.srt"), lines).unwrap();
    let srt = place.path("gps.srt").display().to_string();
    place.clip("a.mp4", &format!("-i {clip} -i {srt} -map 0 -map 1 -c:v copy -c:a copy -c:s mov_text"));
    let report =
        place.run(&format!("run a.mp4 -o none -o events:a.jsonl -o csv:a.csv {RULES} --json -")).code(0).json();
    assert!(report["inputs"][0]["notes"].to_string().contains("NMEA"), "{report}");
    let found = lines_of(&place, "a.jsonl");
    let seconds = found["start_s"].as_f64().unwrap().floor();
    let position = &found["position"];
    let (latitude, longitude) = (position["latitude"].as_f64().unwrap(), position["longitude"].as_f64().unwrap());
    assert!((latitude - (48.0 + seconds / 60.0)).abs() < 1e-6 && (longitude + 11.5).abs() < 1e-6, "{found}");
    assert_eq!(position["source"], "nmea");
    let table = fs::read_to_string(place.path("a.csv")).unwrap();
    let end = format!(",{},{}", position["latitude"], position["longitude"]);
    assert!(
        table.lines().next().unwrap().ends_with(",latitude,longitude") && table.trim_end().ends_with(&end),
        "{table}"
    );
    // Ordinary subtitles are no positions.
    fs::write(place.path("gps.srt"), "1\n00:00:00,000 --> 00:00:04,000\nA cow stands on the road.\n").unwrap();
    place.clip("b.mp4", &format!("-i {clip} -i {srt} -map 0 -map 1 -c:v copy -c:a copy -c:s mov_text"));
    place.run(&format!("run b.mp4 -o none -o events:b.jsonl {RULES}")).code(0);
    assert_eq!(lines_of(&place, "b.jsonl")["position"], Value::Null);
}

/// The last line of a file of JSON.
fn lines_of(place: &Place, name: &str) -> Value {
    lines(&place.path(name)).pop().unwrap()
}
