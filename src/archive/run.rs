//! The work on an archive: what its plan says, file by file, with a record of each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::find::{Find, Passed, Shard, Source, find};
use super::plan::{Folders, Places, Plan, Planned, Resume, Task, bases, matching, remove, task};
use super::record::{self, Identity, Kept, Record, State};
use super::settings::fingerprint;
use super::status::RunFile;
use crate::config::Config;
use crate::input::Input;
use crate::model::locate;
use crate::model::manifest::sha256_hex;
use crate::ood::alarm::{Event, EventType};
use crate::record::{Existing, Of, Recorder, Records, Seen, Wanted};
use crate::session::builder::conclude;
use crate::session::files::{Job, Opener, Queue, run_queue};
use crate::session::outputs::Outputs;
use crate::session::{Ending, Handle, InputReport, Observer, Report, engine};
use crate::{Error, ErrorKind, Result};

/// Shared errors of files in a row from which on the run is not worth going on with.
const HOPELESS: usize = 2;

/// Outputs that are one file for each input, and get their names when they are complete.
const ONE_FILE: [&str; 4] = ["events", "regions", "csv", "chapters"];

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
    handle: Handle,
    stopping: Arc<AtomicBool>,
}

impl Stop {
    /// No further file is begun. Those that are worked on are given up if they are not done within `grace`.
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

    fn is_stopping(&self) -> bool {
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
    /// The files that were worked on, and the stages.
    #[serde(flatten)]
    pub run: Report,
    /// The archive.
    pub archive: Summary,
}

/// An archive to be worked on.
pub struct Archive {
    config: Config,
    folders: Folders,
    plan: Plan,
    summary: Summary,
    model: String,
    model_path: PathBuf,
    settings: String,
    jobs: usize,
    stop: Stop,
}

/// How an archive is worked on.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which files are meant.
    pub find: Find,
    /// The part of them that is.
    pub shard: Option<Shard>,
    /// What records of earlier runs mean.
    pub resume: Resume,
    /// Files that are worked on at the same time, at least 1.
    pub jobs: usize,
}

/// Left beside the records while a file is worked on.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    input: String,
    outputs: BTreeMap<String, PathBuf>,
}

impl Archive {
    /// Finds the files and plans the work. Nothing is written yet.
    ///
    /// # Errors
    /// An output that is not for archives, an input that is not there, a malformed pattern, no model.
    pub fn open(config: Config, outputs: &[String], options: Options) -> Result<Self> {
        config.check()?;
        let folders = folders(outputs)?;
        let records = folders.records()?.to_path_buf();
        let model_path = config.model.path.clone().map_or_else(locate::default_model, Ok)?;
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
        let plan = |(source, base): (Source, String)| {
            let task = task(&source, &folders.places(&base)?, &model, &settings, resume);
            Ok(Planned { source, base, task })
        };
        let plan = Plan { files: mine.map(plan).collect::<Result<_>>()? };
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
        Ok(Self { config, folders, plan, summary, model, model_path, settings, jobs, stop: Stop::default() })
    }

    /// Ends the work from another thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Observes the run from another thread.
    pub fn handle(&self) -> Handle {
        self.stop.handle.clone()
    }

