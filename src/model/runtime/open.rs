//! A session of ONNX Runtime: the choice of a library and a provider for it, and its options.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::compute;
use crate::model::onnx_file::graph::Model;
use crate::model::onnx_file::quantised;
use crate::model::runtime::library::{self, Build};
use crate::model::runtime::provider::{Precision, Provider, SessionOptions, openvino_precision};
use crate::{Error, Result};

/// Where ONNX Runtime looks for weights in other files when the graph comes from memory.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";
/// Whether quantised weights are left to become floats when the graph is loaded.
const IN_FLOATS: &str = "session.disable_quant_qdq";
/// Whether weights are made unsigned on CPUs where sums of signed 8-bit products overflow (x86 without VNNI).
const NO_OVERFLOW: &str = "session.x64quantprecision";

/// Profiles that this process has begun.
static PROFILES: AtomicU64 = AtomicU64::new(0);

/// A session, and how it came to its provider.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The provider that it runs on.
    pub provider: Provider,
    /// The precision that the provider was set to; `Auto` leaves it to the graph or the device.
    pub precision: Precision,
    /// The reasons why `auto` skipped others, a line each.
    pub passed_by: Vec<String>,
    /// Why ONNX Runtime does not optimise the graph in full, where it does not.
    pub unoptimised: Option<String>,
    /// Whether the session writes a profile, see [`Placement`](super::placement::Placement).
    pub profiled: bool,
}

