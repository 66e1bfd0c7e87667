//! The network and the back end as a source of scores for still pictures.

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::gather::{GridSink, ScoreSource};
use super::upsample::Window;
use crate::compute::{Backend, Detection, Maps, Recipe, Size};
use crate::model::Network;
use crate::model::prepare::InputSpec;
use crate::{Error, Result};

/// A picture as the network's input, `[3, height, width]`, and the part of it that is picture.
///
/// Resized with a triangle filter whose support grows with the reduction, in 8 bits as Pillow's `BILINEAR` does, for this
/// is how segmentation networks are trained.
pub fn prepare(picture: &RgbImage, spec: &InputSpec, tensor: &mut Vec<f32>) -> Window {
    let content = spec.content(picture.width() as usize, picture.height() as usize);
    let resized = imageops::resize(picture, content.width as u32, content.height as u32, FilterType::Triangle);
    let plane = spec.width * spec.height;
    tensor.clear();
    tensor.resize(3 * plane, 0.0);
    for (y, row) in resized.as_raw().chunks_exact(3 * content.width).enumerate() {
        let start = (content.y + y) * spec.width + content.x;
        for (x, pixel) in row.chunks_exact(3).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                let value = (f32::from(value) / 255.0 - spec.mean[channel]) / spec.std[channel];
                tensor[channel * plane + start + x] = value;
            }
        }
    }
    let share =
        |start: usize, length: usize, side: usize| (start as f64 / side as f64, (start + length) as f64 / side as f64);
    Window { x: share(content.x, content.width, spec.width), y: share(content.y, content.height, spec.height) }
}

/// Scores pictures with one network and any number of recipes, each on the same outputs.
pub struct NetworkSource<'a> {
    network: &'a mut Network,
    backend: &'a mut dyn Backend,
    recipes: Vec<Recipe>,
    tensor: Vec<f32>,
    detection: Detection,
}

impl<'a> NetworkSource<'a> {
    /// Pictures are independent: warm start and smoothing over time are switched off.
    pub fn new(network: &'a mut Network, backend: &'a mut dyn Backend, recipes: Vec<Recipe>) -> Self {
        let recipes =
            recipes.into_iter().map(|recipe| Recipe { warm_start: false, smoothing: None, ..recipe }).collect();
        Self { network, backend, recipes, tensor: Vec::new(), detection: Detection::default() }
    }
}

/// The size that scores are computed at.
pub fn grid_of(maps: &Maps<'_>) -> Size {
    let (_, height, width) = maps.features.first().map_or(maps.logits.dim(), |map| map.dim());
    Size { width, height }
}

impl ScoreSource for NetworkSource<'_> {
    fn score(&mut self, picture: &RgbImage, sink: &mut GridSink<'_>) -> Result<()> {
        if picture.width() == 0 || picture.height() == 0 {
            return Err(Error::failed("the picture has no pixels"));
        }
        let window = prepare(picture, self.network.input(), &mut self.tensor);
        let outputs = self.network.infer(&self.tensor)?;
        outputs.with_maps(|maps| {
            let grid = grid_of(maps);
            for (method, recipe) in self.recipes.iter().enumerate() {
                self.backend.detect(method as u32, maps, recipe, grid, &mut self.detection)?;
                sink(method, self.detection.grid_score.view(), window)?;
            }
            Ok(())
        })
    }
}
