//! The stages that all streams share behind the gathering: the network and the dense maths.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use super::control::Control;
use super::message::{Analysis, Batch, Detected, Inferred, Passage, Permit, return_permit};
use super::meter::Meter;
use super::policy::{Flow, Policy, Sync};
use super::settings::Settings;
use super::stats::StageStats;
use crate::Result;
use crate::compute::{Backend, Collected, Detection, Luma, Maps, Recipe, Size, Target};
use crate::gst::Frame;
use crate::model::runtime::Network;
use crate::model::views::merge::{Merge, NetworkOutputs};
use crate::ood::alarm::Filler;

/// The network: batches in, frames with outputs out.
pub(super) fn infer(
    control: &Control,
    stats: &StageStats,
    network: &mut Network,
    input: &Receiver<Batch>,
    spare: &Sender<Batch>,
    output: &Sender<Analysis>,
) -> Result<()> {
    while let Some(mut batch) = control.receive(input) {
        stats.saw_queue(input.len() + 1);
        let Batch { begun, frames, ended, tensor, pictures } = &mut batch;
        let analysed = frames.iter().filter(|(_, frame)| matches!(frame, Passage::Analysed(_))).count();
        let mut outputs = stats.time_each(analysed, || network.infer_all(tensor, *pictures))?.into_iter().flatten();
        *pictures = 0;
        let frames = frames.drain(..).map(|(lane, frame)| {
            let frame = match frame {
                Passage::Analysed(frame) => {
                    let views = frame.layout.views().len();
                    Passage::Analysed(frame.inferred(|to| outputs.by_ref().take(views).for_each(|o| to.push(o))))
                }
                Passage::Bare(frame) => Passage::Bare(frame),
            };
            Analysis::Frame(lane, frame)
        });
        // There is room for all of them.
        let begun = begun.drain(..).map(|(lane, slot)| Analysis::Begin(lane, slot));
        let mut all = begun.chain(frames).chain(ended.drain(..).map(Analysis::End));
        if !all.all(|one| control.send(output, one)) {
            break;
        }
        drop(all);
        // The next picture is chosen from here on.
        let _ = spare.try_send(batch);
    }
    Ok(())
}

/// Where the results of one stream go.
pub(super) struct StreamOutput {
    pub control: Arc<Control>,
    pub meter: Arc<Meter>,
    pub flow: Flow,
    /// Detections that are free.
    pub detections: Receiver<Box<Detection>>,
    /// Has room for every frame of the stream.
    pub track: Sender<Passage<Detected>>,
    pub permits: Sender<Permit>,
    /// The threshold that the stream's first frame suggested, where the settings give none.
    pub suggested: Option<f32>,
}

impl StreamOutput {
    /// The stream's threshold; `None` before its first frame where the settings give none.
    fn threshold(&self, settings: &Settings) -> Option<f32> {
        settings.get().threshold.or(self.suggested)
    }

    /// A detection to fill. A stream that may fall behind waits for its own; any other goes without, so that one stream
    /// whose drawing is stuck does not delay the rest.
    fn take_detection(&self, control: &Control) -> Option<Box<Detection>> {
        match self.flow.policy {
            Policy::Wait => control.receive(&self.detections),
            Policy::DropOldest | Policy::Latest => self.detections.try_recv().ok(),
        }
    }

    fn send(&self, frame: Passage<Detected>) {
        // There is room for all of them; or the stream has ended on the other side.
        let _ = self.track.try_send(frame);
    }
}

/// The place of the stream that has a lane now.
pub(super) struct Slot {
    /// None once the stream has failed.
    pub stream_output: Option<StreamOutput>,
    /// Signals that no stage knows the stream any more.
    pub left: Sender<()>,
}

/// A frame that the back end works on.
struct Flight {
    lane: usize,
    frame: Inferred,
    threshold: f32,
    /// Empty while the back end has its content.
    detection: Box<Detection>,
    /// The time that the submission took.
    submission: Duration,
}

