//! The options that say which network runs, on what, and how it looks at a frame; several commands have them.

use std::path::PathBuf;

use super::values::choice;
use super::view::ViewArgs;
use crate::compute::ComputeChoice;
use crate::config::{Config, ModelConfig};
use crate::model::runtime::SessionOptions;
use crate::model::runtime::provider::{Device, Precision, Provider};

/// Options on where the network runs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RuntimeArgs {
    /// Execution provider of the network [default: auto]
    #[arg(long, value_name = "PROVIDER", value_parser = choice::<Provider>())]
    provider: Option<Provider>,
    /// Number format that the provider computes in: bf16 is for openvino, f16 for openvino and tensorrt [default: auto]
    #[arg(long, value_name = "FORMAT", value_parser = choice::<Precision>())]
    precision: Option<Precision>,
    /// Device of the provider: a number, or for openvino CPU, GPU, GPU.1, NPU [default: its first]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Threads of the network [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl RuntimeArgs {
    fn apply(&self, model: &mut ModelConfig) {
        model.provider = self.provider.unwrap_or(model.provider);
        model.precision = self.precision.unwrap_or(model.precision);
        model.device = self.device.clone().or_else(|| model.device.clone());
        model.threads = self.threads.or(model.threads);
    }

    /// The same options for another process of the program.
    pub fn arguments(&self) -> Vec<String> {
        let options = [
            ("--provider", self.provider.map(|provider| provider.name().to_owned())),
            ("--precision", self.precision.map(|precision| precision.name().to_owned())),
            ("--device", self.device.as_ref().map(Device::to_string)),
            ("--threads", self.threads.map(|threads| threads.to_string())),
        ];
        options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
    }

    /// For a network that no pipeline file describes.
    pub fn options(&self) -> SessionOptions {
        SessionOptions {
            threads: self.threads,
            provider: self.provider.unwrap_or_default(),
            precision: self.precision.unwrap_or_default(),
            device: self.device.clone(),
            ..SessionOptions::default()
        }
    }
}

/// Options on the network and on what computes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkArgs {
    /// Network [default: the one that ships with the program]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Tensor or operator to take features from, see `oodstream model inspect`; repeatable
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    /// Where K-Means and the score maps are computed [default: auto]
    #[arg(long, value_name = "WHERE", value_parser = choice::<ComputeChoice>())]
    compute: Option<ComputeChoice>,
    #[command(flatten)]
    runtime: RuntimeArgs,
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
        self.runtime.apply(model);
        self.views.apply(model);
        config.detect.compute = self.compute.unwrap_or(config.detect.compute);
    }
}
