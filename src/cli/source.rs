//! What several commands read from: the options of live inputs, opening an input, and telling of its losses.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::input;
use crate::input::live::{SourceOptions, Transport};
use crate::input::{Input, Signal};
use crate::output;
use crate::output::Encoding;
use crate::output::file::{OpenFile, Opened};

/// Options on how live inputs are read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceArgs {
    /// How RTP comes from RTSP cameras [default: auto, UDP and then TCP]
    #[arg(long, value_name = "HOW", help_heading = "Live")]
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

/// Opens an input, and beside it the video file that it is written to, if any.
///
/// # Errors
/// It cannot be read, or the output cannot be made.
pub fn open_input(
    input: &Input,
    output: Option<&Path>,
    encoding: &Encoding,
    source: &SourceOptions,
    stream: u32,
) -> Result<Opened> {
    match input {
        Input::File(path) => output::file::open_file(&OpenFile { path, output, encoding, stream }),
        Input::Images(files) => output::file::open_images(files, output, encoding, stream),
        Input::Test(spec) => output::file::open_test(spec, output, encoding, stream),
        Input::Live(input) => Ok((input::open_live(input, source, stream)?, None)),
    }
}

/// Logs that the live input `name` went or came back.
pub fn tell_signal(name: &str, signal: &Signal) {
    match signal {
        Signal::Lost { reason } => tracing::warn!("{name}: no signal: {reason}"),
        Signal::Back { away, what } if away.is_zero() => tracing::info!("{name}: {what}"),
        Signal::Back { away, what } => tracing::info!("{name}: back after {:.1} s: {what}", away.as_secs_f64()),
    }
}