/// The dense maths: frames of all streams in, each out to its own stream.
///
/// While the back end works on one frame the next is submitted, as far as its depth goes; a result that nothing follows
/// is fetched at once.
pub(super) struct Detect<'a> {
    pub control: &'a Control,
    pub stats: &'a StageStats,
    pub backend: &'a mut dyn Backend,
    pub recipe: &'a Recipe,
    pub settings: &'a Settings,
    /// Removes ignored parts from the statistics.
    pub filler: Filler,
    /// Of the settings that `filler` is for.
    pub version: u64,
    /// One for each lane, empty between streams.
    pub slots: Vec<Option<Slot>>,
}

impl Detect<'_> {
    pub fn run(mut self, input: &Receiver<Analysis>) -> Result<()> {
        let mut merge = Merge::default();
        // In the order of submission.
        let mut flights = VecDeque::with_capacity(self.backend.depth());
        // Frames that a failed run has left in flight.
        while self.backend.collect().is_ok() {}
        loop {
            let next = if flights.is_empty() { self.control.receive(input) } else { input.try_recv().ok() };
            let Some(next) = next else {
                if flights.is_empty() {
                    return Ok(());
                }
                self.collect_oldest(&mut flights)?;
                continue;
            };
            self.stats.saw_queue(input.len() + 1);
            match next {
                Analysis::Begin(lane, slot) => {
                    self.backend.reset(lane as u32);
                    self.slots[lane] = Some(slot);
                }
                Analysis::End(lane) => {
                    self.collect_all(&mut flights)?;
                    if let Some(Slot { stream_output, left }) = self.slots[lane].take() {
                        drop(stream_output);
                        let _ = left.try_send(());
                    }
                }
                Analysis::Frame(lane, Passage::Bare(frame)) => {
                    // It must not overtake those before it.
                    self.collect_all(&mut flights)?;
                    if let Some(stream_output) = self.stream_output(lane) {
                        stream_output.send(Passage::Bare(frame));
                    }
                }
                Analysis::Frame(lane, Passage::Analysed(frame)) => {
                    self.submit(lane, frame, &mut merge, &mut flights)?;
                }
            }
        }
    }

    fn stream_output(&self, lane: usize) -> Option<&StreamOutput> {
        self.slots.get(lane)?.as_ref()?.stream_output.as_ref()
    }

    /// Submits a frame of an open stream, where there is a detection for its result.
    ///
    /// # Errors
    /// The back end cannot go on. What is wrong with the frame ends its stream alone.
    fn submit(
        &mut self,
        lane: usize,
        frame: Inferred,
        merge: &mut Merge,
        flights: &mut VecDeque<Flight>,
    ) -> Result<()> {
        let Some(stream_output) = self.stream_output(lane) else { return Ok(()) };
        if stream_output.threshold(self.settings).is_none() || stream_output.detections.is_empty() {
            // Detections come back only from frames that go on; and a threshold is found with nothing in flight.
            self.collect_all(flights)?;
        }
        let Some(stream_output) = self.stream_output(lane) else { return Ok(()) };
        // Waiting for the detection of an earlier frame is not work of this stage.
        let Some(detection) = stream_output.take_detection(self.control) else {
            // Where every frame is shown, one result less is no loss.
            if stream_output.flow.sync == Sync::Exact {
                stream_output.meter.crowded_out();
            }
            return_permit(&stream_output.permits, frame.into_permit());
            return Ok(());
        };
        let begin = Instant::now();
        let mut flight = Flight { lane, frame, threshold: f32::INFINITY, detection, submission: Duration::ZERO };
        if let Err(error) = self.start(&mut flight, merge) {
            if let Some(stream_output) = self.slots[lane].as_mut().and_then(|slot| slot.stream_output.take()) {
                stream_output.control.fail(error);
            }
            return Ok(());
        }
        flight.submission = begin.elapsed();
        flights.push_back(flight);
        if flights.len() == self.backend.depth() {
            self.collect_oldest(flights)?;
        }
        Ok(())
    }

    /// Brings the maps of a frame together and starts the work on them. Without a threshold it is done twice, first for
    /// the threshold, and nothing may be in flight.
    fn start(&mut self, flight: &mut Flight, merge: &mut Merge) -> Result<()> {
        let lane = flight.lane;
        flight.frame.outputs.merge(&flight.frame.layout, merge)?;
        let version = self.settings.version();
        if version != self.version {
            self.filler.set(self.settings.get().ignore);
            self.version = version;
        }
        if self.filler.is_needed() {
            flight.frame.outputs.edit(|map| self.filler.fill(map))?;
        }
        if flight.frame.fresh {
            self.backend.reset(lane as u32);
        }
        let known = self.stream_output(lane).and_then(|stream_output| stream_output.threshold(self.settings));
        flight.threshold = match known {
            Some(threshold) => threshold,
            None => {
                // No source gives a threshold for this network and method: take the first frame as ordinary.
                let Self { backend, recipe, .. } = self;
                let Flight { frame: Inferred { frame, outputs, .. }, detection, .. } = flight;
                with_maps(frame, outputs, |maps, size| {
                    backend.detect(lane as u32, maps, recipe, Target::scores(size), detection)
                })?;
                let threshold = quantile(detection.grid_score.iter().copied(), 0.99);
                tracing::warn!(
                    "no threshold is known for this model and method: marking what scores above {threshold:.4}, the top 1 % of the first \
                     frame; `oodstream calibrate` finds a better one on ordinary footage"
                );
                if let Some(stream_output) = self.slots[lane].as_mut().and_then(|slot| slot.stream_output.as_mut()) {
                    stream_output.suggested = Some(threshold);
                }
                threshold
            }
        };
        resubmit(flight, self.backend, self.recipe)
    }

    /// Waits for all frames in flight and hands them on.
    fn collect_all(&mut self, flights: &mut VecDeque<Flight>) -> Result<()> {
        while !flights.is_empty() {
            self.collect_oldest(flights)?;
        }
        Ok(())
    }

    /// Waits for the frame that was submitted first, and hands it on.
    ///
    /// # Errors
    /// The back end cannot go on.
    fn collect_oldest(&mut self, flights: &mut VecDeque<Flight>) -> Result<()> {
        let begin = Instant::now();
        let found = loop {
            match self.backend.collect()? {
                Collected::Done(found) => break found,
                Collected::Resubmit => {
                    for flight in flights.iter_mut() {
                        resubmit(flight, self.backend, self.recipe)?;
                    }
                }
            }
        };
        let Some(Flight { lane, frame, mut detection, submission, .. }) = flights.pop_front() else { return Ok(()) };
        *detection = found;
        self.stats.add(submission + begin.elapsed());
        if let Some(stream_output) = self.stream_output(lane) {
            stream_output.send(Passage::Analysed(frame.detected(detection)));
        }
        Ok(())
    }
}

