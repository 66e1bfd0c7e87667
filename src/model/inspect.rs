//! Inspection of a model as `run` would use it, and the same model with its features as an output.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use ort::value::ValueType;
use serde::Serialize;

use crate::model::Manifest;
use crate::model::onnx_file::describe::describe;
use crate::model::onnx_file::graph::{Dim, FLOAT, Model};
use crate::model::onnx_file::plan;
use crate::model::onnx_file::plan::Keep;
use crate::model::onnx_file::tap;
use crate::model::prepare::InputSpec;
use crate::model::runtime::file::{folder_of, load_plan, parse, read};
use crate::model::runtime::network::Network;
use crate::model::runtime::open::{self, Opened};
use crate::model::runtime::placement::Placement;
use crate::model::runtime::probe;
use crate::model::runtime::provider::{Provider, SessionOptions};
use crate::model::views::Resize;
use crate::{Error, Result};

/// Taps that are tried at most, the nearest to the logits.
const MOST_TAPS: usize = 64;
/// K-Means work that the cost of a tap is given for: the default ensemble of K = 5, 10, 20, ten rounds each.
const CLUSTERS: usize = 35;
const ROUNDS: usize = 10;

/// How long runs are timed for.
const MEASURED: Duration = Duration::from_millis(500);

/// A map among the network's outputs for one picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Map {
    /// The output or tensor.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Map {
    /// Size as f32, in bytes.
    pub fn bytes(&self) -> usize {
        4 * self.channels * self.height * self.width
    }

    /// Multiply-adds of the default cluster ensemble on it.
    pub fn clustering(&self) -> usize {
        self.channels * self.height * self.width * CLUSTERS * ROUNDS
    }
}

/// A model, and how `run` would use it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: String,
    /// Its length.
    pub bytes: usize,
    /// Its hash.
    pub sha256: String,
    /// The program that wrote it.
    pub producer: String,
    /// Version of the operator set.
    pub opset: i64,
    /// Elements in the weights.
    pub parameters: u64,
    /// Operators by kind.
    pub operators: BTreeMap<String, usize>,
    /// The graph's own inputs.
    pub inputs: Vec<String>,
    /// The graph's own outputs.
    pub outputs: Vec<String>,
    /// Other files with weights.
    pub external: BTreeSet<String>,
    /// Columns and rows of the picture that it is run at.
    pub picture: (usize, usize),
    /// The rule that brings a frame to that size, unless the user sets another.
    pub resize: Resize,
    /// The logits as `run` sees them; none where the network gives features alone.
    pub logits: Option<Map>,
    /// The features as `run` sees them.
    pub features: Vec<Map>,
    /// Names of the classes, where known.
    pub classes: Vec<String>,
    /// Whether these names are only those of a data set with as many classes.
    pub classes_guessed: bool,
    /// What had to be assumed, and what the values of a picture showed.
    pub assumptions: Vec<String>,
    /// Other places to take features from, one per size, the nearest to the logits first.
    pub taps: Vec<Map>,
    /// Where it runs.
    pub provider: &'static str,
    /// The precision that the provider was set to.
    pub precision: &'static str,
    /// The reasons why `auto` skipped other providers.
    pub passed_by: Vec<String>,
    /// Where each operator ran.
    pub placement: Option<Placement>,
    /// Time of one run in milliseconds, the median of as many as half a second holds.
    pub run_ms: f64,
}

/// Reads, loads and runs the model of `path`.
///
/// # Errors
/// See [`Network::load`]; or it does not run.
pub fn inspect(path: &Path, options: &SessionOptions) -> Result<Inspection> {
    let place = format!("model {}", path.display());
    let bytes = read(path).map_err(|error| error.at(&place))?;
    let model = parse(&bytes).map_err(|error| error.at(&place))?;
    let mut loaded = Network::load(Some(path), &SessionOptions { profile: true, ..options.clone() })?;
    let input = *loaded.input();
    let picture = pattern(&input);
    let outputs = loaded.infer(&picture)?;
    let (logits, features) = maps(&outputs, &loaded)?;

    let manifest = Manifest::beside(path)?.unwrap_or_default();
    let taps = usable_taps(path, &model, &manifest, options).map_err(|error| error.at(&place))?;
    let mut sizes = BTreeSet::new();
    let mut places = Vec::new();
    if !taps.is_empty() {
        let mut tapped = Network::load(Some(path), &SessionOptions { features: taps.clone(), ..options.clone() })?;
        let outputs = tapped.infer(&picture)?;
        for (mut map, tensor) in maps(&outputs, &tapped)?.1.into_iter().zip(taps) {
            map.name = tensor;
            if sizes.insert((map.channels, map.height, map.width)) {
                places.push(map);
            }
        }
    }
    let mut operators = BTreeMap::new();
    for node in &model.nodes {
        let name = if node.domain.is_empty() {
            node.operator.to_owned()
        } else {
            format!("{}::{}", node.domain, node.operator)
        };
        *operators.entry(name).or_insert(0) += 1;
    }
    let run_ms = median_run(&mut loaded, &picture)?;
    Ok(Inspection {
        path: path.display().to_string(),
        bytes: bytes.len(),
        sha256: loaded.sha256().to_owned(),
        producer: model.producer.clone(),
        opset: model.opset,
        parameters: model.parameters,
        operators,
        inputs: model.inputs.iter().map(describe).collect(),
        outputs: model.outputs.iter().map(describe).collect(),
        external: model.external.iter().map(|file| file.location.to_owned()).collect(),
        picture: (input.width, input.height),
        resize: loaded.manifest().input.resize.unwrap_or_default(),
        logits,
        features,
        classes: loaded.manifest().classes.names.clone(),
        classes_guessed: loaded.classes_guessed(),
        assumptions: loaded.assumptions().to_vec(),
        taps: places,
        provider: loaded.provider().name(),
        precision: loaded.precision().name(),
        passed_by: loaded.passed_by().to_vec(),
        placement: loaded.placement().cloned(),
        run_ms,
    })
}

