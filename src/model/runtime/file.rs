//! A model file: its bytes, its graph, and the plan to load it by.

use std::fs;
use std::path::Path;

use crate::model::manifest::Manifest;
use crate::model::onnx_file::graph::Model;
use crate::model::onnx_file::plan;
use crate::model::onnx_file::plan::{Keep, LoadPlan, Shapes};
use crate::model::runtime::probe;
use crate::model::runtime::provider::SessionOptions;
use crate::{Error, Result};

/// Times that a graph is run for the shapes of its tensors, at most: what one run shows may lead to another tensor.
const MOST_PROBES: usize = 3;

/// The largest size of a protocol buffer, in bytes.
const LARGEST_FILE: u64 = i32::MAX as u64;

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The bytes of a model file.
///
/// # Errors
/// It cannot be read, or is larger than an ONNX file can be.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let failed =
        |error: std::io::Error| Error::failed(error.to_string()).hint("--model takes the path of an ONNX file");
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST_FILE {
        return Err(Error::failed(format!("{length} bytes are more than the 2 GiB that an ONNX file can hold"))
            .hint("export it with its weights in a second file (external data)"));
    }
    fs::read(path).map_err(failed)
}

/// The graph in the bytes of a file.
///
/// # Errors
/// See [`Model::read`].
pub fn parse(bytes: &[u8]) -> Result<Model<'_>> {
    Model::read(bytes).map_err(|error| {
        error
            .at("cannot be read as an ONNX file")
            .hint("the file must be an ONNX graph; `python -m onnx.checker FILE` shows details")
    })
}

/// The plan for a model, after as many runs of its graph as it takes to know the shapes that the file does not say; and what
/// these runs showed.
///
/// # Errors
/// See [`plan::plan`] and [`probe::shapes`].
pub fn load_plan(
    model: &Model<'_>,
    manifest: &Manifest,
    folder: &Path,
    options: &SessionOptions,
    keep: Keep,
) -> Result<(LoadPlan, Shapes)> {
    let mut shapes = Shapes::default();
    let mut wanted = plan::undeclared(model);
    for _ in 0..MOST_PROBES {
        if !wanted.is_empty() {
            let found = probe::shapes(model, manifest, folder, &wanted, options)?;
            shapes.size = found.size;
            shapes.tensors.extend(found.tensors);
        }
        let plan = plan::plan(model, manifest, &options.features, keep, &shapes)?;
        wanted = plan.unknown.iter().filter(|name| !shapes.tensors.contains_key(*name)).cloned().collect();
        if wanted.is_empty() {
            return Ok((plan, shapes));
        }
    }
    Err(Error::failed(format!("the shapes of {} cannot be found out", wanted.join(", ")))
        .hint("name logits and features in the manifest beside the model"))
}