/// A session for `graph` whose other files lie in `folder`.
///
/// # Errors
/// The library is missing, a provider requested by name does not start, or the graph does not load.
pub fn open(graph: &[u8], folder: &Path, options: &SessionOptions) -> Result<Opened> {
    let (wanted, mut passed_by) = match options.provider {
        Provider::Auto => candidates(options.precision)?,
        one => {
            one.dispatch(options)?;
            library::load(one.build())?;
            (vec![one], Vec::new())
        }
    };
    let model = Model::read(graph)?;
    let quantised = quantised::is_quantised(&model);
    if options.precision == Precision::Int8 && !quantised {
        return Err(Error::usage("precision int8: the graph is not quantised")
            .hint("models/train/quantise.py, or ONNX Runtime's quantize_static, makes a quantised graph"));
    }
    let mut last = None;
    for provider in wanted {
        let profiled = options.profile || provider != Provider::Cpu;
        let floats = quantised && !provider.takes_integers(options.precision);
        let graph = if floats { Cow::Owned(quantised::in_floats(&model)) } else { Cow::Borrowed(graph) };
        match build(&graph, folder, provider, options, profiled) {
            Ok((session, unoptimised)) => {
                let precision = match provider {
                    _ if quantised && provider.takes_integers(options.precision) => Precision::Int8,
                    _ if quantised && options.precision == Precision::Auto => Precision::F32,
                    Provider::Openvino => openvino_precision(options),
                    _ => options.precision,
                };
                return Ok(Opened { session, provider, precision, passed_by, unoptimised, profiled });
            }
            Err(error) => {
                if options.provider == Provider::Auto && provider != Provider::Cpu {
                    tracing::warn!("provider {} does not start, trying the next one: {error}", provider.name());
                    passed_by.push(format!("{}: does not start: {error}", provider.name()));
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::failed("no provider to run on")))
}

/// The providers that `auto` tries, in order, the CPU last, and why others are left out. A process has one library: the
/// first provider that can be expected to start decides which build of it is loaded.
fn candidates(precision: Precision) -> Result<(Vec<Provider>, Vec<String>)> {
    let mut passed_by = Vec::new();
    let mut found = Vec::new();
    let any = library::chosen_by_user() || library::loaded().is_some();
    for provider in [Provider::Tensorrt, Provider::Cuda, Provider::Webgpu, Provider::Openvino] {
        match expected(provider, precision, any) {
            Ok(()) => found.push(provider),
            Err(reason) => passed_by.push(format!("{}: {reason}", provider.name())),
        }
    }
    library::load(found.first().map_or(Build::Plain, |provider| provider.build()))?;
    found.retain(|provider| {
        let there = provider.compiled_in();
        if !there {
            passed_by.push(format!("{}: not in the library that is loaded", provider.name()));
        }
        there
    });
    found.push(Provider::Cpu);
    Ok((found, passed_by))
}

/// Whether `provider` can be expected to start, by what is installed; `any` is whether the library is given, so that its
/// files say nothing.
fn expected(provider: Provider, precision: Precision, any: bool) -> std::result::Result<(), String> {
    match provider {
        Provider::Tensorrt | Provider::Cuda => {
            if !nvidia() {
                return Err("no NVIDIA driver".to_owned());
            }
            if !any && !library::has_shared_provider(provider.name()) {
                return Err("the ONNX Runtime library has no such provider".to_owned());
            }
        }
        Provider::Webgpu => {
            if !any && library::find_build(Build::Webgpu).is_none() {
                return Err(format!("not installed; {}", provider.remedy()));
            }
            if !compute::has_hardware_adapter() {
                return Err("no hardware graphics adapter".to_owned());
            }
        }
        _ => {
            if !any && library::find_build(Build::Openvino).is_none() {
                return Err(format!("not installed; {}", provider.remedy()));
            }
        }
    }
    let mode = SessionOptions { provider, precision, ..SessionOptions::default() };
    provider.dispatch(&mode).map(drop).map_err(|error| error.to_string())
}

/// Whether the kernel has NVIDIA's driver; other systems are not checked.
fn nvidia() -> bool {
    !cfg!(target_os = "linux")
        || ["/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu"].iter().any(|path| Path::new(path).exists())
}

/// Levels of optimisation, from the highest down. Fusions of a higher one can make graphs that ONNX Runtime refuses itself.
const LEVELS: [(GraphOptimizationLevel, &str); 3] = [
    (GraphOptimizationLevel::All, "with all optimisations"),
    (GraphOptimizationLevel::Level1, "with basic optimisations only"),
    (GraphOptimizationLevel::Disable, "without optimisations"),
];

/// A session, on the CPU at the highest level of optimisation at which the graph loads, and the reason where that is not
/// the full one.
fn build(
    graph: &[u8],
    folder: &Path,
    provider: Provider,
    options: &SessionOptions,
    profile: bool,
) -> Result<(Session, Option<String>)> {
    let levels = if provider == Provider::Cpu { &LEVELS[..] } else { &LEVELS[..1] };
    at_the_highest_level(levels, |level| build_at(level, graph, folder, provider, options, profile))
}

/// What `attempt` makes at the highest level at which it succeeds, and the reason where that is not the full one.
fn at_the_highest_level<T>(
    levels: &[(GraphOptimizationLevel, &str)],
    mut attempt: impl FnMut(GraphOptimizationLevel) -> Result<T>,
) -> Result<(T, Option<String>)> {
    let mut first: Option<Error> = None;
    for (level, how) in levels {
        match attempt(*level) {
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
    let runtime = library::load(provider.build())?;
    let failed = |error: String| Error::failed(format!("ONNX Runtime: {error}"));
    if !provider.compiled_in() {
        return Err(Error::failed(format!(
            "provider {}: the ONNX Runtime library {} does not have it",
            provider.name(),
            runtime.library.display()
        ))
        .hint(format!("{}; --provider cpu always works", provider.remedy())));
    }
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
    if let Some(dispatch) = provider.dispatch(options)? {
        builder = builder.with_execution_providers([dispatch.error_on_failure()]).map_err(|error| {
            Error::failed(format!("provider {}: {error}", provider.name()))
                .hint("`oodstream doctor` lists the providers of the library; --provider cpu always works")
        })?;
    }
    if profile {
        // ONNX Runtime adds the time in whole seconds, which sessions may share.
        let number = PROFILES.fetch_add(1, Ordering::Relaxed);
        let prefix = std::env::temp_dir().join(format!("oodstream-profile-{}-{number}", std::process::id()));
        builder = builder.with_profiling(prefix).map_err(|error| failed(error.to_string()))?;
    }
    let entry = if provider.takes_integers(options.precision) { NO_OVERFLOW } else { IN_FLOATS };
    builder = builder.with_config_entry(entry, "1").map_err(|error| failed(error.to_string()))?;
    builder.commit_from_memory(graph).map_err(|error| {
        if provider == Provider::Cpu {
            let text = error.to_string();
            return Error::failed(format!("ONNX Runtime cannot load it: {text}")).hint(advice(&text));
        }
        Error::failed(format!("provider {} cannot load it: {error}", provider.name()))
            .hint("--provider cpu runs every graph; `oodstream doctor` lists providers and adapters")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_that_only_its_optimisation_breaks_runs_with_less() {
        let refuse_above = |least: usize| {
            let mut tries = 0;
            at_the_highest_level(&LEVELS, move |_| {
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
}
