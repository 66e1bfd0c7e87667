//! The stage in front of the network: takes frames from all streams in turn and prepares them as one batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Select, Sender, TryRecvError};

use super::analyse::Slot;
use super::control::{Control, PATIENCE};
use super::message::{Batch, Captured, Passage, Permit, return_permit};
use super::meter::Meter;
use super::stats::StageStats;
use crate::Result;
use crate::model::prepare::Prepare;
use crate::model::views::inference::prepare_views;
use crate::model::views::layout::Layouts;

/// Where the frames of one stream come from.
pub(super) struct StreamInput {
    /// Frames that wait for the network.
    pub waiting: Receiver<Captured>,
    pub permits: Sender<Permit>,
    pub control: Arc<Control>,
    pub meter: Arc<Meter>,
    /// Older frames are dropped.
    pub max_age: Option<Duration>,
}

/// A stream that begins on a lane.
pub(super) struct Arrival {
    pub lane: usize,
    pub stream_input: StreamInput,
    /// For the stage behind the network.
    pub slot: Slot,
}

impl StreamInput {
    /// The next frame that is young enough. At a stop, waiting frames of a live stream are dropped to end it soon.
    fn take(&mut self) -> Result<Captured, TryRecvError> {
        loop {
            let waiting = self.waiting.try_recv()?;
            let age = waiting.frame.captured.map(|captured| captured.elapsed());
            if age.is_some() && self.control.stopping() {
                self.meter.crowded_out();
            } else if age.zip(self.max_age).is_none_or(|(age, max)| age <= max) {
                return Ok(waiting);
            } else {
                self.meter.too_old();
            }
            return_permit(&self.permits, waiting.permit);
        }
    }
}

/// The frames taken from the streams for one batch.
#[derive(Default)]
pub(super) struct Gathered {
    /// Streams that begin.
    begun: Vec<(usize, Slot)>,
    /// Stream and frame, in turn.
    frames: Vec<(usize, Captured)>,
    /// Streams that have come to their end.
    ended: Vec<usize>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.frames.is_empty() && self.ended.is_empty()
    }

    fn has(&self, lane: usize) -> bool {
        self.frames.iter().any(|(taken, _)| *taken == lane)
    }
}

/// Takes frames from several streams, each stream in its turn.
pub(super) struct Gatherer {
    /// The streams of the lanes; none between two streams.
    lanes: Vec<Option<StreamInput>>,
    /// Streams that begin; none when there will be no more.
    arrivals: Option<Receiver<Arrival>>,
    /// The lane whose turn it is.
    next: usize,
    /// Frames of one batch at most, one per stream.
    most: usize,
    /// The time that a batch waits to be filled.
    wait: Duration,
}

impl Gatherer {
    pub fn new(lanes: usize, arrivals: Receiver<Arrival>, most: usize, wait: Duration) -> Self {
        let lanes = (0..lanes).map(|_| None).collect();
        Self { lanes, arrivals: Some(arrivals), next: 0, most: most.max(1), wait }
    }

