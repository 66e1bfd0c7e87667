//! The policies for live frames that arrive faster than they are processed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The frames to drop, always after decoding.
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
    /// None: the input waits, so that a live one falls behind.
    Wait,
    /// The oldest waiting frame, once the queue is full.
    DropOldest,
    /// All but the newest.
    #[default]
    Latest,
}

/// The result that is drawn on a frame.
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
    /// The frame's own result; frames without one are not shown.
    #[default]
    Exact,
    /// The newest finished result, with its age; every frame is shown.
    Newest,
}

/// The rules that decide which frames of one stream pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// The frames to drop.
    pub policy: Policy,
    /// The result that is drawn on a frame.
    pub sync: Sync,
    /// Frames that may wait for the network.
    pub queue: usize,
    /// Frames older than this when the network becomes free are dropped.
    pub max_age: Option<Duration>,
}

impl Flow {
    /// Every frame with its own result and up to `queue` waiting, for files.
    pub fn all(queue: usize) -> Self {
        Self { policy: Policy::Wait, sync: Sync::Exact, queue, max_age: None }
    }
}
