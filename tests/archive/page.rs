//! The page with 10,000 events, in headless Chromium.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use oodstream::archive::record::{Record, SCHEMA, State};
use serde_json::{Value, json};
use support::common::Place;

use crate::place;

/// Records of 100 files of two cameras with 100 events each.
fn records(place: &Place) {
    for file in 0..100 {
        let (camera, name) = (["front", "rear"][file % 2], format!("{file:03}"));
        let folder = place.path(&format!("events/{camera}"));
        fs::create_dir_all(&folder).unwrap();
        let lines: String = (0..100)
            .map(|n| {
                let class = ["car", "sign", "tree"][n % 3];
                let event = json!({
                    "id": format!("{:016x}", file * 100 + n), "type": "end", "alarm": n % 3 > 0, "label": "unknown",
                    "start_s": n as f64 * 6.0, "end_s": n as f64 * 6.0 + 2.0,
                    "start_wall": format!("2026-03-{:02}T08:00:00.000Z", 1 + file % 7), "peak_score": 3.0,
                    "severity": ((file * 100 + n) * 7919 % 10_000) as f64 / 10_000.0,
                    "nearest_class": class, "clip": null,
                });
                format!("{event}\n")
            })
            .collect();
        fs::write(folder.join(format!("{name}.jsonl")), lines).unwrap();
        let record = Record {
            schema: SCHEMA,
            program: "oodstream".to_owned(),
            input: format!("{camera}/{name}.mp4"),
            path: format!("{camera}/{name}.mp4"),
            identity: None,
            model: String::new(),
            settings: String::new(),
            status: State::Ok,
            reason: None,
            frames: 15_000,
            frames_looked_at: 15_000,
            duration_s: Some(600.0),
            damaged: 0,
            ood_share_mean: 0.01,
            events: 100,
            notes: Vec::new(),
            outputs: BTreeMap::from([("events".to_owned(), format!("{name}.jsonl").into())]),
            started: "2026-03-01T00:00:00.000Z".to_owned(),
            ended: "2026-03-01T00:00:00.000Z".to_owned(),
            took_s: 60.0,
        };
        record.write(&folder.join(format!("{name}.done.json"))).unwrap();
    }
}

/// What a person does with the page, and what there is to see after each step.
const STEPS: &str = r#"<script>
addEventListener("load", () => {
  const list = document.getElementById("list"), found = [];
  const rows = () => [...document.querySelectorAll(".row")];
  const look = () => found.push({ rows: rows().length, first: rows()[0]?.textContent, last: rows().at(-1)?.textContent,
    count: document.getElementById("count").textContent, on: document.querySelector(".row.on")?.textContent ?? null });
  const steps = [
    () => {},
    () => { list.scrollTop = list.scrollHeight; list.dispatchEvent(new Event("scroll")); },
    () => { const camera = document.getElementById("camera"); camera.value = "rear"; camera.onchange(); },
    () => { const severity = document.getElementById("severity"); severity.value = 0.9; severity.oninput(); },
    () => { for (let i = 0; i < 3; i++) dispatchEvent(new KeyboardEvent("keydown", { key: "j" })); },
  ];
  const next = () => {
    const step = steps.shift();
    if (!step) { document.body.dataset.found = JSON.stringify(found); return; }
    step();
    setTimeout(() => { look(); next(); }, 100);
  };
  next();
});
</script>"#;

#[test]
fn ten_thousand_events_can_be_walked_through() {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
    let Some(browser) = browser else {
        eprintln!("skipped: there is no chromium");
        return;
    };
    let place = place();
    records(&place);
    let report = place.run("report events -o review.html --json -").code(0).json();
    assert_eq!((&report["files"], &report["events"]), (&100.into(), &10_000.into()));
    let page = fs::read_to_string(place.path("review.html")).unwrap();
    fs::write(place.path("walk.html"), page.replace("</body>", &format!("{STEPS}</body>"))).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,800", "--virtual-time-budget=20000"])
        .arg(format!("--user-data-dir={}", place.path("profile").display()))
        .args(["--dump-dom", &format!("file://{}", place.path("walk.html").display())])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = dom.split_once("data-found=\"").expect("the steps came to their end");
    let found = rest.split_once('"').unwrap().0.replace("&quot;", "\"").replace("&amp;", "&");
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    let [start, end, rear, grave, walked] = found.as_slice() else { panic!("{found:?}") };
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    for step in [start, end, rear, grave, walked] {
        assert!((1..40).contains(&step["rows"].as_u64().unwrap()), "only what is in sight is in the page: {step}");
    }
    assert_eq!(text(start, "count"), "10000 of 10000 events, 100 files");
    assert!(text(start, "first").ends_with("1.00"), "{start}");
    assert!(text(end, "last").ends_with("0.00"), "{end}");
    assert!(text(rear, "count").starts_with("5000 of") && text(rear, "first").contains("rear/"), "{rear}");
    let expected = (0..10_000).filter(|n| n / 100 % 2 == 1 && n * 7919 % 10_000 >= 9000).count();
    assert!(text(grave, "count").starts_with(&format!("{expected} of")), "{grave}");
    assert!(text(walked, "on").contains("rear/"), "{walked}");
}
