//! One segmentation network, loaded and ready: a prepared picture in, logits and features out.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayView4;
use ort::memory::AllocationDevice;
use ort::session::Session;
use ort::value::{TensorRef, ValueType};

use crate::model::locate;
use crate::model::manifest::{Colour, Manifest, sha256_hex};
use crate::model::onnx_file::plan::{FREE_SIZES, Keep, LoadPlan};
use crate::model::prepare::InputSpec;
use crate::model::runtime::bound::Bound;
use crate::model::runtime::check::{check_outputs, find_classes, no_classes};
use crate::model::runtime::file::{folder_of, load_plan, parse, read};
use crate::model::runtime::open::{self, Opened};
pub use crate::model::runtime::outputs::Outputs;
use crate::model::runtime::outputs::Tensors;
use crate::model::runtime::placement::Placement;
pub use crate::model::runtime::provider::{Precision, Provider, SessionOptions};
use crate::model::runtime::{probe, values};
use crate::{Error, Result};

/// A loaded network.
#[derive(Debug)]
pub struct Network {
    session: Session,
    bound: Option<Bound>,
    path: PathBuf,
    sha256: String,
    manifest: Manifest,
    input: InputSpec,
    input_name: String,
    colour: Colour,
    max_batch: Option<usize>,
    logits: Option<String>,
    features: Vec<String>,
    provider: Provider,
    precision: Precision,
    passed_by: Vec<String>,
    placement: Option<Placement>,
    assumptions: Vec<String>,
    classes_guessed: bool,
    queries: bool,
    /// Whether the values of a first picture were examined.
    examined: bool,
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
        let bytes = read(&path).map_err(|error| error.at(&place))?;
        let manifest = Manifest::beside(&path)?;
        let sha256 = sha256_hex(&bytes);
        if let Some(expected) = manifest.as_ref().and_then(|manifest| manifest.model.sha256.as_ref())
            && !expected.eq_ignore_ascii_case(&sha256)
        {
            return Err(Error::failed(format!("{place}: its SHA-256 is {sha256}, the manifest says {expected}"))
                .hint("the manifest belongs to another file: fetch the model again, or correct model.sha256"));
        }
        Self::open(path, &bytes, sha256, manifest, options).map_err(|error| error.at(place))
    }

    fn open(
        path: PathBuf,
        bytes: &[u8],
        sha256: String,
        manifest: Option<Manifest>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let mut assumptions = Vec::new();
        if manifest.is_none() {
            assumptions.push(format!("no manifest {} beside the model", path.with_extension("toml").display()));
        }
        let mut manifest = manifest.unwrap_or_default();
        if let (Some(option), Some(_)) = (options.colour, &manifest.scoring)
            && option != manifest.input.colour.unwrap_or_default()
        {
            assumptions.push(format!(
                "the threshold of the manifest was found with {} pictures, and --colour gives {}: it may mark too much or too \
                 little",
                manifest.input.colour.unwrap_or_default().name(),
                option.name()
            ));
        }
        manifest.input.colour = options.colour.or(manifest.input.colour);
        let folder = folder_of(&path);
        let model = parse(bytes)?;
        model.check_external(folder)?;
        let (LoadPlan { edit, picture, logits, features, assumptions: planned, classes: noted, queries, .. }, _) =
            load_plan(&model, &manifest, folder, options, Keep::Needed)?;
        assumptions.extend(planned);
        let graph = if edit.is_empty() { Cow::Borrowed(bytes) } else { Cow::Owned(edit.apply(&model)) };
        let Opened { session, provider, precision, passed_by, unoptimised, profiled } =
            open::open(&graph, folder, options)?;
        assumptions.extend(unoptimised);
        let channels = check_outputs(&session, logits.as_deref(), &features)?;
        let classes_guessed = match &logits {
            Some(logits) => find_classes(&mut manifest, logits, channels, noted, &mut assumptions)?,
            None => no_classes(&manifest).map(|()| false)?,
        };
        let failed = |error: ort::Error| Error::failed(format!("its outputs cannot be bound: {error}"));
        let bound = Bound::of(&session, provider, provider.number(options).unwrap_or_default()).map_err(failed)?;
        let max_batch = (!picture.free_batch || has_fixed_batch(&session)).then_some(1);
        let said = manifest.input.width.is_some() || manifest.input.height.is_some();
        let mut network = Self {
            session,
            bound,
            path,
            sha256,
            manifest,
            input: picture.spec,
            colour: picture.colour,
            max_batch,
            input_name: picture.name,
            logits,
            features,
            provider,
            precision,
            passed_by,
            placement: None,
            assumptions,
            classes_guessed,
            queries,
            examined: false,
        };
        if picture.free_size {
            network.find_size(said)?;
        }
        if profiled {
            network.warm_up()?;
        }
        Ok(network)
    }

    /// Runs once on a grey picture, at the first size of those usual that the graph runs at, unless its manifest `said` one.
    fn find_size(&mut self, said: bool) -> Result<()> {
        let planned = (self.input.width, self.input.height);
        let sizes: Vec<(usize, usize)> =
            std::iter::once(planned).chain(FREE_SIZES.into_iter().filter(|&size| size != planned)).collect();
        let (size, ()) = probe::first_that_runs(&sizes, |size| {
            (self.input.width, self.input.height) = size;
            let grey = vec![0.0; 3 * size.0 * size.1];
            self.infer(&grey).map(drop)
        })?;
        if size == planned {
            return Ok(());
        }
        if said {
            return Err(Error::usage(format!(
                "it does not run at {}x{}, as the manifest has it, and does at {}x{}",
                planned.0, planned.1, size.0, size.1
            ))
            .hint("change input.width and input.height in the manifest"));
        }
        self.assumptions.retain(|text| !text.contains("is free in the graph"));
        self.assumptions.push(format!(
            "input width and height are free in the graph, which does not run at {}x{}: running at {}x{}",
            planned.0, planned.1, size.0, size.1
        ));
        Ok(())
    }

    /// Runs once on a grey picture, which builds what the provider builds lazily, and notes where each operator ran.
    fn warm_up(&mut self) -> Result<()> {
        let grey = vec![0.0; 3 * self.input.width * self.input.height];
        drop(self.infer(&grey)?);
        let placement = Placement::of(&mut self.session)?;
        if self.provider != Provider::Cpu {
            tracing::info!("provider {}: {placement}", self.provider.name());
        }
        self.placement = Some(placement);
        Ok(())
    }

    /// Binds the outputs to ordinary memory, as they are bound to pinned memory on CUDA; for tests.
    ///
    /// # Errors
    /// ONNX Runtime does not make a binding.
    #[doc(hidden)]
    #[cfg(any(test, feature = "internals"))]
    pub fn bind_outputs(&mut self) -> Result<()> {
        let bound = Bound::to(&self.session, AllocationDevice::CPU, 0);
        self.bound = Some(bound.map_err(|error| Error::failed(error.to_string()))?);
        Ok(())
    }

    /// Where the operators ran, when the session was opened to find that out: always for other providers than the CPU.
    pub fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    /// The picture it takes, `[1, 3, height, width]` f32 RGB.
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// The order of the channels that the graph gets, however the program's picture is brought to it.
    pub fn colour(&self) -> Colour {
        self.colour
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

    /// The precision that the provider was set to; `Auto` leaves it to the graph or the device.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The provider, and its precision where it was set, for a line of text.
    pub fn runs_on(&self) -> String {
        match self.precision {
            Precision::Auto => self.provider.name().to_owned(),
            precision => format!("{} in {}", self.provider.name(), precision.name()),
        }
    }

    /// The reasons why `--provider auto` skipped others, a line each.
    pub fn passed_by(&self) -> &[String] {
        &self.passed_by
    }

    /// Name of the logits output; none where the network gives features alone.
    pub fn logits_name(&self) -> Option<&str> {
        self.logits.as_deref()
    }

    /// Names of the feature outputs, in the order of [`Maps::features`](crate::compute::Maps::features); empty when the graph has none.
    pub fn feature_names(&self) -> &[String] {
        &self.features
    }

    /// Whether the names of the classes are only those of a data set with as many.
    pub fn classes_guessed(&self) -> bool {
        self.classes_guessed
    }

    /// Whether its logits are folded from the queries of a query-mask network.
    pub fn has_queries(&self) -> bool {
        self.queries
    }

    /// What had to be assumed, a sentence each, for the user to read; after the first picture also what its values show.
    pub fn assumptions(&self) -> &[String] {
        &self.assumptions
    }

    /// Most pictures that one call takes; none: any number.
    pub fn max_batch(&self) -> Option<usize> {
        self.max_batch
    }

    /// Runs the network on one prepared picture, `[3, height, width]` in [`Network::input`]'s form.
    ///
    /// # Errors
    /// `tensor` has another length, or ONNX Runtime fails.
    pub fn infer(&mut self, tensor: &[f32]) -> Result<Outputs> {
        let mut outputs = self.infer_batch(tensor, 1)?;
        outputs.pop().ok_or_else(|| Error::failed(format!("model {}: no outputs", self.path.display())))
    }

    /// Runs the network on the first `count` pictures of `tensor`, `[count, 3, height, width]`, at once; the outputs of
    /// each, in order.
    ///
    /// # Errors
    /// `tensor` is shorter, there are more pictures than [`Network::max_batch`], or ONNX Runtime fails.
    pub fn infer_batch(&mut self, tensor: &[f32], count: usize) -> Result<Vec<Outputs>> {
        let InputSpec { width, height, .. } = self.input;
        let length = count * 3 * width * height;
        let view = tensor.get(..length).and_then(|part| ArrayView4::from_shape((count, 3, height, width), part).ok());
        let view = view.ok_or_else(|| {
            Error::failed(format!("prepared pictures have {} values, the network takes {length}", tensor.len()))
        })?;
        let (path, provider) = (&self.path, self.provider);
        let failed = |error: ort::Error| {
            failure(provider, &error.to_string()).at(format!("model {}: inference failed", path.display()))
        };
        let names = self.logits.iter().chain(&self.features).map(String::as_str);
        let mut outputs = match &mut self.bound {
            Some(bound) => bound.run(&mut self.session, (&self.input_name, view), names),
            None => TensorRef::from_array_view(view)
                .and_then(|value| self.session.run(ort::inputs![self.input_name.as_str() => value])),
        }
        .map_err(failed)?;
        let mut take = |name: &str| {
            outputs
                .remove(name)
                .ok_or_else(|| Error::failed(format!("model {}: output `{name}` is missing", self.path.display())))
        };
        let tensors = Arc::new(Tensors {
            logits: self.logits.as_deref().map(&mut take).transpose()?,
            features: self.features.iter().map(|name| take(name)).collect::<Result<_>>()?,
        });
        drop(outputs);
        let all: Vec<Outputs> = (0..count).map(|index| Outputs::new(Arc::clone(&tensors), index, count)).collect();
        if !self.examined
            && let Some(first) = all.first()
            && tensor.get(..length / count.max(1)).is_some_and(values::varies)
        {
            self.examined = true;
            let mut seen = Vec::new();
            first.with_maps(|maps| {
                seen = match (&self.logits, maps.features.first()) {
                    (Some(name), _) => values::examine(&maps.logits, name, self.queries),
                    (None, Some(features)) => values::examine_features(features, &self.features[0]),
                    (None, None) => Vec::new(),
                };
                Ok(())
            })?;
            for text in &seen {
                tracing::warn!("model {}: {text}", self.path.display());
            }
            self.assumptions.extend(seen);
        }
        Ok(all)
    }

    /// Runs the network on the first `count` pictures of `tensor` in as few calls as [`Network::max_batch`] allows; the
    /// outputs of each, in order.
    ///
    /// # Errors
    /// See [`Network::infer_batch`].
    pub fn infer_all(&mut self, tensor: &[f32], count: usize) -> Result<Vec<Outputs>> {
        let length = 3 * self.input.width * self.input.height;
        let most = self.max_batch.unwrap_or(count).max(1);
        if count <= most {
            return self.infer_batch(tensor, count);
        }
        let mut outputs = Vec::with_capacity(count);
        for first in (0..count).step_by(most) {
            let part = tensor.get(first * length..).unwrap_or_default();
            outputs.extend(self.infer_batch(part, most.min(count - first))?);
        }
        Ok(outputs)
    }
}

