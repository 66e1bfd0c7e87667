//! The report of `run`, as JSON and as text.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

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
