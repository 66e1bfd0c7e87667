//! The network and the back end as a source of scores for still pictures.

use image::RgbImage;

use super::gather::{GridSink, ScoreSource};
use crate::compute::{Backend, Detection, Luma, Maps, Recipe, Target, Upsampling};
use crate::frame::{Plane, Range};
use crate::model::runtime::Network;
use crate::model::views::Views;
use crate::model::views::layout::Layouts;
use crate::model::views::merge::{Merge, NetworkOutputs};
use crate::model::views::rgb::{RgbPicture, luma, prepare_rgb};
use crate::{Error, Result};

/// Scores pictures with one network and any number of recipes, each on the same outputs.
pub struct NetworkSource<'a> {
    network: &'a mut Network,
    layouts: Layouts,
    backend: &'a mut dyn Backend,
    recipes: Vec<Recipe>,
    tensor: Vec<f32>,
    merge: Merge,
    outputs: NetworkOutputs,
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
            outputs: NetworkOutputs::default(),
            luma: Vec::new(),
            detection: Detection::default(),
        }
    }
}

impl ScoreSource for NetworkSource<'_> {
    fn score(&mut self, picture: &RgbImage, sink: &mut GridSink<'_>) -> Result<()> {
        if picture.width() == 0 || picture.height() == 0 {
            return Err(Error::failed("the picture has no pixels"));
        }
        let layout = self.layouts.of((picture.width() as usize, picture.height() as usize))?;
        let rgb = RgbPicture::new(picture.as_raw(), picture.width(), picture.height())?;
        prepare_rgb(&rgb, &layout, self.network.input(), &mut self.tensor);
        self.outputs.clear();
        for outputs in self.network.infer_all(&self.tensor, layout.views().len())? {
            self.outputs.push(outputs);
        }
        self.outputs.merge(&layout, &mut self.merge)?;
        let picture = self.recipes.iter().any(|recipe| recipe.upsampling == Upsampling::Guided).then(|| {
            luma(&rgb, &mut self.luma);
            let (columns, rows) = (picture.width() as usize, picture.height() as usize);
            Luma { plane: Plane { data: &self.luma, stride: columns, columns, rows }, range: Range::Full }
        });
        self.outputs.with_maps(|maps| {
            let maps = &Maps { picture, ..*maps };
            for (method, recipe) in self.recipes.iter().enumerate() {
                let size = recipe.fine_size(recipe.grid.size(maps));
                self.backend.detect(method as u32, maps, recipe, Target::scores(size), &mut self.detection)?;
                sink(method, self.detection.score.view())?;
            }
            Ok(())
        })
    }
}
