//! Execution providers of ONNX Runtime: their names, their options, and the number format that they compute in.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ort::ep;
use ort::ep::{ArbitrarilyConfigurableExecutionProvider, ExecutionProvider};
use serde::{Deserialize, Serialize};

use crate::model::manifest::Colour;
use crate::model::runtime::library::{self, Build};
use crate::{Error, Result};

/// Options for loading a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// Threads within one operator; `None` is one per core.
    pub threads: Option<usize>,
    /// Where the network runs.
    pub provider: Provider,
    /// Which of the provider's devices; its first when left out.
    pub device: Option<Device>,
    /// The number format in which the provider computes.
    pub precision: Precision,
    /// Tensors or operators to take features from, before those of the manifest.
    pub features: Vec<String>,
    /// Order of the picture's channels, before that of the manifest.
    pub colour: Option<Colour>,
    /// Find out where each operator runs, by running once; always done for other providers than the CPU.
    pub profile: bool,
}

/// An execution provider of ONNX Runtime.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The first of TensorRT, CUDA, WebGPU on a hardware adapter, and OpenVINO that is installed and starts, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
    /// Any GPU, through Vulkan, Direct3D 12 or Metal.
    Webgpu,
    /// Intel OpenVINO: any x86 or Arm CPU, Intel GPUs and NPUs.
    Openvino,
}

/// The number format in which a provider computes; inputs and outputs stay as the graph has them.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// CPU: as the graph has it. OpenVINO: as the graph has it, its floats in f32 on a CPU and as the device chooses
    /// elsewhere. All other providers: a quantised graph in floats.
    #[default]
    Auto,
    /// 8-bit integers in the quantised parts of a graph (CPU, OpenVINO, TensorRT); `auto` takes them on the first two.
    Int8,
    /// 32-bit floating point, also in the quantised parts of a graph.
    F32,
    /// 16-bit floating point with the exponent of f32 (OpenVINO, on CPUs with instructions for it); never chosen by
    /// `auto`, as it changes scores (`docs/models.md`).
    Bf16,
    /// 16-bit floating point (TensorRT, OpenVINO).
    F16,
}

impl Precision {
    /// The name on the command line, in reports, and OpenVINO's own.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A device of a provider, by number or by the provider's own name for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Device {
    /// Its place among the devices of the provider, from 0; for OpenVINO among the GPUs.
    Number(u16),
    /// OpenVINO: `CPU`, `GPU`, `GPU.1`, `NPU`.
    Name(String),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Number))
    }
}

impl Provider {
    /// All that can be named, but `auto`.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::Tensorrt, Self::Webgpu, Self::Openvino];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The build of the library that brings it.
    pub fn build(self) -> Build {
        match self {
            Self::Webgpu => Build::Webgpu,
            Self::Openvino => Build::Openvino,
            Self::Auto | Self::Cpu | Self::Cuda | Self::Tensorrt => Build::Plain,
        }
    }

    /// How to install it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Webgpu => "`make gpu` brings the library with it",
            Self::Openvino => "`make openvino` brings the library with it",
            Self::Cuda | Self::Tensorrt => {
                "install NVIDIA's driver, CUDA and cuDNN, and `pip install onnxruntime-gpu`, or name its library in ORT_DYLIB_PATH"
            }
            Self::Auto | Self::Cpu => "`make deps` brings the library",
        }
    }

    /// Whether the library that this process has loaded was built with this provider; it may still fail to start.
    pub fn compiled_in(self) -> bool {
        if library::loaded().is_none() {
            return false;
        }
        let found = match self {
            Self::Auto | Self::Cpu => Ok(true),
            Self::Cuda => ep::CUDA::is_available(),
            Self::Tensorrt => ep::TensorRT::is_available(),
            Self::Webgpu => ep::WebGPU::is_available(),
            Self::Openvino => ep::OpenVINO::is_available(),
        };
        found.unwrap_or(false)
    }

    /// The provider with its options, and the precision that it computes in; none for the CPU, which every session has.
    ///
    /// # Errors
    /// The provider, or this CPU, cannot compute in that precision, or has no such device.
    pub(super) fn dispatch(self, options: &SessionOptions) -> Result<Option<ep::ExecutionProviderDispatch>> {
        self.check_precision(options, has_bf16())?;
        Ok(match self {
            Self::Auto | Self::Cpu => None,
            Self::Cuda => Some(ep::CUDA::default().with_device_id(self.number(options)?).build()),
            Self::Tensorrt => {
                let provider = ep::TensorRT::default()
                    .with_device_id(self.number(options)?)
                    .with_fp16(options.precision == Precision::F16);
                // Building an engine takes minutes: it is kept from one run to the next.
                Some(match cache("tensorrt") {
                    Some(folder) => provider
                        .with_engine_cache(true)
                        .with_engine_cache_path(&folder)
                        .with_timing_cache(true)
                        .with_timing_cache_path(folder)
                        .build(),
                    None => provider.build(),
                })
            }
            Self::Webgpu => Some(ep::WebGPU::default().with_device_id(self.number(options)?).build()),
            Self::Openvino => Some(openvino(options)),
        })
    }

    /// Whether it computes the quantised parts of a graph in integers.
    pub(super) fn takes_integers(self, precision: Precision) -> bool {
        match precision {
            Precision::Auto => matches!(self, Self::Cpu | Self::Openvino),
            precision => precision == Precision::Int8,
        }
    }

    /// The number of the device that is requested.
    pub(super) fn number(self, options: &SessionOptions) -> Result<i32> {
        match &options.device {
            None => Ok(0),
            Some(Device::Number(number)) => Ok(i32::from(*number)),
            Some(Device::Name(name)) => {
                Err(Error::usage(format!("provider {} has no device `{name}`: it numbers its devices", self.name()))
                    .hint("give a number, 0 for the first; names are for openvino: CPU, GPU, GPU.1, NPU"))
            }
        }
    }

    /// `bf16` says whether the CPU multiplies it in hardware.
    fn check_precision(self, options: &SessionOptions, bf16: bool) -> Result<()> {
        let precision = options.precision;
        let can = match (self, precision) {
            (_, Precision::Auto | Precision::F32) | (Self::Auto, _) => true,
            (Self::Cpu | Self::Openvino | Self::Tensorrt, Precision::Int8) => true,
            (Self::Tensorrt | Self::Openvino, Precision::F16) => true,
            (Self::Openvino, Precision::Bf16) => !on_cpu(options) || bf16,
            _ => false,
        };
        if can {
            return Ok(());
        }
        if self == Self::Openvino {
            return Err(Error::usage("this CPU does not multiply bf16 in hardware (AVX512_BF16, or bf16 of Arm)")
                .hint("--precision f32 works on every CPU"));
        }
        Err(Error::usage(format!("provider {} has no {} mode of its own", self.name(), precision.name())).hint(
            "f16 is for tensorrt and openvino, bf16 for openvino, int8 for cpu, openvino and tensorrt; elsewhere export the \
             network itself in f16 (models/export/internimage.py --fp16)",
        ))
    }
}

