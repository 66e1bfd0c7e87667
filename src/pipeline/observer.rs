//! The observer of a stream.

use crate::gst::Frame;
use crate::input::Signal;

/// Follows a stream, for progress bars and events.
pub trait Observer: Sync {
    /// Called for every frame as it goes to the outputs, repeats of a lost signal too.
    fn drawn(&self, _frame: &Frame) {}

    /// Whether it looks at the pictures that [`Observer::drawn`] is called with; else they need not be drawn on.
    fn watches(&self) -> bool {
        false
    }

    /// Called for every finished frame.
    fn frame_done(&self, running_time: u64, ood_share: f32);

    /// A live input was lost or came back.
    fn signal(&self, _signal: &Signal) {}
}
