//! An archive through Ray Data, by `deploy/ray/oodstream_ray.py` on a local cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::common::Place;

use crate::kept::python;
use crate::{RULES, contents, copies, json, place};

/// Starts the script on `inputs`.
fn start(place: &Place, python: &str, arguments: &str) -> Child {
    let script = support::repository().join("deploy/ray/oodstream_ray.py");
    Command::new(python)
        .arg(script)
        .args(arguments.split_whitespace())
        .args(["--program", &support::binary().display().to_string(), "--"])
        .args(RULES.split_whitespace())
        .current_dir(place.path(""))
        .env("OODSTREAM_MODEL", place.path("model.onnx"))
        .env("RUST_LOG", "oodstream=debug")
        .env("RAY_USAGE_STATS_ENABLED", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The processes below `root` whose command line begins with `name`.
fn below(root: u32, name: &str) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let is_below = |mut pid: u32| loop {
        match parent(pid) {
            Some(up) if up == root => return true,
            Some(up) if up > 1 => pid = up,
            _ => return false,
        }
    };
    let is_named =
        |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(name.as_bytes()));
    pids.filter(is_named).filter(|pid| is_below(*pid)).collect()
}

/// The keys of the files with a record, published or not yet.
fn done(results: &Path) -> BTreeSet<String> {
    let key = |name: &String| name.rsplit("events/").next().unwrap_or_default().replace(".done.json", ".mp4");
    contents(results, ".done.json").keys().filter(|name| !name.contains("/.")).map(key).collect()
}

/// The keys of the files that were opened, in the order of the logs.
fn opened(log: &str) -> Vec<String> {
    let key = |line: &str| Some(line.split_once("opened in/")?.1.split_whitespace().next()?.to_owned());
    log.lines().filter_map(key).collect()
}

/// What the programs have logged so far, by the file of each batch.
fn logs(results: &Path) -> BTreeMap<String, String> {
    let logs = contents(&results.join("logs"), ".log").into_iter();
    logs.map(|(name, log)| (name, String::from_utf8_lossy(&log).into_owned())).collect()
}

#[test]
fn workers_that_are_killed_cost_no_finished_file() {
    let Some(python) = python("ray.data") else { return };
    let place = place();
    let keys = copies(&place, 60);
    fs::write(place.path("tree/b/bad.mp4"), "no video").unwrap();
    place.run(&format!("run -r tree -o none -o events:whole/ {RULES}")).code(0);
    let whole = contents(&place.path("whole"), ".jsonl");
    assert_eq!(whole.len(), 60);
    // Below the archive's folder it would be a part of it.
    let results = place.path("results");
    let mut child = start(&place, &python, "tree -o results --batch 8 --cpus 1 --actors 2");
    let mut random = 7u64;
    let mut kills = 0;
    // Before each kill: what was done, and how long the logs were.
    let mut marks: Vec<(BTreeSet<String>, BTreeMap<String, String>)> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let workers = below(child.id(), "ray::MapWorker");
        let there = done(&results).len();
        if kills < 6 && there > 5 * kills && !workers.is_empty() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let worker = workers[(random >> 33) as usize % workers.len()];
            marks.push((done(&results), logs(&results)));
            Command::new("kill").args(["-KILL", &worker.to_string()]).status().unwrap();
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(kills >= 3, "{kills} kills: {said}");
    let logs = logs(&results);
    for (done, before) in &marks {
        for (name, log) in &logs {
            let after = &log[before.get(name).map_or(0, String::len)..];
            let again: Vec<String> = opened(after).into_iter().filter(|key| done.contains(key)).collect();
            assert!(again.is_empty(), "decoded again: {again:?}");
        }
    }
    assert_eq!(logs.values().flat_map(|log| opened(log)).collect::<BTreeSet<_>>().len(), 60);
    let events = contents(&results.join("events"), ".jsonl");
    assert_eq!(events, whole);
    let joined: Vec<u8> = whole.values().flatten().copied().collect();
    assert_eq!(fs::read(results.join("merged/events.jsonl")).unwrap(), joined);
    assert_eq!(said.matches("b/bad.mp4: failed").count(), 1, "{said}");
    assert!(said.contains("60 ok, 0 damaged, 1 failed, 0 left"), "{said}");
    let record = json(&results.join("events/a/000.done.json"));
    assert_eq!(record["path"], format!("file://{}", place.path("tree/a/000.mp4").canonicalize().unwrap().display()));
    assert!(results.join("review.html").is_file());
    assert_eq!(done(&results).len(), keys.len() + 1);
    let rows = Command::new(&python)
        .args(["-c", "import pyarrow.parquet as p; t = p.read_table('results/events.parquet'); print(t.num_rows, len(set(t['id'].to_pylist())))"])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let lines = joined.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(String::from_utf8_lossy(&rows.stdout).trim(), format!("{lines} 60"));
    // Once more there is nothing to do.
    let again = start(&place, &python, "tree -o results").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && said.contains("61 files, 61 recorded, 0 to do"), "{said}");
}

#[test]
fn places_that_cannot_be_reached_are_one_line() {
    let Some(python) = python("ray.data") else { return };
    let place = place();
    for (arguments, word) in [
        ("s3://nowhere/archive -o results", "s3://nowhere/archive"),
        ("gone -o results", "gone"),
        ("other://bucket -o results", "other://bucket"),
    ] {
        let output = start(&place, &python, arguments).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word) && said.lines().count() == 1, "{arguments}: {said}");
    }
    assert!(!place.path("results").exists());
}
