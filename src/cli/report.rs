//! The report of `run`, as JSON and as text.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::notify::Delivery;
use crate::pipeline::StageReport;
use crate::{Error, Result};

/// Writes `report` as JSON to a file, or to standard output for `-`.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(report: &impl Serialize, path: &Path) -> Result<()> {
    let place = format!("--json {}", path.display());
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::failed(&place).caused_by(error))? + "\n";
    let written = if path == Path::new("-") { io::stdout().write_all(text.as_bytes()) } else { fs::write(path, text) };
    written.map_err(|error| Error::io(place, error))
}

/// Prints what became of the messages; whether all of them were delivered.
pub fn print_messages(messages: &[Delivery], quiet: bool) -> bool {
    for Delivery { output, sent, dropped, outage, .. } in messages {
        if *dropped > 0 {
            let reason = outage.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            eprintln!(
                "oodstream: error: {output}: {dropped} of {} messages were not delivered{reason}",
                sent + dropped
            );
        } else if !quiet {
            eprintln!("{output}: {sent} messages");
        }
    }
    messages.iter().all(|message| message.dropped == 0)
}

/// The load of the stages as a table.
pub fn stage_table(stages: &[(&str, &StageReport)]) -> String {
    let mut text = format!("{:<9}{:>9}{:>12}{:>12}{:>11}\n", "stage", "frames", "p50 ms", "p95 ms", "queue max");
    for (name, stage) in stages {
        text += &format!(
            "{name:<9}{:>9}{:>12.2}{:>12.2}{:>11}\n",
            stage.frames,
            stage.busy_p50_s * 1e3,
            stage.busy_p95_s * 1e3,
            stage.queue_max
        );
    }
    text
}
