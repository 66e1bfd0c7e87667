//! A running session over HTTP: its page, health, readiness, metrics and reload.
//!
//! | path | answers |
//! |---|---|
//! | `GET /` | the page, see [`page`] |
//! | `GET /healthz` | 200 when no stream is down, else 503; JSON: each stream up, degraded or down, and why |
//! | `GET /readyz` | 200 once the model is loaded and the outputs are open, else 503 |
//! | `GET /metrics` | all counters, for Prometheus (OpenMetrics text) |
//! | `PUT /reload` | reads threshold and drawing from the pipeline file again; 400 with the reason when it cannot |

mod access;
mod health;
mod http;
mod metrics;
mod page;
mod routes;
mod stalled;
mod tls;

pub use access::hash_password;
pub use health::{Health, State, health};
pub use http::Server;
#[cfg(any(test, feature = "internals"))]
pub use http::answer;
