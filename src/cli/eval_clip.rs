//! `oodstream eval` on videos: the rate and the delay of alarms.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use indicatif::ProgressBar;

use super::eval::EvalArgs;
use super::report::write_json;
use super::signals::count_interrupts;
use crate::address::Address;
use crate::config::Config;
use crate::eval::challenge::{ChallengeFolder, FrameNumbers, Sequence, sequences};
use crate::eval::clip::ClipFigures;
use crate::eval::clip_report::ClipsReport;
use crate::eval::objects::ClipTruth;
use crate::gst;
use crate::input::{Input, expand_input};
use crate::ood::alarm::{AlarmCounts, EventsConfig};
use crate::pipeline::{self, Control, Engine, Flow, Meter, Observer, Stream};
use crate::record::Recorder;
use crate::session::engine;
use crate::session::open::open_input;
use crate::{Error, Result};

/// Runs all videos; the exit code is 0.
///
/// # Errors
/// An input cannot be read to its end, a mask does not fit, or the model does not load.
pub(super) fn run(args: &EvalArgs, quiet: bool) -> Result<u8> {
    let mut config = Config::load(None, &args.set)?;
    args.network.apply(&mut config);
    config.detect.calibration = args.calibration.clone().map(Into::into);
    if args.stills {
        one_by_one(&mut config);
    }
    config.check()?;
    gst::init()?;
    let videos = if args.sequences { of_sequences(args)? } else { of_inputs(args)? };
    let mut engine = engine::open(&config)?;
    let interrupts = count_interrupts()?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let show = Show { bar: &bar, interrupts: &interrupts };
    let clips = videos
        .iter()
        .map(|video| {
            let figures = ClipFigures::new(&engine.network.manifest().classes.names);
            for (index, input) in video.inputs.iter().enumerate() {
                let numbers = FrameNumbers::of(input);
                let mut recorders = vec![figures.recorder(video.truth.clone(), numbers.clone())];
                if let Some(root) = &args.save_sequences {
                    recorders.push(Box::new(ChallengeFolder::new(root, &video.sequence, numbers, args.score_type)?));
                }
                let withheld =
                    clip(&mut engine, &config, (input, index as u32), video.truth.as_ref(), recorders, &show)?;
                figures.add_withheld(withheld);
            }
            Ok(figures.report(&video.name, video.truth.is_some()))
        })
        .collect::<Result<Vec<_>>>()?;
    bar.finish_and_clear();
    let model = engine.network.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let report = ClipsReport::new(model, config.detect.method.clone(), clips);
    if let Some(folder) = &args.report {
        report.write_page(folder)?;
    }
    if let Some(path) = &args.json {
        write_json(&report, path)?;
    }
    // Standard output is for the JSON report if it was sent there.
    if args.json.as_deref() == Some(Path::new("-")) {
        eprint!("{}", report.table());
    } else {
        print!("{}", report.table());
    }
    Ok(0)
}

/// One video and its ground truth.
struct Video {
    name: String,
    /// The name of its folders under `--save-sequences`.
    sequence: String,
    /// Pictures of different sizes make no video, so that with `--stills` each is an input of its own.
    inputs: Vec<Input>,
    truth: Option<ClipTruth>,
}

/// The inputs as they are given, with the masks of `--truth`.
fn of_inputs(args: &EvalArgs) -> Result<Vec<Video>> {
    let mut inputs = Vec::new();
    for argument in &args.inputs {
        inputs.extend(expand_input(argument)?);
    }
    if inputs.iter().any(|input| matches!(input, Input::Live(_))) {
        return Err(Error::usage("eval takes files, folders of images and globs, no live inputs"));
    }
    let truth = args.truth.as_deref().map(|folder| ClipTruth::open(folder, args.instances)).transpose()?;
    if truth.is_some() && inputs.len() != 1 {
        return Err(Error::usage(format!("--truth takes one video, but there are {} inputs", inputs.len())));
    }
    let video = |input: Input| Video {
        name: input.to_string(),
        sequence: input.file_name().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        truth: truth.clone(),
        inputs: match input {
            Input::Images(files) if args.stills => files.into_iter().map(|file| Input::Images(vec![file])).collect(),
            other => vec![other],
        },
    };
    let videos: Vec<Video> = inputs.into_iter().map(video).collect();
    let name = |index: usize| videos[index].sequence.as_str();
    match (1..videos.len()).find(|&index| (0..index).any(|other| name(other) == name(index))) {
        Some(index) if args.save_sequences.is_some() => {
            Err(Error::usage(format!("--save-sequences: two inputs are called {}", name(index))))
        }
        _ => Ok(videos),
    }
}

/// The sequences of a data set.
fn of_sequences(args: &EvalArgs) -> Result<Vec<Video>> {
    let [root] = args.inputs.as_slice() else { return Err(Error::usage("a data set is a single folder")) };
    let found = sequences(root.path())?;
    let video = |sequence: Sequence| {
        Ok(Video {
            inputs: expand_input(&Address::from(sequence.pictures.as_path()))?,
            truth: Some(ClipTruth::open(&sequence.masks, true)?),
            name: sequence.name.clone(),
            sequence: sequence.name,
        })
    };
    found.into_iter().map(video).collect()
}

/// Rules without time, for unrelated pictures.
fn one_by_one(config: &mut Config) {
    config.detect.smoothing = 1.0;
    config.detect.warm_start = false;
    config.events = EventsConfig {
        min_seconds: 0.0,
        window_s: 0.0,
        end_after_s: 0.0,
        settle_s: 0.0,
        smoothing_s: 0.0,
        ..config.events.clone()
    };
}

/// The progress bar and the flag that stops the run.
struct Show<'a> {
    bar: &'a ProgressBar,
    interrupts: &'a Arc<AtomicU32>,
}

impl Observer for Show<'_> {
    fn frame_done(&self, _: u64, _: f32) {
        self.bar.inc(1);
    }
}

/// Runs one input; what raised no alarm.
fn clip(
    engine: &mut Engine,
    config: &Config,
    (input, index): (&Input, u32),
    truth: Option<&ClipTruth>,
    recorders: Vec<Box<dyn Recorder>>,
    show: &Show<'_>,
) -> Result<AlarmCounts> {
    let name = input.to_string();
    let (reader, _) =
        open_input(input, None, &Default::default(), &config.source, index).map_err(|error| error.at(&name))?;
    if let Some(info) = reader.info() {
        engine.settings.get().ignore.check_size(info.width, info.height)?;
        truth.map_or(Ok(()), |truth| truth.check_size(info.width, info.height))?;
    }
    let meter = Arc::new(Meter::new(&name));
    show.bar.set_message(name.clone());
    let [hub, control] = [(), ()].map(|()| Control::watching(Arc::clone(show.interrupts)));
    let stream = Stream {
        reader,
        writer: None,
        recorders,
        observer: show,
        control: Arc::new(control),
        meter: Arc::clone(&meter),
        flow: Flow::all(config.pipeline.queue),
    };
    let outcome = pipeline::run(engine, &hub, vec![stream]).pop().unwrap_or_default();
    match outcome.error {
        Some(error) => Err(error.at(&name)),
        None if outcome.interrupted => Err(Error::failed(format!("{name}: interrupted"))),
        None if meter.read().frames_in == 0 => Err(Error::failed(format!("{name}: no frame could be decoded"))),
        None => Ok(meter.read().alarms),
    }
}
