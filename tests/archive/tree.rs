//! Trees in, trees out.

use std::fs;
use std::process::Stdio;

use crate::{RULES, boxed, contents, json, names, place};
use support::common::{Place, video_times};

/// Three clips of one name, in three folders.
fn equal_names() -> Place {
    let place = place();
    let clip = boxed(&place, "tree/cam1/drive.mp4", 3);
    for folder in ["tree/cam2", "tree/cam2/old"] {
        fs::create_dir_all(place.path(folder)).unwrap();
        fs::copy(&clip, place.path(&format!("{folder}/drive.mp4"))).unwrap();
    }
    place
}

#[test]
fn outputs_mirror_the_tree_and_equal_names_do_not_collide() {
    let place = equal_names();
    let ended = place
        .run(&format!("run -r tree -o marked/ -o events:events/ -o masks:masks -o scores:scores {RULES} --json -"))
        .code(0)
        .says(&["3 files"]);
    let folders = ["cam1", "cam2", "cam2/old"];
    for folder in folders {
        assert_eq!(video_times(&place.path(&format!("marked/{folder}/drive.ood.mp4"))).len(), 30);
        let record = json(&place.path(&format!("marked/{folder}/drive.done.json")));
        assert_eq!((&record["status"], &record["frames"], &record["events"]), (&"ok".into(), &30.into(), &1.into()));
        assert_eq!(record["input"], format!("{folder}/drive.mp4"));
        let events = fs::read_to_string(place.path(&format!("events/{folder}/drive.jsonl"))).unwrap();
        assert!(events.lines().all(|line| line.contains(&format!("\"stream\":\"{folder}/drive.mp4\""))), "{events}");
        // The outputs that the record names are there, seen from where it is.
        for (kind, path) in record["outputs"].as_object().unwrap() {
            let path = place.path(&format!("marked/{folder}")).join(path.as_str().unwrap());
            assert!(path.to_string_lossy().contains('*') || path.is_file(), "{kind}: {}", path.display());
        }
    }
    assert_eq!(contents(&place.path("masks"), ".png").len(), 90);
    assert_eq!(contents(&place.path("scores"), ".npy").len(), 90);
    // Ids differ, as the streams do.
    let report = ended.json();
    assert_eq!(report["archive"]["ok"], 3);
    assert_eq!(report["inputs"].as_array().unwrap().len(), 3);
    assert_eq!(names(&place.path("marked")).iter().filter(|name| name.contains(".doing")).count(), 0);
}

#[test]
fn what_is_recorded_is_not_done_again_and_what_has_changed_is() {
    let place = equal_names();
    let run = |more: &str| {
        let arguments = format!("run -r tree -o none -o events:events/ {RULES} --json - {more}");
        let report = place.run(&arguments).code(0).json();
        let archive = &report["archive"];
        (archive["recorded_before"].as_u64().unwrap(), archive["ok"].as_u64().unwrap())
    };
    assert_eq!(run(""), (0, 3));
    let before = contents(&place.path("events"), ".jsonl");
    assert_eq!(run(""), (3, 0));
    // Options that change no result change no record.
    assert_eq!(run("--threads 1 --jobs 2"), (3, 0));
    assert_eq!(run("--no-resume"), (0, 3));
    assert_eq!(contents(&place.path("events"), ".jsonl"), before);
    assert_eq!(run("--set events.min_area=0.5"), (0, 3));
    assert_ne!(contents(&place.path("events"), ".jsonl"), before);
    assert_eq!(run(""), (0, 3));
    fs::remove_file(place.path("events/cam1/drive.jsonl")).unwrap();
    assert_eq!(run(""), (2, 1));
    boxed(&place, "tree/cam1/drive.mp4", 4);
    assert_eq!(run(""), (2, 1));
    onnx_again(&place);
    assert_eq!(run(""), (0, 3));
}

/// Another network with the same answers.
fn onnx_again(place: &Place) {
    let mut bytes = fs::read(place.path("model.onnx")).unwrap();
    // Field 6 of the model, its documentation.
    bytes.extend([0x32, 1, b'x']);
    fs::write(place.path("model.onnx"), bytes).unwrap();
}

#[test]
fn several_files_at_once_give_the_same_events() {
    let place = place();
    crate::copies(&place, 7);
    for (folder, jobs) in [("one", 1), ("three", 3)] {
        place.run(&format!("run -r tree -o none -o events:{folder}/ {RULES} --jobs {jobs}")).code(0);
    }
    let one = contents(&place.path("one"), ".jsonl");
    assert_eq!(one.len(), 7);
    assert!(one.values().all(|events| events.windows(5).any(|part| part == b"\"end\"")));
    assert_eq!(one, contents(&place.path("three"), ".jsonl"));
}

#[test]
fn shards_are_the_whole_and_write_nothing_twice() {
    let place = place();
    crate::copies(&place, 8);
    place.run(&format!("run -r tree -o none -o events:whole/ {RULES}")).code(0);
    for shard in 1..=3 {
        let more = format!("--shard {shard}/3 --json -");
        let report = place.run(&format!("run -r tree -o none -o events:parts/ {RULES} {more}")).code(0).json();
        assert_eq!(report["archive"]["recorded_before"], 0);
        let shards = report["archive"]["passed_by"]["other_shards"].as_u64().unwrap();
        assert_eq!(report["archive"]["total"].as_u64().unwrap() + shards, 8);
    }
    assert_eq!(contents(&place.path("whole"), ".jsonl"), contents(&place.path("parts"), ".jsonl"));
    let status = place.run("-q status parts --json -").code(0).json();
    assert_eq!((&status["ok"], &status["left"], &status["total"]), (&8.into(), &0.into(), &8.into()));
    assert!(status["shards_missing"].as_array().unwrap().is_empty());
}

#[test]
fn lists_come_from_a_file_or_from_standard_input() {
    let place = place();
    let keys = crate::copies(&place, 3);
    let list: String = keys.iter().map(|key| format!("tree/{key}\n")).collect();
    fs::write(place.path("list"), &list).unwrap();
    place.run(&format!("run --inputs-from list -o none -o events:file/ {RULES}")).code(0);
    let arguments = format!("run --inputs-from - -o none -o events:pipe/ {RULES}");
    let mut child = place.program().args(arguments.split_whitespace()).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), list.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let file = contents(&place.path("file"), ".jsonl");
    assert_eq!(file.keys().collect::<Vec<_>>(), ["tree/a/000.jsonl", "tree/b/000.jsonl", "tree/c/000.jsonl"]);
    assert_eq!(file, contents(&place.path("pipe"), ".jsonl"));
}

#[test]
fn equal_names_do_not_collide_without_a_tree_either() {
    let place = equal_names();
    place.run(&format!("run tree/cam1/drive.mp4 tree/cam2/drive.mp4 -o none -o masks:masks {RULES}")).code(0);
    let masks = names(&place.path("masks"));
    assert_eq!(masks.len(), 60);
    assert!(masks.contains(&"drive_000000.png".to_owned()) && masks.contains(&"drive.mp4_000000.png".to_owned()));
}
