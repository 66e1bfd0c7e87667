//! `oodstream eval` on videos: the rate and the delay of alarms.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use indicatif::ProgressBar;

use super::eval::EvalArgs;
use super::report::write_json;
use super::signals::count_interrupts;
use crate::config::Config;
use crate::eval::clip::ClipFigures;
use crate::eval::clip_report::ClipsReport;
use crate::eval::objects::ClipTruth;
use crate::gst;
use crate::input::{Input, expand_input};
use crate::ood::alarm::EventsConfig;
use crate::pipeline::{self, Control, Engine, Flow, Meter, Observer, Stream};
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
    let mut inputs = Vec::new();
    for argument in &args.inputs {
        inputs.extend(expand_input(argument)?);
    }
    if inputs.iter().any(|input| matches!(input, Input::Live(_))) {
        return Err(Error::usage("eval takes files, folders of images and globs, no live inputs"));
    }
    // Pictures of different sizes make no video, so each is an input of its own.
    let groups: Vec<(String, Vec<Input>)> = inputs
        .iter()
        .map(|input| match input {
            Input::Images(files) if args.stills => {
                (input.to_string(), files.iter().map(|file| Input::Images(vec![file.clone()])).collect())
            }
            other => (other.to_string(), vec![other.clone()]),
        })
        .collect();
    let truth = args.truth.as_deref().map(|folder| ClipTruth::open(folder, args.instances)).transpose()?;
    if truth.is_some() && inputs.len() != 1 {
        return Err(Error::usage(format!("--truth takes one video, but there are {} inputs", inputs.len())));
    }
    let mut engine = engine::open(&config)?;
    let interrupts = count_interrupts()?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let show = Show { bar: &bar, interrupts: &interrupts };
    let clips = groups
        .iter()
        .map(|(name, inputs)| {
            let figures = ClipFigures::new(&engine.network.manifest().classes.names);
            for (index, input) in inputs.iter().enumerate() {
                clip(&mut engine, &config, input, index as u32, &figures, truth.clone(), &show)?;
            }
            Ok(figures.report(name, truth.is_some()))
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

fn clip(
    engine: &mut Engine,
    config: &Config,
    input: &Input,
    index: u32,
    figures: &ClipFigures,
    truth: Option<ClipTruth>,
    show: &Show<'_>,
) -> Result<()> {
    let name = input.to_string();
    let (reader, _) =
        open_input(input, None, &Default::default(), &config.source, index).map_err(|error| error.at(&name))?;
    if let Some(info) = reader.info() {
        engine.settings.get().ignore.check_size(info.width, info.height)?;
        truth.as_ref().map_or(Ok(()), |truth| truth.check_size(info.width, info.height))?;
    }
    let meter = Arc::new(Meter::new(&name));
    show.bar.set_message(name.clone());
    let [hub, control] = [(), ()].map(|()| Control::watching(Arc::clone(show.interrupts)));
    let stream = Stream {
        reader,
        writer: None,
        recorders: vec![figures.recorder(truth)],
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
        None => Ok(()),
    }
}
