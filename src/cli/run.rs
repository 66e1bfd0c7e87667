//! `oodstream run`: video in, the same video out with the unknown marked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::outputs::Outputs;
use super::progress::Progress;
use super::report::{InputReport, RunReport, write_json};
use super::{DAMAGED, INTERRUPTED, engine, interrupt, open_input};
use crate::Result;
use crate::compute::ComputeChoice;
use crate::config::Config;
use crate::draw::{Palette, View};
use crate::media::{self, Encoding, Input};
use crate::model::network::Provider;
use crate::output::{Recorder, Wanted};
use crate::pipeline::{self, Control, Engine, Outcome};

/// Options of `run`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream run drive.mp4                             drive.ood.mp4 in the working directory
  oodstream run drive.mp4 -o marked.mkv --view side-by-side
  oodstream run archive/ 'trips/*.mp4' -o marked/     folders and globs, one output per video
  oodstream run drive.mp4 -o none -o events:e.jsonl -o masks:masks/
  oodstream run 'test://ball?frames=100' -o t.mp4     a built-in pattern
  oodstream run drive.mp4 -c pipelines/dashcam.toml --set detect.threshold=1.5")]
pub struct RunArgs {
    /// A video, a folder of videos or images, a glob, or test://
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// x.mp4, x.mkv, FOLDER/, none, events:x.jsonl, masks:DIR, scores:DIR; repeatable
    #[arg(short, long, value_name = "OUT")]
    output: Vec<String>,
    /// Pipeline file
    #[arg(short, long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Change one key of the pipeline file; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Network [default: the one that ships with the program]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Score by name: default, max-logit, msp, entropy, energy, cluster, cluster-ensemble, ...
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Mark pixels with at least this score
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Where K-Means and the score maps are computed
    #[arg(long, value_name = "WHERE")]
    compute: Option<ComputeChoice>,
    /// Where the network runs
    #[arg(long, value_name = "WHERE")]
    provider: Option<Provider>,
    /// Threads of the network [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Tensor or operator to take features from, see `oodstream model inspect`; repeatable
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    /// A file written by `oodstream calibrate`
    #[arg(long, value_name = "FILE.toml")]
    calibration: Option<PathBuf>,
    /// What the output shows
    #[arg(long)]
    view: Option<View>,
    /// Share of the heat map in the mix, 0 to 1
    #[arg(long, value_name = "SHARE")]
    opacity: Option<f32>,
    /// Colour map of the heat map
    #[arg(long, value_name = "NAME")]
    palette: Option<Palette>,
    /// Leave the legend out
    #[arg(long)]
    no_legend: bool,
    /// H.264 encoder element of GStreamer [default: by rank, hardware first]
    #[arg(long, value_name = "ELEMENT")]
    encoder: Option<String>,
    /// Bit rate in kbit/s
    #[arg(long, value_name = "KBIT/S", conflicts_with = "crf")]
    bitrate: Option<u32>,
    /// Constant quality, 0 to 51, lower is better
    #[arg(long, value_name = "N")]
    crf: Option<u32>,
    /// Speed preset of the encoder
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Replace an existing output
    #[arg(long)]
    overwrite: bool,
    /// Report for machines; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl RunArgs {
    /// The configuration that the options ask for.
    fn config(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), &self.set)?;
        fn put<T: Clone>(target: &mut T, option: Option<&T>) {
            if let Some(value) = option {
                target.clone_from(value);
            }
        }
        fn put_some<T: Clone>(target: &mut Option<T>, option: Option<&T>) {
            if option.is_some() {
                *target = option.cloned();
            }
        }
        put_some(&mut config.model.path, self.model.as_ref());
        put(&mut config.model.provider, self.provider.as_ref());
        put_some(&mut config.model.threads, self.threads.as_ref());
        if !self.feature.is_empty() {
            config.model.features.clone_from(&self.feature);
        }
        put(&mut config.detect.method, self.method.as_ref());
        put_some(&mut config.detect.threshold, self.threshold.as_ref());
        put(&mut config.detect.compute, self.compute.as_ref());
        put_some(&mut config.detect.calibration, self.calibration.as_ref());
        put(&mut config.draw.view, self.view.as_ref());
        put(&mut config.draw.opacity, self.opacity.as_ref());
        put(&mut config.draw.palette, self.palette.as_ref());
        put_some(&mut config.encode.encoder, self.encoder.as_ref());
        if self.bitrate.is_some() || self.crf.is_some() {
            config.encode.bitrate = self.bitrate;
            config.encode.crf = self.crf;
        }
        put_some(&mut config.encode.preset, self.preset.as_ref());
        config.draw.legend &= !self.no_legend;
        config.encode.overwrite |= self.overwrite;
        config.check()?;
        Ok(config)
    }
}

