//! One segmentation network, loaded and ready: a prepared picture in, logits and features out.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{ArrayView3, ArrayView4};
use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};

use super::manifest::{Manifest, sha256_hex};
use super::prepare::{InputSpec, Resize};
use super::{locate, runtime};
use crate::compute::Maps;
use crate::{Error, Result};

/// ImageNet statistics of R, G, B in units of 0..1: what most backbones were trained with, assumed without a manifest.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The size that a graph with free height and width is run at unless its manifest says another.
const FREE_SIZE: (usize, usize) = (640, 368);

/// How a session is built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// Threads within one operator; `None` is one per core.
    pub threads: Option<usize>,
    /// Where the network runs.
    pub provider: Provider,
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
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
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        }
    }

    fn dispatch(self) -> Option<ep::ExecutionProviderDispatch> {
        match self {
            Self::Auto | Self::Cpu => None,
            Self::Cuda => Some(ep::CUDA::default().build()),
            Self::Tensorrt => Some(ep::TensorRT::default().build()),
            Self::Openvino => Some(ep::OpenVINO::default().build()),
        }
    }

    /// Whether the loaded library was built with this provider; it may still fail to start.
    pub fn compiled_in(self) -> bool {
        use ep::ExecutionProvider;
        match self {
            Self::Auto | Self::Cpu => true,
            Self::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Self::Tensorrt => ep::TensorRT::is_available().unwrap_or(false),
            Self::Openvino => ep::OpenVINO::is_available().unwrap_or(false),
        }
    }
}

/// A loaded network.
#[derive(Debug)]
pub struct Network {
    session: Session,
    path: PathBuf,
    sha256: String,
    manifest: Manifest,
    input: InputSpec,
    input_name: String,
    logits: String,
    features: Vec<String>,
    provider: Provider,
    assumptions: Vec<String>,
}

impl Network {
    /// Loads `path`, or the default model, with the manifest beside it.
    ///
    /// # Errors
    /// The file is missing or is not a usable ONNX segmentation network, the manifest does not fit the graph, the
    /// runtime library is missing, or an explicitly wanted provider does not start.
    pub fn load(path: Option<&Path>, options: &SessionOptions) -> Result<Self> {
        let path = path.map_or_else(locate::default_model, |path| Ok(path.to_path_buf()))?;
        let place = format!("model {}", path.display());
        let bytes = fs::read(&path).map_err(|error| {
            Error::failed(format!("{place}: {error}")).hint("--model takes the path of an ONNX file")
        })?;
        let manifest = Manifest::beside(&path)?;
        let sha256 = sha256_hex(&bytes);
        if let Some(expected) = manifest.as_ref().and_then(|manifest| manifest.model.sha256.as_ref())
            && !expected.eq_ignore_ascii_case(&sha256)
        {
            return Err(Error::failed(format!("{place}: its SHA-256 is {sha256}, the manifest says {expected}"))
                .hint("the manifest belongs to another file: fetch the model again, or correct model.sha256"));
        }
        let (session, provider) = open(&bytes, options).map_err(|error| error.at(&place))?;
        Self::bind(session, path, sha256, manifest, provider).map_err(|error| error.at(place))
    }

    fn bind(session: Session, path: PathBuf, sha256: String, manifest: Option<Manifest>, provider: Provider) -> Result<Self> {
        let mut assumptions = Vec::new();
        let has_manifest = manifest.is_some();
        let manifest = manifest.unwrap_or_default();
        if !has_manifest {
            assumptions.push(format!("no manifest {} beside the model", path.with_extension("toml").display()));
        }
        let (input_name, input) = find_input(&session, &manifest, &mut assumptions)?;
        let (logits, features) = find_outputs(&session, &manifest, &mut assumptions)?;
        let network = Self {
            session,
            path,
            sha256,
            manifest,
            input,
            input_name,
            logits,
            features,
            provider,
            assumptions,
        };
        network.check_classes()?;
        Ok(network)
    }

    fn check_classes(&self) -> Result<()> {
        let channels = rank4(&self.session, &self.logits).map(|shape| shape[1]).unwrap_or(-1);
        for (key, count) in
            [("classes.names", self.manifest.classes.names.len()), ("classes.palette", self.manifest.classes.palette.len())]
        {
            if count > 0 && channels > 0 && usize::try_from(channels).ok() != Some(count) {
                return Err(Error::usage(format!(
                    "the manifest does not fit the graph: {key} has {count} entries, output `{}` has {channels} channels",
                    self.logits
                )));
            }
        }
        Ok(())
    }

    /// The picture it takes, `[1, 3, height, width]` f32 RGB.
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, 64 hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The manifest, empty where there is none.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The provider in use.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Name of the logits output.
    pub fn logits_name(&self) -> &str {
        &self.logits
    }

