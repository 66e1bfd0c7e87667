//! Control of a running session from other threads.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::board::{Board, Watched};
use crate::config::Config;
use crate::draw::{Palette, View};
use crate::notify;
use crate::ood::alarm::Ignored;
use crate::output::publish::OutputStatus;
use crate::pipeline::run::Stages;
use crate::pipeline::{Meter, Settings, Tunable};
use crate::{Error, Result};

/// One stream of a running session, for health and metrics.
#[derive(Debug, Clone)]
pub struct StreamStatus {
    /// Its counters.
    pub meter: Arc<Meter>,
    /// The state of its live outputs.
    pub outputs: Vec<Arc<OutputStatus>>,
    /// What the page shows of it, if there is one.
    pub(crate) watched: Option<Arc<Watched>>,
}

/// A change of the settings in force; what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Change {
    /// Pixels with `score >= threshold` are marked.
    pub threshold: Option<f32>,
    /// The content of the picture.
    pub view: Option<View>,
    /// The opacity of the heat map, 0 to 1.
    pub opacity: Option<f32>,
    /// The colour map of the heat map.
    pub palette: Option<Palette>,
    /// Whether the legend is drawn.
    pub legend: Option<bool>,
    /// The corners of the ignored polygons, in shares of the picture; masks stay.
    pub ignore: Option<Vec<Vec<(f32, f32)>>>,
}

/// Reads the configuration again.
pub(super) type Reread = Box<dyn Fn() -> Result<Config> + Send + Sync>;

/// The observable state once everything is open.
pub(super) struct Running {
    pub stages: Arc<Stages>,
    pub settings: Arc<Settings>,
    /// The threshold of the model or its calibration.
    pub first: Tunable,
    pub started_with: Config,
    /// The names of the network's classes.
    pub(super) classes: Vec<String>,
}

#[derive(Default)]
struct HandleState {
    interrupts: Arc<AtomicU32>,
    running: OnceLock<Running>,
    /// The streams that run now.
    streams: RwLock<Vec<StreamStatus>>,
    /// The outputs that all streams send messages to.
    messages: OnceLock<Vec<Arc<notify::Status>>>,
    reread: OnceLock<Reread>,
    board: OnceLock<Arc<Board>>,
}

/// Stops, reloads and observes a [`Session`](super::Session) from any thread. Clones share one session.
#[derive(Clone, Default)]
pub struct Handle(Arc<HandleState>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("interrupts", &self.0.interrupts).finish_non_exhaustive()
    }
}

impl Handle {
    /// Ends the reading; frames in flight are finished, and so are the outputs.
    pub fn stop(&self) {
        self.0.interrupts.fetch_max(1, Ordering::Relaxed);
    }

