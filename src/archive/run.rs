//! A run on an archive: from its options to its plan, and from the plan to its report.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::find::{ArchiveFile, Find, find};
use super::passed::Passed;
use super::plan::{Folders, Planned, Resume, Task, Worklist, bases, remove_leftovers, task};
use super::record::{Record, State};
use super::settings::fingerprint;
use super::shard::Shard;
use super::status::RunFile;
use super::work::{ArchiveRun, Done, Work};
use crate::address::Address;
use crate::config::Config;
use crate::model::locate;
use crate::model::manifest::sha256_hex;
use crate::notify::{self, Notifier};
use crate::session::builder::{conclude, deliver};
use crate::session::files::{MESSAGES_WAIT, run_queue};
use crate::session::outputs::Outputs;
use crate::session::{Handle, Observer, Report, engine};
use crate::{Error, Result};

/// Outputs that are one file for each input, and get their names when they are complete.
pub(super) const ONE_FILE: [&str; 6] = ["events", "regions", "csv", "chapters", "embeddings", "embedding-ids"];

/// Follows the work on an archive.
pub trait Follow: Observer {
    /// The plan is made.
    fn planned(&self, _summary: &Summary) {}

    /// A file has ended; `left` are still to be done. Without a record it stays to be done.
    fn done(&self, _key: &str, _record: Option<&Record>, _error: Option<&Error>, _left: usize) {}
}

/// Ends the work on an archive, from any thread.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    pub(super) handle: Handle,
    stopping: Arc<AtomicBool>,
}

impl Stop {
    /// No further file is started. Those in progress are given up if they are not done within `grace`.
    pub fn within(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let handle = self.handle.clone();
        let wait = move || {
            thread::sleep(grace);
            handle.abort();
        };
        if grace.is_zero() || thread::Builder::new().name("grace".to_owned()).spawn(wait).is_err() {
            self.handle.abort();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.handle.stopping()
    }
}

/// The numbers of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Files that are meant, of this shard.
    pub total: usize,
    /// Files that had a record before.
    pub recorded_before: usize,
    /// Of those, files that had failed.
    pub failed_before: usize,
    /// Files whose work is done again although they had a record.
    pub again: usize,
    /// Files that this run finished without a fault.
    pub ok: usize,
    /// Files that this run finished and that are damaged.
    pub damaged: usize,
    /// Files that this run could not use.
    pub failed: usize,
    /// Files without a record at the end of this run.
    pub left: usize,
    /// Why the run ended before every file had a record.
    pub stopped: Option<String>,
    /// The part of the archive that was meant.
    pub shard: Option<Shard>,
    /// The folder of the records.
    pub records: PathBuf,
    /// What was passed by.
    pub passed_by: Passed,
}

/// Everything that a run reports.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ArchiveReport {
    /// The files that were processed, and the stages.
    #[serde(flatten)]
    pub run: Report,
    /// The archive.
    pub archive: Summary,
}

/// An archive to be processed.
pub struct Archive {
    config: Config,
    folders: Folders,
    messages: Vec<notify::Target>,
    plan: Worklist,
    summary: Summary,
    model: String,
    model_path: PathBuf,
    settings: String,
    jobs: usize,
    stop: Stop,
}

/// How an archive is processed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which files are meant.
    pub find: Find,
    /// The part of them that is.
    pub shard: Option<Shard>,
    /// What records of earlier runs mean.
    pub resume: Resume,
    /// Files that are processed at the same time, at least 1.
    pub jobs: usize,
}

impl Archive {
    /// Finds the files and plans the work. Nothing is written yet.
    ///
    /// # Errors
    /// An output that is not for archives, an input that does not exist, a malformed pattern, no model.
    pub fn open(config: Config, outputs: &[Address], options: Options) -> Result<Self> {
        config.check()?;
        let outputs = Outputs::parse(outputs)?;
        let messages = outputs.messages.clone();
        let folders = folders(outputs)?;
        let records = folders.records()?.to_path_buf();
        let model_path = locate::model_file(config.model.path.as_deref())?;
        let model = fs::read(&model_path).map(|bytes| sha256_hex(&bytes)).map_err(|error| {
            Error::io(format!("model {}", model_path.display()), error).hint("--model names another")
        })?;
        let settings = fingerprint(&config, &model_path, &folders.kinds())?;
        let Options { find: mut finding, shard, resume, jobs } = options;
        finding.outputs.extend(folders.0.values().cloned());
        let (sources, mut passed_by) = find(&finding)?;
        // Of all shards, so that a name does not depend on the shard.
        let bases = bases(&sources, &folders)?;
        let all = sources.len();
        let mine =
            sources.into_iter().zip(bases).filter(|(source, _)| shard.is_none_or(|shard| shard.has(&source.key)));
        let plan = |(source, base): (ArchiveFile, String)| {
            let task = task(&source, &folders.places(&base)?, &model, &settings, resume);
            Ok(Planned { source, base, task })
        };
        let plan = Worklist { files: mine.map(plan).collect::<Result<_>>()? };
        passed_by.other_shards = (all - plan.files.len()) as u64;
        let recorded = plan.count(|task| matches!(task, Task::Nothing(_)));
        let summary = Summary {
            total: plan.files.len(),
            recorded_before: recorded,
            failed_before: plan.count(|task| *task == Task::Nothing(State::Failed)),
            again: plan.count(|task| matches!(task, Task::Again(_))),
            left: plan.files.len() - recorded,
            shard,
            records,
            passed_by,
            ..Summary::default()
        };
        let jobs = jobs.max(1);
        Ok(Self { config, folders, messages, plan, summary, model, model_path, settings, jobs, stop: Stop::default() })
    }

