//! Watching a live run from outside: health, readiness, metrics and reload over HTTP.
//!
//! | path | answers |
//! |---|---|
//! | `GET /healthz` | 200 when no stream is down, else 503; JSON: each stream up, degraded or down, and why |
//! | `GET /readyz` | 200 once the model is loaded and the outputs are open, else 503 |
//! | `GET /metrics` | everything that is counted, for Prometheus (OpenMetrics text) |
//! | `PUT /reload` | reads threshold and drawing from the pipeline file again; 400 with the reason when it cannot |

mod health;
mod http;
mod metrics;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use health::{Health, State, health};
pub use http::Server;

use crate::Result;
use crate::output::publish::OutputStatus;
use crate::pipeline::Meter;
use crate::pipeline::run::Stages;

/// One stream of the run.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What it counts.
    pub meter: Arc<Meter>,
    /// How its outputs do.
    pub outputs: Vec<Arc<OutputStatus>>,
}

/// Reads settings again; gives a sentence on what is in force now.
pub type Reload = Box<dyn Fn() -> Result<String> + Send + Sync>;

/// What there is to be watched once the run has begun.
pub struct Watch {
    /// All streams.
    pub streams: Vec<Watched>,
    /// Figures of the stages.
    pub stages: Arc<Stages>,
    /// What `/reload` does.
    pub reload: Reload,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// The place where the run puts it; empty until everything is open.
pub type Slot = Arc<OnceLock<Watch>>;
