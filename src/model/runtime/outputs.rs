//! The network's outputs: tensors that stay in ONNX Runtime's memory.

use std::sync::Arc;

use ndarray::ArrayView3;
use ort::value::DynValue;

use crate::compute::Maps;
use crate::{Error, Result};

/// The tensors of one call; they stay in ONNX Runtime's memory.
#[derive(Debug)]
pub(super) struct Tensors {
    /// None where the network gives features alone.
    pub logits: Option<DynValue>,
    pub features: Vec<DynValue>,
}

/// The network's outputs for one picture.
#[derive(Debug)]
pub struct Outputs {
    tensors: Arc<Tensors>,
    /// Its place among the pictures of the call, and their number.
    index: usize,
    count: usize,
}

impl Outputs {
    /// Those of picture `index` of a call with `count`.
    pub(super) fn new(tensors: Arc<Tensors>, index: usize, count: usize) -> Self {
        Self { tensors, index, count }
    }

    /// Hands the maps of the picture to `use_maps`, without a copy.
    ///
    /// # Errors
    /// A tensor is not `[count, C, h, w]` f32, or `use_maps` fails.
    pub fn with_maps<R>(&self, use_maps: impl FnOnce(&Maps<'_>) -> Result<R>) -> Result<R> {
        let plane = |value, what| plane(value, what, self.index, self.count);
        let logits = match (&self.tensors.logits, self.tensors.features.first()) {
            (Some(logits), _) => plane(logits, "logits")?,
            (None, Some(features)) => {
                let (_, height, width) = plane(features, "features")?.dim();
                no_classes(height, width)?
            }
            (None, None) => return Err(Error::failed("the network has neither logits nor features")),
        };
        match self.tensors.features.as_slice() {
            [] => use_maps(&Maps { logits, features: &[], picture: None }),
            [one] => use_maps(&Maps { logits, features: &[plane(one, "features")?], picture: None }),
            many => {
                let features = many.iter().map(|value| plane(value, "features")).collect::<Result<Vec<_>>>()?;
                use_maps(&Maps { logits, features: &features, picture: None })
            }
        }
    }
}

/// The logits of a network without classes.
fn no_classes<'a>(height: usize, width: usize) -> Result<ArrayView3<'a, f32>> {
    ArrayView3::from_shape((0, height, width), &[]).map_err(|error| Error::failed(format!("no logits: {error}")))
}

/// The map of picture `index` of `count`.
fn plane<'a>(value: &'a DynValue, what: &str, index: usize, count: usize) -> Result<ArrayView3<'a, f32>> {
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|error| Error::failed(format!("the network's {what} cannot be read as f32: {error}")))?;
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    let (pictures, map) = match *sizes.as_slice() {
        [pictures, channels, height, width] => (pictures, (channels, height, width)),
        [channels, height, width] => (1, (channels, height, width)),
        _ => (0, (0, 0, 0)),
    };
    let length = map.0 * map.1 * map.2;
    let part = data.get(index * length..(index + 1) * length).filter(|_| pictures == count);
    part.and_then(|part| ArrayView3::from_shape(map, part).ok())
        .ok_or_else(|| Error::failed(format!("the network's {what} have shape {sizes:?}, expected [{count}, C, h, w]")))
}
