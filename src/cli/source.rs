//! Options of live inputs, and the log of their losses, for several commands.

use std::path::PathBuf;

use super::values::choice;
use crate::input::Signal;
use crate::input::live::{SourceOptions, Transport};

/// Options on how live inputs are read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceArgs {
    /// How RTP comes from RTSP cameras [default: auto, UDP and then TCP]
    #[arg(long, value_name = "HOW", value_parser = choice::<Transport>(), help_heading = "Live")]
    transport: Option<Transport>,
    /// File with user:password of the cameras, for addresses without any
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    credentials: Option<PathBuf>,
}

impl SourceArgs {
    /// Puts what was given into `options`.
    pub fn apply(&self, options: &mut SourceOptions) {
        options.transport = self.transport.unwrap_or(options.transport);
        if self.credentials.is_some() {
            options.credentials.clone_from(&self.credentials);
        }
    }
}

/// Logs the loss or the return of the live input `name`.
pub fn log_signal(name: &str, signal: &Signal) {
    match signal {
        Signal::Lost { reason } => tracing::warn!("{name}: no signal: {reason}"),
        Signal::Back { away, what } if away.is_zero() => tracing::info!("{name}: {what}"),
        Signal::Back { away, what } => tracing::info!("{name}: back after {:.1} s: {what}", away.as_secs_f64()),
    }
}
