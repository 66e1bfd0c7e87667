//! Streams from their readers to their writers through all stages.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{bounded, unbounded};

use super::analyse::{Detect, infer};
use super::control::Control;
use super::gather::{Gatherer, prepare};
use super::message::Batch;
use super::meter::Meter;
use super::observer::Observer;
use super::policy::Flow;
use super::sampling::Sampling;
use super::settings::Settings;
use super::stage::spawn;
use super::stats::{StageReport, StageStats};
use super::stream::{Lane, RunContext, permits};
use crate::compute::{Backend, Recipe};
use crate::input::{EndOfInput, FrameReader};
use crate::lock::{lock, unlocked};
use crate::model::prepare::Prepare;
use crate::model::runtime::Network;
use crate::model::views::layout::{Layouts, Views};
use crate::ood::alarm::Filler;
use crate::output::{FrameWriter, Written};
use crate::record::Recorder;
use crate::{Error, Result};

/// The parts that all streams of a run share: the network, the dense maths, the settings of the drawing.
pub struct Engine {
    /// The network.
    pub network: Network,
    /// The views of a frame that the network gets.
    pub views: Views,
    /// Where the dense maths runs.
    pub backend: Box<dyn Backend>,
    /// The score.
    pub recipe: Recipe,
    /// What may change during a run: the threshold, the drawing, the rules for alarms, ignored parts.
    pub settings: Arc<Settings>,
    /// Which frames are analysed.
    pub sampling: Sampling,
    /// Prepared pictures that may wait for the network; 0 chooses each picture when the network is free for it.
    pub ahead: usize,
    /// Pictures of different streams that the network takes at once, at most.
    pub batch: usize,
    /// The time that a batch waits to be filled.
    pub batch_wait: Duration,
    /// Statistics of the stages over all inputs.
    pub stages: Arc<Stages>,
}

/// The stages in the order in which a frame meets them.
#[derive(Debug)]
pub struct Stages {
    pub(super) source: StageStats,
    pub(super) prepare: StageStats,
    pub(super) infer: StageStats,
    pub(super) detect: StageStats,
    pub(super) track: StageStats,
    pub(super) draw: StageStats,
    pub(super) sink: StageStats,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            source: StageStats::new("source"),
            prepare: StageStats::new("prepare"),
            infer: StageStats::new("infer"),
            detect: StageStats::new("detect"),
            track: StageStats::new("track"),
            draw: StageStats::new("draw"),
            sink: StageStats::new("sink"),
        }
    }
}

impl Stages {
    /// Name and figures of each stage, in order.
    pub fn report(&self) -> Vec<(&'static str, StageReport)> {
        [&self.source, &self.prepare, &self.infer, &self.detect, &self.track, &self.draw, &self.sink]
            .map(|stats| (stats.name(), stats.report()))
            .into()
    }
}

/// One stream of a run: where its frames come from and where they go.
pub struct Stream<'a> {
    /// Its frames.
    pub reader: Box<dyn FrameReader>,
    /// The destination of its frames; `None` discards them.
    pub writer: Option<Box<dyn FrameWriter>>,
    /// The recorders of its results.
    pub recorders: Vec<Box<dyn Recorder>>,
    /// Follows its progress.
    pub observer: &'a dyn Observer,
    /// Ends it.
    pub control: Arc<Control>,
    /// Counts what it does.
    pub meter: Arc<Meter>,
    /// Which of its frames are let through.
    pub flow: Flow,
}

/// The end of one stream.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The reader's report, when it came to the end.
    pub end: Option<EndOfInput>,
    /// The finished output, when there is one.
    pub written: Option<Written>,
    /// Whether the run was stopped before the end of the input.
    pub interrupted: bool,
    /// The first error, when there was one.
    pub error: Option<Error>,
    /// Whether it is an error of a stage that all streams share.
    pub shared: bool,
}

/// Detections of one stream that may be between detect and draw; one more for each further frame that the back end
/// takes at once. They are the largest buffers after the pictures, 10 MB each at 1080p.
const DETECTIONS: usize = 3;