    /// Names of the feature outputs, in the order of [`Maps::features`]; empty when the graph has none.
    pub fn feature_names(&self) -> &[String] {
        &self.features
    }

    /// What had to be assumed, a sentence each, for the user to read.
    pub fn assumptions(&self) -> &[String] {
        &self.assumptions
    }

    /// Runs the network on one prepared picture, `[3, height, width]` in [`Network::input`]'s form.
    ///
    /// # Errors
    /// `tensor` has another length, or ONNX Runtime fails.
    pub fn infer(&mut self, tensor: &[f32]) -> Result<Outputs> {
        let InputSpec { width, height, .. } = self.input;
        let view = ArrayView4::from_shape((1, 3, height, width), tensor)
            .map_err(|_| Error::failed(format!("a prepared picture has {} values, the network takes {}", tensor.len(), 3 * width * height)))?;
        let failed = |error: ort::Error| Error::failed(format!("model {}: inference failed: {error}", self.path.display()));
        let value = TensorRef::from_array_view(view).map_err(failed)?;
        let mut outputs = self.session.run(ort::inputs![self.input_name.as_str() => value]).map_err(failed)?;
        let mut take = |name: &str| {
            outputs.remove(name).ok_or_else(|| Error::failed(format!("model {}: output `{name}` is missing", self.path.display())))
        };
        Ok(Outputs {
            logits: take(&self.logits)?,
            features: self.features.iter().map(|name| take(name)).collect::<Result<_>>()?,
        })
    }
}

/// What the network gave for one picture; the tensors stay in ONNX Runtime's memory.
#[derive(Debug)]
pub struct Outputs {
    logits: DynValue,
    features: Vec<DynValue>,
}

impl Outputs {
    /// Hands the maps of the picture to `use_maps`, without a copy.
    ///
    /// # Errors
    /// A tensor is not `[1, C, h, w]` f32, or `use_maps` fails.
    pub fn with_maps<R>(&self, use_maps: impl FnOnce(&Maps<'_>) -> Result<R>) -> Result<R> {
        let logits = plane(&self.logits, "logits")?;
        match self.features.as_slice() {
            [] => use_maps(&Maps { logits, features: &[] }),
            [one] => use_maps(&Maps { logits, features: &[plane(one, "features")?] }),
            many => {
                let features = many.iter().map(|value| plane(value, "features")).collect::<Result<Vec<_>>>()?;
                use_maps(&Maps { logits, features: &features })
            }
        }
    }
}

fn plane<'a>(value: &'a DynValue, what: &str) -> Result<ArrayView3<'a, f32>> {
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|error| Error::failed(format!("the network's {what} cannot be read as f32: {error}")))?;
    match shape.iter().map(|&size| size as usize).collect::<Vec<_>>().as_slice() {
        &[1, channels, height, width] => ArrayView3::from_shape((channels, height, width), data)
            .map_err(|error| Error::failed(format!("the network's {what}: {error}"))),
        other => Err(Error::failed(format!("the network's {what} have shape {other:?}, expected [1, C, h, w]"))),
    }
}

