//! One stream on its lane: its channels and threads, from the reader to the writer.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::analyse::{Slot, StreamOutput};
use super::control::{Control, PATIENCE, receive_unless};
use super::drawing::{Drawing, Newest};
use super::gather::{Arrival, StreamInput};
use super::lane::{Display, Sink, Source, Tracking};
use super::message::Permit;
use super::policy::Sync as Drawn;
use super::run::{Outcome, Stages, Stream};
use super::sampling::{Sampler, Sampling};
use super::settings::{Settings, Tunable};
use super::stage::{relay, spawn};
use crate::compute::Detection;
use crate::ood::alarm::Watcher;
use crate::{Error, Result};

/// How long a stream whose shared stages have ended waits for the reason.
const REASON: Duration = Duration::from_secs(10);

/// Frames of a stream on their way at most, where `queue` of them may wait for the network.
pub(super) fn permits(queue: usize) -> usize {
    queue + 3
}

/// What the lanes of a run have in common.
pub(super) struct RunContext<'a> {
    pub hub: &'a Control,
    pub settings: &'a Settings,
    pub stages: &'a Stages,
    pub classes: &'a [String],
    pub classes_guessed: bool,
    pub sampling: Sampling,
    /// Detections of one stream that may be between detect and draw.
    pub detections: usize,
    /// Whether there are other lanes.
    pub several: bool,
}

/// A place among the streams of a run: it runs one stream at a time.
pub struct Lane<'a> {
    pub(super) number: usize,
    pub(super) shared: &'a RunContext<'a>,
    pub(super) arrivals: Sender<Arrival>,
}

impl Lane<'_> {
    /// Which of the lanes of the run it is, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether no further stream should be run: the run was interrupted, or a stage that all lanes share has failed.
    pub fn stopping(&self) -> bool {
        self.shared.hub.stopping()
    }

    /// Runs `stream` to its end.
    ///
    /// Every way out ends here: the end of the input, a stop, an error or a panic in one of its stages. Frames in flight
    /// are drained and the output is finished; an output without any frame is removed.
    pub fn run(&mut self, stream: Stream<'_>) -> Outcome {
        let (hub, control) = (self.shared.hub, Arc::clone(&stream.control));
        let mut outcome = Outcome::default();
        let (left, closed) = bounded(1);
        match self.serve(stream, left, &mut outcome) {
            Err(error) => control.fail(error),
            Ok(()) => {
                // The shared stages let go of the stream, or else they are ending themselves.
                let gone = receive_unless(|| hub.aborted(), &closed).is_none();
                let since = Instant::now();
                while gone && !hub.failed() && !hub.aborted() && since.elapsed() < REASON {
                    thread::sleep(PATIENCE / 10);
                }
                if gone && !hub.failed() && !hub.aborted() {
                    control.fail(Error::failed("the stages that all streams share have ended without a reason"));
                }
            }
        }
        let own = control.take_error();
        outcome.shared = own.is_none() && hub.failed();
        outcome.error = own.or_else(|| hub.error());
        outcome.interrupted = outcome.end.is_none() && hub.interrupted() && outcome.error.is_none();
        outcome
    }

    fn serve(&mut self, stream: Stream<'_>, left: Sender<()>, outcome: &mut Outcome) -> Result<()> {
        let RunContext { hub, settings, stages, classes, classes_guessed, sampling, detections, several } =
            *self.shared;
        let Stream { mut reader, writer, recorders, observer, control, meter, flow } = stream;
        let only_written = !recorders.iter().any(|recorder| recorder.keeps());
        let shows = writer.is_some();
        let permits = permits(flow.queue);
        // Every channel has room for every frame: a stage never waits to hand on, only for permits to come back.
        let (permits_in, permits_out) = circle(permits, Permit::default);
        let (detections_in, detections_out) = circle(detections, Box::<Detection>::default);
        let (to_network, waiting) = bounded(flow.queue);
        let (to_track, track_in) = bounded(permits);
        let (to_draw, draw_in) = bounded(permits);
        let (to_sink, sink_in) = bounded(permits);
        // Frames that do not wait for their result go round in a circle of their own.
        let (display, finished, back, newest) = match flow.sync {
            Drawn::Exact => (None, to_draw, permits_in.clone(), None),
            Drawn::Newest => {
                let (shown_in, shown_out) = circle(permits, Permit::default);
                let (finished_in, finished_out) = bounded(permits);
                let newest = Newest::new(finished_out, permits_in.clone());
                (Some(Display { permits: shown_out, to_draw }), finished_in, shown_in, Some(newest))
            }
        };
        let stream_input = StreamInput {
            waiting: waiting.clone(),
            permits: permits_in.clone(),
            control: Arc::clone(&control),
            meter: Arc::clone(&meter),
            max_age: flow.max_age,
        };
        let stream_output = StreamOutput {
            control: Arc::clone(&control),
            meter: Arc::clone(&meter),
            flow,
            detections: detections_out,
            track: to_track,
            permits: permits_in.clone(),
            suggested: None,
        };
        let slot = Slot { stream_output: Some(stream_output), left };
        if self.arrivals.send(Arrival { lane: self.number, stream_input, slot }).is_err() {
            // The shared stages have ended before the stream began. What ended them is its error, too.
            return Ok(());
        }
        let (control, meter) = (&*control, &*meter);
        let Outcome { end, written, .. } = outcome;
        thread::scope(|scope| {
            let source = Source {
                control,
                hub,
                stats: &stages.source,
                meter,
                observer,
                flow,
                permits: permits_out,
                unused: permits_in,
                to_network,
                waiting,
                display,
                sampler: Sampler::new(sampling),
                // Frames that are not analysed are shown, or else they are done with.
                shows,
            };
            spawn(scope, control, stages.source.name(), move || source.run(reader.as_mut(), end))?;
            let Tunable { events, ignore, .. } = settings.get();
            let watcher =
                Watcher::new(meter.name(), classes, (*events).clone(), ignore).with_guessed_classes(classes_guessed);
            let mut tracking = Tracking::new(settings, watcher, recorders, meter);
            spawn(scope, control, stages.track.name(), move || {
                relay(control, &stages.track, &track_in, &finished, |frame| tracking.work(frame))?;
                tracking.finish()
            })?;
            let drawn = classes.to_vec();
            spawn(scope, control, stages.draw.name(), move || {
                let mut drawing = Drawing::new(settings, drawn, detections_in, newest)?;
                if shows || observer.watches() {
                    drawing.keep_last(!sampling.all());
                } else {
                    drawing.draw_nothing();
                }
                relay(control, &stages.draw, &draw_in, &to_sink, |frame| drawing.draw(frame))
            })?;
            let sink = Sink { control, stats: &stages.sink, meter, observer, permits: back, only_written };
            spawn(scope, control, stages.sink.name(), move || {
                let ran = sink.run(&sink_in, writer, written);
                let error = control.last_error().or_else(|| ran.as_ref().err().map(Error::to_string));
                if let Some(error) = error.as_ref().filter(|_| several) {
                    tracing::error!("{} has ended, the other streams go on: {error}", meter.name());
                }
                meter.ended(error);
                ran
            })
        })
    }
}

/// A channel that holds `count` things which go round.
fn circle<T>(count: usize, mut new: impl FnMut() -> T) -> (Sender<T>, Receiver<T>) {
    let (back, next) = bounded(count);
    for _ in 0..count {
        let _ = back.try_send(new());
    }
    (back, next)
}
