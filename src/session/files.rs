//! Files: each a stream that waits for everything, one after the other on each lane.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::builder::{Session, conclude, deliver, encoding};
use super::engine;
use super::handle::{Handle, Running, StreamStatus};
use super::observer::Observer;
use super::open::open_input;
use super::report::{InputReport, Report};
use super::streams::Inputs;
use crate::config::Config;
use crate::draw::Style;
use crate::input::own::OwnReader;
use crate::input::{Input, Signal};
use crate::lock::{lock, unlocked};
use crate::notify::Notifier;
use crate::ood::alarm::IgnoreMap;
use crate::output::file::{OpenFile, Opened, open_key_frames, open_own};
use crate::output::{Encoding, Written, clip};
use crate::pipeline::{self, Control, Engine, Flow, Lane, Meter, Stream};
use crate::record::position::{PositionRecorder, Positions};
use crate::record::wall::{WallClock, WallTimes};
use crate::record::{Clips, Existing, RecordedStream, Recorder, Records};
use crate::{Error, Result};

/// Longest wait for the messages of files at the end of a run.
pub(crate) const MESSAGES_WAIT: Duration = Duration::from_secs(30);

/// One input before it is opened.
pub(crate) enum Opener {
    Address(Input),
    Own(OwnReader),
}

impl Opener {
    /// The file that it reads, where it is a video.
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Address(Input::File(path) | Input::Track(path, _)) => Some(path),
            _ => None,
        }
    }

    /// Number of its video stream in its file, from 0.
    fn video(&self, config: &Config) -> u64 {
        match self {
            Self::Address(Input::Track(_, number)) => u64::from(number.saturating_sub(1)),
            _ => config.source.of_files().index(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Address(input) => input.to_string(),
            Self::Own(own) => own.name().to_owned(),
        }
    }

    fn open(self, output: Option<&Path>, encoding: &Encoding, config: &Config, stream: u32) -> Result<Opened> {
        match self {
            Self::Address(Input::File(path)) if config.archive.keyframes => {
                open_key_frames(&OpenFile { path: &path, output, encoding, stream }, config.source.of_files())
            }
            Self::Address(input) => open_input(&input, output, encoding, &config.source, stream),
            Self::Own(own) => open_own(own, output, encoding, stream),
        }
    }
}

/// A file to be run.
pub(crate) struct Job {
    /// Where its frames come from.
    pub input: Opener,
    /// In reports.
    pub path: String,
    /// In events and metrics.
    pub stream: String,
    /// The video that is written.
    pub output: Option<PathBuf>,
    /// What is kept of its results.
    pub recorders: Vec<Box<dyn Recorder>>,
    /// Videos of its events.
    pub clips: Option<Clips>,
}

/// The clips of `input`, if there are to be any; `video` is the video that is written.
///
/// # Errors
/// The input is no video and clips are not annotated; the folder cannot be made.
pub(crate) fn clips(
    records: &Records<'_>,
    config: &Config,
    input: &Opener,
    base: &str,
    video: Option<&Path>,
) -> Result<Option<Clips>> {
    if !records.wants_clips() {
        return Ok(None);
    }
    let extension = match (config.archive.annotated_clips, video, input) {
        (true, Some(video), _) if video.extension().is_some_and(|extension| extension == "mkv") => "mkv",
        (true, Some(_), _) => "mp4",
        // What cannot be read is reported when it is opened.
        (_, _, Opener::Address(Input::File(path) | Input::Track(path, _))) => {
            clip::extension(path, input.video(config)).unwrap_or("mp4")
        }
        (true, None, _) => "mp4",
        (false, ..) => {
            return Err(Error::usage("-o clips: cuts videos, and this input is none")
                .hint("--annotated-clips cuts what is drawn instead"));
        }
    };
    records.clips(base, extension, &config.archive)
}

/// The files of a run, which its lanes take one after the other.
pub(crate) trait Queue: Sync {
    /// The number of the next file; none when there are no more.
    fn next(&self) -> Option<usize>;

    /// What is to be done for it, or the report of a file for which nothing can be done.
    fn job(&self, number: usize) -> Result<Job, Box<InputReport>>;

    /// It has ended; `shared` says that an error of what all files share has ended it.
    fn ended(&self, number: usize, report: InputReport, shared: bool);
}