fn open(bytes: &[u8], options: &SessionOptions) -> Result<(Session, Provider)> {
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
        match build(bytes, provider, options.threads) {
            Ok(session) => return Ok((session, provider)),
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

fn build(bytes: &[u8], provider: Provider, threads: Option<usize>) -> Result<Session> {
    let runtime = runtime::get()?;
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut builder = Session::builder(&runtime.environment)
        .map_err(|error| Error::failed(format!("ONNX Runtime: {error}")))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .and_then(|builder| builder.with_intra_threads(threads))
        .and_then(|builder| builder.with_intra_op_spinning(false))
        .and_then(ort::session::builder::SessionBuilder::with_flush_to_zero)
        .map_err(|error| Error::failed(format!("ONNX Runtime: {error}")))?;
    if let Some(dispatch) = provider.dispatch() {
        builder = builder.with_execution_providers([dispatch.error_on_failure()]).map_err(|error| {
            Error::failed(format!("provider {}: {error}", provider.name()))
                .hint("`oodstream doctor` lists the providers of the library; --provider cpu always works")
        })?;
    }
    builder.commit_from_memory(bytes).map_err(|error| {
        Error::failed(format!("ONNX Runtime cannot load it: {error}"))
            .hint("the file must be an ONNX graph; `python -m onnx.checker FILE` says more")
    })
}

fn find_input(session: &Session, manifest: &Manifest, assumptions: &mut Vec<String>) -> Result<(String, InputSpec)> {
    let names: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
    let outlet = match &manifest.input.name {
        Some(name) => session.inputs().iter().find(|input| input.name() == name).ok_or_else(|| {
            Error::usage(format!("the manifest does not fit the graph: it has no input `{name}`, only {}", names.join(", ")))
        })?,
        None => match session.inputs() {
            [one] => one,
            _ => {
                return Err(Error::failed(format!("the graph has {} inputs ({}), a segmentation network has one", names.len(), names.join(", ")))
                    .hint("name the picture's input as input.name in the manifest"));
            }
        },
    };
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(Error::failed(format!("input `{}` is not a tensor", outlet.name())));
    };
    if *ty != TensorElementType::Float32 {
        return Err(Error::failed(format!("input `{}` takes {ty:?}, only f32 pictures are supported", outlet.name())));
    }
    let &[batch, channels, height, width] = &shape[..] else {
        return Err(Error::failed(format!(
            "input `{}` has rank {} (shape {:?}), a picture has rank 4: [1, 3, height, width]",
            outlet.name(),
            shape.len(),
            &shape[..]
        )));
    };
    if batch > 1 || (channels != 3 && channels != -1) {
        return Err(Error::failed(format!("input `{}` has shape {:?}, expected [1, 3, height, width]", outlet.name(), &shape[..])));
    }
    let side = |key: &str, graph: i64, said: Option<usize>, free: usize, assumptions: &mut Vec<String>| match (graph, said) {
        (graph, Some(said)) if graph > 0 && graph as usize != said => Err(Error::usage(format!(
            "the manifest does not fit the graph: input.{key} is {said}, input `{}` has {graph}",
            outlet.name()
        ))),
        (_, Some(said)) => Ok(said),
        (graph, None) if graph > 0 => Ok(graph as usize),
        _ => {
            assumptions.push(format!("input {key} is free in the graph, running at {free}"));
            Ok(free)
        }
    };
    let width = side("width", width, manifest.input.width, FREE_SIZE.0, assumptions)?;
    let height = side("height", height, manifest.input.height, FREE_SIZE.1, assumptions)?;
    if manifest.input.mean.is_none() || manifest.input.std.is_none() {
        assumptions.push("input is RGB normalised with ImageNet mean and deviation".to_owned());
    }
    let resize = manifest.input.resize.unwrap_or_default();
    if resize == Resize::Letterbox {
        return Err(Error::usage("input.resize is letterbox, which is not built in yet").hint("use resize = \"stretch\""));
    }
    let input = InputSpec {
        width,
        height,
        mean: manifest.input.mean.unwrap_or(IMAGENET_MEAN),
        std: manifest.input.std.unwrap_or(IMAGENET_STD),
        resize,
    };
    Ok((outlet.name().to_owned(), input))
}

/// The shape of a rank-4 f32 output, -1 where it is free.
fn rank4(session: &Session, name: &str) -> Option<[i64; 4]> {
    let outlet = session.outputs().iter().find(|output| output.name() == name)?;
    match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => <[i64; 4]>::try_from(&shape[..]).ok(),
        _ => None,
    }
}

fn find_outputs(session: &Session, manifest: &Manifest, assumptions: &mut Vec<String>) -> Result<(String, Vec<String>)> {
    let described: Vec<String> =
        session.outputs().iter().map(|output| format!("`{}` {}", output.name(), output.dtype())).collect();
    let candidates: Vec<(&str, [i64; 4])> = session
        .outputs()
        .iter()
        .filter_map(|output| Some((output.name(), rank4(session, output.name())?)))
        .collect();
    let named = |key: &str, name: &String| {
        candidates.iter().any(|(candidate, _)| candidate == name).then(|| name.clone()).ok_or_else(|| {
            Error::usage(format!(
                "the manifest does not fit the graph: {key} `{name}` is not an f32 output of rank 4; the graph has {}",
                described.join(", ")
            ))
        })
    };
    let logits = match &manifest.outputs.logits {
        Some(name) => named("outputs.logits", name)?,
        None => {
            let is_feature = |name: &str| name.starts_with("features");
            let by_name = candidates.iter().find(|(name, _)| *name == "logits");
            let found = by_name.or_else(|| candidates.iter().find(|(name, shape)| !is_feature(name) && shape[1] != 1));
            let (name, _) = found.ok_or_else(|| {
                Error::failed(format!("no usable logits: no f32 output has shape [1, classes, h, w]; the graph has {}", described.join(", ")))
                    .hint("export the network with its raw logits before argmax and softmax as an output")
            })?;
            assumptions.push(format!("output `{name}` is taken as the logits"));
            (*name).to_owned()
        }
    };
    let features = if manifest.outputs.features.is_empty() {
        let found: Vec<String> = candidates
            .iter()
            .filter(|(name, _)| *name != logits && name.starts_with("features"))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if !found.is_empty() {
            assumptions.push(format!("features are taken from {}", found.join(", ")));
        }
        found
    } else {
        manifest.outputs.features.iter().map(|name| named("outputs.features", name)).collect::<Result<_>>()?
    };
    Ok((logits, features))
}
