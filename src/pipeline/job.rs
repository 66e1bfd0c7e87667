//! One frame on its way, and the batch in which it meets the network.

use std::sync::Arc;

use crate::compute::Detection;
use crate::gst::Frame;
use crate::model::views::layout::Layout;
use crate::model::views::merge::NetworkOutputs;
use crate::ood::alarm::Scene;

/// One frame on its way, with what its stages found.
#[derive(Default)]
pub(super) struct Job {
    pub frame: Option<Frame>,
    /// How the network looks at the frame, once it is prepared.
    pub layout: Option<Arc<Layout>>,
    /// What the network said; empty until it has run.
    pub sight: NetworkOutputs,
    pub detection: Option<Box<Detection>>,
    /// What the rules made of it.
    pub scene: Scene,
    pub threshold: f32,
    pub ood_share: f32,
    /// The first frame after a loss of signal: nothing is carried over from before.
    pub fresh: bool,
}

impl Job {
    /// Lets go of the frame and of what belongs to it; buffers are kept.
    pub fn clear(&mut self) {
        self.sight.clear();
        self.scene.clear();
        let (sight, scene) = (std::mem::take(&mut self.sight), std::mem::take(&mut self.scene));
        *self = Self { sight, scene, ..Self::default() };
    }

    /// Pictures that the network has to see for this frame.
    pub fn views(&self) -> usize {
        self.layout.as_ref().map_or(0, |layout| layout.views().len())
    }

    /// Whether there is a picture that the network has not seen yet.
    pub fn is_new_picture(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.lost.is_none())
    }
}

/// Jobs of one or several streams that the network takes at once.
///
/// The number of batches in circulation says how far `prepare` may run ahead of `infer`: with one, a picture is chosen when
/// the network is free and never waits for it.
pub(super) struct Batch {
    /// Stream and job, in turn; repeats of a lost signal are among them and take no slot.
    pub jobs: Vec<(usize, Box<Job>)>,
    /// Streams that have come to their end.
    pub ended: Vec<usize>,
    /// Prepared pictures, `[slots, 3, height, width]`, one for each view of each frame; it grows to what it needs.
    pub tensor: Vec<f32>,
    /// Prepared pictures in `tensor`.
    pub slots: usize,
}

impl Batch {
    pub fn new(elements: usize) -> Self {
        Self { jobs: Vec::new(), ended: Vec::new(), tensor: vec![0.0; elements], slots: 0 }
    }
}
