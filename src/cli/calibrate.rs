//! `oodstream calibrate`: thresholds, statistics and a codebook from ordinary footage.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::view::ViewArgs;
use super::{INTERRUPTED, interrupt};
use crate::compute::{self, ComputeChoice, Unit};
use crate::media::{self, Encoding, FrameReader, Input, OpenFile, Read};
use crate::model::look::Look;
use crate::model::network::Provider;
use crate::model::{Network, SessionOptions};
use crate::ood::calibrate::{CalibrateOptions, FrameStore, calibrate};
use crate::ood::calibration::{Calibration, Footage, ModelId};
use crate::ood::method::{Method, TRAINING_FREE, split_list};
use crate::{Error, Result};

/// How long one look for a frame may take before the interrupt is asked for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Options of `calibrate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  oodstream calibrate monday.mp4 tuesday.mp4 -o calibration.toml
  oodstream calibrate drives/ -o calibration.toml --false-positives 0.002 --codebook 1024
  oodstream run drive.mp4 --calibration calibration.toml

The footage should show what is ordinary: a few minutes of driving without anything unusual in it.")]
pub struct CalibrateArgs {
    /// Videos, folders of videos or images, globs
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Where to write it; a codebook goes beside it as NAME.codebook.npy
    #[arg(short, long, value_name = "FILE.toml")]
    output: PathBuf,
    /// Share of ordinary pixels that the thresholds may mark
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    false_positives: f64,
    /// Scores to find thresholds for, separated by commas [default: all that the model can do]
    #[arg(long, value_name = "NAME,...")]
    methods: Option<String>,
    /// Make a codebook of N centroids, for the bank scores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16384))]
    codebook: Option<u32>,
    /// Look at one frame every so many seconds of running time
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    every: f64,
    /// Keep at most N frames, spread evenly over the footage
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = clap::value_parser!(u32).range(20..=4096))]
    frames: u32,
    /// Look at no more than the first so many seconds of each input (120 or 120s)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    calibrate_for: Option<Duration>,
    /// Network [default: the one that ships with the program]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Where K-Means and the score maps are computed
    #[arg(long, value_name = "WHERE", default_value = "auto")]
    compute: ComputeChoice,
    /// Where the network runs
    #[arg(long, value_name = "WHERE", default_value = "auto")]
    provider: Provider,
    /// Threads of the network [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    views: ViewArgs,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 0.5 => Ok(value),
        _ => Err("expected a share above 0 and below 0.5, such as 0.01".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value = text.strip_suffix('s').unwrap_or(text).parse::<f64>();
    value
        .ok()
        .filter(|value| *value > 0.0)
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
        .ok_or_else(|| "expected seconds above 0, such as 120s".to_owned())
}

/// Runs the command; the exit code is 0, or 130 when it was interrupted and nothing was written.
///
/// # Errors
/// The footage will not do, the model cannot do what is asked for, or the file cannot be written.
pub fn run(args: &CalibrateArgs, quiet: bool) -> Result<u8> {
    if args.output.exists() && !args.overwrite {
        return Err(
            Error::usage(format!("-o {}: it exists already", args.output.display())).hint("--overwrite replaces it")
        );
    }
    if !(args.every.is_finite() && args.every >= 0.0) {
        return Err(Error::usage("--every must be 0 or more seconds"));
    }
    media::init()?;
    let mut inputs = Vec::new();
    for argument in &args.inputs {
        inputs.extend(media::expand_input(argument)?);
    }
    let session = SessionOptions { threads: args.threads, provider: args.provider, ..SessionOptions::default() };
    let mut network = Network::load(args.model.as_deref(), &session)?;
    let views = args.views.views(network.manifest())?;
    let methods = methods(args, &network)?;
    let interrupts = interrupt::watch()?;
    let mut frames = FrameStore::new(args.frames as usize)?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let mut looker = Looker {
        look: Look::new(&network, views.clone())?,
        every: Duration::from_secs_f64(args.every),
        until: args.calibrate_for.unwrap_or(Duration::MAX),
        interrupts: &interrupts,
    };
    for input in &inputs {
        let name = input.to_string();
        bar.set_message(name.clone());
        let mut reader = open(input).map_err(|error| error.at(&name))?;
        if !looker.look(reader.as_mut(), &mut network, &mut frames, &bar).map_err(|error| error.at(&name))? {
            bar.finish_and_clear();
            eprintln!("oodstream: interrupted, no calibration was written");
            return Ok(INTERRUPTED);
        }
    }
    let model = ModelId {
        file: network.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: network.sha256().to_owned(),
    };
    let footage =
        Footage { inputs: args.inputs.clone(), frames: 0, odd_frames: 0, false_positive_share: args.false_positives };
    let mut calibration = Calibration::new(model, views, footage);
    let options = CalibrateOptions {
        false_positive_share: args.false_positives,
        codebook: args.codebook.map(|centroids| centroids as usize),
        methods,
    };
    let mut backend = compute::open(args.compute, args.threads)?;
    bar.set_message("measuring");
    bar.set_position(0);
    calibrate(&mut frames, backend.as_mut(), &options, &mut calibration, || bar.inc(1))?;
    calibration.save(&args.output)?;
    bar.finish_and_clear();
    tell(&args.output, &calibration, quiet);
    Ok(0)
}

