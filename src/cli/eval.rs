//! `oodstream eval`: metrics of scoring methods on labelled images and videos.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::network::NetworkArgs;
use super::report::write_json;
use super::values::{address, choice};
use super::{eval_classes, eval_clip};
use crate::address::Address;
use crate::compute::{self, Unit, Upsampling};
use crate::config::Config;
use crate::eval::components::SizeLimits;
use crate::eval::dataset::{Dataset, SetLayout};
use crate::eval::gather::{GatherOptions, Gathered, gather, gather_files};
use crate::eval::measure::{EXACT_PIXELS, measure, total_counts};
use crate::eval::report::Evaluation;
use crate::eval::source::NetworkSource;
use crate::eval::{html, save};
use crate::model::runtime::Network;
use crate::npy::FloatType;
use crate::ood::calibration::{Calibration, ready};
use crate::ood::method::{Method, split_list};
use crate::session::engine;
use crate::{Error, Result};

/// The methods compared by default.
const DEFAULT_METHODS: &str = "default,msp,max-logit,entropy,energy,cluster,cluster-ensemble";

/// Options of `eval`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  oodstream eval RoadAnomaly --layout road-anomaly
  oodstream eval dataset_AnomalyTrack --layout smiyc --methods default,max-logit --report report/
  oodstream eval my_set --layout pairs --ood-value 7 --json -
  oodstream eval my_set --layout pairs --from-scores scores/      score maps of another program
  oodstream eval drives/*.mp4 --ordinary                          false alarms per minute
  oodstream eval camvid/test --classes --class-names model        share of each known class that is marked
  oodstream eval clip.mp4 --truth masks/                          delay until each labelled object is reported
  oodstream eval wos --sequences --save-sequences wos             the Obstacle Sequence Challenge, and its scorer's input")]
pub struct EvalArgs {
    /// Folder of an unpacked data set, or videos with --ordinary or --truth
    #[arg(value_name = "INPUT", required = true, value_parser = address())]
    pub(super) inputs: Vec<Address>,
    /// Layout of the data set
    #[arg(long, value_parser = choice::<SetLayout>(), required_unless_present_any = ["ordinary", "truth", "classes", "sequences"], conflicts_with_all = ["ordinary", "truth", "classes", "sequences"])]
    layout: Option<SetLayout>,
    /// Treat the inputs as ordinary videos and report their alarms, all of them false
    #[arg(long, conflicts_with = "truth", help_heading = "Alarms in videos")]
    pub(super) ordinary: bool,
    /// Treat the frames as unrelated pictures, without rules over time
    #[arg(long, requires = "ordinary", help_heading = "Alarms in videos")]
    pub(super) stills: bool,
    /// Ground-truth masks of the video, NUMBER*.png per frame (from 0, or as in the names of its pictures): 0 known, 255
    /// void, else unknown
    #[arg(long, value_name = "DIR", help_heading = "Alarms in videos")]
    pub(super) truth: Option<PathBuf>,
    /// Mask values are object identities, the same in all frames
    #[arg(long, requires = "truth", help_heading = "Alarms in videos")]
    pub(super) instances: bool,
    /// Treat the input as a data set of the Obstacle Sequence Challenge (SOS, WOS): raw_data/SEQ, instance_ood/SEQ
    #[arg(long, conflicts_with_all = ["ordinary", "truth", "classes"], help_heading = "Alarms in videos")]
    pub(super) sequences: bool,
    /// Write what the challenge's scorer reads: DIR/ood_score/SEQ/NNNNNN.npy, DIR/ood_prediction_tracked/SEQ/NNNNNN.npy
    #[arg(long, value_name = "DIR", conflicts_with_all = ["layout", "classes", "stills"], help_heading = "Alarms in videos")]
    pub(super) save_sequences: Option<PathBuf>,
    /// Change one key of the pipeline file; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE", help_heading = "Alarms in videos")]
    pub(super) set: Vec<String>,
    /// Report the marked share of each class of a set with class labels, 255 void (images/NAME.*, labels/NAME.*)
    #[arg(long, conflicts_with_all = ["ordinary", "truth", "ood_value", "from_scores", "save_scores"], help_heading = "Known classes")]
    pub(super) classes: bool,
    /// Class names by label value from 0, or `model` for the network's classes [default: the numbers]
    #[arg(long, value_name = "NAME,...", requires = "classes", help_heading = "Known classes")]
    pub(super) class_names: Option<String>,
    /// Mask value of anomalous pixels [default: from the layout]
    #[arg(long, value_name = "N")]
    ood_value: Option<u8>,
    /// Scoring methods to compare, separated by commas
    #[arg(long, value_name = "NAME,...", default_value = DEFAULT_METHODS)]
    methods: String,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    /// Calibration file, written by `oodstream calibrate`
    #[arg(long, value_name = "FILE.toml")]
    pub(super) calibration: Option<PathBuf>,
    /// Upsampling of all scores from the grid to the picture's size [default: per method]
    #[arg(long, value_name = "HOW", value_parser = choice::<Upsampling>())]
    upsampling: Option<Upsampling>,
    /// Evaluate only the first N images
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Skip files that are missing or damaged, and count them
    #[arg(long)]
    pub(super) skip_bad: bool,
    /// Ignore predicted components smaller than this (RoadObstacle21 uses 50)
    #[arg(long, value_name = "PIXELS", default_value_t = 500)]
    min_predicted: u64,
    /// Ignore ground-truth components smaller than this (RoadObstacle21 uses 10)
    #[arg(long, value_name = "PIXELS", default_value_t = 100)]
    min_truth: u64,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write an HTML report with curves, histograms and pictures
    #[arg(long, value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
    /// Save every score map as DIR/METHOD/NAME.npy
    #[arg(long, value_name = "DIR")]
    save_scores: Option<PathBuf>,
    /// Element type of saved score maps
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = choice::<FloatType>())]
    pub(super) score_type: FloatType,
    /// Evaluate saved score maps, DIR/METHOD/NAME.npy or DIR/NAME.npy, instead of running a network
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "calibration", "methods", "upsampling", "save_scores"])]
    from_scores: Option<PathBuf>,
}

/// A method's name and whether it needs ordinary footage.
type Named = (String, bool);

/// Runs the command; the exit code is 0.
///
/// # Errors
/// The data set, the model or a method cannot be used; the message names it.
pub fn run(args: &EvalArgs, quiet: bool) -> Result<u8> {
    let ([folder], Some(layout)) = (args.inputs.as_slice(), args.layout) else {
        if args.ordinary || args.sequences || args.truth.is_some() {
            return eval_clip::run(args, quiet);
        }
        if args.classes {
            return eval_classes::run(args, quiet);
        }
        return Err(Error::usage("a data set is a single folder"));
    };
    let mut dataset = Dataset::open(folder.path(), layout, args.ood_value)?;
    if let Some(limit) = args.limit {
        dataset.samples.truncate(limit.max(1));
    }
    if !args.skip_bad {
        dataset.check()?;
    }
    let bar = progress_bar(dataset.samples.len(), quiet);
    let (model, methods, gathered) = match &args.from_scores {
        Some(folder) => from_scores(args, &dataset, folder, &bar)?,
        None => from_network(args, &dataset, &bar)?,
    };
    let limits = SizeLimits { predicted: args.min_predicted, truth: args.min_truth };
    bar.set_message("metrics");
    bar.set_position(0);
    bar.set_length(2 * (methods.len() * gathered.samples.len()) as u64);
    let results = methods
        .iter()
        .enumerate()
        .map(|(index, (name, _))| measure(&gathered, index, name, limits, EXACT_PIXELS, &|| bar.inc(1)))
        .collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = methods.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(folder) = &args.save_scores {
        bar.set_message("saving scores");
        save::save_scores(folder, &names, &gathered, args.score_type)?;
    }
    let default_method = names.iter().find(|name| **name == "default").or(names.first()).copied().unwrap_or_default();
    let evaluation = Evaluation {
        dataset: dataset.name.clone(),
        layout: layout.name().to_owned(),
        model,
        images: gathered.samples.len(),
        unlabelled: dataset.unlabelled,
        skipped: gathered.skipped.clone(),
        pixels: total_counts(&gathered.truths),
        limits,
        default_method: default_method.to_owned(),
        needs_footage: methods.iter().map(|(_, footage)| *footage).collect(),
        methods: results,
    };
    if let Some(folder) = &args.report {
        bar.set_message("report");
        html::write(folder, &evaluation, &gathered)?;
    }
    bar.finish_and_clear();
    finish(args, &evaluation)?;
    Ok(0)
}

fn finish(args: &EvalArgs, evaluation: &Evaluation) -> Result<()> {
    for problem in &evaluation.skipped {
        tracing::warn!("skipped: {}", problem.lines().next().unwrap_or_default());
    }
    if let Some(path) = &args.json {
        write_json(&evaluation.json(), path)?;
    }
    // Standard output is for the JSON report.
    if args.json.as_deref() == Some(Path::new("-")) {
        eprint!("{}", evaluation.table());
    } else {
        print!("{}", evaluation.table());
    }
    if let Some(folder) = &args.report {
        tracing::info!("report: {}", folder.join("index.html").display());
    }
    Ok(())
}

pub(super) fn progress_bar(images: usize, quiet: bool) -> ProgressBar {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(images as u64) };
    // The template is a constant that parses; the plain bar is what is left if it did not.
    if let Ok(style) = ProgressStyle::with_template("{msg:>14} [{bar:36}] {pos}/{len} {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn options(args: &EvalArgs) -> GatherOptions {
    // Decoding a picture takes about as long as the network on it: two ahead are enough.
    GatherOptions { skip_bad: args.skip_bad, decoders: 2 }
}

fn from_scores(
    args: &EvalArgs,
    dataset: &Dataset,
    folder: &Path,
    bar: &ProgressBar,
) -> Result<(Option<String>, Vec<Named>, Gathered)> {
    bar.set_message("ground truth");
    let (names, gathered) = gather_files(dataset, folder, options(args), |_| bar.inc(1))?;
    Ok((None, names.into_iter().map(|name| (name, false)).collect(), gathered))
}

fn from_network(
    args: &EvalArgs,
    dataset: &Dataset,
    bar: &ProgressBar,
) -> Result<(Option<String>, Vec<Named>, Gathered)> {
    let mut config = Config::default();
    args.network.apply(&mut config);
    config.check()?;
    let mut network = engine::network(&config)?;
    let views = config.model.views(network.manifest());
    let calibration = args
        .calibration
        .as_deref()
        .map(|path| Calibration::load(path, &engine::model_id(&network, &config.model.features), &views))
        .transpose()?;
    let methods = methods(args, &network, calibration.as_ref())?;
    let mut backend = compute::open(config.detect.compute, config.model.threads)?;
    tracing::info!(
        "network {} on {}, frames by {views}, {} methods on {}",
        network.path().display(),
        network.runs_on(),
        methods.len(),
        backend.describe()
    );
    let named = methods.iter().map(|method| (method.name.clone(), is_training_light(method))).collect();
    let recipes: Vec<_> = methods.into_iter().map(|method| method.recipe).collect();
    let count = recipes.len();
    let model = network.path().file_name().map(|name| name.to_string_lossy().into_owned());
    bar.set_message("network");
    let mut source = NetworkSource::new(&mut network, views, backend.as_mut(), recipes);
    let gathered = gather(dataset, count, &mut source, options(args), |_| bar.inc(1))?;
    Ok((model, named, gathered))
}

/// Whether a score uses anything that was measured on ordinary footage.
fn is_training_light(method: &Method) -> bool {
    let terms = &method.recipe.terms;
    method.needs_calibration() || terms.len() > 1
}

fn methods(args: &EvalArgs, network: &Network, calibration: Option<&Calibration>) -> Result<Vec<Method>> {
    let mut methods: Vec<Method> = Vec::new();
    for name in split_list(&args.methods) {
        if methods.iter().any(|method| method.name == name) {
            continue;
        }
        let method = Method::parse(&name, network.manifest().scoring.as_ref())?;
        method.check_network(network)?;
        let mut method = ready(method, calibration)?;
        method.recipe.upsampling = args.upsampling.unwrap_or(method.recipe.upsampling);
        let clusters = method.recipe.terms.iter().any(|term| term.unit == Unit::Cluster);
        if clusters && network.feature_names().is_empty() {
            if args.methods == DEFAULT_METHODS {
                tracing::warn!("method `{name}` is left out: the model has no feature output to cluster");
                continue;
            }
            return Err(Error::usage(format!(
                "method `{name}` clusters features, and the model has no feature output"
            )));
        }
        methods.push(method);
    }
    if methods.is_empty() {
        return Err(Error::usage("--methods names no method"));
    }
    Ok(methods)
}
