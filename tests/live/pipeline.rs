//! Streams side by side through the stages: what gives way, what is shown, and that no stream holds up another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use oodstream::config::Config;
use oodstream::gst::Frame;
use oodstream::input::{FrameReader, Read, Signal, VideoInfo};
use oodstream::model::runtime::Provider;
use oodstream::output;
use oodstream::output::{Encoding, FrameWriter, Written};
use oodstream::pipeline::{self, Control, Engine, Flow, Link, Meter, Observer, Outcome, Policy, Stream, Sync, Tunable};
use oodstream::session::engine;
use oodstream::{Error, Result};
use support::onnx;

const LIVE: Flow = Flow { policy: Policy::Latest, sync: Sync::Exact, queue: 1, max_age: None };

/// An engine with the tiny network; the folder that it lies in.
fn engine() -> (Engine, tempfile::TempDir) {
    engine_of(onnx::tiny(64, 32))
}

fn engine_of(network: onnx::Graph) -> (Engine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    network.save(&folder.path().join("model.onnx"));
    let mut config = Config::default();
    config.model.path = Some(folder.path().join("model.onnx").into());
    // Networks that fail as these tests want them to do so on this one.
    config.model.provider = Provider::Cpu;
    config.detect.threshold = Some(f32::MAX);
    config.detect.method = "max-logit".into();
    let mut engine = engine::open(&config).unwrap();
    engine.ahead = 0;
    (engine, folder)
}

/// What a test does to a frame before it is read.
type Touch = Box<dyn FnMut(&mut Frame) -> Option<Signal> + Send>;

/// A test pattern as a live input.
struct Fed {
    inner: Box<dyn FrameReader>,
    touch: Touch,
    held: Option<Frame>,
    /// A frame is read when there is something in here.
    pace: Option<Receiver<()>>,
}

impl FrameReader for Fed {
    fn read(&mut self, timeout: Duration) -> Result<Read> {
        if let Some(frame) = self.held.take() {
            return Ok(Read::Frame(frame));
        }
        if let Some(pace) = &self.pace
            && pace.recv_timeout(timeout).is_err()
        {
            return Ok(Read::TimedOut);
        }
        let mut read = self.inner.read(timeout)?;
        if let Read::Frame(frame) = &mut read
            && let Some(signal) = (self.touch)(frame)
        {
            let Read::Frame(frame) = read else { unreachable!() };
            self.held = Some(frame);
            return Ok(Read::Signal(signal));
        }
        Ok(read)
    }

    fn info(&self) -> Option<&VideoInfo> {
        self.inner.info()
    }
}

fn fed(
    frames: u32,
    pace: Option<Receiver<()>>,
    touch: impl FnMut(&mut Frame) -> Option<Signal> + Send + 'static,
) -> Box<dyn FrameReader> {
    let spec = format!("test://ball?width=160&height=96&frames={frames}");
    let (inner, _) = output::file::open_test(&spec, None, &Encoding::default(), 0).unwrap();
    Box::new(Fed { inner, touch: Box::new(touch), held: None, pace })
}

fn now(frame: &mut Frame) -> Option<Signal> {
    frame.captured = Some(Instant::now());
    None
}

/// A writer that takes frames once it may, or fails.
struct Sunk {
    may: Arc<AtomicBool>,
    fails_at: u64,
    frames: u64,
}

impl FrameWriter for Sunk {
    fn write(&mut self, frame: Frame, timeout: Duration) -> Result<Option<Frame>> {
        let deadline = Instant::now() + timeout;
        while !self.may.load(Ordering::Relaxed) {
            if Instant::now() > deadline {
                return Ok(Some(frame));
            }
            std::thread::yield_now();
        }
        self.frames += 1;
        if self.frames == self.fails_at { Err(Error::failed("the disk is gone")) } else { Ok(None) }
    }

    fn finish(self: Box<Self>, _stop: &dyn Fn() -> bool) -> Result<Written> {
        Ok(Written { path: "nowhere".into(), frames: self.frames, encoder: "none".into(), notes: Vec::new() })
    }

    fn abort(self: Box<Self>) {}
}

/// Counts frames, asks for the next one where the reader is paced, and may open a writer at its last frame.
#[derive(Default)]
struct Watcher {
    next: Option<Sender<()>>,
    opens: Option<(u64, Arc<AtomicBool>)>,
    frames: AtomicU64,
}

impl Observer for Watcher {
    fn frame_done(&self, _running_time: u64, _ood_share: f32) {
        let frames = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(next) = &self.next {
            let _ = next.send(());
        }
        if let Some((at, open)) = &self.opens
            && frames >= *at
        {
            open.store(true, Ordering::Relaxed);
        }
    }
}

