//! `oodstream calibrate`: thresholds, statistics and a codebook from ordinary footage.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::network::NetworkArgs;
use super::source::{SourceArgs, log_signal};
use super::values::{address, duration, duration_or_zero};
use super::{INTERRUPTED, signals};
use crate::address::Address;
use crate::atomic_file;
use crate::compute::{self, Unit};
use crate::config::{Config, DetectConfig};
use crate::gst;
use crate::input;
use crate::input::{FrameReader, Input, Read};
use crate::model::runtime::Network;
use crate::model::views::inference::FrameInference;
use crate::ood::alarm::{Filler, IgnoreMap, Ignored};
use crate::ood::calibrate::{CalibrateOptions, CodebookSize, FrameStore, calibrate};
use crate::ood::calibration::{Calibration, Footage};
use crate::ood::method::{Method, TRAINING_FREE, split_list};
use crate::session::engine;
use crate::session::open::open_input;
use crate::{Error, Result};

/// Longest wait for a frame before the interrupt flag is checked.
const PATIENCE: Duration = Duration::from_millis(200);

/// The methods that a codebook makes possible.
const BANK: &[&str] = &["bank", "bank-cluster", "bank-cluster-ensemble"];

/// Options of `calibrate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  oodstream calibrate monday.mp4 tuesday.mp4 -o calibration.toml
  oodstream calibrate drives/ -o calibration.toml --false-positives 0.002 --codebook 1024
  oodstream calibrate rtsp://camera/1 --credentials camera.login --calibrate-for 300s -o calibration.toml
  oodstream run drive.mp4 --calibration calibration.toml

The footage should show what is ordinary: a few minutes of driving without anything unusual in it.")]
pub struct CalibrateArgs {
    /// Videos, folders of videos or images, globs; live inputs together with --calibrate-for
    #[arg(required = true, value_name = "INPUT", value_parser = address())]
    inputs: Vec<Address>,
    /// Calibration file to write; a codebook is written beside it as NAME.codebook.npy
    #[arg(short, long, value_name = "FILE.toml")]
    output: PathBuf,
    /// Share of ordinary pixels that the thresholds may mark
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    false_positives: f64,
    /// Scoring methods to calibrate, separated by commas [default: all that the model supports]
    #[arg(long, value_name = "NAME,...")]
    methods: Option<String>,
    /// Also build a codebook of N centroids, for the bank methods [default: none; 4096 for a network without classes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16384))]
    codebook: Option<u32>,
    /// Interval between the frames used, in seconds of running time
    #[arg(long, value_name = "TIME", default_value = "0.5", value_parser = duration_or_zero())]
    every: Duration,
    /// Maximum number of frames to keep, spread evenly over the footage
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = clap::value_parser!(u32).range(20..=4096))]
    frames: u32,
    /// Use only this much of the start of each input (120 or 120s)
    #[arg(long, value_name = "TIME", value_parser = duration())]
    calibrate_for: Option<Duration>,
    /// Pipeline file, for its [model], [source] and compute settings
    #[arg(short, long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Change one key of the pipeline file; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// Ignore a part of the picture: MASK.png or 'poly:x,y x,y x,y ...', as in `run`; repeatable
    #[arg(long, value_name = "PART")]
    ignore: Vec<String>,
    /// Overwrite existing files
    #[arg(long)]
    overwrite: bool,
}

impl CalibrateArgs {
    /// The configuration with the options applied.
    fn config(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), &self.set)?;
        self.network.apply(&mut config);
        self.source.apply(&mut config.source);
        if !self.ignore.is_empty() {
            config.events.ignore = self.ignore.iter().map(|part| Ignored::parse(part)).collect::<Result<_>>()?;
        }
        config.check()?;
        Ok(config)
    }

    /// The inputs, and their names in the calibration file: addresses without passwords.
    fn expand(&self) -> Result<(Vec<Input>, Vec<String>)> {
        let (mut inputs, mut shown) = (Vec::new(), Vec::new());
        for argument in &self.inputs {
            let found = input::expand_input(argument)?;
            let live = found.iter().find(|input| matches!(input, Input::Live(_)));
            if let (Some(live), None) = (live, self.calibrate_for) {
                return Err(Error::usage(format!("{live} is a live input and needs a time limit"))
                    .hint("--calibrate-for 300s uses five minutes of it"));
            }
            shown.push(live.map_or_else(|| argument.to_string(), Input::to_string));
            inputs.extend(found);
        }
        Ok((inputs, shown))
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 0.5 => Ok(value),
        _ => Err("expected a share above 0 and below 0.5, such as 0.01".to_owned()),
    }
}