/// Runs the files of `queue`, `jobs` of them at the same time, until there are no more or the run is interrupted.
///
/// An error of what all files share, such as the network, ends those that run at that moment. Where there were several,
/// each is run again by itself, as only one of them is to blame; the others are run as usual.
pub(crate) fn run_queue(
    engine: &mut Engine,
    config: &Config,
    handle: &Handle,
    observer: &dyn Observer,
    jobs: usize,
    queue: &dyn Queue,
) {
    handle.set_running(Running {
        stages: Arc::clone(&engine.stages),
        settings: Arc::clone(&engine.settings),
        first: engine.settings.get(),
        started_with: config.clone(),
        classes: engine.network.manifest().classes.names.clone(),
    });
    let files = Files {
        config,
        handle,
        observer,
        encoding: encoding(config),
        ignore: engine.settings.get().ignore,
        // Checked with the configuration.
        wall_times: WallTimes::new(&config.archive).ok(),
    };
    let again = Mutex::new(Vec::new());
    // What has been taken down with others is run alone.
    let next = || match lock(&again).pop() {
        Some(number) => Some((number, true)),
        None => queue.next().map(|number| (number, false)),
    };
    while let Some((number, alone)) = next() {
        let hub = Control::watching(handle.interrupts());
        let first = Mutex::new(Some(number));
        let lanes = if alone { 1 } else { jobs };
        let following = || lock(&first).take().or_else(|| if alone { None } else { queue.next() });
        let ran = pipeline::run_lanes(engine, &hub, lanes, config.pipeline.queue, |lane| {
            while !lane.stopping()
                && let Some(number) = following()
            {
                match files.run(lane, queue.job(number)) {
                    (_, true) if lanes > 1 => lock(&again).push(number),
                    (report, shared) => {
                        observer.ended(&report);
                        queue.ended(number, report, shared);
                    }
                }
            }
        });
        // The error of a shared stage is in the reports of the files that it ended; here nothing could be begun.
        if let (Err(error), Some(number)) = (ran, lock(&first).take()) {
            let report = match queue.job(number) {
                Ok(job) => InputReport::unopened(job.path, error),
                Err(report) => *report,
            };
            observer.ended(&report);
            queue.ended(number, report, true);
        }
        if handle.stopping() {
            break;
        }
    }
}

/// What the files of a run have in common.
struct Files<'a> {
    config: &'a Config,
    handle: &'a Handle,
    observer: &'a dyn Observer,
    encoding: Encoding,
    ignore: Arc<IgnoreMap>,
    wall_times: Option<WallTimes>,
}

impl Files<'_> {
    /// Runs one file; its report, and whether an error of what all files share has ended it.
    fn run(&self, lane: &mut Lane<'_>, job: Result<Job, Box<InputReport>>) -> (InputReport, bool) {
        let Job { input, path, stream, output, mut recorders, clips } = match job {
            Ok(job) => job,
            Err(report) => return (*report, false),
        };
        let file = match &input {
            Opener::Address(Input::File(path)) => Some(path.clone()),
            _ => None,
        };
        let original = input.file().map(|file| (file.to_path_buf(), input.video(self.config)));
        recorders.extend(clips.as_ref().map(Clips::recorder));
        let number = lane.number() as u32;
        // Annotated clips need a video, also where none is wanted.
        let only_cut = clips.as_ref().filter(|_| self.config.archive.annotated_clips && output.is_none());
        let scratch = match only_cut.map(Clips::scratch).transpose() {
            Ok(scratch) => scratch,
            Err(error) => return (InputReport::unopened(path, error), false),
        };
        let video = |clips: &Clips, folder: &TempDir| folder.path().join(format!("video.{}", clips.extension()));
        let video = only_cut.zip(scratch.as_ref()).map(|(clips, folder)| video(clips, folder));
        let opened = input.open(output.as_deref().or(video.as_deref()), &self.encoding, self.config, number);
        let checked = opened.and_then(|(reader, writer)| {
            reader.info().map_or(Ok(()), |info| self.ignore.check_size(info.width, info.height))?;
            Ok((reader, writer))
        });
        let (reader, writer) = match checked {
            Ok(opened) => opened,
            Err(error) => return (InputReport::unopened(path, error), false),
        };
        let positions = file.as_deref().filter(|_| !recorders.is_empty()).and_then(Positions::of);
        let times = self.wall_times.as_ref().filter(|_| !recorders.is_empty()).zip(file);
        let clock = times.and_then(|(times, file)| times.start(&file, reader.created()));
        let sources = clock.iter().map(|clock| clock.note.clone()).chain(positions.iter().map(Positions::note));
        let sources: Vec<String> = sources.collect();
        if let Some(clock) = clock {
            recorders.insert(0, Box::new(WallClock(clock)));
        }
        if let Some(positions) = positions {
            recorders.insert(0, Box::new(PositionRecorder::new(positions)));
        }
        let meter = Arc::new(Meter::new(&stream));
        let info = reader.info().cloned();
        tracing::debug!(?info, "opened {path}");
        self.handle
            .begin_file(StreamStatus { meter: Arc::clone(&meter), outputs: Vec::new(), watched: None }, lane.number());
        self.observer.started(&meter, info.as_ref());
        let mut outcome = lane.run(Stream {
            reader,
            writer,
            recorders,
            observer: &Forwarder { meter: &meter, observer: self.observer },
            control: Arc::new(Control::watching(self.handle.interrupts())),
            meter: Arc::clone(&meter),
            flow: Flow::all(self.config.pipeline.queue),
        });
        let mut notes = Vec::new();
        if let (Some(clips), None, false) = (&clips, &outcome.error, self.handle.aborted()) {
            match self.cut(clips, original, outcome.written.as_ref()) {
                Ok(said) => notes = said,
                Err(error) => outcome.error = Some(error),
            }
        }
        if scratch.is_some()
            && let Some(written) = outcome.written.take()
        {
            notes.extend(written.notes);
        }
        let shared = outcome.shared;
        let mut report = InputReport::new(path, &meter, outcome, false);
        report.notes.extend(sources);
        report.notes.extend(notes);
        report.duration_s = info.and_then(|info| info.duration).map(|duration| duration as f64 / 1e9);
        (report, shared)
    }
}