    /// Ends the run at once: frames in flight are lost, unfinished files keep their temporary names.
    pub fn abort(&self) {
        self.0.interrupts.fetch_max(2, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    pub fn stopping(&self) -> bool {
        self.0.interrupts.load(Ordering::Relaxed) > 0
    }

    /// Whether the run is to end at once.
    pub fn aborted(&self) -> bool {
        self.0.interrupts.load(Ordering::Relaxed) > 1
    }

    /// Whether every output is open and frames flow.
    pub fn is_ready(&self) -> bool {
        self.0.running.get().is_some()
    }

    /// The streams: all of a live run, or the files being processed. Empty until they are open.
    pub fn streams(&self) -> Vec<StreamStatus> {
        self.0.streams.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stream of a name, if it is open.
    pub(crate) fn stream(&self, name: &str) -> Option<StreamStatus> {
        let streams = self.0.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.iter().find(|stream| stream.meter.name() == name).cloned()
    }

    /// The outputs that all streams of a live run send messages to.
    pub(crate) fn messages(&self) -> &[Arc<notify::Status>] {
        self.0.messages.get().map_or(&[], Vec::as_slice)
    }

    /// Load of the stages over all streams, in the order in which a frame meets them; empty until they run.
    pub fn stages(&self) -> Vec<(&'static str, crate::pipeline::StageReport)> {
        self.0.running.get().map_or_else(Vec::new, |running| running.stages.report())
    }

    /// Reads the configuration again, from where
    /// [`SessionBuilder::reload_from`](super::SessionBuilder::reload_from) says, and applies it as [`Handle::apply`]
    /// does.
    ///
    /// # Errors
    /// There is nowhere to read it from, it is wrong, or see [`Handle::apply`].
    pub fn reload(&self) -> Result<String> {
        let reread = self.0.reread.get().ok_or_else(|| Error::usage("this session has no configuration to reload"))?;
        self.apply(reread()?)
    }

    /// Applies the threshold, the drawing and the rules for alarms of `config` from the next frame on. Every other
    /// change needs a restart, which is logged. Returns a sentence that names the values in force.
    ///
    /// # Errors
    /// The session is not ready, or the size of the picture would change; nothing changes then.
    pub fn apply(&self, config: Config) -> Result<String> {
        let running = self.0.running.get().ok_or_else(|| Error::failed("the session is not ready yet"))?;
        let Running { settings, first, started_with, classes, .. } = running;
        // Without a threshold of its own the one of the model or the calibration stays.
        let own = started_with.detect.threshold.is_some() && config.detect.threshold.is_none();
        let threshold = config.detect.threshold.or(first.threshold.filter(|_| !own)).or(settings.get().threshold);
        config.events.check_classes(classes)?;
        let (masks, polygons) = parts(&config.events.ignore);
        let same_masks = masks == parts(&started_with.events.ignore).0;
        let ignore = settings.get().ignore;
        let ignore = if same_masks { Arc::new(ignore.with_polygons(polygons)) } else { ignore };
        let events = Arc::new(config.events.clone());
        // A threshold of the user is that of the alarms, too.
        let alarm_threshold = settings.get().alarm_threshold.filter(|_| config.detect.threshold.is_none());
        settings.replace(Tunable { threshold, alarm_threshold, style: config.draw, events, ignore })?;
        let mut rest = config;
        rest.detect.threshold = started_with.detect.threshold;
        rest.draw = started_with.draw;
        // Masks are read at the start.
        if same_masks {
            rest.events = started_with.events.clone();
        }
        if rest != *started_with {
            tracing::warn!(
                "reload: only detect.threshold, [draw] and [events] without the masks of ignore are applied, the other changes need a \
                 restart"
            );
        }
        let threshold = threshold.map_or_else(|| "that of the first frame".to_owned(), |score| format!("{score:.4}"));
        let style = settings.get().style;
        let now = format!("threshold {threshold}, view {:?}, opacity {:.2}", style.view, style.opacity);
        tracing::info!("reloaded: {now}");
        Ok(now)
    }

    /// The settings in force; none before the session is ready.
    pub(crate) fn settings(&self) -> Option<Tunable> {
        self.0.running.get().map(|running| running.settings.get())
    }

    /// The threshold with which the session began; none where it is taken from the first frame.
    pub(crate) fn first_threshold(&self) -> Option<f32> {
        self.0.running.get().and_then(|running| running.first.threshold)
    }

    /// Puts `change` into force from the next frame on.
    ///
    /// # Errors
    /// The session is not ready, a value is out of range, or the size of the picture would change; nothing changes then.
    pub(crate) fn change(&self, change: Change) -> Result<Tunable> {
        let running = self.0.running.get().ok_or_else(|| Error::failed("the session is not ready yet"))?;
        let mut now = running.settings.get();
        if let Some(threshold) = change.threshold.filter(|threshold| !threshold.is_finite()) {
            return Err(Error::usage(format!("the threshold is {threshold}, it must be a finite number")));
        }
        now.threshold = change.threshold.or(now.threshold);
        now.style.view = change.view.unwrap_or(now.style.view);
        now.style.opacity = change.opacity.unwrap_or(now.style.opacity);
        now.style.palette = change.palette.unwrap_or(now.style.palette);
        now.style.legend = change.legend.unwrap_or(now.style.legend);
        if let Some(polygons) = change.ignore {
            now.ignore = Arc::new(now.ignore.with_polygons(polygons));
        }
        running.settings.replace(now.clone())?;
        Ok(now)
    }

    /// Keeps what `board` shows of the session; before it runs.
    pub(crate) fn show_on(&self, board: Board) -> Arc<Board> {
        Arc::clone(self.0.board.get_or_init(|| Arc::new(board)))
    }

    pub(super) fn board(&self) -> Option<&Arc<Board>> {
        self.0.board.get()
    }

    pub(super) fn interrupts(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.0.interrupts)
    }

    pub(super) fn set_running(&self, running: Running) {
        // A session runs once.
        let _ = self.0.running.set(running);
    }

    pub(super) fn set_messages(&self, messages: Vec<Arc<notify::Status>>) {
        let _ = self.0.messages.set(messages);
    }

    pub(super) fn set_streams(&self, streams: Vec<StreamStatus>) {
        *self.0.streams.write().unwrap_or_else(PoisonError::into_inner) = streams;
    }

    /// The file that now runs on a lane, in the place of the one before it.
    pub(super) fn begin_file(&self, file: StreamStatus, lane: usize) {
        let mut streams = self.0.streams.write().unwrap_or_else(PoisonError::into_inner);
        match streams.get_mut(lane) {
            Some(before) => *before = file,
            None => streams.push(file),
        }
    }

    pub(super) fn set_reread(&self, reread: Reread) {
        let _ = self.0.reread.set(reread);
    }
}

/// Corners in shares of the picture.
type Polygon = Vec<(f32, f32)>;

/// The paths of the masks among `parts`, and the polygons.
fn parts(parts: &[Ignored]) -> (Vec<&Path>, Vec<Polygon>) {
    let (mut masks, mut polygons) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Ignored::Mask(path) => masks.push(path.as_path()),
            Ignored::Polygon(corners) => polygons.push(corners.clone()),
        }
    }
    (masks, polygons)
}