/// Runs the command; the exit code is 0, or 130 when it was interrupted and nothing was written.
///
/// # Errors
/// The footage is unsuitable, the model does not support a requested method, or the file cannot be written.
pub fn run(args: &CalibrateArgs, quiet: bool) -> Result<u8> {
    if args.output.exists() && !args.overwrite {
        return Err(
            Error::usage(format!("-o {}: it exists already", args.output.display())).hint("--overwrite replaces it")
        );
    }
    let config = args.config()?;
    gst::init()?;
    let (inputs, shown) = args.expand()?;
    let ignore = Arc::new(IgnoreMap::load(&config.events.ignore)?);
    let mut network = engine::network(&config)?;
    let views = config.model.views(network.manifest());
    let methods = methods(args, &network, &config.detect)?;
    let mut backend = compute::open_with(config.detect.compute, config.model.threads, config.detect.gpu_f16)?;
    // Now rather than after an hour of footage.
    drop(
        atomic_file::create(&args.output)
            .map_err(|e| Error::failed(format!("calibration {}: {e}", args.output.display())))?,
    );
    let interrupts = signals::count_interrupts()?;
    let mut frames = FrameStore::new(args.frames as usize)?;
    frames.leave_out(Filler::new(Arc::clone(&ignore)));
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let mut footage = FootageReader {
        inference: FrameInference::new(&network, views.clone())?,
        every: args.every,
        until: args.calibrate_for.unwrap_or(Duration::MAX),
        interrupts: &interrupts,
    };
    for input in &inputs {
        let name = input.to_string();
        bar.set_message(name.clone());
        let (mut reader, _) =
            open_input(input, None, &Default::default(), &config.source, 0).map_err(|e| e.at(&name))?;
        reader.info().map_or(Ok(()), |info| ignore.check_size(info.width, info.height))?;
        if !footage.read(&name, reader.as_mut(), &mut network, &mut frames, &bar).map_err(|e| e.at(&name))? {
            bar.finish_and_clear();
            eprintln!("oodstream: interrupted, no calibration was written");
            return Ok(INTERRUPTED);
        }
    }
    let footage = Footage { inputs: shown, frames: 0, odd_frames: 0, false_positive_share: args.false_positives };
    let mut calibration = Calibration::new(engine::model_id(&network, &config.model.features), views, footage);
    let options = CalibrateOptions {
        false_positive_share: args.false_positives,
        codebook: match args.codebook {
            Some(centroids) => CodebookSize::Centroids(centroids as usize),
            // Without classes the bank is all there is.
            None if network.logits_name().is_none() => CodebookSize::Default,
            None => CodebookSize::None,
        },
        methods,
        classes: network.manifest().classes.names.clone(),
        events: config.events.clone(),
    };
    bar.set_message("measuring");
    bar.set_position(0);
    calibrate(&mut frames, backend.as_mut(), &options, &mut calibration, || bar.inc(1))?;
    calibration.save(&args.output)?;
    bar.finish_and_clear();
    print_summary(&args.output, &calibration, quiet);
    Ok(0)
}

