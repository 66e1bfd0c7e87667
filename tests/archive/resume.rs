//! Runs that are killed or stopped, and go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::{RULES, contents, json, names, place};
use support::common::Place;

/// Starts a run with everything that it logs.
fn start(place: &Place, arguments: &str) -> Child {
    place
        .program()
        .args(format!("run -r tree {RULES} {arguments}").split_whitespace())
        .env("RUST_LOG", "oodstream=trace")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what the run logs until `enough` says so of a line, or to the end. Gives the lines read so far.
fn follow(child: &mut Child, mut enough: impl FnMut(&str) -> bool) -> (Vec<String>, bool) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let stop = enough(&line);
        seen.push(line);
        if stop {
            // Keep reading, so that the child never waits for us.
            std::thread::spawn(move || lines.for_each(drop));
            return (seen, true);
        }
    }
    (seen, false)
}

fn kill(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// The keys of the files that were opened.
fn opened(lines: &[String]) -> Vec<String> {
    let path = |line: &String| {
        let (_, rest) = line.split_once("opened tree/")?;
        rest.split_whitespace().next().map(ToOwned::to_owned)
    };
    lines.iter().filter_map(path).collect()
}

#[test]
fn killed_at_twenty_moments_it_goes_on_and_the_events_are_those_of_one_run() {
    let place = place();
    let keys = crate::copies(&place, 50);
    place.run(&format!("run -r tree -o none -o events:whole/ {RULES}")).code(0);
    let whole = contents(&place.path("whole"), ".jsonl");
    assert_eq!(whole.len(), 50);

    // Of a generator with a fixed seed: after how many lines of the log each run is killed.
    let mut state = 20u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut kills = 0;
    loop {
        let done: BTreeSet<String> = contents(&place.path("parts"), ".done.json")
            .into_keys()
            .map(|name| name.replace(".done.json", ".mp4"))
            .collect();
        let after = if kills < 20 { random(90) } else { u64::MAX };
        let mut lines = 0;
        let mut child = start(&place, "-o none -o events:parts/");
        let (seen, killed) = follow(&mut child, |line| {
            lines += u64::from(line.contains("opened") || line.contains("frame "));
            lines > after
        });
        if killed {
            kill(&child, "-KILL");
            kills += 1;
        }
        let code = child.wait().unwrap().code();
        for key in opened(&seen) {
            assert!(!done.contains(&key), "{key} is decoded again");
            *times.entry(key).or_default() += 1;
        }
        if !killed {
            assert_eq!(code, Some(0), "{seen:?}");
            break;
        }
    }
    assert_eq!(kills, 20, "all were done after {kills} kills");
    assert_eq!(times.len(), keys.len());
    assert_eq!(contents(&place.path("parts"), ".jsonl"), whole);
    let left: Vec<String> = names(&place.path("parts")).into_iter().filter(|name| name.contains("/.")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn sigterm_finishes_the_file_at_work_and_asks_to_be_called_again() {
    let place = place();
    crate::copies(&place, 6);
    let mut child = start(&place, "-o marked/ -o events:events/ --json r.json --grace 60s");
    let (_, there) = follow(&mut child, |line| line.contains("frame 2 "));
    assert!(there);
    kill(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let archive = &json(&place.path("r.json"))["archive"];
    let (ok, left) = (archive["ok"].as_u64().unwrap(), archive["left"].as_u64().unwrap());
    assert!((1..6).contains(&ok) && ok + left == 6, "{archive}");
    assert_eq!(contents(&place.path("marked"), ".ood.mp4").len() as u64, ok);
    assert_eq!(contents(&place.path("marked"), ".done.json").len() as u64, ok);
    let status = place.run("status marked").code(0).stdout;
    assert!(status.contains(&format!("left     {left}")) && status.contains("at the pace so far"), "{status}");
    place.run(&format!("run -r tree -o marked/ -o events:events/ {RULES}")).code(0);
    assert_eq!(contents(&place.path("marked"), ".ood.mp4").len(), 6);
}

#[test]
fn without_grace_the_file_at_work_is_discarded() {
    for (signal, code) in [("-TERM", 75), ("-INT", 130)] {
        let place = place();
        crate::copies(&place, 2);
        // Long enough that it cannot be over before the signal is there.
        place.clip(
            "tree/a/000.mp4",
            "-f lavfi -i testsrc2=size=320x180:rate=25:duration=120 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
        );
        let mut child = start(&place, "-o marked/ -o events:events/ -o masks:masks/ --grace 0.001s");
        let (_, there) = follow(&mut child, |line| line.contains("frame 5 "));
        assert!(there);
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let left: Vec<String> = ["marked", "events", "masks"]
            .iter()
            .flat_map(|folder| names(&place.path(folder)))
            .filter(|name| !name.contains("oodstream.run"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn two_runs_on_one_folder_are_refused() {
    let place = place();
    crate::copies(&place, 3);
    let mut child = start(&place, "-o none -o events:events/ --grace 0.001s");
    let (_, there) = follow(&mut child, |line| line.contains("frame 1 "));
    assert!(there);
    // Held still, so that it cannot end meanwhile.
    kill(&child, "-STOP");
    let second = place.run(&format!("run -r tree -o none -o events:events/ {RULES}"));
    let status = place.run("status events");
    kill(&child, "-CONT");
    second.code(1).says(&["another run", "--shard"]);
    assert!(status.stdout.contains("a run works on it now"), "{}", status.stdout);
    child.wait().unwrap();
}