struct Lane {
    reader: Box<dyn FrameReader>,
    writer: Option<Box<dyn FrameWriter>>,
    watcher: Watcher,
    flow: Flow,
}

fn run(engine: &mut Engine, lanes: Vec<Lane>) -> Vec<(Outcome, Arc<Meter>)> {
    let hub = Control::default();
    let mut kept: Vec<(Arc<Control>, Arc<Meter>, Watcher)> = Vec::new();
    let mut ends = Vec::new();
    for lane in lanes {
        kept.push((Arc::default(), Arc::new(Meter::new("lane")), lane.watcher));
        ends.push((lane.reader, lane.writer, lane.flow));
    }
    let streams = kept.iter().zip(ends).map(|((control, meter, watcher), (reader, writer, flow))| Stream {
        reader,
        writer,
        recorders: Vec::new(),
        observer: watcher,
        control: Arc::clone(control),
        meter: Arc::clone(meter),
        flow,
    });
    let outcomes = pipeline::run(engine, &hub, streams.collect());
    outcomes.into_iter().zip(kept).map(|(outcome, (_, meter, _))| (outcome, meter)).collect()
}

fn lane(frames: u32, flow: Flow) -> Lane {
    Lane { reader: fed(frames, None, now), writer: None, watcher: Watcher::default(), flow }
}

#[test]
fn a_live_stream_leaves_frames_out_and_counts_them() {
    let (mut engine, _folder) = engine();
    for flow in [LIVE, Flow { policy: Policy::DropOldest, queue: 4, ..LIVE }] {
        let (outcome, meter) = run(&mut engine, vec![lane(300, flow)]).remove(0);
        assert_eq!(outcome.error, None);
        let seen = meter.read();
        assert_eq!((seen.frames_in, seen.frames_out + seen.dropped()), (300, 300), "{seen:?}");
        assert!(seen.frames_out > 0 && seen.crowded > 0, "{seen:?}");
        assert_eq!(seen.latency_total.0, seen.frames_out);
    }
    let (_, meter) = run(&mut engine, vec![lane(300, Flow { queue: 4, policy: Policy::Wait, ..LIVE })]).remove(0);
    assert_eq!((meter.read().frames_out, meter.read().dropped()), (300, 0));
}

#[test]
fn a_stuck_output_does_not_hold_up_another_stream() {
    let (mut engine, _folder) = engine();
    let gate = Arc::new(AtomicBool::new(false));
    let stuck = Lane { writer: Some(Box::new(Sunk { may: gate.clone(), fails_at: 0, frames: 0 })), ..lane(200, LIVE) };
    // The other stream waits for every frame, and opens the gate with its last one: it gets there only if it is not held up.
    let free = Lane {
        watcher: Watcher { opens: Some((200, gate)), ..Watcher::default() },
        ..lane(200, Flow { policy: Policy::Wait, ..LIVE })
    };
    let done = run(&mut engine, vec![stuck, free]);
    let [stuck, free] = [0, 1].map(|index| done[index].1.read());
    assert_eq!(free.frames_out, 200);
    assert_eq!(stuck.frames_out + stuck.dropped(), 200);
    assert!(stuck.dropped() > 100, "{stuck:?}");
}

#[test]
fn an_error_ends_its_own_stream_only() {
    let (mut engine, _folder) = engine();
    let open = || Arc::new(AtomicBool::new(true));
    let wait = Flow { policy: Policy::Wait, ..LIVE };
    let failing = Lane { writer: Some(Box::new(Sunk { may: open(), fails_at: 3, frames: 0 })), ..lane(5000, wait) };
    let sound = Lane { writer: Some(Box::new(Sunk { may: open(), fails_at: 0, frames: 0 })), ..lane(120, wait) };
    let done = run(&mut engine, vec![failing, sound]);
    assert!(done[0].0.error.as_ref().unwrap().to_string().contains("the disk is gone"));
    assert!(done[0].1.read().frames_in < 5000, "it goes on reading");
    assert_eq!((&done[1].0.error, done[1].1.read().frames_out), (&None, 120));
    assert_eq!(done[1].0.written.as_ref().map(|written| written.frames), Some(120));
}

#[test]
fn every_frame_is_shown_when_results_are_drawn_as_they_come() {
    let (mut engine, _folder) = engine();
    let (next, pace) = unbounded();
    next.send(()).unwrap();
    let lane = Lane {
        reader: fed(100, Some(pace), now),
        writer: None,
        watcher: Watcher { next: Some(next), ..Watcher::default() },
        flow: Flow { sync: Sync::Newest, ..LIVE },
    };
    let (outcome, meter) = run(&mut engine, vec![lane]).remove(0);
    let seen = meter.read();
    assert_eq!((outcome.error, seen.frames_in, seen.frames_out, seen.dropped()), (None, 100, 100, 0));
}