fn print_summary(path: &Path, calibration: &Calibration, quiet: bool) {
    if quiet {
        return;
    }
    let Footage { frames, odd_frames, false_positive_share, .. } = calibration.footage;
    println!("{}: {frames} frames measured, {odd_frames} of them left out as odd", path.display());
    if let Some(bank) = &calibration.bank {
        println!(
            "codebook: {} centroids from {} feature vectors; AUROC of held-back against own frames {:.3} (ideal: 0.5)",
            bank.centroids, bank.vectors, bank.held_back_auroc
        );
    }
    println!("thresholds that mark {:.2} % of ordinary pixels:", 100.0 * false_positive_share);
    println!("  {:32} {:>12} {:>12} {:>12}", "method", "threshold", "for alarms", "held back");
    for method in &calibration.methods {
        let held_back = method.held_back_share.map_or_else(String::new, |share| format!("{:.2} %", 100.0 * share));
        let alarm = method.alarm_threshold.unwrap_or(method.threshold);
        println!("  {:32} {:>12.5} {alarm:>12.5} {held_back:>12}", method.name, method.threshold);
    }
    println!("(held back: pixels marked in frames that the threshold was not found on)");
}

/// The requested methods, or all that the model and the options allow.
fn methods(args: &CalibrateArgs, network: &Network, detect: &DetectConfig) -> Result<Vec<Method>> {
    let clusters = !network.feature_names().is_empty();
    let names = match &args.methods {
        Some(list) => split_list(list),
        None => {
            let logits = network.logits_name().is_some();
            let bank: &[&str] = if args.codebook.is_some() || !logits { BANK } else { &[] };
            let rest = ["default"].iter().chain(TRAINING_FREE).filter(|_| logits);
            rest.chain(bank).map(|name| (*name).to_owned()).collect()
        }
    };
    let mut methods = Vec::new();
    for name in names {
        let method = engine::method(&name, network, detect)?;
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

/// Reads footage and runs the network on some of its frames.
struct FootageReader<'a> {
    inference: FrameInference,
    every: Duration,
    until: Duration,
    interrupts: &'a AtomicU32,
}

impl FootageReader<'_> {
    /// Reads one input to its end; false when the user stopped it.
    fn read(
        &mut self,
        name: &str,
        reader: &mut dyn FrameReader,
        network: &mut Network,
        frames: &mut FrameStore,
        bar: &ProgressBar,
    ) -> Result<bool> {
        let mut next = Duration::ZERO;
        while self.interrupts.load(Ordering::Relaxed) == 0 {
            let frame = match reader.read(PATIENCE)? {
                Read::Frame(frame) => frame,
                Read::Signal(signal) => {
                    log_signal(name, &signal);
                    continue;
                }
                Read::TimedOut => continue,
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
            // A repeat of the last picture, while a camera is away, says nothing new.
            if time < next || frame.lost.is_some() {
                continue;
            }
            next = time + self.every;
            self.inference.run(network, &frame.map()?.i420(), |maps| frames.push(maps))?;
            bar.inc(1);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::VideoInfo;
    use crate::model::runtime::SessionOptions;
    use crate::model::views::Views;

    /// A test pattern from a camera whose signal is lost for all but every third picture.
    struct Flaky(Box<dyn FrameReader>, u32);

    impl FrameReader for Flaky {
        fn read(&mut self, timeout: Duration) -> Result<Read> {
            let mut read = self.0.read(timeout)?;
            if let Read::Frame(frame) = &mut read {
                frame.lost = (!self.1.is_multiple_of(3)).then_some(Duration::from_millis(40));
                self.1 += 1;
            }
            Ok(read)
        }

        fn info(&self) -> Option<&VideoInfo> {
            self.0.info()
        }
    }

    #[test]
    fn repeats_are_not_footage() {
        gst::init().unwrap();
        let mut network = Network::load(None, &SessionOptions::default()).unwrap();
        let input = input::expand_input(&"test://snow?frames=12&width=64&height=32".into()).unwrap().remove(0);
        let (reader, _) = open_input(&input, None, &Default::default(), &Default::default(), 0).unwrap();
        let interrupts = AtomicU32::new(0);
        let mut footage = FootageReader {
            inference: FrameInference::new(&network, Views::default()).unwrap(),
            every: Duration::ZERO,
            until: Duration::MAX,
            interrupts: &interrupts,
        };
        let (mut frames, bar) = (FrameStore::new(20).unwrap(), ProgressBar::hidden());
        assert!(footage.read("it", &mut Flaky(reader, 0), &mut network, &mut frames, &bar).unwrap());
        assert_eq!((bar.position(), frames.len()), (4, 4));
    }
}
