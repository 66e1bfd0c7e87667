//! The detect stage with a back end that takes two frames at a time: results stay with their frames, also when the device is
//! replaced in between.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ndarray::{Array2, ArrayView2};
use oodstream::compute::cpu::Cpu;
use oodstream::compute::{Backend, Clustering, Collected, Detection, KMeans, Maps, Recipe, Seeds, Target};
use oodstream::config::Config;
use oodstream::output;
use oodstream::output::Encoding;
use oodstream::pipeline::{self, Control, Engine, Flow, Meter, Observer, Policy, Stream, Sync};
use oodstream::record::{FrameResults, Recorder};
use oodstream::session::engine;
use oodstream::{Error, Result};
use support::onnx;

/// What a [`Lossy`] back end went through.
#[derive(Default)]
struct Log {
    most_in_flight: AtomicUsize,
    losses: AtomicUsize,
}

/// A back end on the CPU that takes two frames at a time and loses its device at every `loses`th collection; for good, where
/// `fatal`.
struct Lossy {
    inner: Cpu,
    flights: VecDeque<Detection>,
    collections: usize,
    loses: usize,
    fatal: bool,
    log: Arc<Log>,
}

impl Backend for Lossy {
    fn name(&self) -> &'static str {
        "lossy"
    }

    fn describe(&self) -> String {
        "a test's own".into()
    }

    fn depth(&self) -> usize {
        2
    }

    fn submit(
        &mut self,
        stream: u32,
        maps: &Maps<'_>,
        recipe: &Recipe,
        target: Target,
        mut out: Detection,
    ) -> Result<()> {
        assert!(self.flights.len() < 2, "more in flight than the depth");
        self.inner.detect(stream, maps, recipe, target, &mut out)?;
        self.flights.push_back(out);
        self.log.most_in_flight.fetch_max(self.flights.len(), Ordering::Relaxed);
        Ok(())
    }

    fn collect(&mut self) -> Result<Collected> {
        if self.flights.is_empty() {
            return Err(Error::failed("nothing is in flight"));
        }
        self.collections += 1;
        if self.collections.is_multiple_of(self.loses) {
            self.flights.clear();
            self.log.losses.fetch_add(1, Ordering::Relaxed);
            return if self.fatal { Err(Error::failed("the device is gone")) } else { Ok(Collected::Resubmit) };
        }
        Ok(self.flights.pop_front().map_or(Collected::Resubmit, Collected::Done))
    }

    fn reset(&mut self, stream: u32) {
        self.inner.reset(stream);
    }
}

impl Clustering for Lossy {
    fn kmeans(&mut self, points: ArrayView2<'_, f32>, seeds: Seeds<'_>, most: usize) -> Result<KMeans> {
        self.inner.kmeans(points, seeds, most)
    }
}

struct Nobody;

impl Observer for Nobody {
    fn frame_done(&self, _running_time: u64, _ood_share: f32) {}
}

/// Index and score map of every frame in the order of arrival.
type Scores = Vec<(u64, Array2<f32>)>;

/// Keeps those of one stream.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Scores>>);

impl Recorder for Kept {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        self.0.lock().unwrap().push((seen.index, seen.detection.grid_score.clone()));
        Ok(())
    }
}

fn engine(threshold: Option<f32>) -> (Engine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    onnx::tiny(64, 32).save(&folder.path().join("model.onnx"));
    let mut config = Config::default();
    config.model.path = Some(folder.path().join("model.onnx").into());
    config.detect.threshold = threshold;
    // What is done again must give the same again: nothing is carried from frame to frame.
    config.detect.warm_start = false;
    config.detect.smoothing = 1.0;
    (engine::open(&config).unwrap(), folder)
}

/// Runs two streams of different patterns; what was kept of each, and the error of each.
fn run(engine: &mut Engine) -> [(Scores, Option<Error>); 2] {
    let (hub, kept) = (Control::default(), [Kept::default(), Kept::default()]);
    let names = ["a", "b"];
    let flow = Flow { policy: Policy::Wait, sync: Sync::Exact, queue: 4, max_age: None };
    let streams = (0..2)
        .map(|index| {
            let spec = format!("test://ball?width=640&height=360&frames={}", 50 + 30 * index);
            let (reader, _) = output::file::open_test(&spec, None, &Encoding::default(), 0).unwrap();
            let recorders: Vec<Box<dyn Recorder>> = vec![Box::new(kept[index].clone())];
            let (control, meter) = (Arc::default(), Arc::new(Meter::new(names[index])));
            Stream { reader, writer: None, recorders, observer: &Nobody, control, meter, flow }
        })
        .collect();
    let outcomes: [_; 2] = pipeline::run(engine, &hub, streams).try_into().unwrap();
    let mut kept = kept.into_iter();
    outcomes.map(|outcome| {
        let kept = std::mem::take(&mut *kept.next().unwrap().0.lock().unwrap());
        (kept, outcome.error)
    })
}

fn lossy(engine: &mut Engine, loses: usize, fatal: bool) -> Arc<Log> {
    let log = Arc::new(Log::default());
    let inner = Cpu::new(Some(1)).unwrap();
    // A run before this one has failed and left a frame behind.
    let flights = VecDeque::from([Detection::default()]);
    engine.backend = Box::new(Lossy { inner, flights, collections: 0, loses, fatal, log: Arc::clone(&log) });
    log
}

#[test]
fn results_stay_with_their_frames() {
    for threshold in [Some(0.5), None] {
        let (mut engine, _folder) = engine(threshold);
        engine.batch = 2;
        let want = run(&mut engine);
        let log = lossy(&mut engine, 7, false);
        let found = run(&mut engine);
        for ((found, error), (want, _)) in found.iter().zip(&want) {
            assert_eq!(*error, None);
            assert_eq!(
                found.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
                (0..want.len() as u64).collect::<Vec<_>>()
            );
            assert!(found == want, "a frame has the score of another");
        }
        assert_eq!([want[0].0.len(), want[1].0.len()], [50, 80]);
        assert_eq!(log.most_in_flight.load(Ordering::Relaxed), 2, "nothing overlapped");
        assert!(log.losses.load(Ordering::Relaxed) >= 10);
    }
}

#[test]
fn a_device_that_is_gone_ends_the_run_with_one_error() {
    let (mut engine, _folder) = engine(Some(0.5));
    engine.batch = 2;
    let log = lossy(&mut engine, 20, true);
    for (kept, error) in run(&mut engine) {
        assert_eq!(error.unwrap().to_string(), "the device is gone");
        assert!(kept.len() < 20);
    }
    assert_eq!(log.losses.load(Ordering::Relaxed), 1);
}