/// Tensors that features can be taken from, the nearest to the logits first.
fn usable_taps(path: &Path, model: &Model<'_>, manifest: &Manifest, options: &SessionOptions) -> Result<Vec<String>> {
    let folder = folder_of(path);
    let (planned, mut shapes) = load_plan(model, manifest, folder, options, Keep::Needed)?;
    let taps = tap::taps(model, &planned.source);
    let taps = &taps[..taps.len().min(MOST_TAPS)];
    // Convolutions take maps; what products take is seen only when the graph runs.
    let products = taps.iter().filter(|tap| !tap.is_map()).map(|tap| tap.tensor.to_owned()).collect::<Vec<_>>();
    if !products.is_empty() {
        shapes.tensors.extend(probe::shapes(model, manifest, folder, &products, options)?.tensors);
    }
    let usable = |tap: &&tap::Tap<'_, '_>| {
        tap.is_map() || plan::plan(model, manifest, &[tap.tensor.to_owned()], Keep::Needed, &shapes).is_ok()
    };
    Ok(taps.iter().filter(usable).map(|tap| tap.tensor.to_owned()).collect())
}

/// A prepared picture with something in it: slopes and noise.
pub fn pattern(spec: &InputSpec) -> Vec<f32> {
    let (width, height) = (spec.width, spec.height);
    let value = |at: usize| {
        let (channel, y, x) = (at / (width * height), at / width % height, at % width);
        let slope = [x * height, y * width, width * height - x * height][channel] as f32 / (width * height) as f32;
        let noise = (at as u32).wrapping_mul(2_654_435_761) >> 24;
        (0.75 * slope + 0.25 * noise as f32 / 255.0 - spec.mean[channel]) / spec.std[channel]
    };
    (0..3 * width * height).map(value).collect()
}

/// The median time of a run on `picture`, of as many runs as half a second holds.
fn median_run(network: &mut Network, picture: &[f32]) -> Result<f64> {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || start.elapsed() < MEASURED {
        let before = Instant::now();
        drop(network.infer(picture)?);
        times.push(before.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e3)
}

/// The logits and the features.
fn maps(outputs: &crate::model::runtime::Outputs, network: &Network) -> Result<(Option<Map>, Vec<Map>)> {
    let map = |name: &str, (channels, height, width)| Map { name: name.to_owned(), channels, height, width };
    outputs.with_maps(|maps| {
        let logits = network.logits_name().map(|name| map(name, maps.logits.dim()));
        let features = network.feature_names().iter().zip(maps.features).map(|(name, found)| map(name, found.dim()));
        Ok((logits, features.collect()))
    })
}

/// The model of `path` with its features as outputs, and the names of the added outputs; all else stays as it is.
///
/// # Errors
/// The model does not load, `features` are not in it, or nothing is left to add.
pub fn tapped(path: &Path, features: &[String]) -> Result<(Vec<u8>, Vec<String>)> {
    let place = format!("model {}", path.display());
    let bytes = read(path).map_err(|error| error.at(&place))?;
    let work = || {
        let model = parse(&bytes)?;
        model.check_external(folder_of(path))?;
        let manifest = Manifest::beside(path)?.unwrap_or_default();
        let options =
            SessionOptions { provider: Provider::Cpu, features: features.to_vec(), ..SessionOptions::default() };
        let (mut planned, _) = load_plan(&model, &manifest, folder_of(path), &options, Keep::All)?;
        let added: Vec<String> = planned.edit.outputs().map(str::to_owned).collect();
        if added.is_empty() {
            return Err(Error::usage(format!("nothing to add: it already gives {}", planned.features.join(", "))));
        }
        // ONNX Runtime knows the shapes; the format wants them written down.
        let Opened { session, .. } = open::open(&planned.edit.apply(&model), folder_of(path), &options)?;
        for output in session.outputs() {
            if let ValueType::Tensor { shape, .. } = output.dtype() {
                let dims: Vec<Dim<'_>> =
                    shape.iter().map(|&size| if size < 0 { Dim::Free("") } else { Dim::Fixed(size) }).collect();
                planned.edit.set_type(output.name(), FLOAT, &dims);
            }
        }
        Ok((planned.edit.apply(&model), added))
    };
    work().map_err(|error| error.at(place))
}
