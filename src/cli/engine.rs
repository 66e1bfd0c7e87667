//! From a configuration to what a run needs: network, back end and the recipe of the score.

use std::sync::Arc;
use std::time::Duration;

use crate::compute::{self, Recipe, Unit};
use crate::config::{Config, DetectConfig};
use crate::model::{Network, SessionOptions, Views};
use crate::ood::calibration::{Calibration, ready};
use crate::ood::method::Method;
use crate::pipeline::{Engine, Settings, Tunable};
use crate::{Error, Result};

/// The engine that `config` asks for, ready to run.
///
/// # Errors
/// The model, the method, the calibration or the compute device is not to be had.
pub fn open(config: &Config) -> Result<Engine> {
    let network = network(config)?;
    let backend = compute::open_with(config.detect.compute, config.model.threads, config.detect.gpu_f16)?;
    let views = config.model.views(network.manifest());
    let recipe = recipe(&network, &views, &config.detect)?;
    let threshold = Some(recipe.threshold).filter(|threshold| threshold.is_finite());
    tracing::info!(
        "network {} on {}, frames by {views}, score `{}` on {}",
        network.path().display(),
        network.provider().name(),
        config.detect.method,
        backend.describe()
    );
    Ok(Engine {
        network,
        views,
        backend,
        recipe,
        settings: Arc::new(Settings::new(Tunable { threshold, style: config.draw })),
        ahead: config.pipeline.queue,
        batch: 1,
        batch_wait: Duration::ZERO,
        stages: Default::default(),
    })
}

/// The network that `config` asks for; what had to be assumed about it is logged.
///
/// # Errors
/// It does not load, see [`Network::load`].
pub fn network(config: &Config) -> Result<Network> {
    let options = SessionOptions {
        threads: config.model.threads,
        provider: config.model.provider,
        device: config.model.device,
        fp16: config.model.fp16,
        features: config.model.features.clone(),
        profile: false,
    };
    let network = Network::load(config.model.path.as_deref(), &options)?;
    for assumption in network.assumptions() {
        tracing::info!("model {}: {assumption}", network.path().display());
    }
    Ok(network)
}

/// The score that `detect` asks for; its threshold is finite when it is known.
fn recipe(network: &Network, views: &Views, detect: &DetectConfig) -> Result<Recipe> {
    let calibration =
        detect.calibration.as_deref().map(|path| Calibration::load(path, network.sha256(), views)).transpose()?;
    let mut method = Method::parse(&detect.method, network.manifest().scoring.as_ref())?;
    if let Some(k) = &detect.k {
        method.recipe.k.clone_from(k);
    }
    method.recipe.seed = detect.seed.unwrap_or(method.recipe.seed);
    let mut recipe = ready(method, calibration.as_ref())?.recipe;
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
    if recipe.threshold.is_finite() && calibration.is_none() && detect.threshold.is_none() && !views.same(&made_with) {
        tracing::warn!(
            "the threshold of model {} was found with {made_with}, and frames are looked at by {views}: it may mark too much or \
             too little; `oodstream calibrate` with the same options finds another",
            network.path().display()
        );
    }
    recipe.threshold = detect.threshold.unwrap_or(recipe.threshold);
    Ok(recipe)
}
