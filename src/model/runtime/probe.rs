//! The shapes of a graph's tensors, where the file does not say them: it is run once on a grey picture.

use std::collections::HashMap;
use std::path::Path;

use ort::session::Session;
use ort::value::{DynValue, Tensor};

use crate::model::Manifest;
use crate::model::onnx_file::graph::Model;
use crate::model::onnx_file::plan;
use crate::model::onnx_file::plan::{FREE_SIZES, Shapes};
use crate::model::runtime::open;
use crate::model::runtime::provider::SessionOptions;
use crate::{Error, Result};

/// The shapes of `tensors` of the model, whose other files lie in `folder`.
///
/// # Errors
/// The graph does not load, or does not run at any of the sizes that it is tried with.
pub fn shapes(
    model: &Model<'_>,
    manifest: &Manifest,
    folder: &Path,
    tensors: &[String],
    options: &SessionOptions,
) -> Result<Shapes> {
    let (mut edit, picture) = plan::picture(model, manifest)?;
    let internal = tensors.iter().filter(|name| model.outputs.iter().all(|port| port.name != name.as_str()));
    internal.for_each(|name| edit.output(name));
    // On the same provider: a process has one library, and the first session decides which.
    let options = SessionOptions { profile: false, ..options.clone() };
    let mut session = open::open(&edit.apply(model), folder, &options)?.session;
    let size = (picture.spec.width, picture.spec.height);
    let said = manifest.input.width.is_some() || manifest.input.height.is_some();
    let sizes = if picture.free_size && !said { &FREE_SIZES[..] } else { &[size] };
    let (size, found) = first_that_runs(sizes, |size| run(&mut session, &picture.name, size, tensors))?;
    Ok(Shapes { size: picture.free_size.then_some(size), tensors: found })
}

/// The first of `sizes` at which `attempt` succeeds, and its result.
///
/// # Errors
/// None is; the error is that of the first one, with all that were tried.
pub fn first_that_runs<T>(
    sizes: &[(usize, usize)],
    mut attempt: impl FnMut((usize, usize)) -> Result<T>,
) -> Result<((usize, usize), T)> {
    let mut first = None;
    for &size in sizes {
        match attempt(size) {
            Ok(found) => return Ok((size, found)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let tried: Vec<String> = sizes.iter().map(|(width, height)| format!("{width}x{height}")).collect();
    let error = first.unwrap_or_else(|| Error::failed("no size to run at"));
    Err(error.hint(format!(
        "it does not run at {}: set input.width and input.height in the manifest to what it was exported for",
        tried.join(", ")
    )))
}

fn run(
    session: &mut Session,
    input: &str,
    (width, height): (usize, usize),
    tensors: &[String],
) -> Result<HashMap<String, Vec<usize>>> {
    let failed = |error: ort::Error| Error::failed(format!("it does not run at {width}x{height}: {error}"));
    let grey = Tensor::from_array(([1, 3, height, width], vec![0.0f32; 3 * width * height])).map_err(failed)?;
    let outputs = session.run(ort::inputs![input => grey]).map_err(failed)?;
    let shape = |value: &DynValue| {
        let shape = value.dtype().tensor_shape();
        shape.into_iter().flat_map(|shape| shape.iter()).map(|&length| usize::try_from(length).unwrap_or(0)).collect()
    };
    Ok(tensors.iter().filter_map(|name| Some((name.clone(), shape(outputs.get(name)?)))).collect())
}
