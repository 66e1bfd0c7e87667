//! The messages between stages: a frame with the results known so far.
//!
//! ```text
//! source -Captured-> prepare -Prepared-> infer -Inferred-> detect -Detected-> track -Recorded-> draw -Drawn-> sink
//!    ^----------------------------------------- Permit -------------------------------------------------------'
//! ```
//! A frame that no result is computed for takes the same road as [`Passage::Bare`], so that the order is kept.

use std::sync::Arc;

use crossbeam::channel::Sender;

use super::analyse::Slot;
use crate::compute::Detection;
use crate::gst::Frame;
use crate::model::views::layout::Layout;
use crate::model::views::merge::NetworkOutputs;
use crate::ood::alarm::Scene;

/// The permission for one more frame of a stream in flight, with reusable memory. The permits of a stream circulate;
/// their number bounds what it holds.
#[derive(Default)]
pub(super) struct Permit {
    memory: NetworkOutputs,
    scene: Scene,
}

/// A frame as it came from the reader.
pub(super) struct Captured {
    pub frame: Frame,
    /// The first frame after a loss of signal: nothing is carried over from before.
    pub fresh: bool,
    /// Whether the network analyses it.
    pub analyse: bool,
    pub permit: Permit,
}

/// A frame whose pictures for the network lie in the batch.
pub(super) struct Prepared {
    pub frame: Frame,
    pub fresh: bool,
    pub layout: Arc<Layout>,
    permit: Permit,
}

impl Captured {
    pub fn prepared(self, layout: Arc<Layout>) -> Prepared {
        let Self { frame, fresh, permit, .. } = self;
        Prepared { frame, fresh, layout, permit }
    }
}

/// A frame and the network's outputs for each of its views.
pub(super) struct Inferred {
    pub frame: Frame,
    pub fresh: bool,
    pub layout: Arc<Layout>,
    pub outputs: NetworkOutputs,
    scene: Scene,
}

impl Prepared {
    /// `views` fills in the outputs, one for each view of the layout.
    pub fn inferred(self, views: impl FnOnce(&mut NetworkOutputs)) -> Inferred {
        let Self { frame, fresh, layout, permit: Permit { memory: mut outputs, scene } } = self;
        views(&mut outputs);
        Inferred { frame, fresh, layout, outputs, scene }
    }
}

impl Inferred {
    /// Releases the frame and the outputs.
    pub fn into_permit(self) -> Permit {
        cleared(self.outputs, self.scene)
    }

    pub fn detected(self, detection: Box<Detection>) -> Detected {
        let Self { frame, fresh, outputs, scene, .. } = self;
        Detected { frame, fresh, outputs, detection, scene }
    }
}

/// A frame, the network's outputs, and the score made from them.
pub(super) struct Detected {
    pub frame: Frame,
    pub fresh: bool,
    pub outputs: NetworkOutputs,
    pub detection: Box<Detection>,
    /// Memory for regions, tracks and alarms.
    pub scene: Scene,
}

/// A frame and its score, which is recorded.
pub(super) struct Recorded {
    pub frame: Frame,
    pub detection: Box<Detection>,
    pub permit: Permit,
}

impl Recorded {
    /// Its regions, tracks and alarms.
    pub fn scene(&self) -> &Scene {
        &self.permit.scene
    }
}

impl Detected {
    /// The network's tensors go back to its memory.
    pub fn recorded(self) -> Recorded {
        let Self { frame, outputs, detection, scene, .. } = self;
        Recorded { frame, detection, permit: cleared(outputs, scene) }
    }
}

/// A frame as it is shown.
pub(super) struct Drawn {
    pub frame: Frame,
    /// Share of marked pixels, 0..1.
    pub ood_share: f32,
    pub permit: Permit,
}

fn cleared(mut memory: NetworkOutputs, scene: Scene) -> Permit {
    memory.clear();
    Permit { memory, scene }
}

/// A frame that is analysed, or one that is not: a repeat of the last picture of a lost signal, or a frame that is
/// shown with another frame's result.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per frame")]
pub(super) enum Passage<T> {
    Analysed(T),
    Bare(Captured),
}

/// A batch that has been filled, on its way to the network, or an empty one on its way back.
///
/// The number of batches in circulation limits how far `prepare` may run ahead of `infer`: with one, a picture is
/// chosen when the network is free and never waits for it.
pub(super) struct Batch {
    /// Streams that begin, before any of their frames.
    pub begun: Vec<(usize, Slot)>,
    /// Stream and frame, in turn; bare ones have no picture in the tensor.
    pub frames: Vec<(usize, Passage<Prepared>)>,
    /// Streams that have come to their end.
    pub ended: Vec<usize>,
    /// Prepared pictures, `[pictures, 3, height, width]`, one for each view of each frame; it grows to what it needs.
    pub tensor: Vec<f32>,
    /// Prepared pictures in `tensor`.
    pub pictures: usize,
}

impl Batch {
    pub fn new(elements: usize) -> Self {
        Self { begun: Vec::new(), frames: Vec::new(), ended: Vec::new(), tensor: vec![0.0; elements], pictures: 0 }
    }
}

/// The input of `detect`.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per frame")]
pub(super) enum Analysis {
    /// A stream begins.
    Begin(usize, Slot),
    /// A frame of a stream.
    Frame(usize, Passage<Inferred>),
    /// The stream has come to its end.
    End(usize),
}

/// A permit back to the source; where it is gone already, the permit is dropped.
pub(super) fn return_permit(permits: &Sender<Permit>, permit: Permit) {
    // There is room for all of them.
    let _ = permits.try_send(permit);
}

/// A detection back to the detect stage; where it is gone already, the detection is dropped.
pub(super) fn return_detection(detections: &Sender<Box<Detection>>, detection: Box<Detection>) {
    let _ = detections.try_send(detection);
}
