//! One frame at a time through a network: prepared in all its views, run, and brought together again.

use super::rgb::{RgbPicture, prepare_rgb};
use crate::Result;
use crate::compute::Maps;
use crate::frame::I420;
use crate::model::prepare::Prepare;
use crate::model::runtime::network::Network;
use crate::model::views::layout::{Layout, Layouts, Views, mirror};
use crate::model::views::merge::{Merge, NetworkOutputs};

/// Writes all views of `picture` into `slots`, `[views, 3, height, width]`.
///
/// # Errors
/// See [`Prepare::run`]; `slots` must have room for all views.
pub fn prepare_views(prepare: &mut Prepare, layout: &Layout, picture: &I420<'_>, slots: &mut [f32]) -> Result<()> {
    let (length, width) = (prepare.input_len(), layout.input().0);
    for (index, &view) in layout.views().iter().enumerate() {
        let (before, slot) = slots.split_at_mut(index * length);
        if view.mirrored {
            mirror(&before[(index - 1) * length..], width, &mut slot[..length]);
        } else {
            prepare.run(picture, layout.window(view), &mut slot[..length])?;
        }
    }
    Ok(())
}

/// Runs a network on frames one after the other, waiting for each.
#[derive(Debug)]
pub struct FrameInference {
    layouts: Layouts,
    prepare: Prepare,
    tensor: Vec<f32>,
    merge: Merge,
    outputs: NetworkOutputs,
}

impl FrameInference {
    /// For `network`, on frames in `views`.
    ///
    /// # Errors
    /// See [`Prepare::new`].
    pub fn new(network: &Network, views: Views) -> Result<Self> {
        let input = *network.input();
        Ok(Self {
            layouts: Layouts::new(views, input),
            prepare: Prepare::new(input)?,
            tensor: Vec::new(),
            merge: Merge::default(),
            outputs: NetworkOutputs::default(),
        })
    }

    /// Hands the maps of `picture` to `use_maps`.
    ///
    /// # Errors
    /// The picture does not fit the views, the network fails, or `use_maps` does.
    pub fn run<R>(
        &mut self,
        network: &mut Network,
        picture: &I420<'_>,
        use_maps: impl FnOnce(&Maps<'_>) -> Result<R>,
    ) -> Result<R> {
        let layout = self.layouts.of((picture.width(), picture.height()))?;
        self.tensor.resize(layout.views().len() * self.prepare.input_len(), 0.0);
        prepare_views(&mut self.prepare, &layout, picture, &mut self.tensor)?;
        self.infer(network, &layout, use_maps)
    }

    /// As [`FrameInference::run`], for a picture in RGB.
    ///
    /// # Errors
    /// As [`FrameInference::run`].
    pub fn run_rgb<R>(
        &mut self,
        network: &mut Network,
        picture: &RgbPicture<'_>,
        use_maps: impl FnOnce(&Maps<'_>) -> Result<R>,
    ) -> Result<R> {
        let layout = self.layouts.of(picture.size())?;
        prepare_rgb(picture, &layout, network.input(), &mut self.tensor);
        self.infer(network, &layout, use_maps)
    }

    fn infer<R>(
        &mut self,
        network: &mut Network,
        layout: &Layout,
        use_maps: impl FnOnce(&Maps<'_>) -> Result<R>,
    ) -> Result<R> {
        self.outputs.clear();
        for outputs in network.infer_all(&self.tensor, layout.views().len())? {
            self.outputs.push(outputs);
        }
        self.outputs.merge(layout, &mut self.merge)?;
        self.outputs.with_maps(use_maps)
    }
}
