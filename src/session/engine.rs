//! From a configuration to the engine of a run: network, back end and the recipe of the score.

use std::sync::Arc;
use std::time::Duration;

use crate::compute::{self, Recipe, Unit};
use crate::config::{Config, DetectConfig};
use crate::model::runtime::{Network, SessionOptions};
use crate::model::views::Views;
use crate::ood::alarm::{IgnoreMap, has_road};
use crate::ood::calibration::{Calibration, InputForm, ModelId, ready};
use crate::ood::method::Method;
use crate::pipeline::{Engine, Sampling, Settings, Tunable};
use crate::{Error, Result};

/// The engine of `config`, ready to run.
///
/// # Errors
/// The model, the method, the calibration or the compute device cannot be used.
pub fn open(config: &Config) -> Result<Engine> {
    let ignore = Arc::new(IgnoreMap::load(&config.events.ignore)?);
    let network = network(config)?;
    config.events.check_classes(&network.manifest().classes.names)?;
    let backend = compute::open_with(config.detect.compute, config.model.threads, config.detect.gpu_f16)?;
    let views = config.model.views(network.manifest());
    let Score { recipe, threshold, alarm_threshold } = score(&network, &views, config)?;
    tracing::info!(
        "network {} on {}, frames by {views}, score `{}` on {}",
        network.path().display(),
        network.runs_on(),
        config.detect.method,
        backend.describe()
    );
    if config.events.road_gate && !has_road(&network.manifest().classes.names) {
        tracing::warn!(
            "the road gate is off: model {} has no class of road, so regions anywhere in the picture may raise alarms",
            network.path().display()
        );
    }
    Ok(Engine {
        network,
        views,
        backend,
        recipe,
        settings: Arc::new(Settings::new(Tunable {
            threshold,
            alarm_threshold,
            style: config.draw,
            events: Arc::new(config.events.clone()),
            ignore,
        })),
        sampling: Sampling {
            every: config.archive.every_s.map(Duration::from_secs_f64),
            skip_still: config.archive.skip_still,
        },
        ahead: config.pipeline.queue,
        batch: 1,
        batch_wait: Duration::ZERO,
        stages: Default::default(),
    })
}

/// The network of `config`; every assumption about it is logged.
///
/// # Errors
/// It does not load, see [`Network::load`].
pub fn network(config: &Config) -> Result<Network> {
    let options = SessionOptions {
        threads: config.model.threads,
        provider: config.model.provider,
        device: config.model.device.clone(),
        precision: config.model.precision()?,
        features: config.model.features.clone(),
        colour: config.model.colour,
        profile: false,
    };
    let network = Network::load(config.model.path.as_deref(), &options)?;
    for reason in network.passed_by() {
        tracing::debug!("provider {reason}");
    }
    if !network.assumptions().is_empty() {
        let list: String = network.assumptions().iter().map(|text| format!("\n  - {text}")).collect();
        tracing::warn!(
            "model {}: what neither its graph nor a manifest says is assumed:{list}",
            network.path().display()
        );
    }
    Ok(network)
}

/// Checks that the network has what the outputs are made of.
///
/// # Errors
/// Features of events are wanted, and it has none.
pub(crate) fn check_outputs(embeddings: bool, network: &Network) -> Result<()> {
    if embeddings && network.feature_names().is_empty() {
        return Err(Error::usage(format!(
            "-o embeddings: needs features, and model {} has no feature output",
            network.path().display()
        ))
        .hint("name a feature output in the manifest, or add one: `oodstream model tap`"));
    }
    Ok(())
}

/// The identity of a network for a calibration: its hash, the form of its pictures, and the features `requested` by name, since tapped features
/// all come out under one name.
pub fn model_id(network: &Network, requested: &[String]) -> ModelId {
    let input = network.input();
    ModelId {
        file: network.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: network.sha256().to_owned(),
        features: if requested.is_empty() { network.feature_names() } else { requested }.to_vec(),
        input: Some(InputForm {
            width: input.width,
            height: input.height,
            colour: network.colour(),
            mean: input.mean,
            std: input.std,
        }),
    }
}

/// The method of that name for that network, with the K and the seed of `detect` where it is the one that `detect`
/// names.
///
/// # Errors
/// It is not known, or needs a query-mask network and this is none.
pub fn method(name: &str, network: &Network, detect: &DetectConfig) -> Result<Method> {
    let mut method = Method::parse(name, network.manifest().scoring.as_ref())?;
    method.check_network(network)?;
    if name == detect.method {
        if let Some(k) = &detect.k {
            method.recipe.k.clone_from(k);
        }
        method.recipe.seed = detect.seed.unwrap_or(method.recipe.seed);
    }
    Ok(method)
}

/// A score, and what is known of its thresholds.
pub(crate) struct Score {
    pub recipe: Recipe,
    /// Pixels from here on are marked.
    pub threshold: Option<f32>,
    /// What takes its place in the rules for alarms.
    pub alarm_threshold: Option<f32>,
}

/// The score of `config`.
pub(crate) fn score(network: &Network, views: &Views, config: &Config) -> Result<Score> {
    let detect = &config.detect;
    let model = model_id(network, &config.model.features);
    let calibration = detect.calibration.as_deref().map(|path| Calibration::load(path, &model, views)).transpose()?;
    let Method { mut recipe, threshold, alarm_threshold, .. } =
        ready(method(&detect.method, network, detect)?, calibration.as_ref())?;
    let clusters = recipe.terms.iter().any(|term| term.unit == Unit::Cluster);
    if clusters && network.feature_names().is_empty() {
        return Err(Error::usage(format!(
            "method `{}` clusters features, and model {} has no feature output",
            detect.method,
            network.path().display()
        ))
        .hint("name a feature output in the manifest, or use a pixel-wise method: --method max-logit"));
    }
    recipe.max_iterations = detect.max_iterations;
    recipe.warm_start = detect.warm_start;
    recipe.smoothing = (detect.smoothing < 1.0).then_some(detect.smoothing);
    recipe.upsampling = detect.upsampling.unwrap_or(recipe.upsampling);
    let made_with = Views { resize: network.manifest().input.resize.unwrap_or_default(), ..Views::default() };
    if let (Some(path), None, false) = (&detect.calibration, detect.threshold, threshold.is_some()) {
        tracing::warn!(
            "calibration {} has no threshold for method `{}` with K = {:?}: calibrate again with --methods '{}'",
            path.display(),
            detect.method,
            recipe.k,
            detect.method
        );
    }
    if threshold.is_some() && calibration.is_none() && detect.threshold.is_none() && !views.same(&made_with) {
        tracing::warn!(
            "the threshold of model {} was found with {made_with}, and the views in use are {views}: it may mark too much or \
             too little; `oodstream calibrate` with the same options finds another",
            network.path().display()
        );
    }
    // A threshold of the user is that of the alarms, too.
    let alarm_threshold = alarm_threshold.filter(|_| detect.threshold.is_none());
    Ok(Score { recipe, threshold: detect.threshold.or(threshold), alarm_threshold })
}
