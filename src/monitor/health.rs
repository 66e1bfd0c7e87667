//! How a stream does, from what is counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::pipeline::Link;
use crate::session::StreamStatus;

/// Pictures come and none went out for this long: something is stuck.
const STUCK: Duration = Duration::from_secs(5);

/// How a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Pictures come, and go out everywhere.
    Up,
    /// Pictures come; an output does not work, or nothing goes out. Or the stream came to its end.
    Degraded,
    /// No pictures come, or an error ended the stream.
    Down,
}

impl State {
    /// As in JSON.
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
    /// How it does.
    pub state: State,
    /// Why it is not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How `stream` does now.
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
