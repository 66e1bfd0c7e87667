//! Options of the network, its provider and its views, shared by several commands.

use std::path::PathBuf;

use super::values::choice;
use super::view::ViewArgs;
use crate::compute::ComputeChoice;
use crate::config::{Config, ModelConfig};
use crate::model::manifest::Colour;
use crate::model::runtime::SessionOptions;
use crate::model::runtime::provider::{Device, Precision, Provider};

/// Options of the execution provider.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RuntimeArgs {
    /// Execution provider of the network [default: auto]
    #[arg(long, value_name = "PROVIDER", value_parser = choice::<Provider>())]
    provider: Option<Provider>,
    /// Number format of the provider: bf16 for openvino, f16 for openvino and tensorrt [default: auto]
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

    /// The same options as arguments, for a child process.
    pub fn arguments(&self) -> Vec<String> {
        let options = [
            ("--provider", self.provider.map(|provider| provider.name().to_owned())),
            ("--precision", self.precision.map(|precision| precision.name().to_owned())),
            ("--device", self.device.as_ref().map(Device::to_string)),
            ("--threads", self.threads.map(|threads| threads.to_string())),
        ];
        options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
    }

    /// The options for a network without a pipeline file.
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

/// Options of the network and the compute back end.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkArgs {
    /// Network: an ONNX file, or the bundled `default` or `free` [default: default, else free]
    #[arg(short, long, value_name = "FILE.onnx|NAME")]
    model: Option<PathBuf>,
    /// Tensor or operator to take features from (see `oodstream model inspect`); repeatable
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    /// Order of the channels of the network's pictures [default: as the manifest says, else rgb]
    #[arg(long, value_name = "ORDER", value_parser = choice::<Colour>())]
    colour: Option<Colour>,
    /// Back end of K-Means and the score maps [default: auto]
    #[arg(long, value_name = "WHERE", value_parser = choice::<ComputeChoice>())]
    compute: Option<ComputeChoice>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    views: ViewArgs,
}

impl NetworkArgs {
    /// Applies the given options to `config`.
    pub fn apply(&self, config: &mut Config) {
        let model = &mut config.model;
        if self.model.is_some() {
            model.path = self.model.clone().map(Into::into);
        }
        if !self.feature.is_empty() {
            model.features.clone_from(&self.feature);
        }
        model.colour = self.colour.or(model.colour);
        self.runtime.apply(model);
        self.views.apply(model);
        config.detect.compute = self.compute.unwrap_or(config.detect.compute);
    }
}
