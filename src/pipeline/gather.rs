//! The stage in front of the network: takes frames from all streams in turn and prepares them as one batch.

use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Select, Sender, TryRecvError};

use super::control::{Control, PATIENCE};
use super::job::{Batch, Job};
use super::meter::Meter;
use super::stats::StageStats;
use crate::Result;
use crate::model::prepare::Prepare;
use crate::model::views::layout::Layouts;
use crate::model::views::look::prepare_views;

/// Where the frames of one stream come from.
pub(super) struct Inlet<'a> {
    /// Frames that wait for the network.
    pub waiting: Receiver<Box<Job>>,
    /// Where jobs go that will not be worked on.
    pub spare: Sender<Box<Job>>,
    pub control: &'a Control,
    pub meter: &'a Meter,
    /// Older frames are left out.
    pub max_age: Option<Duration>,
    pub open: bool,
}

impl Inlet<'_> {
    /// The next frame that is young enough. At a stop what waits of a live stream is left out, so that its end is near.
    fn take(&mut self) -> Result<Box<Job>, TryRecvError> {
        loop {
            let mut job = self.waiting.try_recv()?;
            let age = job.frame.as_ref().and_then(|frame| frame.captured).map(|captured| captured.elapsed());
            if age.is_some() && self.control.stopping() {
                self.meter.crowded_out();
            } else if age.zip(self.max_age).is_none_or(|(age, max)| age <= max) {
                return Ok(job);
            } else {
                self.meter.too_old();
            }
            job.clear();
            // There is room for all of them.
            let _ = self.spare.try_send(job);
        }
    }
}

/// Takes frames from several streams, each stream in its turn.
pub(super) struct Gatherer<'a> {
    inlets: Vec<Inlet<'a>>,
    /// The stream whose turn it is.
    next: usize,
    /// Frames of one batch at most, one per stream.
    most: usize,
    /// How long a batch waits to be filled.
    wait: Duration,
}

impl<'a> Gatherer<'a> {
    pub fn new(inlets: Vec<Inlet<'a>>, most: usize, wait: Duration) -> Self {
        Self { inlets, next: 0, most: most.max(1), wait }
    }

