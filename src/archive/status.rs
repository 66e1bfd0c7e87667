//! What the records of a folder say: done, failed, left, and how long the rest will take.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::plan::{Task, Worklist};
use super::record::{Kept, Record, SUFFIX, State, now, write_json};
use super::run::Summary;
use super::shard::Shard;
use crate::{Error, Result, atomic_file};

/// The beginning of the names of run files, which lie in the folder of the records, one for each shard.
const RUN: &str = "oodstream.run";

/// What a run is about, for [`status`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// Version of the file.
    pub schema: u32,
    /// When it was last written, RFC 3339 in UTC.
    pub at: String,
    /// Files that are processed at the same time.
    pub jobs: usize,
    /// Its numbers.
    #[serde(flatten)]
    pub summary: Summary,
    /// The keys of all files that are meant.
    pub inputs: Vec<String>,
    /// Bytes of the files that had no record, by the plan.
    pub todo_bytes: u64,
}

/// The run file of a run, locked as long as it goes on.
pub struct RunFile {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

fn name(shard: Option<Shard>) -> String {
    shard.map_or_else(|| RUN.to_owned(), |shard| format!("{RUN}-{}-of-{}", shard.number, shard.count))
}

impl RunFile {
    /// Claims the records of `folder` for this run.
    ///
    /// # Errors
    /// Another run works on them, or nothing can be written there.
    pub fn claim(folder: &Path, shard: Option<Shard>) -> Result<Self> {
        let name = name(shard);
        let lock = folder.join(format!(".{name}.lock"));
        let failed = |error| Error::io(format!("{}: the folder cannot be written", folder.display()), error);
        let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::failed(format!("{}: another run works on this folder now", folder.display()))
                    .hint("parts of an archive run at the same time as shards: --shard 1/2 and --shard 2/2"));
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{}: the file system has no locks ({error}); run one at a time", folder.display());
            }
            Ok(()) => {}
        }
        let path = folder.join(format!("{name}.json"));
        atomic_file::remove_leftovers(std::iter::once(path.as_path())).map_err(failed)?;
        Ok(Self { path, _lock: file })
    }

    /// Writes what the run is about.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, summary: &Summary, plan: &Worklist, jobs: usize) -> Result<()> {
        let todo = plan.files.iter().filter(|file| !matches!(file.task, Task::Nothing(_)));
        let run = Run {
            schema: 1,
            at: now(),
            jobs,
            summary: summary.clone(),
            inputs: plan.files.iter().map(|file| file.source.key.clone()).collect(),
            todo_bytes: todo.filter_map(|file| fs::metadata(&file.source.path).ok()).map(|meta| meta.len()).sum(),
        };
        write_json(&run, &self.path)
    }
}

/// The state of an archive.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// Files that are meant, by the runs; at least those that have a record.
    pub total: usize,
    /// Files done without a fault.
    pub ok: usize,
    /// Files done that are damaged.
    pub damaged: usize,
    /// Files that could not be used.
    pub failed: usize,
    /// Files without a record.
    pub left: usize,
    /// Whether a run works on it now.
    pub running: bool,
    /// Seconds that the rest will take at the pace so far; none where nothing was done or nothing is left.
    pub left_s: Option<f64>,
    /// Events of all files.
    pub events: u64,
    /// The files that failed, with the reason.
    pub failures: Vec<(String, String)>,
    /// Records that cannot be read, with the reason.
    pub broken: Vec<(PathBuf, String)>,
    /// Keys of the files that are left.
    pub missing: Vec<String>,
    /// Shards of which there is no run file, where there are shards.
    pub shards_missing: Vec<Shard>,
}

/// Everything in a folder of records.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// The records with their paths, in the order of the paths.
    pub records: Vec<(PathBuf, Record)>,
    /// Those that cannot be read, with the reason.
    pub broken: Vec<(PathBuf, String)>,
    /// The run files.
    pub runs: Vec<Run>,
    /// Whether a run works on the folder now.
    pub running: bool,
}

