//! The first pass: pictures through the network, or others' score maps found on disk, beside their ground truth.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam::channel::bounded;
use image::RgbImage;
use ndarray::ArrayView2;

use super::dataset::Dataset;
use super::sample::{Sample, read_mask, read_sample};
use super::store::{GridStore, Scores};
use super::truth::Truth;
use crate::{Error, Result};

/// Takes the grid of each method for one picture.
pub type GridSink<'a> = dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()> + 'a;

/// Scores pictures: a network with its back end, or a stand-in.
pub trait ScoreSource {
    /// Scores one picture with every method, handing the grid of method `i` to `sink(i, ..)`.
    ///
    /// # Errors
    /// The picture cannot be scored.
    fn score(&mut self, picture: &RgbImage, sink: &mut GridSink<'_>) -> Result<()>;
}

/// The result of the first pass.
#[derive(Debug)]
pub struct Gathered {
    /// The usable samples.
    pub samples: Vec<Sample>,
    /// Their ground truth.
    pub truths: Vec<Truth>,
    /// Their scores.
    pub scores: Scores,
    /// Skipped samples with the reason, a sentence each.
    pub skipped: Vec<String>,
}

/// The settings of the first pass.
#[derive(Debug, Clone, Copy)]
pub struct GatherOptions {
    /// Skip samples that cannot be read.
    pub skip_bad: bool,
    /// Threads that decode pictures, at least 1.
    pub decoders: usize,
}

/// Decodes all samples in parallel and scores them one after the other; `progress` is called after each.
///
/// # Errors
/// A sample that cannot be read unless `skip_bad`, or no sample that can; a score that fails.
pub fn gather(
    dataset: &Dataset,
    methods: usize,
    source: &mut dyn ScoreSource,
    options: GatherOptions,
    mut progress: impl FnMut(&Sample),
) -> Result<Gathered> {
    let count = dataset.samples.len();
    let mut store = GridStore::new(methods, count)?;
    let mut truths: Vec<Option<Truth>> = vec![None; count];
    let mut skipped = start(dataset, options.skip_bad)?;
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = bounded(options.decoders.max(1));
    std::thread::scope(|scope| {
        for _ in 0..options.decoders.max(1) {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sample) = dataset.samples.get(index).filter(|_| !stop.load(Ordering::Relaxed)) else {
                        return;
                    };
                    if sender.send((index, read_sample(sample, dataset.coding))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // The receiver lives in this closure: an early return drops it, which ends the decoders.
        let receiver = receiver;
        for (index, decoded) in &receiver {
            let sample = &dataset.samples[index];
            match decoded {
                Ok((picture, mask)) => {
                    source
                        .score(&picture, &mut |method, grid| store.put(method, index, grid))
                        .map_err(|error| error.at(sample.image.display()))?;
                    truths[index] = Some(Truth::new(&mask));
                }
                Err(error) if options.skip_bad => skipped.push(error.to_string()),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(strict(error));
                }
            }
            progress(sample);
        }
        Ok(())
    })?;
    finish(dataset, truths, Scores::Grids(store), skipped)
}

/// Finds the score maps `folder/METHOD/NAME.npy`, or `folder/NAME.npy` as one method called after the folder.
///
/// Returns the methods' names with what was gathered.
///
/// # Errors
/// A score map is missing or a mask cannot be read, unless `skip_bad`.
pub fn gather_files(
    dataset: &Dataset,
    folder: &Path,
    options: GatherOptions,
    mut progress: impl FnMut(&Sample),
) -> Result<(Vec<String>, Gathered)> {
    let failed = |error: std::io::Error| Error::usage(format!("--from-scores {}: {error}", folder.display()));
    let mut methods = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            methods.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    methods.sort();
    if methods.is_empty() {
        methods.push((
            folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned(),
            folder.to_path_buf(),
        ));
    }
    let mut paths = vec![Vec::with_capacity(dataset.samples.len()); methods.len()];
    let mut truths = Vec::with_capacity(dataset.samples.len());
    let mut skipped = start(dataset, options.skip_bad)?;
    for sample in &dataset.samples {
        let mut missing = None;
        for ((_, folder), paths) in methods.iter().zip(&mut paths) {
            let path = folder.join(format!("{}.npy", sample.name));
            if !path.is_file() {
                missing.get_or_insert_with(|| Error::failed(format!("{}: this score map is missing", path.display())));
            }
            paths.push(path);
        }
        match missing.map_or_else(|| read_mask(sample, dataset.coding), Err) {
            Ok(mask) => truths.push(Some(Truth::new(&mask))),
            Err(error) if options.skip_bad => {
                skipped.push(error.to_string());
                truths.push(None);
            }
            Err(error) => return Err(strict(error)),
        }
        progress(sample);
    }
    let names = methods.into_iter().map(|(name, _)| name).collect();
    Ok((names, finish(dataset, truths, Scores::Files(paths), skipped)?))
}

fn strict(error: Error) -> Error {
    error.hint("--skip-bad evaluates the others and counts these")
}

fn start(dataset: &Dataset, skip_bad: bool) -> Result<Vec<String>> {
    if skip_bad {
        return Ok(dataset.problems.clone());
    }
    dataset.check()?;
    Ok(Vec::new())
}

/// Leaves out the samples without ground truth.
fn finish(dataset: &Dataset, truths: Vec<Option<Truth>>, mut scores: Scores, skipped: Vec<String>) -> Result<Gathered> {
    let keep: Vec<bool> = truths.iter().map(Option::is_some).collect();
    match &mut scores {
        Scores::Grids(store) => store.retain(&keep),
        Scores::Files(paths) => {
            for paths in paths {
                let mut kept = keep.iter();
                paths.retain(|_| kept.next().copied().unwrap_or(false));
            }
        }
    }
    let samples: Vec<Sample> =
        dataset.samples.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(sample, _)| sample.clone()).collect();
    if samples.is_empty() {
        let first = skipped.first().cloned().unwrap_or_default();
        return Err(Error::failed(format!("data set {}: no image can be evaluated: {first}", dataset.name)));
    }
    Ok(Gathered { samples, truths: truths.into_iter().flatten().collect(), scores, skipped })
}
