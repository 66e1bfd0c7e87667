//! What gives way when live frames come faster than they are worked on.

use serde::{Deserialize, Serialize};

/// Which frames are left out. Always after decoding, never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// None: the input waits, and a live one falls behind.
    Wait,
    /// The frame that has waited longest, once the queue is full.
    DropOldest,
    /// All but the newest.
    #[default]
    Latest,
}

/// Which result is drawn on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// The frame's own. What has none is not shown.
    #[default]
    Exact,
    /// The newest one that is finished, with its age. Every frame is shown.
    Newest,
}
