//! The lines of events and regions that `export`, `report` and `merge` read, and the run file and the completion record
//! beside them, on any bytes. A NUL ends the lines, and another one the run file.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run events fuzz/corpus/events fuzz/seeds/events
//!
//! The files lie in the folder for temporary files: `TMPDIR=/dev/shm` keeps them in memory.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use oodstream::archive::export::{Format, export};
use oodstream::archive::merge::merge;
use oodstream::archive::review::report;
use oodstream::archive::status::Records;

/// A record of a file whose events are read. It names them, so that no input leads out of the folder.
const RECORD: &str = r#"{"schema":1,"program":"","input":"a.mp4","path":"a.mp4","size":1,"mtime":null,"hash":"","model":"",
"settings":"","status":"ok","reason":null,"frames":1,"damaged":0,"ood_share_mean":0,"events":1,"notes":[],
"outputs":{"events":"a.events.jsonl"},"started":"","ended":"","took_s":1}"#;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("oodstream-fuzz-{}", std::process::id()));
    for name in ["results", "records"] {
        fs::create_dir_all(folder.join(name)).expect("a folder for temporary files");
    }
    fs::write(folder.join("results/a.mp4.done.json"), RECORD).expect("a record");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let (lines, run, record) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let place = |name: &str| FOLDER.join(name);
    let write = |name: &str, bytes: &[u8]| fs::write(place(name), bytes).expect("a file");
    write("a.regions.jsonl", lines);
    for (format, name) in [(Format::Coco, "a.json"), (Format::Cvat, "a.xml"), (Format::Csv, "a.csv")] {
        let exported = export(&[place("a.regions.jsonl")], format, &place(name), &FOLDER, true);
        if exported.is_ok() && format == Format::Coco {
            let text = fs::read(place(name)).expect("what was written");
            serde_json::from_slice::<serde_json::Value>(&text).expect("JSON");
        }
    }
    write("results/a.events.jsonl", lines);
    write("results/oodstream.run.json", run.unwrap_or(b"{}"));
    let reported = report(&[place("results")], &place("page.html"), 0, true);
    let merged = merge(&[place("results")], &place("merged"), true);
    assert_eq!(reported.is_ok(), merged.is_ok(), "`report` and `merge` read the same lines");
    if let Some(record) = record {
        write("records/a.mp4.done.json", record);
        write("records/oodstream.run.json", run.unwrap_or(b"{}"));
        let _ = Records::read(&place("records")).map(|records| records.status());
    }
});
