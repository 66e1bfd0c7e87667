//! Regions in the formats of annotation tools, read by the tools' own importers.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use support::common::Place;

use crate::kept::{lines, python};
use crate::{RULES, boxed, json, place};

/// What `script` prints as JSON when `python` runs it in the folder.
#[track_caller]
fn printed(place: &Place, python: &str, script: &str) -> Value {
    let mut command = Command::new(python);
    command.current_dir(place.path("")).args(["-c", script]);
    // FiftyOne keeps its database in the home folder.
    let output = command.env("HOME", place.path("")).env("FIFTYONE_DO_NOT_TRACK", "1").output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|why| panic!("{why}: {out}{error}"))
}

/// The boxes of tracks by frame, from the regions file.
fn boxes(place: &Place, file: &str, all: bool) -> BTreeMap<u64, Vec<[u64; 4]>> {
    let mut found = BTreeMap::new();
    for line in lines(&place.path(file)) {
        let regions = line["regions"].as_array().unwrap().iter();
        let of_tracks =
            regions.filter(|region| all || matches!(region["standing"].as_str(), Some("alarm" | "unusual")));
        let rects: Vec<[u64; 4]> = of_tracks
            .map(|region| ["x", "y", "width", "height"].map(|key| region["box"][key].as_u64().unwrap()))
            .collect();
        if !rects.is_empty() {
            found.insert(line["frame"].as_u64().unwrap(), rects);
        }
    }
    found
}

#[test]
fn cvat_shows_the_tracks_where_they_were_and_no_longer() {
    let place = place();
    boxed(&place, "x.mp4", 4);
    for (file, more) in [("all", ""), ("sparse", "--every 0.3s")] {
        place.run(&format!("run x.mp4 -o none -o regions:{file}.regions.jsonl {RULES} {more}")).code(0);
        place.run(&format!("export {file}.regions.jsonl --format cvat -o {file}.xml")).code(0);
    }
    let Some(python) = python("datumaro") else { return };
    for file in ["all", "sparse"] {
        let script = format!(
            "
import json, os, shutil
import datumaro
os.makedirs('{file}', exist_ok=True); shutil.copy('{file}.xml', '{file}/annotations.xml')
data = datumaro.Dataset.import_from('{file}', 'cvat')
shown, gone = {{}}, []
for item in data:
    for one in item.annotations:
        frame = int(item.attributes.get('frame', item.id.rsplit('_', 1)[-1]))
        if one.attributes['outside']: gone.append(frame)
        else: shown.setdefault(frame, []).append([round(value) for value in one.get_bbox()])
print(json.dumps({{'shown': shown, 'gone': gone, 'labels': [label.name for label in data.categories()[datumaro.AnnotationType.label]]}}))"
        );
        let read = printed(&place, &python, &script);
        let expected = boxes(&place, &format!("{file}.regions.jsonl"), false);
        assert!(expected.len() >= 3, "{expected:?}");
        let shown: BTreeMap<u64, Vec<[u64; 4]>> = serde_json::from_value(read["shown"].clone()).unwrap();
        assert_eq!(shown, expected);
        assert_eq!(read["labels"], serde_json::json!(["unknown"]));
        // Once, at a frame that the video has.
        let after = lines(&place.path(&format!("{file}.regions.jsonl"))).pop().unwrap()["frame"].as_u64().unwrap();
        assert_eq!(read["gone"], serde_json::json!([after]));
        assert!(after < 40, "{after}");
    }
}

#[test]
fn fiftyone_shows_every_region_on_its_frame() {
    let place = place();
    boxed(&place, "tree/a/x.mp4", 3);
    boxed(&place, "tree/b/x.mp4", 3);
    place.run(&format!("run -r tree -o none -o regions:regions/ {RULES}")).code(0);
    place.run("export regions --format fiftyone -o fo").code(2).says(&["a/x.mp4", "--videos"]);
    assert!(!place.path("fo/manifest.json").exists());
    place.run("export regions --format fiftyone --videos tree -o fo --overwrite").code(0);
    place.run("export regions --format fiftyone --videos tree -o fo").code(2).says(&["manifest.json", "--overwrite"]);
    let Some(python) = python("fiftyone") else { return };
    let script = "
import json
import fiftyone as fo
data = fo.Dataset.from_dir(dataset_dir='fo', dataset_type=fo.types.FiftyOneVideoLabelsDataset)
found = {}
for sample in data:
    sample.compute_metadata()
    width, height = sample.metadata.frame_width, sample.metadata.frame_height
    of = found.setdefault('/'.join(sample.filepath.split('/')[-2:]), {})
    for number, frame in sample.frames.items():
        regions = frame.regions.detections if frame.has_field('regions') and frame.regions else []
        boxes = [[round(v * s) for v, s in zip(one.bounding_box, (width, height, width, height))] for one in regions]
        if boxes: of[number - 1] = boxes
        assert all(one.label == 'unknown' for one in regions), regions
data.delete()
print(json.dumps(found))";
    let read = printed(&place, &python, script);
    for stream in ["a/x.mp4", "b/x.mp4"] {
        let found: BTreeMap<u64, Vec<[u64; 4]>> = serde_json::from_value(read[stream].clone()).unwrap();
        assert_eq!(found, boxes(&place, &format!("regions/{}", stream.replace(".mp4", ".regions.jsonl")), true));
    }
}

#[test]
fn exports_of_a_tree_and_what_is_wrong_with_them() {
    let place = place();
    boxed(&place, "tree/a/x.mp4", 3);
    boxed(&place, "tree/b/x.mp4", 3);
    place.run(&format!("run -r tree -o none -o regions:regions/ {RULES}")).code(0);
    let report = place.run("export regions --format csv -o r.csv --json -").code(0).json();
    assert_eq!(report["files"], 2);
    let table = fs::read_to_string(place.path("r.csv")).unwrap();
    assert_eq!(table.lines().count() as u64, report["regions"].as_u64().unwrap() + 1);
    place.run("export regions --format coco -o r.json").code(0);
    let coco = json(&place.path("r.json"));
    let tracks: std::collections::BTreeSet<_> =
        coco["annotations"].as_array().unwrap().iter().filter_map(|one| one["track_id"].as_u64()).collect();
    assert!(tracks.len() >= 2, "tracks of two videos are not one: {tracks:?}");
    place.run("export regions/a/x.regions.jsonl --format cvat -o x.xml").code(0);
    let xml = fs::read_to_string(place.path("x.xml")).unwrap();
    assert!(xml.contains("<track id=\"1\" label=\"unknown\"") && xml.contains("outside=\"1\""), "{xml}");
    place.run("export regions --format cvat -o y.xml").code(2).says(&["one video"]);
    place.run("export regions --format csv -o r.csv").code(2).says(&["r.csv", "--overwrite"]);
    place.run("export tree --format csv -o z.csv").code(1).says(&["tree", "regions.jsonl"]);
    fs::write(place.path("bad.jsonl"), "{\"schema\":1}\n").unwrap();
    place.run("export bad.jsonl --format coco -o z.json").code(1).says(&["bad.jsonl, line 1"]);
    assert!(!place.path("z.json").exists() && !place.path("y.xml").exists());
    // A box whose right edge has no number is an error, not a box at the left.
    let line =
        fs::read_to_string(place.path("regions/a/x.regions.jsonl")).unwrap().replacen("\"x\":", "\"x\":9999999999", 1);
    fs::write(place.path("far.jsonl"), line).unwrap();
    place.run("export far.jsonl --format cvat -o far.xml").code(1).says(&["far.jsonl, line 1"]);
}
