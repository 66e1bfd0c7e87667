//! The observer of a stream.

use crate::input::Signal;

/// Follows a stream, for progress bars and events.
pub trait Observer: Sync {
    /// Called for every finished frame.
    fn frame_done(&self, running_time: u64, ood_share: f32);

    /// A live input was lost or came back.
    fn signal(&self, _signal: &Signal) {}
}
