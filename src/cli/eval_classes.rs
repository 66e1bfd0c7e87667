//! `oodstream eval --classes`: the share of each known class that is marked.

use std::path::Path;

use indicatif::ProgressBar;

use super::eval::{EvalArgs, progress_bar};
use super::report::write_json;
use crate::config::Config;
use crate::eval::classes::{ClassCounter, ClassReport};
use crate::eval::dataset::{Dataset, SetLayout};
use crate::eval::html;
use crate::eval::sample::{read_image, read_labels};
use crate::ood::method::split_list;
use crate::session::Detector;
use crate::{Error, Result};

/// The name that stands for the classes of the network.
const MODEL: &str = "model";

/// Evaluates all images; the exit code is 0.
///
/// # Errors
/// The set, an image or its labels cannot be read, or the model does not load or has no threshold.
pub(super) fn run(args: &EvalArgs, quiet: bool) -> Result<u8> {
    let [folder] = args.inputs.as_slice() else { return Err(Error::usage("a data set is a single folder")) };
    let mut config = Config::load(None, &args.set)?;
    args.network.apply(&mut config);
    config.detect.calibration = args.calibration.clone().map(Into::into);
    let mut dataset = Dataset::open(folder.path(), SetLayout::Pairs, None)?;
    dataset.samples.truncate(args.limit.map_or(usize::MAX, |limit| limit.max(1)));
    if !args.skip_bad {
        dataset.check()?;
    }
    let mut detector = Detector::new(None, &config)?;
    let names = match args.class_names.as_deref() {
        None => Vec::new(),
        Some(MODEL) => detector.classes().to_vec(),
        Some(list) => split_list(list),
    };
    let bar = progress_bar(dataset.samples.len(), quiet);
    let report = count(&dataset, &mut detector, args.skip_bad, &bar)?.report(&names);
    bar.finish_and_clear();
    if let Some(folder) = &args.report {
        html::write_classes(folder, &dataset.name, &report)?;
    }
    finish(args, &report)
}

fn count(dataset: &Dataset, detector: &mut Detector, skip_bad: bool, bar: &ProgressBar) -> Result<ClassCounter> {
    let mut counter = ClassCounter::default();
    let mut skipped = Vec::new();
    for sample in &dataset.samples {
        let mut look = || {
            let picture = read_image(sample)?;
            let labels = read_labels(sample)?;
            let found = detector.detect_rgb(picture.as_raw(), picture.width(), picture.height())?;
            counter.add(&labels, found.mask.view()).map_err(|error| error.at(sample.image.display()))
        };
        match look() {
            Err(error) if skip_bad => skipped.push(error.to_string()),
            other => other?,
        }
        bar.inc(1);
    }
    for problem in dataset.problems.iter().chain(&skipped) {
        tracing::warn!("skipped: {}", problem.lines().next().unwrap_or_default());
    }
    Ok(counter)
}

fn finish(args: &EvalArgs, report: &ClassReport) -> Result<u8> {
    if let Some(path) = &args.json {
        write_json(report, path)?;
    }
    // Standard output is for the JSON report if it was sent there.
    if args.json.as_deref() == Some(Path::new("-")) {
        eprint!("{}", report.table());
    } else {
        print!("{}", report.table());
    }
    Ok(0)
}