    /// Fills `gathered` with what waits, waiting for something as long as it takes. `false` when all streams are at their
    /// end and no more will begin, or the run was aborted.
    pub fn gather(&mut self, control: &Control, gathered: &mut Gathered) -> bool {
        let mut deadline = None;
        loop {
            self.receive(gathered);
            self.pass(gathered);
            let open = self.lanes.iter().flatten().count();
            if gathered.frames.is_empty() {
                if !gathered.is_empty() || (open == 0 && self.arrivals.is_none()) {
                    return !gathered.is_empty();
                }
            } else {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.wait);
                if gathered.frames.len() >= self.most.min(open) || Instant::now() >= deadline {
                    return true;
                }
            }
            if control.aborted() {
                return false;
            }
            self.sleep(gathered, deadline);
        }
    }

    /// Takes in the streams that begin.
    fn receive(&mut self, gathered: &mut Gathered) {
        while let Some(arrivals) = &self.arrivals {
            match arrivals.try_recv() {
                Ok(Arrival { lane, stream_input, slot }) => {
                    self.lanes[lane] = Some(stream_input);
                    gathered.begun.push((lane, slot));
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.arrivals = None,
            }
        }
    }

    /// Takes one frame of each stream that has one and is not among those taken yet, until a batch is full.
    fn pass(&mut self, gathered: &mut Gathered) {
        let count = self.lanes.len();
        let first = self.next;
        for lane in (0..count).map(|step| (first + step) % count) {
            if gathered.frames.len() >= self.most {
                return;
            }
            let Some(stream_input) = self.lanes[lane].as_mut().filter(|_| !gathered.has(lane)) else { continue };
            match stream_input.take() {
                Ok(frame) => {
                    gathered.frames.push((lane, frame));
                    self.next = (lane + 1) % count;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    self.lanes[lane] = None;
                    gathered.ended.push(lane);
                }
            }
        }
    }

    /// Waits until a stream of which nothing was taken has something, or time is up.
    fn sleep(&self, gathered: &Gathered, deadline: Option<Instant>) {
        let mut select = Select::new();
        if let Some(arrivals) = &self.arrivals {
            select.recv(arrivals);
        }
        for (lane, stream_input) in self.lanes.iter().enumerate() {
            if let Some(stream_input) = stream_input.as_ref().filter(|_| !gathered.has(lane)) {
                select.recv(&stream_input.waiting);
            }
        }
        let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
        // Whether something came or not is seen by the next pass.
        let _ = select.ready_timeout(left.min(PATIENCE));
    }
}

