//! The builder of a session, and its two ways to run: files one after the other, live streams together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files;
use super::handle::Handle;
use super::live;
use super::observer::Observer;
use super::outputs::Outputs;
use super::report::{InputReport, Report};
use super::streams::{self, Inputs};
use crate::address::Address;
use crate::config::Config;
use crate::draw::View;
use crate::input::own::{FrameSource, OwnReader};
use crate::notify::{Delivery, Notifier};
use crate::ood::alarm::has_road;
use crate::output::Encoding;
use crate::pipeline::Engine;
use crate::{Error, Result, gst};

/// Settings of a [`Session`] that are not part of the pipeline file.
#[must_use]
pub struct SessionBuilder {
    pub(super) config: Config,
    pub(super) inputs: Vec<Address>,
    pub(super) own: Option<OwnReader>,
    pub(super) outputs: Vec<Address>,
    pub(super) realtime: bool,
    pub(super) stop_after: Option<Duration>,
    pub(super) observer: Arc<dyn Observer>,
    handle: Handle,
}

impl SessionBuilder {
    /// Adds an input: a path, a folder, a glob, or the address of a live input, as the command line takes it.
    pub fn input(mut self, address: impl Into<Address>) -> Self {
        self.inputs.push(address.into());
        self
    }

    /// Takes frames from the caller instead of from an address; `name` stands for them in reports and events.
    pub fn frames(mut self, name: impl Into<String>, source: impl FrameSource + 'static) -> Self {
        self.own = Some(OwnReader::new(name.into(), Box::new(source)));
        self
    }

    /// Adds an output by its form, as `-o` of the command line takes it: `x.mp4`, `FOLDER/`, `none`, `events:x.jsonl`,
    /// `masks:DIR`, `scores:DIR`, and for live inputs `rtsp://HOST:PORT/NAME`, `hls:DIR` and others.
    pub fn output(mut self, address: impl Into<Address>) -> Self {
        self.outputs.push(address.into());
        self
    }

    /// Plays files at the speed at which they were recorded, as live inputs.
    pub fn realtime(mut self, realtime: bool) -> Self {
        self.realtime = realtime;
        self
    }

    /// Stops live streams after this long.
    pub fn stop_after(mut self, time: Option<Duration>) -> Self {
        self.stop_after = time;
        self
    }

    /// Sets the observer of the run.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Sets the source from which [`Handle::reload`] reads the configuration again.
    pub fn reload_from(self, read: impl Fn() -> Result<Config> + Send + Sync + 'static) -> Self {
        self.handle.set_reread(Box::new(read));
        self
    }

    /// Checks inputs and outputs against each other. No file is opened for writing yet and no model is loaded.
    ///
    /// # Errors
    /// GStreamer cannot start, there is no input, an address is malformed, files are mixed with live inputs, or an
    /// output does not fit the inputs.
    pub fn build(mut self) -> Result<Session> {
        let outputs = Outputs::parse(&self.outputs)?;
        gst::init()?;
        self.config.check()?;
        let inputs = match self.own.take() {
            Some(own) if self.inputs.is_empty() => Inputs::Own(own),
            Some(_) => return Err(Error::usage("frames of the caller and addresses cannot be inputs of one session")),
            None => streams::resolve(&self.inputs, self.realtime, &self.config, &outputs)?,
        };
        let names = match &inputs {
            Inputs::Files(inputs) => Some(inputs.iter().map(crate::input::Input::file_name).collect::<Vec<_>>()),
            Inputs::Own(own) => Some(vec![own.file_name()]),
            Inputs::Live(_) => None,
        };
        let files = match names {
            Some(names) => {
                let video = outputs.of_files()?;
                let files = video.files(&names)?;
                video.make_folder()?;
                files
            }
            None => Vec::new(),
        };
        let Self { config, stop_after, observer, handle, .. } = self;
        Ok(Session { config, inputs, files, outputs, stop_after, observer, handle })
    }
}