fn tell(path: &Path, calibration: &Calibration, quiet: bool) {
    if quiet {
        return;
    }
    let Footage { frames, odd_frames, false_positive_share, .. } = calibration.footage;
    println!("{}: {frames} frames measured, {odd_frames} of them left out as odd", path.display());
    println!("thresholds that mark {:.2} % of ordinary pixels:", 100.0 * false_positive_share);
    for method in &calibration.methods {
        println!("  {:32} {:>12.5}", method.name, method.threshold);
    }
}

/// The methods asked for, or all that the model and the options allow.
fn methods(args: &CalibrateArgs, network: &Network) -> Result<Vec<Method>> {
    let scoring = network.manifest().scoring.as_ref();
    let clusters = !network.feature_names().is_empty();
    let names = match &args.methods {
        Some(list) => split_list(list),
        None => {
            let bank: &[&str] =
                if args.codebook.is_some() { &["bank", "bank-cluster", "bank-cluster-ensemble"] } else { &[] };
            ["default"].iter().chain(TRAINING_FREE).chain(bank).map(|name| (*name).to_owned()).collect()
        }
    };
    let mut methods = Vec::new();
    for name in names {
        let method = Method::parse(&name, scoring)?;
        if clusters || method.recipe.terms.iter().all(|term| term.unit == Unit::Pixel) {
            methods.push(method);
        } else if args.methods.is_some() {
            return Err(Error::usage(format!(
                "method `{name}` clusters features, and the model has no feature output"
            )));
        }
    }
    if methods.is_empty() {
        return Err(Error::usage("--methods names no method"));
    }
    Ok(methods)
}

fn open(input: &Input) -> Result<Box<dyn FrameReader>> {
    let encoding = Encoding::default();
    let (reader, _) = match input {
        Input::File(path) => media::open_file(&OpenFile { path, output: None, encoding: &encoding, stream: 0 })?,
        Input::Images(files) => media::open_images(files, None, &encoding, 0)?,
        Input::Test(spec) => media::open_test(spec, None, &encoding, 0)?,
        Input::Live(input) => (media::open_live(input, &Default::default(), 0)?, None),
    };
    Ok(reader)
}

/// Reads footage and shows some of its frames to the network.
struct Looker<'a> {
    look: Look,
    every: Duration,
    until: Duration,
    interrupts: &'a AtomicU32,
}

impl Looker<'_> {
    /// Takes one input to its end; false when the user stopped it.
    fn look(
        &mut self,
        reader: &mut dyn FrameReader,
        network: &mut Network,
        frames: &mut FrameStore,
        bar: &ProgressBar,
    ) -> Result<bool> {
        let mut next = Duration::ZERO;
        while self.interrupts.load(Ordering::Relaxed) == 0 {
            let frame = match reader.read(PATIENCE)? {
                Read::Frame(frame) => frame,
                Read::Signal(_) | Read::TimedOut => continue,
                Read::End(end) => {
                    for note in &end.notes {
                        tracing::warn!("{note}");
                    }
                    return Ok(true);
                }
            };
            let time = Duration::from_nanos(frame.running_time);
            if time >= self.until {
                return Ok(true);
            }
            if time < next {
                continue;
            }
            next = time + self.every;
            self.look.at(network, &frame.map()?.i420(), |maps| frames.push(maps))?;
            bar.inc(1);
        }
        Ok(false)
    }
}