    /// Does what is left to do. What goes wrong in a file is recorded, and the others are still done.
    ///
    /// # Errors
    /// Something that concerns all files: the model, the folder of the records, another run that works on it.
    pub fn run(self, follow: &dyn Follow) -> Result<ArchiveReport> {
        let start = Instant::now();
        let Self { config, folders, plan, mut summary, model, model_path, settings, jobs, stop } = self;
        fs::create_dir_all(&summary.records)
            .map_err(|error| Error::io(format!("{}: cannot be made", summary.records.display()), error))?;
        let run_file = RunFile::claim(&summary.records, summary.shard)?;
        follow.planned(&summary);
        run_file.write(&summary, &plan, jobs)?;
        let todo: Vec<usize> =
            (0..plan.files.len()).filter(|index| !matches!(plan.files[*index].task, Task::Nothing(_))).collect();
        let jobs = jobs.min(todo.len()).max(1);
        let mut engine = match todo.as_slice() {
            [] => None,
            _ => Some(engine::open(&config)?),
        };
        let work = Work {
            config: &config,
            folders: &folders,
            plan: &plan,
            todo: &todo,
            next: AtomicUsize::new(0),
            model: &model,
            settings: &settings,
            stop: &stop,
            follow,
            classes: engine.as_ref().map_or_else(Vec::new, |engine| engine.network.manifest().classes.names.clone()),
            begun: Mutex::default(),
            state: Mutex::default(),
        };
        if let Some(engine) = &mut engine {
            // Pictures of several files are one batch where the provider gains by that.
            engine.batch = if engine.network.provider() == crate::model::runtime::Provider::Cpu { 1 } else { jobs };
            run_queue(engine, &config, &stop.handle, follow, jobs, &work);
        }
        let Done { ok, damaged, failed, fatal, reports, .. } =
            work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (summary.ok, summary.damaged, summary.failed) = (ok, damaged, failed);
        summary.left = todo.len() - ok - damaged - failed;
        summary.stopped = match fatal {
            Some(error) => Some(error),
            None if summary.left > 0 && stop.is_stopping() => Some("it was asked to stop".to_owned()),
            None if summary.left > 0 => Some("some files could not be recorded".to_owned()),
            None => None,
        };
        run_file.write(&summary, &plan, jobs)?;
        let run = match &engine {
            Some(engine) => conclude(engine, &config, reports, start),
            None => Report {
                inputs: Vec::new(),
                wall_s: start.elapsed().as_secs_f64(),
                stages: BTreeMap::new(),
                compute: "none",
                provider: "none",
                precision: config.model.precision.into(),
                model: model_path.display().to_string(),
                method: config.detect.method.clone(),
                threshold: config.detect.threshold,
            },
        };
        Ok(ArchiveReport { run, archive: summary })
    }
}

