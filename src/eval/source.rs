//! The network and the back end as a source of scores for still pictures.

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::gather::{GridSink, ScoreSource};
use crate::compute::{Backend, Detection, Luma, Maps, Recipe, Size, Upsampling};
use crate::frame::{Plane, Range};
use crate::model::prepare::{InputSpec, Window, overlap};
use crate::model::runtime::Network;
use crate::model::views::Views;
use crate::model::views::layout::{Layout, Layouts, mirror};
use crate::model::views::merge::{Merge, NetworkOutputs};
use crate::{Error, Result};

/// All views of a picture as the network's input, `[views, 3, height, width]`.
///
/// Resized with a triangle filter whose support grows with the reduction, in 8 bits as Pillow's `BILINEAR` does, for this
/// is how segmentation networks are trained.
pub fn prepare(picture: &RgbImage, layout: &Layout, spec: &InputSpec, tensor: &mut Vec<f32>) {
    let length = 3 * spec.width * spec.height;
    tensor.clear();
    tensor.resize(layout.views().len() * length, 0.0);
    let mut level: Option<(usize, RgbImage)> = None;
    for (index, &view) in layout.views().iter().enumerate() {
        let (before, slot) = tensor.split_at_mut(index * length);
        let slot = &mut slot[..length];
        if view.mirrored {
            mirror(&before[(index - 1) * length..], spec.width, slot);
            continue;
        }
        let window = layout.window(view);
        let resized = match level.take().filter(|(of, _)| *of == view.level) {
            Some((_, resized)) => resized,
            None => imageops::resize(picture, window.size.0 as u32, window.size.1 as u32, FilterType::Triangle),
        };
        cut(&resized, window, spec, slot);
        level = Some((view.level, resized));
    }
}

/// Writes what `window` shows of the resized picture into `slot`, normalised.
fn cut(resized: &RgbImage, window: Window, spec: &InputSpec, slot: &mut [f32]) {
    let plane = spec.width * spec.height;
    let (left, columns) = overlap(window.size.0, window.x, spec.width);
    let (top, rows) = overlap(window.size.1, window.y, spec.height);
    let rows = resized.as_raw().chunks_exact(3 * window.size.0).skip(rows.start).take(rows.len());
    for (y, row) in rows.enumerate() {
        let start = (top + y) * spec.width + left;
        for (x, pixel) in row[3 * columns.start..3 * columns.end].chunks_exact(3).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                let value = (f32::from(value) / 255.0 - spec.mean[channel]) / spec.std[channel];
                slot[channel * plane + start + x] = value;
            }
        }
    }
}

/// Scores pictures with one network and any number of recipes, each on the same outputs.
pub struct NetworkSource<'a> {
    network: &'a mut Network,
    layouts: Layouts,
    backend: &'a mut dyn Backend,
    recipes: Vec<Recipe>,
    tensor: Vec<f32>,
    merge: Merge,
    sight: NetworkOutputs,
    luma: Vec<u8>,
    detection: Detection,
}

impl<'a> NetworkSource<'a> {
    /// Pictures are independent: warm start and smoothing over time are switched off.
    pub fn new(network: &'a mut Network, views: Views, backend: &'a mut dyn Backend, recipes: Vec<Recipe>) -> Self {
        let recipes =
            recipes.into_iter().map(|recipe| Recipe { warm_start: false, smoothing: None, ..recipe }).collect();
        let layouts = Layouts::new(views, *network.input());
        Self {
            network,
            layouts,
            backend,
            recipes,
            tensor: Vec::new(),
            merge: Merge::default(),
            sight: NetworkOutputs::default(),
            luma: Vec::new(),
            detection: Detection::default(),
        }
    }
}

/// BT.601 luma of a picture, 0..255.
fn luma(picture: &RgbImage, to: &mut Vec<u8>) {
    to.clear();
    to.extend(picture.as_raw().chunks_exact(3).map(|rgb| {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
        ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
    }));
}

/// The grid on which scores are computed.
pub fn grid_of(maps: &Maps<'_>) -> Size {
    let (_, height, width) = maps.features.first().map_or(maps.logits.dim(), |map| map.dim());
    Size { width, height }
}

impl ScoreSource for NetworkSource<'_> {
    fn score(&mut self, picture: &RgbImage, sink: &mut GridSink<'_>) -> Result<()> {
        if picture.width() == 0 || picture.height() == 0 {
            return Err(Error::failed("the picture has no pixels"));
        }
        let layout = self.layouts.of((picture.width() as usize, picture.height() as usize))?;
        prepare(picture, &layout, self.network.input(), &mut self.tensor);
        self.sight.clear();
        for outputs in self.network.infer_all(&self.tensor, layout.views().len())? {
            self.sight.push(outputs);
        }
        self.sight.merge(&layout, &mut self.merge)?;
        let picture = self.recipes.iter().any(|recipe| recipe.upsampling == Upsampling::Guided).then(|| {
            luma(picture, &mut self.luma);
            let (columns, rows) = (picture.width() as usize, picture.height() as usize);
            Luma { plane: Plane { data: &self.luma, stride: columns, columns, rows }, range: Range::Full }
        });
        self.sight.with_maps(|maps| {
            let maps = &Maps { picture, ..*maps };
            for (method, recipe) in self.recipes.iter().enumerate() {
                let size = recipe.fine_size(grid_of(maps));
                self.backend.detect(method as u32, maps, recipe, size, &mut self.detection)?;
                sink(method, self.detection.score.view())?;
            }
            Ok(())
        })
    }
}
