//! The page to look through events, and results of shards joined.

use std::fs;

use serde_json::Value;
use support::common::Place;

use crate::{RULES, contents, copies, place};

/// What a page holds.
fn data(place: &Place, page: &str) -> Value {
    let html = fs::read_to_string(place.path(page)).unwrap();
    let (_, rest) = html.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_page_has_every_file_and_event() {
    let place = place();
    let keys = copies(&place, 4);
    fs::write(place.path("tree/a/bad <b>.mp4"), "no video").unwrap();
    place.run(&format!("run -r tree -o marked/ -o events:events/ -o snapshots:shots/ {RULES}")).code(0);
    let report = place.run("report marked -o review.html --json -").code(0).json();
    assert_eq!((&report["files"], &report["events"], &report["embedded"]), (&5.into(), &4.into(), &4.into()));
    let page = data(&place, "review.html");
    let names: Vec<&str> =
        page["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert!(keys.iter().all(|key| names.contains(&key.as_str())), "{names:?}");
    let bad = &page["files"][names.iter().position(|name| name.contains("bad")).unwrap()];
    assert_eq!((&bad["status"], &bad["video"]), (&"failed".into(), &Value::Null));
    for event in page["events"].as_array().unwrap() {
        assert!(event["thumb"].as_str().unwrap().starts_with("data:image/jpeg;base64,"), "{event}");
        assert!(place.path(event["picture"].as_str().unwrap()).is_file(), "{event}");
        let file = &page["files"][event["file"].as_u64().unwrap() as usize];
        assert!(
            place.path(file["video"].as_str().unwrap()).is_file() && file["length"].as_f64().unwrap() > 2.9,
            "{file}"
        );
    }
    let severities: Vec<f64> =
        page["events"].as_array().unwrap().iter().map(|event| event["severity"].as_f64().unwrap()).collect();
    assert!(severities.is_sorted_by(|a, b| a >= b), "{severities:?}");
    // Nothing is fetched from anywhere.
    let html = fs::read_to_string(place.path("review.html")).unwrap();
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<b>.mp4</"), "it is offline");
    place.run("report marked -o review.html").code(2).says(&["review.html", "--overwrite"]);
    place.run("report marked -o review.html --overwrite --embed 0").code(0);
    assert_eq!(data(&place, "review.html")["events"][0]["thumb"], data(&place, "review.html")["events"][0]["picture"]);
    place.run("report tree -o x.html").code(1).says(&["no completion records"]);
}

#[test]
fn shards_are_joined_and_what_is_missing_is_listed() {
    let place = place();
    copies(&place, 8);
    place.run(&format!("run -r tree -o none -o events:whole/ {RULES}")).code(0);
    for shard in 1..=2 {
        place.run(&format!("run -r tree -o none -o events:part{shard}/ {RULES} --shard {shard}/2")).code(0);
    }
    let merged = place.run("merge part1 part2 -o all --json -").code(0).json();
    assert_eq!((&merged["files"], merged["missing"].as_array().unwrap().len()), (&8.into(), 0));
    let whole: Vec<u8> = contents(&place.path("whole"), ".jsonl").into_values().flatten().collect();
    assert_eq!(fs::read(place.path("all/events.jsonl")).unwrap(), whole);
    assert_eq!(fs::read_to_string(place.path("all/records.jsonl")).unwrap().lines().count(), 8);
    place.run("merge part1 part2 -o all").code(2).says(&["--overwrite"]);
    place.run("merge part1 whole -o twice").code(1).says(&["two records"]);
    place.run("merge part1 ./part1 -o twice").code(2).says(&["given twice"]);
    assert!(!place.path("twice").exists());
    place.run("merge part1 -o half").code(3).says(&["shard 2/2"]);
    let record = contents(&place.path("part2"), ".done.json").into_keys().next().unwrap();
    fs::remove_file(place.path("part2").join(&record)).unwrap();
    let merged = place.run("merge part1 part2 -o less --json -").code(3).json();
    assert_eq!(merged["missing"][0], record.replace(".done.json", ".mp4"));
    // A damaged run file, with more shards than could be listed.
    let run = place.path("part1/oodstream.run-1-of-2.json");
    let text = fs::read_to_string(&run).unwrap();
    fs::write(&run, text.replace("\"count\": 2", "\"count\": 1000000000000000000")).unwrap();
    place.run("merge part1 -o damaged").says(&[
        "oodstream.run-1-of-2.json",
        "left out",
        "no shard 1/1000000000000000000",
    ]);
    place
        .run("run -r tree -o none -o events:many/ --shard 1/1000000000000000000")
        .code(2)
        .says(&["--shard", "a million"]);
}
