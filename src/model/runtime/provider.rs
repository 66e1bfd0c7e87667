//! Execution providers of ONNX Runtime: which one a session gets, and where its operators really run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::model::manifest::Colour;
use crate::model::runtime::library;
use crate::{Error, Result};

/// Where ONNX Runtime looks for weights in other files when the graph comes from memory.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Options for loading a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// Threads within one operator; `None` is one per core.
    pub threads: Option<usize>,
    /// Where the network runs.
    pub provider: Provider,
    /// Number of the device among those of the provider; the first when left out.
    pub device: Option<i32>,
    /// Let TensorRT and OpenVINO compute in f16.
    pub fp16: bool,
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
    serde::Serialize,
    serde::Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The first of TensorRT, CUDA and OpenVINO that the library has and that starts, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
    /// Intel OpenVINO.
    Openvino,
}

impl Provider {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.into()
    }

    fn dispatch(self, options: &SessionOptions) -> Option<ep::ExecutionProviderDispatch> {
        let device = options.device.unwrap_or(0);
        match self {
            Self::Auto | Self::Cpu => None,
            Self::Cuda => Some(ep::CUDA::default().with_device_id(device).build()),
            Self::Tensorrt => {
                let provider = ep::TensorRT::default().with_device_id(device).with_fp16(options.fp16);
                // Building an engine takes minutes: it is kept from one run to the next.
                let cache = cache_folder().filter(|folder| fs::create_dir_all(folder).is_ok());
                Some(match cache.as_deref().and_then(Path::to_str) {
                    Some(folder) => provider
                        .with_engine_cache(true)
                        .with_engine_cache_path(folder)
                        .with_timing_cache(true)
                        .with_timing_cache_path(folder)
                        .build(),
                    None => provider.build(),
                })
            }
            Self::Openvino => {
                let provider = ep::OpenVINO::default();
                Some(if options.fp16 { provider.with_precision("FP16").build() } else { provider.build() })
            }
        }
    }

    /// Whether the loaded library was built with this provider; it may still fail to start.
    pub fn compiled_in(self) -> bool {
        use ep::ExecutionProvider;
        if library::get().is_err() {
            return false;
        }
        match self {
            Self::Auto | Self::Cpu => true,
            Self::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Self::Tensorrt => ep::TensorRT::is_available().unwrap_or(false),
            Self::Openvino => ep::OpenVINO::is_available().unwrap_or(false),
        }
    }
}

fn cache_folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(cache.join("oodstream/tensorrt"))
}

/// A session, and how it came about.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The provider that it runs on.
    pub provider: Provider,
    /// Whether it writes a profile.
    pub profiled: bool,
    /// Why ONNX Runtime does not optimise the graph in full, where it does not.
    pub unoptimised: Option<String>,
}