    /// Fills `batch` with what waits, waiting for a first frame as long as it takes. `false` when all streams are at
    /// their end and `batch` has nothing to say, or the run was aborted.
    pub fn gather(&mut self, control: &Control, batch: &mut Batch) -> bool {
        let mut deadline = None;
        loop {
            self.pass(batch);
            let open = self.inlets.iter().filter(|inlet| inlet.open).count();
            if batch.jobs.is_empty() {
                if open == 0 || !batch.ended.is_empty() {
                    return !batch.ended.is_empty();
                }
            } else {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.wait);
                if batch.jobs.len() >= self.most.min(open) || Instant::now() >= deadline {
                    return true;
                }
            }
            if control.aborted() {
                return false;
            }
            self.sleep(batch, deadline);
        }
    }

    /// Takes one frame of each stream that has one and is not in the batch yet, until it is full.
    fn pass(&mut self, batch: &mut Batch) {
        let count = self.inlets.len();
        let first = self.next;
        for lane in (0..count).map(|step| (first + step) % count) {
            if batch.jobs.len() >= self.most {
                return;
            }
            let inlet = &mut self.inlets[lane];
            if !inlet.open || batch.jobs.iter().any(|(taken, _)| *taken == lane) {
                continue;
            }
            match inlet.take() {
                Ok(job) => {
                    batch.jobs.push((lane, job));
                    self.next = (lane + 1) % count;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    inlet.open = false;
                    batch.ended.push(lane);
                }
            }
        }
    }

    /// Waits until a stream that is not in the batch has something, or time is up.
    fn sleep(&self, batch: &Batch, deadline: Option<Instant>) {
        let mut select = Select::new();
        for (lane, inlet) in self.inlets.iter().enumerate() {
            if inlet.open && !batch.jobs.iter().any(|(taken, _)| *taken == lane) {
                select.recv(&inlet.waiting);
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
    mut gatherer: Gatherer<'_>,
    mut prepare: Prepare,
    mut layouts: Layouts,
    spare: &Receiver<Batch>,
    output: &Sender<Batch>,
) -> Result<()> {
    let elements = prepare.input_len();
    while let Some(mut batch) = control.receive(spare) {
        if !gatherer.gather(control, &mut batch) {
            break;
        }
        stats.saw_queue(gatherer.inlets.iter().map(|inlet| inlet.waiting.len()).max().unwrap_or(0) + 1);
        let Batch { jobs, tensor, slots, .. } = &mut batch;
        for (lane, job) in jobs.iter_mut().filter(|(_, job)| job.is_new_picture()) {
            let Some(frame) = &job.frame else { continue };
            let prepared = stats.time(|| {
                let mapped = frame.map()?;
                let picture = mapped.i420();
                let layout = layouts.of((picture.width(), picture.height()))?;
                let (start, end) = (*slots, *slots + layout.views().len());
                if tensor.len() < end * elements {
                    tensor.resize(end * elements, 0.0);
                }
                prepare_views(&mut prepare, &layout, &picture, &mut tensor[start * elements..end * elements])?;
                Ok((layout, end))
            });
            match prepared {
                Ok((layout, end)) => (job.layout, *slots) = (Some(layout), end),
                Err(error) => {
                    // A picture that cannot be read ends its own stream only.
                    gatherer.inlets[*lane].control.fail(error);
                    job.clear();
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

    fn inlet<'a>(
        waiting: Receiver<Box<Job>>,
        spare: &Sender<Box<Job>>,
        control: &'a Control,
        meter: &'a Meter,
    ) -> Inlet<'a> {
        Inlet { waiting, spare: spare.clone(), control, meter, max_age: None, open: true }
    }

    /// The streams in the order in which their frames are taken, `waiting` frames being there of each.
    fn order(waiting: &[usize], most: usize) -> (Vec<Vec<usize>>, Vec<usize>) {
        let (meter, control) = (Meter::new("test"), Control::default());
        let (spare, _kept) = unbounded();
        let inlets = waiting
            .iter()
            .map(|&count| {
                let (send, receive) = unbounded();
                (0..count).for_each(|_| send.send(Box::<Job>::default()).unwrap());
                inlet(receive, &spare, &control, &meter)
            })
            .collect();
        let mut gatherer = Gatherer::new(inlets, most, Duration::ZERO);
        let (mut batches, mut ended) = (Vec::new(), Vec::new());
        loop {
            let mut batch = Batch::new(0);
            if !gatherer.gather(&Control::default(), &mut batch) {
                return (batches, ended);
            }
            ended.extend(batch.ended);
            if !batch.jobs.is_empty() {
                batches.push(batch.jobs.iter().map(|(lane, _)| *lane).collect());
            }
        }
    }

    #[test]
    fn streams_take_turns_and_their_ends_are_told() {
        let (batches, mut ended) = order(&[3, 1, 2], 1);
        assert_eq!(batches.concat(), [0, 1, 2, 0, 2, 0]);
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2]);
    }

    #[test]
    fn at_a_stop_waiting_frames_of_live_streams_are_left_out() {
        crate::gst::init().unwrap();
        let (meter, control, live) = (Meter::new("test"), Control::default(), Instant::now());
        let (spare, kept) = unbounded();
        let (send, waiting) = unbounded();
        let (mut reader, _) =
            crate::output::file::open_test("test://black?frames=2", None, &Default::default(), 0).unwrap();
        for captured in [Some(live), None] {
            let crate::input::Read::Frame(mut frame) = reader.read(Duration::from_secs(20)).unwrap() else { panic!() };
            frame.captured = captured;
            send.send(Box::new(Job { frame: Some(frame), ..Job::default() })).unwrap();
        }
        control.stop();
        let taken = inlet(waiting, &spare, &control, &meter).take().unwrap();
        assert_eq!(taken.frame.unwrap().captured, None, "a file loses no frame");
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
        let (meter, control) = (Meter::new("test"), Control::default());
        let (spare, _kept) = unbounded();
        let [(early, first), (late, second)] = [unbounded(), unbounded()];
        let gather = |wait| {
            let inlets = [&first, &second].map(|waiting| inlet(waiting.clone(), &spare, &control, &meter));
            let mut batch = Batch::new(0);
            assert!(Gatherer::new(inlets.into(), 2, wait).gather(&Control::default(), &mut batch));
            batch.jobs.iter().map(|(lane, _)| *lane).collect::<Vec<_>>()
        };
        early.send(Box::<Job>::default()).unwrap();
        assert_eq!(gather(Duration::from_millis(20)), [0], "the other stream is open, and nothing comes");
        early.send(Box::<Job>::default()).unwrap();
        std::thread::scope(|scope| {
            // Sent while the batch waits, mostly; before that is as good.
            scope.spawn(|| late.send(Box::<Job>::default()).unwrap());
            assert_eq!(gather(Duration::from_secs(30)), [0, 1]);
        });
    }
}