/// Runs `streams` through all stages at the same time and waits for the end of the last one.
///
/// Every way out of a stream ends here: the end of its input, its `control.stop()`, an error or a panic in one of its
/// stages. The frames in flight are drained and the output is finished; an output without any frame is removed. The
/// other streams go on. An error in a stage that all share, or an interrupt noted by `hub`, ends all of them.
pub fn run(engine: &mut Engine, hub: &Control, streams: Vec<Stream<'_>>) -> Vec<Outcome> {
    let queue = streams.iter().map(|stream| stream.flow.queue).max().unwrap_or(1);
    let outcomes: Vec<_> = streams.iter().map(|_| Mutex::new(Outcome::default())).collect();
    let streams: Vec<_> = streams.into_iter().map(|stream| Mutex::new(Some(stream))).collect();
    let ran = run_lanes(engine, hub, streams.len(), queue, |lane| {
        let number = lane.number();
        if let Some(stream) = lock(&streams[number]).take() {
            *lock(&outcomes[number]) = lane.run(stream);
        }
    });
    let ended = outcomes.into_iter().map(unlocked);
    match ran {
        Ok(()) => ended.collect(),
        Err(error) => {
            ended.map(|outcome| Outcome { error: outcome.error.or(Some(error.clone())), ..outcome }).collect()
        }
    }
}

/// Runs `body` on `lanes` threads at the same time, each with a [`Lane`] on which it runs streams one after the other, and
/// waits for the last one. Streams may have up to `queue` frames waiting for the network.
///
/// # Errors
/// The first error of a stage that all lanes share. Streams that ran then have ended with it, too.
pub fn run_lanes(
    engine: &mut Engine,
    hub: &Control,
    lanes: usize,
    queue: usize,
    body: impl Fn(&mut Lane<'_>) + Sync,
) -> Result<()> {
    if let Err(error) = start(engine, hub, lanes, queue, &body) {
        hub.fail(error);
    }
    hub.take_error().map_or(Ok(()), Err)
}

fn start(
    engine: &mut Engine,
    hub: &Control,
    lanes: usize,
    queue: usize,
    body: &(impl Fn(&mut Lane<'_>) + Sync),
) -> Result<()> {
    let Engine { network, views, backend, recipe, settings, sampling, ahead, batch, batch_wait, stages } = engine;
    let (settings, stages, recipe) = (&**settings, &**stages, &*recipe);
    let preparing = Prepare::new(*network.input())?;
    let (classes, classes_guessed) = (network.manifest().classes.names.clone(), network.classes_guessed());
    let layouts = Layouts::new(views.clone(), *network.input());
    let most = network.max_batch().unwrap_or(usize::MAX).min(*batch).clamp(1, lanes.max(1));
    let (arrivals, arriving) = unbounded();
    let shared = RunContext {
        hub,
        settings,
        stages,
        classes: &classes,
        classes_guessed,
        sampling: *sampling,
        detections: DETECTIONS + backend.depth() - 1 + usize::from(!sampling.all()),
        several: lanes > 1,
    };
    thread::scope(|scope| {
        for number in 0..lanes {
            let mut lane = Lane { number, shared: &shared, arrivals: arrivals.clone() };
            spawn(scope, hub, "lane", move || {
                body(&mut lane);
                Ok(())
            })?;
        }
        drop(arrivals);
        let (batch_in, batch_out) = bounded(*ahead + 1);
        for _ in 0..=*ahead {
            let _ = batch_in.try_send(Batch::new(most * preparing.input_len()));
        }
        let (to_infer, infer_in) = bounded(*ahead + 1);
        let (to_detect, detect_in) = bounded(lanes * (permits(queue) + 2));
        let gatherer = Gatherer::new(lanes, arriving, most, *batch_wait);
        spawn(scope, hub, stages.prepare.name(), move || {
            prepare(hub, &stages.prepare, gatherer, preparing, layouts, &batch_out, &to_infer)
        })?;
        spawn(scope, hub, stages.infer.name(), move || {
            infer(hub, &stages.infer, network, &infer_in, &batch_in, &to_detect)
        })?;
        let (version, filler) = (settings.version(), Filler::new(settings.get().ignore));
        let slots = (0..lanes).map(|_| None).collect();
        spawn(scope, hub, stages.detect.name(), move || {
            let backend = backend.as_mut();
            Detect { control: hub, stats: &stages.detect, backend, recipe, settings, filler, version, slots }
                .run(&detect_in)
        })
    })
}
