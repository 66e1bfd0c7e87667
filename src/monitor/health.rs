//! The state of a stream, from its counters.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::notify;
use crate::pipeline::Link;
use crate::session::StreamStatus;

/// Time without output, while pictures arrive, after which a stream counts as stuck.
const STUCK: Duration = Duration::from_secs(5);

/// The state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Pictures arrive and every output works.
    Up,
    /// Pictures arrive, but an output fails or nothing is sent; or the stream has ended.
    Degraded,
    /// No pictures arrive, or an error ended the stream.
    Down,
}

impl State {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// One stream in `/healthz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Its name.
    pub stream: String,
    /// Its state.
    pub state: State,
    /// Why it is not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The current state of `stream`.
pub fn health(stream: &StreamStatus) -> Health {
    let reading = stream.meter.read();
    let broken = stream.outputs.iter().find(|output| !output.up.load(Ordering::Relaxed));
    let (state, reason) = match reading.link {
        Link::Waiting => (State::Down, Some("there has not been a picture yet".to_owned())),
        Link::Lost { reason } | Link::Ended { error: Some(reason) } => (State::Down, Some(reason)),
        Link::Ended { error: None } => (State::Degraded, Some("it came to its end".to_owned())),
        Link::Up => match (reading.idle, broken) {
            (Some(idle), _) if idle > STUCK => {
                (State::Degraded, Some(format!("no frame went out for {} s", idle.as_secs())))
            }
            // Outputs start with the first frame.
            (Some(_), Some(output)) => (State::Degraded, Some(format!("the output {} does not work", output.name))),
            _ => (State::Up, None),
        },
    };
    Health { stream: stream.meter.name().to_owned(), state, reason }
}

/// One output of messages in `/healthz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputHealth {
    /// Its address without secrets.
    pub output: String,
    /// Up, or degraded while it does not work.
    pub state: State,
    /// Why it is not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The current state of an output of messages.
pub fn output_health(status: &notify::Status) -> OutputHealth {
    let reason = status.read().outage;
    let state = if reason.is_none() { State::Up } else { State::Degraded };
    OutputHealth { output: status.name().to_owned(), state, reason }
}