/// A run of one or more inputs through all stages.
///
/// Files are processed one after the other without dropping frames; live inputs run together until they are stopped,
/// and drop frames by policy when they arrive too fast.
///
/// ```no_run
/// use oodstream::{Config, Session};
///
/// # fn main() -> oodstream::Result<()> {
/// let session = Session::builder(Config::default()).input("drive.mp4").output("marked.mp4").build()?;
/// let handle = session.handle(); // stops, reloads and observes it from another thread
/// let report = session.run()?;
/// println!("{} frames, {:.2} % unknown", report.inputs[0].frames_out, 100.0 * report.inputs[0].ood_share_mean);
/// # let _ = handle;
/// # Ok(())
/// # }
/// ```
pub struct Session {
    pub(super) config: Config,
    pub(super) inputs: Inputs,
    /// Of each input that is not live: the name that its outputs begin with, and its video file.
    pub(super) files: Vec<(String, Option<std::path::PathBuf>)>,
    pub(super) outputs: Outputs,
    pub(super) stop_after: Option<Duration>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) handle: Handle,
}

impl Session {
    /// A session with the settings of `config`, such as [`Config::load`] reads from a pipeline file.
    pub fn builder(config: Config) -> SessionBuilder {
        SessionBuilder {
            config,
            inputs: Vec::new(),
            own: None,
            outputs: Vec::new(),
            realtime: false,
            stop_after: None,
            observer: Arc::new(()),
            handle: Handle::default(),
        }
    }

    /// A handle to control and observe the run from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Number of its inputs.
    pub fn input_count(&self) -> usize {
        match &self.inputs {
            Inputs::Files(inputs) => inputs.len(),
            Inputs::Live(planned) => planned.len(),
            Inputs::Own(_) => 1,
        }
    }

    /// Whether it runs live streams rather than files.
    pub fn is_live(&self) -> bool {
        matches!(self.inputs, Inputs::Live(_))
    }

    /// Runs to the end of every input, or until it is stopped.
    ///
    /// An error in one of several inputs is in the report, and the others still run.
    ///
    /// # Errors
    /// Something that concerns all of them: the model, the compute device, an output that several inputs share.
    pub fn run(self) -> Result<Report> {
        if self.is_live() { live::run(self) } else { files::run(self) }
    }
}

/// Longest wait for messages once the run was stopped, or a live run is over: service managers do not wait for long.
const SOON: Duration = Duration::from_secs(2);

/// Delivers the messages that are left, for at most `patience`; a stop of the run shortens that.
pub(crate) fn deliver(notifier: &Notifier, handle: &Handle, patience: Option<Duration>) -> Vec<Delivery> {
    let stopped = handle.stopping();
    let patience = patience.filter(|_| !stopped).unwrap_or(SOON);
    notifier.finish(patience, &|| handle.aborted() || (handle.stopping() && !stopped))
}

pub(super) fn encoding(config: &Config) -> Encoding {
    Encoding {
        encoder: config.encode.encoder.clone(),
        hardware: config.encode.hw,
        bitrate_kbps: config.encode.bitrate,
        crf: config.encode.crf,
        preset: config.encode.preset.clone(),
        overwrite: config.encode.overwrite,
        width_factor: if config.draw.view == View::SideBySide { 2 } else { 1 },
    }
}

pub(crate) fn conclude(
    engine: &Engine,
    config: &Config,
    inputs: Vec<InputReport>,
    messages: Vec<Delivery>,
    start: Instant,
) -> Report {
    Report {
        inputs,
        messages,
        wall_s: start.elapsed().as_secs_f64(),
        stages: engine.stages.report().into_iter().collect(),
        compute: engine.backend.name(),
        provider: engine.network.provider().name(),
        precision: engine.network.precision().name(),
        model: engine.network.path().display().to_string(),
        assumptions: engine.network.assumptions().to_vec(),
        classes_guessed: engine.network.classes_guessed(),
        method: config.detect.method.clone(),
        grid: engine.recipe.grid.name(),
        batch: engine.batch,
        road_gate: match (engine.settings.get().events.road_gate, has_road(&engine.network.manifest().classes.names)) {
            (false, _) => "off",
            (true, true) => "on",
            (true, false) => "no-road-class",
        },
        ignored_share: engine.settings.get().ignore.share(),
        threshold: engine.settings.get().threshold,
    }
}