/// Hands a frame to the back end, for the first time or once more.
fn resubmit(flight: &mut Flight, backend: &mut dyn Backend, recipe: &Recipe) -> Result<()> {
    let Flight { lane, frame: Inferred { frame, outputs, .. }, threshold, detection, .. } = flight;
    with_maps(frame, outputs, |maps, size| {
        let target = Target { size, threshold: *threshold };
        backend.submit(*lane as u32, maps, recipe, target, std::mem::take(&mut **detection))
    })
}

/// Calls `work` with the network's maps of the frame and with the frame's size.
fn with_maps(frame: &Frame, outputs: &NetworkOutputs, work: impl FnOnce(&Maps<'_>, Size) -> Result<()>) -> Result<()> {
    let size = Size { width: frame.width() as usize, height: frame.height() as usize };
    let picture = frame.map()?;
    let picture = picture.i420();
    let luma = Luma { plane: picture.y, range: picture.colour.range };
    outputs.with_maps(|maps| work(&Maps { picture: Some(luma), ..*maps }, size))
}

fn quantile(values: impl Iterator<Item = f32>, q: f64) -> f32 {
    let mut values: Vec<f32> = values.collect();
    let index = ((values.len().max(1) - 1) as f64 * q).round() as usize;
    values.sort_by(f32::total_cmp);
    values.get(index).copied().unwrap_or(0.0)
}