#[test]
fn frames_that_are_too_old_are_left_out() {
    let (mut engine, _folder) = engine();
    let old = |frame: &mut Frame| {
        frame.captured =
            Instant::now().checked_sub(Duration::from_secs(if frame.index.is_multiple_of(2) { 60 } else { 0 }));
        None
    };
    let flow = Flow { policy: Policy::Wait, max_age: Some(Duration::from_secs(20)), ..LIVE };
    let lane = Lane { reader: fed(40, None, old), ..lane(1, flow) };
    let seen = run(&mut engine, vec![lane]).remove(0).1.read();
    assert_eq!((seen.stale, seen.frames_out, seen.crowded), (20, 20, 0));
}

#[test]
fn repeats_of_a_lost_signal_pass_by_the_network() {
    let (mut engine, _folder) = engine();
    let before = analysed(&engine);
    for sync in [Sync::Exact, Sync::Newest] {
        let lose = |frame: &mut Frame| {
            now(frame);
            frame.lost = (10..30).contains(&frame.index).then_some(Duration::from_secs(frame.index));
            match frame.index {
                10 => Some(Signal::Lost { reason: "unplugged".into() }),
                0 | 30 => Some(Signal::Back { away: Duration::from_secs(1), what: "a pattern".into() }),
                _ => None,
            }
        };
        let (next, pace) = unbounded();
        (0..41).for_each(|_| next.send(()).unwrap());
        let flow = Flow { policy: if sync == Sync::Exact { Policy::Wait } else { Policy::Latest }, sync, ..LIVE };
        let lane = Lane { reader: fed(40, Some(pace), lose), ..lane(1, flow) };
        let (outcome, meter) = run(&mut engine, vec![lane]).remove(0);
        let seen = meter.read();
        assert_eq!(outcome.error, None);
        assert_eq!((seen.frames_in, seen.link, seen.reconnects), (20, Link::Ended { error: None }, 1));
        if sync == Sync::Exact {
            assert_eq!((seen.frames_out, seen.repeats), (20, 20));
            assert_eq!(analysed(&engine) - before, 20);
        }
    }
}

fn analysed(engine: &Engine) -> u64 {
    engine.stages.report().iter().find(|(name, _)| *name == "infer").unwrap().1.frames
}

#[test]
fn settings_change_in_the_middle_of_a_run() {
    let (mut engine, _folder) = engine();
    let settings = Arc::clone(&engine.settings);
    let lower = move |frame: &mut Frame| {
        now(frame);
        if frame.index == 20 {
            // Everything is marked from some frame soon after this one on.
            settings.replace(Tunable { threshold: Some(f32::MIN), ..Tunable::default() }).unwrap();
        }
        None
    };
    let lane = Lane { reader: fed(60, None, lower), ..lane(1, Flow { policy: Policy::Wait, ..LIVE }) };
    let seen = run(&mut engine, vec![lane]).remove(0).1.read();
    assert_eq!(seen.share_last, 1.0);
    assert!((0.5..0.9).contains(&seen.share_mean), "{seen:?}");
}

#[test]
fn streams_share_the_network_fairly() {
    let (mut engine, _folder) = engine();
    engine.batch = 3;
    let wait = Flow { policy: Policy::Wait, ..LIVE };
    let done = run(&mut engine, (0..3).map(|_| lane(90, wait)).collect());
    assert!(done.iter().all(|(outcome, meter)| outcome.error.is_none() && meter.read().frames_out == 90));
}

#[test]
fn a_stream_that_begins_as_the_network_fails_ends_by_that_error() {
    let (mut engine, _folder) = engine_of(onnx::fails_on_white(64, 32));
    let hub = Control::default();
    let outcomes = Mutex::new(Vec::new());
    let ran = pipeline::run_lanes(&mut engine, &hub, 2, 1, |lane| {
        while lane.number() == 1 && !lane.stopping() {
            std::thread::yield_now();
        }
        // One of them meets the stages while they end, the later ones after that.
        for _ in 0..20 {
            let outcome = lane.run(Stream {
                reader: fed(5, None, now),
                writer: None,
                recorders: Vec::new(),
                observer: &Watcher::default(),
                control: Arc::default(),
                meter: Arc::new(Meter::new("lane")),
                flow: Flow { policy: Policy::Wait, ..LIVE },
            });
            outcomes.lock().unwrap().push(outcome);
        }
    });
    let error = ran.unwrap_err();
    for outcome in outcomes.into_inner().unwrap() {
        assert_eq!((outcome.error, outcome.shared), (Some(error.clone()), true));
    }
}