/// Runs the command; its exit code.
///
/// # Errors
/// The configuration is impossible, the model does not load, an input is not there. What goes wrong in one of several
/// inputs is printed and counted, and the others are still run.
pub fn run(args: &RunArgs, quiet: bool) -> Result<u8> {
    let start = Instant::now();
    let config = args.config()?;
    let outputs = Outputs::parse(&args.output)?;
    media::init()?;
    let mut inputs = Vec::new();
    for argument in &args.inputs {
        inputs.extend(media::expand_input(argument)?);
    }
    let files = outputs.files(&inputs.iter().map(Input::file_name).collect::<Vec<_>>())?;
    outputs.make_folder()?;
    let interrupts = interrupt::watch()?;
    let mut engine = engine::open(&config)?;
    let wanted = Wanted {
        events: outputs.events.as_deref(),
        masks: outputs.masks.as_deref(),
        scores: outputs.scores.as_deref(),
        overwrite: config.encode.overwrite,
    };
    let mut recorders = wanted.recorders(&engine.network.manifest().classes.names)?;
    let encoding = encoding(&config);
    let mut reports = Vec::new();
    let mut worst = 0;
    for (index, (input, file)) in inputs.iter().zip(&files).enumerate() {
        let job = Job {
            input,
            file: file.as_deref(),
            index: index as u32,
            encoding: &encoding,
            quiet,
            alone: inputs.len() == 1,
        };
        let (report, code) = job.run(&mut engine, &mut recorders, &interrupts);
        reports.push(report);
        worst = worse(worst, code);
        if code == INTERRUPTED {
            break;
        }
    }
    let stages = engine.stages.report();
    let report = RunReport {
        inputs: reports,
        wall_s: start.elapsed().as_secs_f64(),
        stages: stages.iter().cloned().collect(),
        compute: engine.backend.name(),
        provider: engine.network.provider().name(),
        model: engine.network.path().display().to_string(),
        method: config.detect.method,
        threshold: engine.threshold_known.then_some(engine.recipe.threshold),
    };
    if !quiet {
        let order: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
        eprint!("{}", report.stage_table(&order));
    }
    if let Some(path) = &args.json {
        write_json(&report, path)?;
    }
    Ok(worst)
}

/// Of two exit codes the one that says more: interrupted, failed, damaged, done.
fn worse(a: u8, b: u8) -> u8 {
    [INTERRUPTED, 2, 1, DAMAGED].into_iter().find(|code| [a, b].contains(code)).unwrap_or(0)
}

fn encoding(config: &Config) -> Encoding {
    Encoding {
        encoder: config.encode.encoder.clone(),
        bitrate_kbps: config.encode.bitrate,
        crf: config.encode.crf,
        preset: config.encode.preset.clone(),
        overwrite: config.encode.overwrite,
        width_factor: if config.draw.view == View::SideBySide { 2 } else { 1 },
    }
}

/// One input of the run.
struct Job<'a> {
    input: &'a Input,
    file: Option<&'a Path>,
    index: u32,
    encoding: &'a Encoding,
    quiet: bool,
    alone: bool,
}

impl Job<'_> {
    /// Runs it; what to report and the exit code it asks for.
    fn run(
        &self,
        engine: &mut Engine,
        recorders: &mut [Box<dyn Recorder>],
        interrupts: &Arc<AtomicU32>,
    ) -> (InputReport, u8) {
        let name = self.input.to_string();
        match open_input(self.input, self.file, self.encoding, self.index) {
            Err(error) => {
                eprintln!("oodstream: error: {error}");
                let code = error.exit_code();
                (self.report(name, None, Some(error.to_string())), code)
            }
            Ok((reader, writer)) => {
                let info = reader.info().cloned();
                tracing::debug!(?info, "opened {name}");
                let progress = Progress::new(&name, info.as_ref(), self.quiet);
                let control = Control::watching(Arc::clone(interrupts));
                if let Some(error) = recorders.iter_mut().find_map(|recorder| recorder.begin(&name).err()) {
                    control.fail(error);
                }
                let outcome = pipeline::run(engine, &control, &progress, recorders, reader, writer);
                progress.finish();
                let code = self.tell(&name, &outcome);
                let error = outcome.error.as_ref().map(ToString::to_string);
                (self.report(name, Some(outcome), error), code)
            }
        }
    }

    /// Prints how it ended and gives the exit code.
    fn tell(&self, name: &str, outcome: &Outcome) -> u8 {
        if let Some(written) = &outcome.written
            && !self.quiet
        {
            let note = if outcome.interrupted { " (interrupted)" } else { "" };
            eprintln!(
                "{name} -> {}{note}: {} frames, unknown {:.2} %, {}",
                written.path.display(),
                outcome.frames_out,
                outcome.ood_share_mean * 100.0,
                written.encoder
            );
        }
        let damaged = outcome.end.as_ref().is_some_and(|end| end.truncated || end.damaged > 0);
        if let Some(end) = outcome.end.as_ref().filter(|_| damaged) {
            let what = if end.truncated { "ends before its time" } else { "is damaged" };
            eprintln!(
                "oodstream: warning: {name} {what} ({} frames lost or concealed): {}",
                end.damaged,
                end.notes.join("; ")
            );
        }
        match &outcome.error {
            Some(error) => {
                let place = if self.alone { error.to_string() } else { format!("{name}: {error}") };
                eprintln!("oodstream: error: {place}");
                error.exit_code()
            }
            None if outcome.interrupted => INTERRUPTED,
            None if outcome.frames_in == 0 => {
                eprintln!("oodstream: error: {name}: no frame could be decoded");
                1
            }
            None if damaged => DAMAGED,
            None => 0,
        }
    }

    fn report(&self, path: String, outcome: Option<Outcome>, error: Option<String>) -> InputReport {
        let end = outcome.as_ref().and_then(|outcome| outcome.end.as_ref());
        let written = outcome.as_ref().and_then(|outcome| outcome.written.as_ref());
        InputReport {
            path,
            frames_in: outcome.as_ref().map_or(0, |outcome| outcome.frames_in),
            frames_out: outcome.as_ref().map_or(0, |outcome| outcome.frames_out),
            dropped: 0,
            damaged: end.map_or(0, |end| end.damaged),
            truncated: end.is_some_and(|end| end.truncated),
            ood_share_mean: outcome.as_ref().map_or(0.0, |outcome| outcome.ood_share_mean),
            output: written.map(|written| written.path.display().to_string()),
            encoder: written.map(|written| written.encoder.clone()),
            error,
        }
    }
}
