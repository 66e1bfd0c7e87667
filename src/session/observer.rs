//! The observer of a run in progress.

use std::time::Duration;

use super::report::InputReport;
use crate::input::{Signal, VideoInfo};
use crate::pipeline::Meter;

/// Follows the inputs of a [`Session`](super::Session). Methods are called from the run's threads, in the order in
/// which things happen to one input; a slow one holds its input up.
pub trait Observer: Send + Sync {
    /// An input is open. `info` is known for files, and not before the first picture of a live input.
    fn started(&self, _input: &Meter, _info: Option<&VideoInfo>) {}

    /// A frame is finished: its running time and the share of its pixels that are marked, 0..1.
    fn frame_done(&self, _input: &Meter, _running_time: Duration, _ood_share: f32) {}

    /// A live input was lost or came back.
    fn signal(&self, _input: &Meter, _signal: &Signal) {}

    /// An input has ended, one way or another.
    fn ended(&self, _report: &InputReport) {}
}

/// Ignores everything.
impl Observer for () {}