/// The folder of each kind of output.
fn folders(options: &[String]) -> Result<Folders> {
    let outputs = Outputs::parse(options)?;
    let mut folders = BTreeMap::new();
    let video = match outputs.video.as_slice() {
        [] if options.is_empty() => {
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
        ("snapshots", outputs.snapshots),
        ("clips", outputs.clips),
    ];
    for (kind, path) in kinds {
        let Some(path) = path else { continue };
        let file = ONE_FILE.contains(&kind) && path.extension().is_some() && !path.is_dir();
        if file {
            return Err(Error::usage(format!("-o {kind}:{}: one file for a tree", path.display()))
                .hint(format!("-o {kind}:FOLDER/ writes one file per input; `oodstream merge` joins them")));
        }
        folders.insert(kind, path);
    }
    Ok(Folders(folders))
}

/// What is known of a file while it is worked on.
struct Begun {
    places: Places,
    identity: Option<Identity>,
    started: String,
    since: Instant,
    events: Arc<AtomicU64>,
    /// Outputs under their temporary names, and their names.
    staged: Vec<(PathBuf, PathBuf)>,
    /// Nothing is recorded: the records or outputs that are there are kept.
    hands_off: bool,
}

/// The state of a run.
#[derive(Default)]
struct Done {
    ok: usize,
    damaged: usize,
    failed: usize,
    /// Files in a row that an error of what all share has ended.
    shared: usize,
    fatal: Option<String>,
    reports: Vec<InputReport>,
}

struct Work<'a> {
    config: &'a Config,
    folders: &'a Folders,
    plan: &'a Plan,
    todo: &'a [usize],
    next: AtomicUsize,
    model: &'a str,
    settings: &'a str,
    stop: &'a Stop,
    follow: &'a dyn Follow,
    classes: Vec<String>,
    begun: Mutex<BTreeMap<usize, Begun>>,
    state: Mutex<Done>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue for Work<'_> {
    fn next(&self) -> Option<usize> {
        if self.stop.is_stopping() || lock(&self.state).fatal.is_some() {
            return None;
        }
        self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    fn job(&self, number: usize) -> Result<Job, Box<InputReport>> {
        let planned = &self.plan.files[number];
        let path = planned.source.path.display().to_string();
        let prepared = self.folders.places(&planned.base).and_then(|places| {
            let mut begun = Begun {
                places,
                identity: None,
                started: record::now(),
                since: Instant::now(),
                events: Arc::default(),
                staged: Vec::new(),
                hands_off: true,
            };
            let job = self.prepare(planned, &mut begun);
            lock(&self.begun).insert(number, begun);
            job
        });
        prepared.map_err(|error| Box::new(InputReport::unopened(path, error)))
    }

    fn ended(&self, number: usize, mut report: InputReport, shared: bool) {
        let key = &self.plan.files[number].source.key;
        let Some(begun) = lock(&self.begun).remove(&number) else { return };
        let recorded = self.conclude(key, &begun, &report, shared);
        let mut state = lock(&self.state);
        state.shared = if shared { state.shared + 1 } else { 0 };
        let (record, error) = match recorded {
            Ok(Some(record)) => {
                match record.status {
                    State::Ok => state.ok += 1,
                    State::Damaged => state.damaged += 1,
                    State::Failed => state.failed += 1,
                }
                (Some(record), None)
            }
            Ok(None) => match &report.ending {
                Ending::Failed(error) => (None, Some(error.clone())),
                _ => (None, None),
            },
            Err(error) => {
                // A record or an output could not be written: the next ones would not fare better.
                state.fatal.get_or_insert(error.to_string());
                report.error.get_or_insert(error.to_string());
                (None, Some(error))
            }
        };
        if let Some(error) = error.as_ref().filter(|error| is_hopeless(error)) {
            state.fatal.get_or_insert(error.to_string());
        }
        if state.shared >= HOPELESS {
            state.fatal.get_or_insert(report.error.clone().unwrap_or_default());
        }
        let left = self.todo.len() - state.ok - state.damaged - state.failed;
        // Paths of what was discarded stand for nothing.
        if record.as_ref().is_none_or(|record| record.status == State::Failed) {
            report.output = None;
        }
        state.reports.push(report);
        drop(state);
        self.follow.done(key, record.as_ref(), error.as_ref(), left);
    }
}

/// Whether an error will meet every other file, too.
fn is_hopeless(error: &Error) -> bool {
    error.kind() == ErrorKind::StorageFull
}

impl Work<'_> {
    /// Clears the place of a file's outputs and claims it.
    fn prepare(&self, planned: &Planned, begun: &mut Begun) -> Result<Job> {
        let source = &planned.source;
        let places = begun.places.clone();
        let kept = Record::read(&places.record);
        begun.identity = match Identity::of(&source.path) {
            Ok(identity) => Some(identity),
            Err(error) => {
                let error = Error::io(source.path.display().to_string(), error);
                // What was made of it before is not given up for a drive that is away.
                begun.hands_off = matches!(&kept, Kept::Whole(record) if record.status != State::Failed);
                return Err(if begun.hands_off { error.hint("the results of an earlier run are kept") } else { error });
            }
        };
        let ours = self.ours(&places, &kept);
        let is_ours = |path: &PathBuf| fs::canonicalize(path).is_ok_and(|path| ours.contains(&path));
        let foreign = places.existing().into_iter().find(|path| !is_ours(path));
        if let Some(path) = foreign.filter(|_| !self.config.encode.overwrite) {
            return Err(Error::of_kind(ErrorKind::AlreadyExists, format!("{}: it exists already", path.display()))
                .hint("no record says that a run made it; --overwrite replaces it"));
        }
        let make = |path: &Path| {
            let folder = path.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(folder)
                .map_err(|error| Error::io(format!("{}: cannot be made", folder.display()), error))
        };
        make(&places.record)?;
        places.outputs.values().try_for_each(|path| make(path))?;
        let all = places.outputs.iter().map(|(kind, path)| ((*kind).to_owned(), from(&places.record, path)));
        record::write_json(&Claim { input: source.key.clone(), outputs: all.collect() }, &places.claim)?;
        remove(&places.record)?;
        ours.iter().try_for_each(|path| remove(path))?;
        if self.config.encode.overwrite {
            places.remove_outputs()?;
        }
        begun.hands_off = false;
        let mut stage = |kind: &str| {
            let path = places.outputs.get(kind)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let staged = path.with_file_name(format!(".{name}.part"));
            begun.staged.push((staged.clone(), path.clone()));
            Some(staged)
        };
        let [events, regions, csv, chapters] = ONE_FILE.map(&mut stage);
        let folder = |kind: &str| places.outputs.get(kind).and_then(|path| path.parent());
        let records = Records::open(Wanted {
            events: events.as_deref(),
            regions: regions.as_deref(),
            csv: csv.as_deref(),
            chapters: chapters.as_deref(),
            masks: folder("masks"),
            scores: folder("scores"),
            snapshots: folder("snapshots"),
            clips: folder("clips"),
            existing: Existing::Replace,
        })?;
        let archive = &self.config.archive;
        let mut recorders = records.of_stream(&Of {
            stream: &source.key,
            base: &places.base,
            style: self.config.draw,
            classes: &self.classes,
            file: Some((&source.path, archive.clip_before_s, archive.clip_after_s)),
        })?;
        recorders.push(Box::new(CountEvents(Arc::clone(&begun.events))));
        Ok(Job {
            input: Opener::Address(Input::File(source.path.clone())),
            path: source.path.display().to_string(),
            stream: source.key.clone(),
            output: places.outputs.get("video").cloned(),
            recorders,
        })
    }

    /// The files at the places of the outputs that earlier runs made of this input.
    fn ours(&self, places: &Places, kept: &Kept) -> Vec<PathBuf> {
        let mut ours = Vec::new();
        match kept {
            Kept::Whole(record) => ours.extend(record.outputs_from(&places.record).into_values()),
            // It can only be of a run.
            Kept::Broken(_) => ours.extend(places.outputs.values().cloned()),
            Kept::Nothing => {}
        }
        if let Ok(bytes) = fs::read(&places.claim) {
            match serde_json::from_slice::<Claim>(&bytes) {
                Ok(claim) => ours.extend(claim.outputs.values().map(|path| joined(&places.claim, path))),
                Err(_) => ours.extend(places.outputs.values().cloned()),
            }
        }
        ours.iter().flat_map(|path| matching(path)).filter_map(|path| fs::canonicalize(path).ok()).collect()
    }

    /// Gives the outputs of a file their names and writes its record; none where it is left for another run.
    fn conclude(&self, key: &str, begun: &Begun, report: &InputReport, shared: bool) -> Result<Option<Record>> {
        let places = &begun.places;
        if begun.hands_off {
            return Ok(None);
        }
        let wants_video = places.outputs.contains_key("video");
        let (status, reason) = match &report.ending {
            Ending::Interrupted => return self.discard(begun).map(|()| None),
            // Whatever was in flight when the time was up is lost.
            _ if self.stop.handle.aborted() => return self.discard(begun).map(|()| None),
            Ending::Failed(error) if is_hopeless(error) => return self.discard(begun).map(|()| None),
            Ending::Failed(_) if shared && lock(&self.state).shared + 1 >= HOPELESS => {
                return self.discard(begun).map(|()| None);
            }
            Ending::Failed(error) => (State::Failed, Some(error.to_string())),
            _ if wants_video && report.output.is_none() => (State::Failed, Some("no video was written".to_owned())),
            Ending::Damaged if report.truncated => (State::Damaged, Some("it ends before its time".to_owned())),
            Ending::Damaged => (State::Damaged, Some(format!("{} frames are lost or concealed", report.damaged))),
            Ending::Done => (State::Ok, None),
        };
        let mut outputs = BTreeMap::new();
        if status == State::Failed {
            self.discard(begun)?;
        } else {
            for (staged, path) in &begun.staged {
                let failed = |error| Error::io(path.display().to_string(), error);
                File::open(staged).and_then(|file| file.sync_all()).map_err(failed)?;
                fs::rename(staged, path).map_err(failed)?;
            }
            outputs.extend(places.outputs.iter().map(|(kind, path)| ((*kind).to_owned(), from(&places.record, path))));
        }
        fs::create_dir_all(places.record.parent().unwrap_or(Path::new("")))
            .map_err(|error| Error::io(places.record.display().to_string(), error))?;
        let record = Record {
            schema: record::SCHEMA,
            program: format!("oodstream {}", env!("CARGO_PKG_VERSION")),
            input: key.to_owned(),
            path: report.path.clone(),
            identity: begun.identity.clone(),
            model: self.model.to_owned(),
            settings: self.settings.to_owned(),
            status,
            reason,
            frames: report.frames_in,
            frames_looked_at: report.frames_looked_at,
            duration_s: report.duration_s,
            damaged: report.damaged,
            ood_share_mean: report.ood_share_mean,
            events: begun.events.load(Ordering::Relaxed),
            notes: report.notes.clone(),
            outputs,
            started: begun.started.clone(),
            ended: record::now(),
            took_s: begun.since.elapsed().as_secs_f64(),
        };
        record.write(&places.record)?;
        remove(&places.claim)?;
        Ok(Some(record))
    }

    /// Takes away what an unfinished file has left.
    fn discard(&self, begun: &Begun) -> Result<()> {
        begun.staged.iter().try_for_each(|(staged, _)| remove(staged))?;
        begun.places.remove_outputs()?;
        remove(&begun.places.claim)
    }
}

/// `path` as it is reached from the folder of `file`.
fn from(file: &Path, path: &Path) -> PathBuf {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = file.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    pathdiff::diff_paths(absolute(path), absolute(folder)).unwrap_or_else(|| absolute(path))
}

fn joined(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Counts the events that end.
struct CountEvents(Arc<AtomicU64>);

impl Recorder for CountEvents {
    fn record(&mut self, _: &Seen<'_, '_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        let ended = events.iter().filter(|event| event.kind == EventType::End).count();
        self.0.fetch_add(ended as u64, Ordering::Relaxed);
        Ok(())
    }
}
