//! The policies for live frames that come faster than they are worked on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which frames are left out. Always after decoding, never before.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = crate::Error, parse_err_fn = crate::error::unknown_name)]
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
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = crate::Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// The frame's own. What has none is not shown.
    #[default]
    Exact,
    /// The newest one that is finished, with its age. Every frame is shown.
    Newest,
}

/// The rules by which the frames of one stream are let through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// Which frames are left out.
    pub policy: Policy,
    /// Which result is drawn on a frame.
    pub sync: Sync,
    /// Frames that may wait for the network.
    pub queue: usize,
    /// Frames older than this when the network could take them are left out.
    pub max_age: Option<Duration>,
}

impl Flow {
    /// Every frame with its own result, `queue` of them waiting: for files.
    pub fn all(queue: usize) -> Self {
        Self { policy: Policy::Wait, sync: Sync::Exact, queue, max_age: None }
    }
}
