//! Embeddings of events, and what is found by them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use support::common::Place;
use support::onnx::Graph;

use crate::{RULES, coloured, names, place};

const COLOURS: [(&str, [f32; 3]); 3] =
    [("yellow", [1.0, 1.0, 0.0]), ("cyan", [0.0, 1.0, 1.0]), ("magenta", [1.0, 0.0, 1.0])];

/// A folder with a network to which bright colours are unknown and whose features are the colour, and two clips of each
/// of three colours.
fn with_colours() -> Place {
    let place = place();
    let network = Graph::default()
        .input("input", &[1, 3, 32, 64])
        .constant("wl", &[2, 3, 1, 1], &[-1.0; 6])
        .constant("wf", &[3, 3, 1, 1], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
        .node("Conv", &["input", "wl"], "logits", &[])
        .node("Conv", &["input", "wf"], "features", &[("strides", &[2, 2])])
        .output("logits", &[1, 2, 32, 64])
        .output("features", &[1, 3, 16, 32]);
    network.save(&place.path("model.onnx"));
    for (colour, _) in COLOURS {
        for n in 1..=2 {
            coloured(&place, &format!("tree/{colour}{n}.mp4"), 3, colour);
        }
    }
    place
}

/// The rows of `file` with what is known of them, by stream.
fn rows(place: &Place, file: &str) -> BTreeMap<String, (Vec<f32>, Value)> {
    let array = oodstream::npy::read(&place.path(&format!("{file}.npy"))).unwrap();
    let ids = fs::read_to_string(place.path(&format!("{file}.ids.jsonl"))).unwrap();
    let ids: Vec<Value> = ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(array.nrows(), ids.len());
    let rows = array.rows().into_iter().map(|row| row.to_vec());
    rows.zip(ids).map(|(row, id)| (id["stream"].as_str().unwrap().to_owned(), (row, id))).collect()
}

#[test]
fn rows_are_the_mean_features_of_events_and_shards_join_to_the_whole() {
    let place = with_colours();
    place.run(&format!("run -r tree -o none -o events:events/ -o embeddings:rows/ {RULES}")).code(0);
    assert_eq!(names(&place.path("rows")).len(), 12);
    for (colour, expected) in COLOURS {
        for n in 1..=2 {
            let stream = format!("{colour}{n}.mp4");
            let found = rows(&place, &format!("rows/{colour}{n}"));
            let (row, id) = &found[&stream];
            assert!(
                row.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 0.2),
                "{colour}: {row:?}"
            );
            let events = fs::read_to_string(place.path(&format!("events/{colour}{n}.jsonl"))).unwrap();
            let event: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
            for key in ["id", "label", "start_s", "end_s", "severity"] {
                assert_eq!(id[key], event[key], "{key}");
            }
            let at = |value: &Value| value.as_f64().unwrap();
            assert!((at(&event["start_s"])..=at(&event["end_s"])).contains(&at(&id["peak_s"])), "{id}");
            assert_eq!(id["model"].as_str().unwrap().len(), 64);
        }
    }
    for shard in 1..=2 {
        let outputs = format!("-o none -o events:part{shard}/ -o embeddings:part{shard}/");
        place.run(&format!("run -r tree {outputs} {RULES} --shard {shard}/2")).code(0);
    }
    let merged = place.run("merge part1 part2 -o all --json -").code(0).json();
    assert_eq!(merged["embeddings"], 6);
    let all = rows(&place, "all/embeddings");
    for (stream, row) in &all {
        assert_eq!(row, &rows(&place, &format!("rows/{}", stream.trim_end_matches(".mp4")))[stream]);
    }
    // Numbers of a run on files one by one are the same.
    place.run(&format!("run tree/cyan1.mp4 tree/cyan2.mp4 -o none -o embeddings:two.npy {RULES}")).code(0);
    let two = rows(&place, "two");
    assert_eq!(two["tree/cyan2.mp4"].0, all["cyan2.mp4"].0);
}

#[test]
fn alike_and_different_events_are_found() {
    let place = with_colours();
    place.run(&format!("run -r tree -o none -o events:events/ -o embeddings:rows/ {RULES}")).code(0);
    let by = |arguments: &str| {
        let report = place.run(&format!("mine {arguments} --json -")).code(0).json();
        let streams = report["chosen"].as_array().unwrap().iter();
        streams.map(|event| event["stream"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (colour, _) in COLOURS {
        let id =
            rows(&place, &format!("rows/{colour}1"))[&format!("{colour}1.mp4")].1["id"].as_str().unwrap().to_owned();
        assert_eq!(by(&format!("rows --like {id} --count 1")), [format!("{colour}2.mp4")]);
        // By the records, which are beside the events.
        assert_eq!(by(&format!("events --like {id}")).len(), 5);
    }
    let mut unique: Vec<String> = by("rows --unique 3").iter().map(|name| name[..3].to_owned()).collect();
    unique.sort();
    assert_eq!(unique, ["cya", "mag", "yel"]);
    let table = place.run("mine rows --unique 2").code(0).says(&["2 of 6 events"]).stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    place.run("mine rows --like 0123").code(2).says(&["--like 0123"]);
    place.run("mine tree --unique 2").code(1).says(&["tree", "no embeddings", "-o embeddings:"]);
    place.run("mine rows").code(2).says(&["--like"]);
    fs::write(place.path("rows/cyan1.ids.jsonl"), "").unwrap();
    place.run("mine rows --unique 2").code(1).says(&["cyan1.npy has 1 rows", "has 0 lines"]);
}

#[test]
fn what_is_there_is_kept_and_networks_without_features_are_refused() {
    let place = with_colours();
    fs::rename(place.path("tree/cyan1.mp4"), place.path("a.mp4")).unwrap();
    place.run(&format!("run a.mp4 -o none -o embeddings:e.npy {RULES}")).code(0);
    let before = fs::read(place.path("e.npy")).unwrap();
    place.run(&format!("run a.mp4 -o none -o embeddings:e.npy {RULES}")).code(2).says(&["e.npy", "--overwrite"]);
    assert_eq!(fs::read(place.path("e.npy")).unwrap(), before);
    // A live run goes on where it was.
    place.run(&format!("run a.mp4 --realtime -o none -o embeddings:e.npy {RULES}")).code(0);
    let array = oodstream::npy::read(&place.path("e.npy")).unwrap();
    assert_eq!((array.dim(), fs::read_to_string(place.path("e.ids.jsonl")).unwrap().lines().count()), ((2, 3), 2));
    // No event at all.
    let rules = RULES.replace("1.5", "9");
    place.run(&format!("run a.mp4 -o none -o embeddings:none.npy {rules}")).code(0);
    assert_eq!(oodstream::npy::read(&place.path("none.npy")).unwrap().nrows(), 0);
    place
        .run(&format!("run -r tree -o none -o embeddings:one.npy {RULES}"))
        .code(2)
        .says(&["embeddings:one.npy", "one file for a tree"]);
    support::onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    place
        .run(&format!("run a.mp4 -o none -o embeddings:f.npy {RULES}"))
        .code(2)
        .says(&["embeddings", "no feature output"]);
    assert!(!place.path("f.npy").exists());
    place.run(&format!("run -r tree -o none -o embeddings:f/ {RULES}")).code(2).says(&["no feature output"]);
}
