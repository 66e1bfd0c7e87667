//! `oodstream merge`: the results of shards as one.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::mine::Embeddings;
use super::record::write_json;
use super::review::{read_events, warn_of_broken, write_whole};
use super::shard::Shard;
use super::status::Records;
use crate::npy::{self, FloatType};
use crate::record::embeddings::ids_beside;
use crate::{Error, Result};

/// What was merged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Merged {
    /// Files with a record.
    pub files: usize,
    /// Of those, files that failed.
    pub failed: usize,
    /// Lines of events.
    pub events: usize,
    /// Events with an embedding.
    pub embeddings: usize,
    /// Files that a run meant and that have no record.
    pub missing: Vec<String>,
    /// Shards of which there is no run.
    pub shards_missing: Vec<Shard>,
}

/// Joins the results of `folders`: `events.jsonl` with the events of all files in the order of their keys,
/// `records.jsonl`, and `embeddings.npy` with `embeddings.ids.jsonl` where there are embeddings, written into `output`.
///
/// # Errors
/// A file has a record in two of them, there are no records, an events file or embeddings are damaged, embeddings are
/// of several networks, or nothing can be written.
pub fn merge(folders: &[PathBuf], output: &Path, overwrite: bool) -> Result<Merged> {
    let mut joined = Records::default();
    let mut places: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut seen = HashSet::new();
    for folder in folders {
        let real = fs::canonicalize(folder).map_err(|error| Error::io(folder.display().to_string(), error))?;
        if !seen.insert(real) {
            return Err(Error::usage(format!("{}: it is given twice", folder.display())));
        }
        let found = Records::read(folder)?;
        for (path, record) in &found.records {
            if let Some(before) = places.insert(record.input.clone(), path.clone()) {
                return Err(Error::failed(format!(
                    "{} has two records: {} and {}",
                    record.input,
                    before.display(),
                    path.display()
                ))
                .hint("shards of one archive have no file in common; give each result once"));
            }
        }
        warn_of_broken(&found);
        joined.records.extend(found.records);
        joined.runs.extend(found.runs);
    }
    joined.records.sort_by(|(_, a), (_, b)| a.input.cmp(&b.input));
    let status = joined.status();
    let (events, records) = (output.join("events.jsonl"), output.join("records.jsonl"));
    fs::create_dir_all(output).map_err(|error| Error::io(format!("{}: cannot be made", output.display()), error))?;
    let rows = output.join("embeddings.npy");
    if let Some(path) = [&events, &records, &rows].into_iter().find(|path| path.exists() && !overwrite) {
        return Err(Error::usage(format!("{}: it exists already", path.display())).hint("--overwrite replaces it"));
    }
    let mut merged = Merged {
        files: joined.records.len(),
        failed: status.failed,
        missing: status.missing,
        shards_missing: status.shards_missing,
        ..Merged::default()
    };
    let mut lines = String::new();
    let mut all = Vec::new();
    let mut embeddings = Vec::new();
    for (path, record) in &joined.records {
        let outputs = record.outputs_from(path);
        if let (Some(rows), Some(ids)) = (outputs.get("embeddings"), outputs.get("embedding-ids")) {
            embeddings.push((Embeddings::read(rows, ids)?, rows.clone()));
        }
        if let Some(events) = outputs.get("events") {
            let read = read_events(events)?;
            merged.events += read.len();
            all.extend(read.into_iter().map(|(_, line)| line));
        }
        lines += &serde_json::to_string(record).map_err(|error| Error::failed("a record").caused_by(error))?;
        lines.push('\n');
    }
    write_whole(&events, |out| all.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    write_whole(&records, |out| out.write_all(lines.as_bytes()))?;
    if !embeddings.is_empty() {
        let Embeddings { rows: all, ids } = Embeddings::join(embeddings)?;
        merged.embeddings = ids.len();
        write_whole(&rows, |out| npy::write_to(out, all.view(), FloatType::F32))?;
        write_whole(&ids_beside(&rows), |out| {
            ids.iter().try_for_each(|id| writeln!(out, "{}", serde_json::to_string(id)?))
        })?;
    }
    write_json(&merged, &output.join("merged.json"))?;
    Ok(merged)
}
