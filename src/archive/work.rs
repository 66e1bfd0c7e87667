//! The work on the files of an archive, one by one: places cleared, outputs named, records written last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::plan::{Folders, Places, Planned, Worklist, matching, remove};
use super::record::{self, Identity, Kept, Record, State};
use super::run::{Follow, ONE_FILE, Stop};
use crate::config::Config;
use crate::input::Input;
use crate::lock::{lock, unlocked};
use crate::notify::Notifier;
use crate::ood::alarm::{Event, EventType};
use crate::record::{Existing, FrameResults, RecordedStream, Recorder, Records, Wanted};
use crate::session::files::{Job, Opener, Queue, clips};
use crate::session::{Ending, InputReport};
use crate::{Error, ErrorKind, Result};

/// Shared errors of files in a row from which on the run is not worth going on with.
const HOPELESS: usize = 2;

/// Left beside the records while a file is processed.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    input: String,
    outputs: BTreeMap<String, PathBuf>,
}

/// What is known of a file while it is processed.
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
pub(super) struct Done {
    pub ok: usize,
    pub damaged: usize,
    pub failed: usize,
    /// Files in a row that an error of what all share has ended.
    pub shared: usize,
    pub fatal: Option<String>,
    pub reports: Vec<InputReport>,
}

/// What all files of a run have in common.
pub(super) struct ArchiveRun<'a> {
    pub config: &'a Config,
    pub folders: &'a Folders,
    pub plan: &'a Worklist,
    /// SHA-256 of the network.
    pub model: &'a str,
    /// Hash of the settings that matter.
    pub settings: &'a str,
    pub notifier: &'a Arc<Notifier>,
}

/// The files that are left to do.
pub(super) struct Work<'a> {
    run: ArchiveRun<'a>,
    /// Their numbers in the plan.
    todo: &'a [usize],
    next: AtomicUsize,
    stop: &'a Stop,
    follow: &'a dyn Follow,
    classes: Vec<String>,
    begun: Mutex<BTreeMap<usize, Begun>>,
    state: Mutex<Done>,
}

impl<'a> Work<'a> {
    pub fn new(
        run: ArchiveRun<'a>,
        todo: &'a [usize],
        stop: &'a Stop,
        follow: &'a dyn Follow,
        classes: Vec<String>,
    ) -> Self {
        let next = AtomicUsize::new(0);
        Self { run, todo, next, stop, follow, classes, begun: Mutex::default(), state: Mutex::default() }
    }

    /// How it went.
    pub fn into_done(self) -> Done {
        unlocked(self.state)
    }
}

impl Queue for Work<'_> {
    fn next(&self) -> Option<usize> {
        if self.stop.is_stopping() || lock(&self.state).fatal.is_some() {
            return None;
        }
        self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    fn job(&self, number: usize) -> Result<Job, Box<InputReport>> {
        let planned = &self.run.plan.files[number];
        let path = planned.source.path.display().to_string();
        let prepared = self.run.folders.places(&planned.base).and_then(|places| {
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
        let key = &self.run.plan.files[number].source.key;
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
        if let Some(path) = foreign.filter(|_| !self.run.config.encode.overwrite) {
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
        if self.run.config.encode.overwrite {
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
        let [events, regions, csv, chapters, embeddings, embedding_ids] = ONE_FILE.map(&mut stage);
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
            embeddings: embeddings.as_deref(),
            embedding_ids: embedding_ids.as_deref(),
            model: self.run.model,
            existing: Existing::Replace,
        })?;
        let mut recorders = records.of_stream(&RecordedStream {
            name: &source.key,
            base: &places.base,
            style: self.run.config.draw,
            classes: &self.classes,
        })?;
        recorders.extend(self.run.notifier.recorder());
        recorders.push(Box::new(CountEvents(Arc::clone(&begun.events))));
        let (input, output) = (Opener::Address(Input::File(source.path.clone())), places.outputs.get("video").cloned());
        let clips = clips(&records, self.run.config, &input, &places.base, output.as_deref())?;
        Ok(Job { input, path: source.path.display().to_string(), stream: source.key.clone(), output, recorders, clips })
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
            model: self.run.model.to_owned(),
            settings: self.run.settings.to_owned(),
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
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        let ended = events.iter().filter(|event| event.kind == EventType::End).count();
        self.0.fetch_add(ended as u64, Ordering::Relaxed);
        Ok(())
    }
}
