//! The options that say which network runs, on what, and how it looks at a frame; several commands have them.

use std::path::PathBuf;

use super::values::choice;
use super::view::ViewArgs;
use crate::compute::ComputeChoice;
use crate::config::Config;
use crate::model::manifest::Colour;
use crate::model::runtime::provider::Provider;

/// Options on the network and on what computes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkArgs {
    /// Network [default: the one that ships with the program]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Tensor or operator to take features from, see `oodstream model inspect`; repeatable
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    /// Order of the channels of the network's pictures [default: as the manifest says, else rgb]
    #[arg(long, value_name = "ORDER", value_parser = choice::<Colour>())]
    colour: Option<Colour>,
    /// Where K-Means and the score maps are computed [default: auto]
    #[arg(long, value_name = "WHERE", value_parser = choice::<ComputeChoice>())]
    compute: Option<ComputeChoice>,
    /// Where the network runs [default: auto]
    #[arg(long, value_name = "WHERE", value_parser = choice::<Provider>())]
    provider: Option<Provider>,
    /// Threads of the network [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    views: ViewArgs,
}

impl NetworkArgs {
    /// Puts what was given into `config`.
    pub fn apply(&self, config: &mut Config) {
        let model = &mut config.model;
        if self.model.is_some() {
            model.path.clone_from(&self.model);
        }
        if !self.feature.is_empty() {
            model.features.clone_from(&self.feature);
        }
        model.colour = self.colour.or(model.colour);
        model.provider = self.provider.unwrap_or(model.provider);
        model.threads = self.threads.or(model.threads);
        self.views.apply(model);
        config.detect.compute = self.compute.unwrap_or(config.detect.compute);
    }
}