impl Files<'_> {
    /// Cuts the clips of a file that has been run.
    fn cut(&self, clips: &Clips, original: Option<(PathBuf, u64)>, written: Option<&Written>) -> Result<Vec<String>> {
        let from = match (self.config.archive.annotated_clips, written) {
            (true, Some(written)) => Some((written.path.clone(), 0)),
            // Nothing was written, as there were no frames.
            (true, None) => None,
            (false, _) => original,
        };
        from.map_or(Ok(Vec::new()), |(path, video)| clips.cut(&path, video, &|| self.handle.aborted()))
    }
}

/// Files given one by one, with one events file for all of them.
struct Listed<'a> {
    records: &'a Records<'a>,
    notifier: Arc<Notifier>,
    config: Config,
    /// Input, base name and video file of each.
    files: Vec<Mutex<Option<Listing>>>,
    next: AtomicUsize,
    reports: Mutex<Vec<InputReport>>,
    style: Style,
    classes: Vec<String>,
}

type Listing = (Opener, String, Option<PathBuf>);

impl Queue for Listed<'_> {
    fn next(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.files.len()).then_some(number)
    }

    fn job(&self, number: usize) -> Result<Job, Box<InputReport>> {
        let Some((input, base, output)) = lock(&self.files[number]).take() else {
            return Err(Box::default());
        };
        let path = input.name();
        let recorded = RecordedStream { name: &path, base: &base, style: self.style, classes: &self.classes };
        match self.records.of_stream(&recorded) {
            Ok(mut recorders) => {
                recorders.extend(self.notifier.recorder());
                let clips = clips(self.records, &self.config, &input, &base, output.as_deref());
                let clips = clips.map_err(|error| Box::new(InputReport::unopened(path.clone(), error)))?;
                Ok(Job { input, stream: path.clone(), path, output, recorders, clips })
            }
            Err(error) => Err(Box::new(InputReport::unopened(path, error))),
        }
    }

    fn ended(&self, _: usize, report: InputReport, _: bool) {
        lock(&self.reports).push(report);
    }
}

pub(super) fn run(session: Session) -> Result<Report> {
    let start = Instant::now();
    let Session { config, inputs, files, outputs, observer, handle, .. } = session;
    let inputs: Vec<Opener> = match inputs {
        Inputs::Files(inputs) => inputs.into_iter().map(Opener::Address).collect(),
        Inputs::Own(own) => vec![Opener::Own(own)],
        Inputs::Live(_) => Vec::new(),
    };
    let mut engine = engine::open(&config)?;
    let existing = if config.encode.overwrite { Existing::Replace } else { Existing::Refuse };
    if let (Some(path), true) = (&outputs.chapters, inputs.len() > 1) {
        return Err(Error::usage(format!("-o chapters:{}: one file for {} inputs", path.display(), inputs.len()))
            .hint("-r or --resume with -o chapters:FOLDER/ writes one file per input"));
    }
    let notifier = Arc::new(Notifier::open(&outputs.messages, &config.notify(), &[])?);
    engine::check_outputs(outputs.embeddings.is_some(), &engine.network)?;
    let model = engine.network.sha256().to_owned();
    let records = Records::open(outputs.wanted(existing, &model))?;
    let files = inputs.into_iter().zip(files).map(|(input, (base, file))| Mutex::new(Some((input, base, file))));
    let queue = Listed {
        records: &records,
        notifier: Arc::clone(&notifier),
        config: config.clone(),
        files: files.collect(),
        next: AtomicUsize::new(0),
        reports: Mutex::default(),
        style: config.draw,
        classes: engine.network.manifest().classes.names.clone(),
    };
    run_queue(&mut engine, &config, &handle, observer.as_ref(), 1, &queue);
    let reports = unlocked(queue.reports);
    let messages = deliver(&notifier, &handle, Some(MESSAGES_WAIT));
    Ok(conclude(&engine, &config, reports, messages, start))
}

/// Forwards the progress of a stream to the session's observer.
struct Forwarder<'a> {
    meter: &'a Meter,
    observer: &'a dyn Observer,
}

impl pipeline::Observer for Forwarder<'_> {
    fn frame_done(&self, running_time: u64, ood_share: f32) {
        self.observer.frame_done(self.meter, Duration::from_nanos(running_time), ood_share);
    }

    fn signal(&self, signal: &Signal) {
        self.observer.signal(self.meter, signal);
    }
}
