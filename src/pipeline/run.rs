//! One input from its reader to its writer through all stages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::control::{Control, PATIENCE};
use super::stage::{relay, spawn};
use super::stats::{StageReport, StageStats};
use crate::compute::{Backend, Detection, Recipe, Size};
use crate::draw::{Caption, Painter, ScoreScale, Style, View, beside_width};
use crate::media::{EndOfInput, Frame, FrameReader, FrameWriter, Read, Written};
use crate::model::prepare::Prepare;
use crate::model::{Network, Outputs};
use crate::output::{Recorder, Seen};
use crate::{Error, Result};

/// What all inputs of a run share: the network, the dense maths and how the result is drawn.
pub struct Engine {
    /// The network.
    pub network: Network,
    /// Where the dense maths runs.
    pub backend: Box<dyn Backend>,
    /// How the score is made.
    pub recipe: Recipe,
    /// Whether `recipe.threshold` is known; else it is set from the first frame of each input.
    pub threshold_known: bool,
    /// How the result is drawn.
    pub style: Style,
    /// Frames that may wait between two stages.
    pub queue: usize,
    /// Statistics of the stages over all inputs.
    pub stages: Stages,
}

/// The stages in the order in which a frame meets them.
#[derive(Debug)]
pub struct Stages {
    source: StageStats,
    prepare: StageStats,
    infer: StageStats,
    detect: StageStats,
    track: StageStats,
    draw: StageStats,
    sink: StageStats,
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

/// Follows a run frame by frame, for progress bars.
pub trait Observer: Sync {
    /// One more frame is finished.
    fn frame_done(&self, running_time: u64, ood_share: f32);
}

/// How one input ended.
#[derive(Debug)]
pub struct Outcome {
    /// Frames decoded.
    pub frames_in: u64,
    /// Frames handed to the encoder.
    pub frames_out: u64,
    /// Mean over the frames of the share of marked pixels, 0..1.
    pub ood_share_mean: f64,
    /// What the reader saw, when it came to the end.
    pub end: Option<EndOfInput>,
    /// The finished file, when there is one.
    pub written: Option<Written>,
    /// Whether the run was stopped before the end of the input.
    pub interrupted: bool,
    /// The first error, when there was one.
    pub error: Option<Error>,
}

/// Frames that may be between detect and draw. Their maps are the largest buffers after the pictures, 10 MB each at 1080p.
const DETECTIONS: usize = 3;

/// One frame on its way, with the buffers that its stages fill.
#[derive(Default)]
struct Job {
    frame: Option<Frame>,
    tensor: Vec<f32>,
    outputs: Option<Outputs>,
    detection: Option<Box<Detection>>,
    threshold: f32,
    ood_share: f32,
}

/// What the source and the sink learn, for the outcome.
#[derive(Default)]
struct Tally {
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    share_ppm: AtomicU64,
}

/// Runs `reader` through all stages into `writer` (or to nowhere) and waits for the end.
///
/// Every way out ends here: the end of the input, `control.stop()`, an error or a panic in a stage. The frames in flight are
/// drained and the output is finished; an output without any frame is removed.
pub fn run(
    engine: &mut Engine,
    control: &Control,
    observer: &dyn Observer,
    recorders: &mut [Box<dyn Recorder>],
    mut reader: Box<dyn FrameReader>,
    writer: Option<Box<dyn FrameWriter>>,
) -> Outcome {
    let tally = Tally::default();
    let mut end = None;
    let mut written = None;
    let started =
        start(engine, control, observer, recorders, reader.as_mut(), writer, &tally, (&mut end, &mut written));
    if let Err(error) = started {
        control.fail(error);
    }
    let frames_out = tally.frames_out.load(Ordering::Relaxed);
    let interrupted = end.is_none() && control.interrupted();
    let error = control.take_error();
    Outcome {
        frames_in: tally.frames_in.load(Ordering::Relaxed),
        frames_out,
        ood_share_mean: tally.share_ppm.load(Ordering::Relaxed) as f64 / 1e6 / frames_out.max(1) as f64,
        end,
        written,
        interrupted: interrupted && error.is_none(),
        error,
    }
}

#[allow(clippy::too_many_arguments)] // the ends of one road; a struct of them would be built and taken apart once
fn start(
    engine: &mut Engine,
    control: &Control,
    observer: &dyn Observer,
    recorders: &mut [Box<dyn Recorder>],
    reader: &mut dyn FrameReader,
    writer: Option<Box<dyn FrameWriter>>,
    tally: &Tally,
    (end, written): (&mut Option<EndOfInput>, &mut Option<Written>),
) -> Result<()> {
    let Engine { network, backend, recipe, threshold_known, style, queue, stages } = engine;
    let (queue, style) = (*queue, *style);
    let mut recipe = recipe.clone();
    let threshold_known = *threshold_known;
    let stages = &*stages;
    let mut prepare = Prepare::new(*network.input())?;
    let elements = prepare.input_len();
    backend.reset(0);
    thread::scope(|scope| {
        let (spare_in, spare_out) = bounded::<Box<Job>>(6 * queue + 7);
        for _ in 0..queue + 3 {
            let job = Job { tensor: vec![0.0; elements], ..Job::default() };
            // There is room for all of them.
            let _ = spare_in.try_send(Box::new(job));
        }
        let (detection_in, detection_out) = bounded(DETECTIONS);
        for _ in 0..DETECTIONS {
            let _ = detection_in.try_send(Box::<Detection>::default());
        }
        let (to_prepare, prepare_in) = bounded(queue);
        let (to_infer, infer_in) = bounded(queue);
        let (to_detect, detect_in) = bounded(queue);
        let (to_track, track_in) = bounded(queue);
        let (to_draw, draw_in) = bounded(queue);
        let (to_sink, sink_in) = bounded(queue);
        spawn(scope, control, &stages.source, move || {
            source(control, &stages.source, reader, &spare_out, &to_prepare, tally, end)
        })?;
        spawn(scope, control, &stages.prepare, move || {
            relay(control, &stages.prepare, &prepare_in, &to_infer, |job: &mut Box<Job>| {
                let Job { frame: Some(frame), tensor, .. } = &mut **job else { return Ok(()) };
                prepare.run(&frame.map()?.i420(), tensor).map(|_| ())
            })
        })?;
        spawn(scope, control, &stages.infer, move || {
            relay(control, &stages.infer, &infer_in, &to_detect, |job: &mut Box<Job>| {
                job.outputs = Some(network.infer(&job.tensor)?);
                Ok(())
            })
        })?;
        spawn(scope, control, &stages.detect, move || {
            let mut threshold_known = threshold_known;
            while let Some(mut job) = control.receive(&detect_in) {
                stages.detect.saw_queue(detect_in.len() + 1);
                // Waiting for the maps of an earlier frame is not work of this stage.
                job.detection = control.receive(&detection_out);
                stages.detect.time(|| detect(&mut job, backend.as_mut(), &mut recipe, &mut threshold_known))?;
                if !control.send(&to_track, job) {
                    break;
                }
            }
            Ok(())
        })?;
        spawn(scope, control, &stages.track, move || {
            relay(control, &stages.track, &track_in, &to_draw, |job: &mut Box<Job>| {
                let Job { frame: Some(frame), outputs, detection: Some(detection), .. } = &mut **job else {
                    return Ok(());
                };
                // The network's tensors go back to its memory here, whether somebody wanted them or not.
                let Some(outputs) = outputs.take().filter(|_| !recorders.is_empty()) else { return Ok(()) };
                outputs.with_maps(|maps| {
                    let running_time = Duration::from_nanos(frame.running_time);
                    let seen = Seen { index: frame.index, running_time, detection, maps };
                    recorders.iter_mut().try_for_each(|recorder| recorder.record(&seen))
                })
            })?;
            recorders.iter_mut().try_for_each(|recorder| recorder.finish())
        })?;
        spawn(scope, control, &stages.draw, move || {
            let mut painter = Painter::new(style)?;
            let mut scale = RunningScale::default();
            let caption = Caption::default();
            relay(control, &stages.draw, &draw_in, &to_sink, |job: &mut Box<Job>| {
                let Some(detection) = job.detection.take() else { return Ok(()) };
                job.ood_share = detection.ood_share;
                let drawn = draw(job, &detection, &mut painter, &mut scale, &caption);
                // The detect stage may be gone already; then the maps are dropped.
                let _ = detection_in.try_send(detection);
                drawn
            })
        })?;
        spawn(scope, control, &stages.sink, move || {
            sink(control, &stages.sink, &sink_in, &spare_in, observer, tally, writer, written)
        })
    })
}

fn source(
    control: &Control,
    stats: &StageStats,
    reader: &mut dyn FrameReader,
    spare: &Receiver<Box<Job>>,
    output: &Sender<Box<Job>>,
    tally: &Tally,
    end: &mut Option<EndOfInput>,
) -> Result<()> {
    let mut waiting = Duration::ZERO;
    while !control.stopping() {
        let start = std::time::Instant::now();
        match reader.read(PATIENCE)? {
            Read::Signal(_) | Read::TimedOut => waiting += start.elapsed(),
            Read::End(seen) => {
                *end = Some(seen);
                break;
            }
            Read::Frame(frame) => {
                tally.frames_in.fetch_add(1, Ordering::Relaxed);
                stats.add(waiting + start.elapsed());
                waiting = Duration::ZERO;
                // Frames already decoded are finished even when the run is being stopped: only the reading ends.
                let Some(mut job) = control.receive(spare) else { break };
                job.frame = Some(frame);
                if !control.send(output, job) {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn detect(job: &mut Job, backend: &mut dyn Backend, recipe: &mut Recipe, threshold_known: &mut bool) -> Result<()> {
    let Job { frame: Some(frame), outputs: Some(outputs), detection: Some(detection), .. } = job else { return Ok(()) };
    let size = Size { width: frame.width() as usize, height: frame.height() as usize };
    let stream = frame.stream;
    outputs.with_maps(|maps| {
        if !*threshold_known {
            // Nothing says which score is high for this network and method: take the first frame as ordinary.
            backend.detect(stream, maps, recipe, size, detection)?;
            recipe.threshold = quantile(detection.grid_score.iter().copied(), 0.99);
            *threshold_known = true;
            tracing::warn!(
                "no threshold is known for this model and method: marking what scores above {:.4}, the top 1 % of the first frame; \
                 `oodstream calibrate` finds a better one on ordinary footage",
                recipe.threshold
            );
        }
        backend.detect(stream, maps, recipe, size, detection)
    })?;
    job.threshold = recipe.threshold;
    Ok(())
}

fn quantile(values: impl Iterator<Item = f32>, q: f64) -> f32 {
    let mut values: Vec<f32> = values.collect();
    let index = ((values.len().max(1) - 1) as f64 * q).round() as usize;
    values.sort_by(f32::total_cmp);
    values.get(index).copied().unwrap_or(0.0)
}

/// The scores between which the colour map is spread: follows the frames slowly, so that colours do not flicker.
#[derive(Default)]
struct RunningScale(Option<ScoreScale>);

impl RunningScale {
    /// Weight of the newest frame.
    const PACE: f32 = 0.05;

    fn update(&mut self, detection: &Detection, threshold: f32) -> ScoreScale {
        let (low, high) = detection
            .grid_score
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &score| (low.min(score), high.max(score)));
        let high = high.max(threshold + (threshold - low).abs() * 0.25);
        let scale = self.0.get_or_insert(ScoreScale { low, high });
        scale.low += (low - scale.low) * Self::PACE;
        scale.high += (high - scale.high) * Self::PACE;
        *scale
    }
}

fn draw(
    job: &mut Job,
    detection: &Detection,
    painter: &mut Painter,
    scale: &mut RunningScale,
    caption: &Caption,
) -> Result<()> {
    let Job { frame: Some(frame), threshold, .. } = job else { return Ok(()) };
    let scale = scale.update(detection, *threshold);
    if painter.style().view == View::SideBySide {
        let mut wide = frame.new_like(beside_width(frame.width() as usize) as u32, frame.height())?;
        painter.paint_beside(
            &frame.map()?.i420(),
            &mut wide.map_mut()?.i420(),
            detection,
            scale,
            *threshold,
            caption,
        )?;
        *frame = wide;
        return Ok(());
    }
    painter.paint(&mut frame.map_mut()?.i420(), detection, scale, *threshold, caption)
}

#[allow(clippy::too_many_arguments)] // see `start`
fn sink(
    control: &Control,
    stats: &StageStats,
    input: &Receiver<Box<Job>>,
    spare: &Sender<Box<Job>>,
    observer: &dyn Observer,
    tally: &Tally,
    mut writer: Option<Box<dyn FrameWriter>>,
    written: &mut Option<Written>,
) -> Result<()> {
    let mut result = Ok(());
    while let Some(mut job) = control.receive(input) {
        stats.saw_queue(input.len() + 1);
        let Some(frame) = job.frame.take() else { continue };
        let running_time = frame.running_time;
        let handed_over = stats.time(|| write(control, writer.as_deref_mut(), frame));
        match handed_over {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        let done = tally.frames_out.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::trace!("frame {done} is out");
        tally.share_ppm.fetch_add((f64::from(job.ood_share) * 1e6) as u64, Ordering::Relaxed);
        observer.frame_done(running_time, job.ood_share);
        // The source may be gone already; then the job is dropped.
        let _ = spare.try_send(job);
    }
    if let Some(writer) = writer {
        if tally.frames_out.load(Ordering::Relaxed) == 0 || control.aborted() {
            writer.abort();
        } else {
            match writer.finish(&|| control.aborted()) {
                Ok(file) => *written = Some(file),
                // The first error says more than the one that follows from it.
                Err(error) => result = result.and(Err(error)),
            }
        }
    }
    result
}

/// Hands one frame to the writer, waiting for room; `false` when the run was aborted.
fn write(control: &Control, writer: Option<&mut (dyn FrameWriter + 'static)>, frame: Frame) -> Result<bool> {
    let Some(writer) = writer else { return Ok(true) };
    let mut frame = frame;
    while let Some(back) = writer.write(frame, PATIENCE)? {
        if control.aborted() {
            return Ok(false);
        }
        frame = back;
    }
    Ok(true)
}