/// What ONNX Runtime says of a run that failed, with what helps.
fn failure(provider: Provider, message: &str) -> Error {
    let lower = message.to_lowercase();
    let name = provider.name();
    if ["out of memory", "outofmemory", "failed to allocate", "bad_alloc"].iter().any(|words| lower.contains(words)) {
        return Error::failed(format!("out of memory (provider {name}): {message}"))
            .hint("a smaller live.batch, fewer --scales, no tiles, or --provider cpu need less");
    }
    if provider != Provider::Cpu && lower.contains("lost") {
        return Error::failed(format!("the device is lost (provider {name}): {message}"))
            .hint("its driver was reset or the device removed: see the system's log, and start again");
    }
    Error::failed(message)
}

/// Whether an output has a batch of a size of its own.
fn has_fixed_batch(session: &Session) -> bool {
    session.outputs().iter().any(
        |output| matches!(output.dtype(), ValueType::Tensor { shape, .. } if shape.first().is_some_and(|&n| n >= 0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_says_what_the_device_lacks() {
        let memory = failure(Provider::Webgpu, "Failed to allocate memory for buffer of 4 GB").to_string();
        assert!(memory.contains("out of memory (provider webgpu)"), "{memory}");
        let lost = failure(Provider::Webgpu, "WebGPU device lost (1): reset").to_string();
        assert!(lost.contains("the device is lost"), "{lost}");
        assert_eq!(failure(Provider::Cpu, "a shape is lost").to_string(), "a shape is lost");
    }
}