    /// Ends the work from another thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Does what is left to do. What goes wrong in a file is recorded, and the others are still done.
    ///
    /// # Errors
    /// Something that concerns all files: the model, the folder of the records, another run that works on it.
    pub fn run(self, follow: &dyn Follow) -> Result<ArchiveReport> {
        let start = Instant::now();
        let Self { config, folders, messages, plan, mut summary, model, model_path, settings, jobs, stop } = self;
        fs::create_dir_all(&summary.records)
            .map_err(|error| Error::io(format!("{}: cannot be made", summary.records.display()), error))?;
        let run_file = RunFile::claim(&summary.records, summary.shard)?;
        follow.planned(&summary);
        run_file.write(&summary, &plan, jobs)?;
        let todo: Vec<usize> =
            (0..plan.files.len()).filter(|index| !matches!(plan.files[*index].task, Task::Nothing(_))).collect();
        remove_leftovers(&folders, todo.iter().map(|index| plan.files[*index].base.as_str()))?;
        let jobs = jobs.min(todo.len()).max(1);
        let mut engine = match todo.as_slice() {
            [] => None,
            _ => {
                let engine = engine::open(&config)?;
                engine::check_outputs(folders.0.contains_key("embeddings"), &engine.network)?;
                Some(engine)
            }
        };
        let classes = engine.as_ref().map_or_else(Vec::new, |engine| engine.network.manifest().classes.names.clone());
        let notifier = Arc::new(Notifier::open(&messages, &config.notify(), &[])?);
        let run = ArchiveRun {
            config: &config,
            folders: &folders,
            plan: &plan,
            model: &model,
            settings: &settings,
            notifier: &notifier,
        };
        let work = Work::new(run, &todo, &stop, follow, classes);
        if let Some(engine) = &mut engine {
            engine::set_batch(engine, jobs)?;
            run_queue(engine, &config, &stop.handle, follow, jobs, &work);
        }
        let Done { ok, damaged, failed, fatal, reports, .. } = work.into_done();
        (summary.ok, summary.damaged, summary.failed) = (ok, damaged, failed);
        summary.left = todo.len() - ok - damaged - failed;
        summary.stopped = match fatal {
            Some(error) => Some(error),
            None if summary.left > 0 && stop.is_stopping() => Some("it was stopped".to_owned()),
            None if summary.left > 0 => Some("some files could not be recorded".to_owned()),
            None => None,
        };
        run_file.write(&summary, &plan, jobs)?;
        let messages = deliver(&notifier, &stop.handle, Some(MESSAGES_WAIT));
        let run = match &engine {
            Some(engine) => conclude(engine, &config, reports, messages, start),
            None => Report {
                inputs: Vec::new(),
                messages,
                wall_s: start.elapsed().as_secs_f64(),
                stages: BTreeMap::new(),
                compute: "none",
                provider: "none",
                precision: config.model.precision.name(),
                assumptions: Vec::new(),
                classes_guessed: false,
                model: model_path.display().to_string(),
                method: config.detect.method.clone(),
                grid: "none",
                batch: 0,
                road_gate: "none",
                ignored_share: 0.0,
                threshold: config.detect.threshold,
            },
        };
        Ok(ArchiveReport { run, archive: summary })
    }
}

/// The folder of each kind of output.
fn folders(outputs: Outputs) -> Result<Folders> {
    let mut folders = BTreeMap::new();
    let video = match outputs.video.as_slice() {
        [] if outputs.is_empty() => {
            return Err(Error::usage("-r, --inputs-from and --resume need an output")
                .hint("-o FOLDER/ for the videos, or -o none with -o events:FOLDER/"));
        }
        [] => None,
        _ => outputs.of_files()?.folder()?,
    };
    let kinds = [
        ("video", video),
        ("events", outputs.events),
        ("masks", outputs.masks),
        ("scores", outputs.scores),
        ("regions", outputs.regions),
        ("csv", outputs.csv),
        ("chapters", outputs.chapters),
        ("embedding-ids", outputs.embeddings.clone()),
        ("embeddings", outputs.embeddings),
        ("snapshots", outputs.snapshots),
        ("clips", outputs.clips),
    ];
    for (kind, path) in kinds {
        let Some(path) = path else { continue };
        let file = ONE_FILE.contains(&kind) && path.extension().is_some() && !path.is_dir();
        if file {
            let kind = kind.strip_suffix("-ids").map_or(kind, |_| "embeddings");
            return Err(Error::usage(format!("-o {kind}:{}: one file for a tree", path.display()))
                .hint(format!("-o {kind}:FOLDER/ writes one file per input; `oodstream merge` joins them")));
        }
        folders.insert(kind, path);
    }
    Ok(Folders(folders))
}