impl Records {
    /// Reads all records below `folder`.
    ///
    /// # Errors
    /// The folder cannot be read, or there are neither records nor runs in it.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut found = Self::default();
        fs::read_dir(folder).map_err(|error| Error::io(folder.display().to_string(), error))?;
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found.broken.push((error.path().unwrap_or(folder).to_path_buf(), error.to_string()));
                    continue;
                }
            };
            let name = entry.file_name().to_string_lossy();
            if name.starts_with(&format!(".{RUN}")) && name.ends_with(".lock") {
                found.running |= is_locked(entry.path());
            } else if name.starts_with('.') || entry.file_type().is_dir() {
            } else if name.ends_with(SUFFIX) {
                match Record::read(entry.path()) {
                    Kept::Whole(record) => found.records.push((entry.into_path(), *record)),
                    Kept::Broken(why) => found.broken.push((entry.into_path(), why)),
                    Kept::Nothing => {}
                }
            } else if name.starts_with(RUN) && name.ends_with(".json") {
                match fs::read(entry.path()).map(|bytes| serde_json::from_slice(&bytes)) {
                    Ok(Ok(run)) => found.runs.push(run),
                    Ok(Err(why)) => found.broken.push((entry.into_path(), why.to_string())),
                    Err(why) => found.broken.push((entry.into_path(), why.to_string())),
                }
            }
        }
        if found.records.is_empty() && found.runs.is_empty() && found.broken.is_empty() {
            return Err(Error::failed(format!("{}: there are no completion records in this folder", folder.display()))
                .hint("give the folder of the videos of `oodstream run -r`, or that of its events with -o none"));
        }
        Ok(found)
    }

    /// What they say.
    pub fn status(&self) -> Status {
        let mut status = Status { running: self.running, broken: self.broken.clone(), ..Status::default() };
        let (mut took_s, mut bytes, mut done) = (0.0, 0.0, HashSet::new());
        for (_, record) in &self.records {
            match record.status {
                State::Ok => status.ok += 1,
                State::Damaged => status.damaged += 1,
                State::Failed => {
                    status.failed += 1;
                    status.failures.push((record.input.clone(), record.reason.clone().unwrap_or_default()));
                }
            }
            status.events = status.events.saturating_add(record.events);
            took_s += record.took_s;
            bytes += record.identity.as_ref().map_or(0.0, |identity| identity.size as f64);
            done.insert(record.input.as_str());
        }
        let meant: HashSet<&str> = self.runs.iter().flat_map(|run| &run.inputs).map(String::as_str).collect();
        status.total = meant.union(&done).count();
        let mut missing: Vec<String> = meant.difference(&done).map(|key| (*key).to_owned()).collect();
        missing.sort();
        status.left = missing.len();
        let jobs = self.runs.iter().map(|run| run.jobs).max().unwrap_or(1).max(1);
        if !missing.is_empty() && !self.records.is_empty() {
            // By bytes where the size of what is left is known, which is before the run's own records are taken off it.
            let mean_s = took_s / self.records.len() as f64;
            let mean_bytes = bytes / self.records.len() as f64;
            let left = |run: &Run| run.summary.total.saturating_sub(run.summary.recorded_before) as f64;
            let todo: f64 = self.runs.iter().map(left).sum();
            let todo_bytes: f64 = self.runs.iter().map(|run| run.todo_bytes as f64).sum();
            let heavier = if todo > 0.0 && mean_bytes > 0.0 { todo_bytes / todo / mean_bytes } else { 1.0 };
            status.left_s = Some(mean_s * heavier * missing.len() as f64 / jobs as f64);
        }
        status.missing = missing;
        let shards: Vec<Shard> = self.runs.iter().filter_map(|run| run.summary.shard).collect();
        if let Some(count) = shards.iter().map(|shard| shard.count).max() {
            let all = (1..=count).map(|number| Shard { number, count });
            status.shards_missing = all.filter(|shard| !shards.contains(shard)).collect();
        }
        status
    }
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