/// A session for `graph` whose other files lie in `folder`.
///
/// # Errors
/// The runtime library is missing, an explicitly wanted provider does not start, or the graph does not load.
pub fn open(graph: &[u8], folder: &Path, options: &SessionOptions) -> Result<Opened> {
    if options.fp16 && matches!(options.provider, Provider::Cpu | Provider::Cuda) {
        return Err(Error::usage(format!("provider {} has no f16 mode of its own", options.provider.name())).hint(
            "export the network itself in f16 (models/export/internimage.py --fp16), or use tensorrt or openvino",
        ));
    }
    // First of all: asking for providers without a loaded library panics.
    library::get()?;
    let wanted = match options.provider {
        Provider::Auto => [Provider::Tensorrt, Provider::Cuda, Provider::Openvino]
            .into_iter()
            .filter(|provider| provider.compiled_in())
            .chain([Provider::Cpu])
            .collect(),
        one => vec![one],
    };
    let mut last = None;
    for provider in wanted {
        let profile = options.profile || provider != Provider::Cpu;
        match build(graph, folder, provider, options, profile) {
            Ok((session, unoptimised)) => return Ok(Opened { session, provider, profiled: profile, unoptimised }),
            Err(error) => {
                if options.provider == Provider::Auto && provider != Provider::Cpu {
                    tracing::warn!("provider {} does not start, trying the next one: {error}", provider.name());
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::failed("no provider to run on")))
}

/// Levels of optimisation, from the highest down. Fusions of a higher one can make graphs that ONNX Runtime refuses itself.
const LEVELS: [(GraphOptimizationLevel, &str); 3] = [
    (GraphOptimizationLevel::All, "with all optimisations"),
    (GraphOptimizationLevel::Level1, "with basic optimisations only"),
    (GraphOptimizationLevel::Disable, "without optimisations"),
];

/// A session at the highest level of optimisation at which the graph loads, and the reason where that is not the full one.
fn build(
    graph: &[u8],
    folder: &Path,
    provider: Provider,
    options: &SessionOptions,
    profile: bool,
) -> Result<(Session, Option<String>)> {
    at_the_highest_level(|level| build_at(level, graph, folder, provider, options, profile))
}

/// What `attempt` makes at the highest level at which it succeeds, and the reason where that is not the full one.
fn at_the_highest_level<T>(
    mut attempt: impl FnMut(GraphOptimizationLevel) -> Result<T>,
) -> Result<(T, Option<String>)> {
    let mut first: Option<Error> = None;
    for (level, how) in LEVELS {
        match attempt(level) {
            Ok(made) => {
                let reason = |error| format!("the graph runs {how}, which is slower, since with all of them: {error}");
                return Ok((made, first.map(reason)));
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::failed("no level of optimisation to load at")))
}

fn build_at(
    level: GraphOptimizationLevel,
    graph: &[u8],
    folder: &Path,
    provider: Provider,
    options: &SessionOptions,
    profile: bool,
) -> Result<Session> {
    let runtime = library::get()?;
    let failed = |error: String| Error::failed(format!("ONNX Runtime: {error}"));
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let mut builder = Session::builder(&runtime.environment)
        .map_err(|error| failed(error.to_string()))?
        .with_optimization_level(level)
        .map_err(|error| failed(error.to_string()))?
        .with_intra_threads(threads)
        .map_err(|error| failed(error.to_string()))?
        .with_intra_op_spinning(false)
        .map_err(|error| failed(error.to_string()))?
        .with_flush_to_zero()
        .map_err(|error| failed(error.to_string()))?
        .with_config_entry(EXTERNAL_FOLDER, folder.to_string_lossy())
        .map_err(|error| failed(error.to_string()))?;
    if let Some(dispatch) = provider.dispatch(options) {
        builder = builder.with_execution_providers([dispatch.error_on_failure()]).map_err(|error| {
            Error::failed(format!("provider {}: {error}", provider.name()))
                .hint("`oodstream doctor` lists the providers of the library; --provider cpu always works")
        })?;
    }
    if profile {
        let prefix = std::env::temp_dir().join(format!("oodstream-profile-{}", std::process::id()));
        builder = builder.with_profiling(prefix).map_err(|error| failed(error.to_string()))?;
    }
    builder.commit_from_memory(graph).map_err(|error| {
        let text = error.to_string();
        Error::failed(format!("ONNX Runtime cannot load it: {text}")).hint(advice(&text))
    })
}

/// What to do about ONNX Runtime's reason not to load a graph.
fn advice(reason: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["is not a registered function/op", "No Op registered for", "Failed to find kernel", "NOT_IMPLEMENTED"]) {
        "the graph needs an operator that this ONNX Runtime does not have: export it with standard operators of ONNX only"
    } else if says(&["opset", "IR version"]) {
        "the graph is newer than this ONNX Runtime: export it with a lower opset, or set ORT_DYLIB_PATH to a newer library"
    } else if says(&["Protobuf parsing failed", "INVALID_PROTOBUF"]) {
        "the file must be an ONNX graph"
    } else {
        "`python -m onnx.checker FILE` shows whether the graph itself is sound"
    }
}

/// Operators that ran, by provider and kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Placement(pub BTreeMap<String, BTreeMap<String, usize>>);

impl Placement {
    /// Reads it from the profile of `session`, which must have been built to write one and have run once.
    ///
    /// # Errors
    /// The profile cannot be read.
    pub fn of(session: &mut Session) -> Result<Self> {
        let failed = |error: String| Error::failed(format!("ONNX Runtime's profile cannot be read: {error}"));
        let path = session.end_profiling().map_err(|error| failed(error.to_string()))?;
        let text = fs::read_to_string(&path).map_err(|error| failed(format!("{path}: {error}")))?;
        // A temporary file; that it stays behind is no reason to stop.
        let _ = fs::remove_file(&path);
        let events: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let mut placement = Self::default();
        // A network that was tried at several sizes ran more than once.
        let mut seen = BTreeSet::new();
        for event in events.iter().filter(|event| event["cat"] == "Node") {
            let arguments = &event["args"];
            let place = (arguments["node_index"].to_string(), arguments["op_name"].to_string());
            if !arguments["node_index"].is_null() && !seen.insert(place) {
                continue;
            }
            if let (Some(provider), Some(operator)) = (arguments["provider"].as_str(), arguments["op_name"].as_str()) {
                *placement.0.entry(provider.to_owned()).or_default().entry(operator.to_owned()).or_default() += 1;
            }
        }
        Ok(placement)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = self.0.len() > 1;
        for (index, (provider, operators)) in self.0.iter().enumerate() {
            let count: usize = operators.values().sum();
            write!(f, "{}{count} operators on {provider}", if index > 0 { "; " } else { "" })?;
            if several && provider == "CPUExecutionProvider" {
                write!(f, " ({})", operators.keys().cloned().collect::<Vec<_>>().join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_graph_names_what_is_left_on_the_cpu() {
        let on = |names: &[(&str, usize)]| names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let placement = Placement(BTreeMap::from([
            ("CPUExecutionProvider".to_owned(), on(&[("GridSample", 30), ("Shape", 2)])),
            ("CUDAExecutionProvider".to_owned(), on(&[("Conv", 120)])),
        ]));
        assert_eq!(
            placement.to_string(),
            "32 operators on CPUExecutionProvider (GridSample, Shape); 120 operators on CUDAExecutionProvider"
        );
    }

    #[test]
    fn a_graph_that_only_its_optimisation_breaks_runs_with_less() {
        let refuse_above = |least: usize| {
            let mut tries = 0;
            at_the_highest_level(move |_| {
                tries += 1;
                if tries > least { Ok(tries) } else { Err(Error::failed(format!("refusal {tries}"))) }
            })
        };
        assert_eq!(refuse_above(0).unwrap(), (1, None));
        let (tries, reason) = refuse_above(1).unwrap();
        let reason = reason.unwrap();
        assert!(tries == 2 && reason.contains("basic optimisations") && reason.contains("refusal 1"), "{reason}");
        assert!(refuse_above(2).unwrap().1.unwrap().contains("without optimisations"));
        assert!(
            refuse_above(3).unwrap_err().to_string().contains("refusal 1"),
            "the first reason is the one that counts"
        );
    }

    #[test]
    fn f16_is_refused_where_a_provider_has_no_such_mode() {
        let options = SessionOptions { provider: Provider::Cpu, fp16: true, ..SessionOptions::default() };
        let error = open(&[], Path::new("."), &options).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
    }
}