/// OpenVINO on the device that is requested.
fn openvino(options: &SessionOptions) -> ep::ExecutionProviderDispatch {
    let device = match &options.device {
        None => "CPU".to_owned(),
        Some(Device::Number(number)) => format!("GPU.{number}"),
        Some(Device::Name(name)) => name.clone(),
    };
    let mut provider = ep::OpenVINO::default().with_device_type(&device);
    if let Some(threads) = options.threads {
        provider = provider.with_num_threads(threads);
    }
    if let Some(folder) = cache("openvino") {
        provider = provider.with_cache_dir(folder);
    }
    let precision = openvino_precision(options);
    if precision != Precision::Auto {
        // The option `precision` of the provider knows no bf16; this is a property of OpenVINO's own.
        let kind = device.split('.').next().unwrap_or(&device);
        let properties = serde_json::json!({ kind: { "INFERENCE_PRECISION_HINT": precision.name() } });
        provider = provider.with_arbitrary_config("load_config", properties.to_string());
    }
    provider.build()
}

/// The precision of what is not quantised, on the device of `options`.
pub(super) fn openvino_precision(options: &SessionOptions) -> Precision {
    match options.precision {
        Precision::Auto | Precision::Int8 if on_cpu(options) => Precision::F32,
        Precision::Int8 => Precision::Auto,
        precision => precision,
    }
}

fn on_cpu(options: &SessionOptions) -> bool {
    match &options.device {
        None => true,
        Some(Device::Number(_)) => false,
        Some(Device::Name(name)) => name == "CPU",
    }
}

/// Whether the CPU multiplies bf16 in hardware.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// A folder for what a provider compiles, below the user's cache folder; none, with a warning, where it cannot be made.
fn cache(provider: &str) -> Option<String> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    let folder = cache.join("oodstream").join(provider);
    let writable = || -> std::io::Result<()> {
        fs::create_dir_all(&folder)?;
        tempfile::tempfile_in(&folder).map(drop)
    };
    if let Err(error) = writable() {
        tracing::warn!(
            "provider {provider}: compiled networks are not kept, since {} cannot be written: {error}",
            folder.display()
        );
        return None;
    }
    folder.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(provider: Provider, precision: Precision, device: Option<Device>) -> Error {
        provider.dispatch(&SessionOptions { precision, device, ..SessionOptions::default() }).map(drop).unwrap_err()
    }

    #[test]
    fn a_precision_is_refused_where_a_provider_has_no_such_mode() {
        for (provider, precision) in [
            (Provider::Cpu, Precision::F16),
            (Provider::Cuda, Precision::F16),
            (Provider::Cuda, Precision::Int8),
            (Provider::Webgpu, Precision::Bf16),
            (Provider::Tensorrt, Precision::Bf16),
        ] {
            let error = refused(provider, precision, None);
            assert_eq!(error.kind(), crate::ErrorKind::Usage, "{provider:?}");
            assert!(error.to_string().contains(precision.name()), "{error}");
        }
    }

    #[test]
    fn bf16_is_refused_on_a_cpu_without_it() {
        let options = SessionOptions { precision: Precision::Bf16, ..SessionOptions::default() };
        let error = Provider::Openvino.check_precision(&options, false).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        assert!(error.to_string().contains("AVX512_BF16"), "{error}");
        assert!(Provider::Openvino.check_precision(&options, true).is_ok());
        // A GPU or NPU has its own rules, and `auto` takes f32 here.
        let elsewhere = SessionOptions { device: Some(Device::Name("GPU".into())), ..options.clone() };
        assert!(Provider::Openvino.check_precision(&elsewhere, false).is_ok());
        assert!(Provider::Auto.check_precision(&options, false).is_ok());
    }

    #[test]
    fn a_device_by_name_is_for_openvino_alone() {
        let error = refused(Provider::Webgpu, Precision::Auto, Some(Device::Name("NPU".into())));
        assert!(error.to_string().contains("NPU"), "{error}");
        assert_eq!("1".parse(), Ok(Device::Number(1)));
        assert_eq!("GPU.1".parse(), Ok(Device::Name("GPU.1".into())));
    }
}