/// The stage: batches from `spare`, filled, to `output`.
pub(super) fn prepare(
    control: &Control,
    stats: &StageStats,
    mut gatherer: Gatherer,
    mut prepare: Prepare,
    mut layouts: Layouts,
    spare: &Receiver<Batch>,
    output: &Sender<Batch>,
) -> Result<()> {
    let elements = prepare.input_len();
    let mut gathered = Gathered::default();
    while let Some(mut batch) = control.receive(spare) {
        if !gatherer.gather(control, &mut gathered) {
            break;
        }
        stats.saw_queue(
            gatherer.lanes.iter().flatten().map(|stream_input| stream_input.waiting.len()).max().unwrap_or(0) + 1,
        );
        let Batch { begun, frames, ended, tensor, pictures } = &mut batch;
        begun.append(&mut gathered.begun);
        ended.append(&mut gathered.ended);
        for (lane, captured) in gathered.frames.drain(..) {
            if captured.frame.lost.is_some() || !captured.analyse {
                frames.push((lane, Passage::Bare(captured)));
                continue;
            }
            let prepared = stats.time(|| {
                let mapped = captured.frame.map()?;
                let picture = mapped.i420();
                let layout = layouts.of((picture.width(), picture.height()))?;
                let (start, end) = (*pictures, *pictures + layout.views().len());
                if tensor.len() < end * elements {
                    tensor.resize(end * elements, 0.0);
                }
                prepare_views(&mut prepare, &layout, &picture, &mut tensor[start * elements..end * elements])?;
                Ok((layout, end))
            });
            match prepared {
                Ok((layout, end)) => {
                    *pictures = end;
                    frames.push((lane, Passage::Analysed(captured.prepared(layout))));
                }
                Err(error) => {
                    // A picture that cannot be read ends its own stream only.
                    if let Some(stream_input) = &gatherer.lanes[lane] {
                        stream_input.control.fail(error);
                        return_permit(&stream_input.permits, captured.permit);
                    }
                }
            }
        }
        if !control.send(output, batch) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::unbounded;

    use super::*;

    fn stream_input(
        waiting: Receiver<Captured>,
        permits: &Sender<Permit>,
        control: &Arc<Control>,
        meter: &Arc<Meter>,
    ) -> StreamInput {
        let (control, meter) = (Arc::clone(control), Arc::clone(meter));
        StreamInput { waiting, permits: permits.clone(), control, meter, max_age: None }
    }

    /// A gatherer of these streams alone.
    fn gatherer(stream_inputs: Vec<StreamInput>, most: usize, wait: Duration) -> Gatherer {
        let mut gatherer = Gatherer::new(stream_inputs.len(), crossbeam::channel::never(), most, wait);
        gatherer.arrivals = None;
        gatherer.lanes = stream_inputs.into_iter().map(Some).collect();
        gatherer
    }

    /// `count` frames of a test pattern.
    fn captured(count: usize) -> Vec<Captured> {
        crate::gst::init().unwrap();
        let spec = format!("test://black?width=16&height=16&frames={count}");
        let (mut reader, _) = crate::output::file::open_test(&spec, None, &Default::default(), 0).unwrap();
        let mut read = || match reader.read(Duration::from_secs(20)).unwrap() {
            crate::input::Read::Frame(frame) => {
                Captured { frame, fresh: false, analyse: true, permit: Permit::default() }
            }
            _ => panic!("there are {count} frames"),
        };
        (0..count).map(|_| read()).collect()
    }

    /// The streams in the order in which their frames are taken, `waiting` frames being there of each.
    fn order(waiting: &[usize], most: usize) -> (Vec<Vec<usize>>, Vec<usize>) {
        let (meter, control) = (Arc::new(Meter::new("test")), Arc::<Control>::default());
        let (permits, _kept) = unbounded();
        let stream_inputs = waiting
            .iter()
            .map(|&count| {
                let (send, receive) = unbounded();
                captured(count).into_iter().for_each(|frame| send.send(frame).unwrap());
                stream_input(receive, &permits, &control, &meter)
            })
            .collect();
        let mut gatherer = gatherer(stream_inputs, most, Duration::ZERO);
        let (mut batches, mut ended) = (Vec::new(), Vec::new());
        loop {
            let mut taken = Gathered::default();
            if !gatherer.gather(&Control::default(), &mut taken) {
                return (batches, ended);
            }
            ended.extend(taken.ended);
            if !taken.frames.is_empty() {
                batches.push(taken.frames.iter().map(|(lane, _)| *lane).collect());
            }
        }
    }

    #[test]
    fn streams_take_turns_and_their_ends_are_reported() {
        let (batches, mut ended) = order(&[3, 1, 2], 1);
        assert_eq!(batches.concat(), [0, 1, 2, 0, 2, 0]);
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2]);
    }

    #[test]
    fn at_a_stop_waiting_frames_of_live_streams_are_left_out() {
        let (meter, control, live) = (Arc::new(Meter::new("test")), Arc::<Control>::default(), Instant::now());
        let (permits, kept) = unbounded();
        let (send, waiting) = unbounded();
        for (mut waits, captured) in captured(2).into_iter().zip([Some(live), None]) {
            waits.frame.captured = captured;
            send.send(waits).unwrap();
        }
        control.stop();
        let taken = stream_input(waiting, &permits, &control, &meter).take().unwrap();
        assert_eq!(taken.frame.captured, None, "a file loses no frame");
        assert_eq!((kept.len(), meter.read().dropped()), (1, 1));
    }

    #[test]
    fn a_batch_holds_one_frame_of_each_stream() {
        let (batches, ended) = order(&[2, 2, 1], 8);
        assert_eq!(batches, [vec![0, 1, 2], vec![0, 1]]);
        assert_eq!(ended.len(), 3);
    }

    #[test]
    fn a_batch_waits_for_the_other_streams_but_not_for_ever() {
        let (meter, control) = (Arc::new(Meter::new("test")), Arc::<Control>::default());
        let (permits, _kept) = unbounded();
        let [(early, first), (late, second)] = [unbounded(), unbounded()];
        let mut frames = captured(3).into_iter();
        let mut next = || frames.next().unwrap();
        let gather = |wait| {
            let stream_inputs =
                [&first, &second].map(|waiting| stream_input(waiting.clone(), &permits, &control, &meter));
            let mut taken = Gathered::default();
            assert!(gatherer(stream_inputs.into(), 2, wait).gather(&Control::default(), &mut taken));
            taken.frames.iter().map(|(lane, _)| *lane).collect::<Vec<_>>()
        };
        early.send(next()).unwrap();
        assert_eq!(gather(Duration::from_millis(20)), [0], "the other stream is open, and nothing comes");
        early.send(next()).unwrap();
        std::thread::scope(|scope| {
            // Sent while the batch waits, mostly; before that is as good.
            let frame = next();
            scope.spawn(|| late.send(frame).unwrap());
            assert_eq!(gather(Duration::from_secs(30)), [0, 1]);
        });
    }
}
