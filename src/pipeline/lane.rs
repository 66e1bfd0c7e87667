//! The stages that each stream has for itself: source in front of the network; track, draw and sink behind it.

use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, Sender, TrySendError};

use super::control::{Control, PATIENCE, receive_unless, send_unless};
use super::job::Job;
use super::meter::Meter;
use super::policy::{Flow, Policy};
use super::run::Observer;
use super::settings::Settings;
use super::stats::StageStats;
use crate::Result;
use crate::compute::Detection;
use crate::gst::Frame;
use crate::input::{EndOfInput, FrameReader, Read, Signal};
use crate::ood::alarm::{self, Moment, Scene, Watcher};
use crate::output::{FrameWriter, Written};
use crate::record::{Recorder, Seen};

/// The first stage of a stream: frames from its reader into jobs, by the policy.
pub(super) struct Source<'a> {
    pub control: &'a Control,
    /// Of the stages that all streams share: without them there is nothing to read for.
    pub hub: &'a Control,
    pub stats: &'a StageStats,
    pub meter: &'a Meter,
    pub observer: &'a dyn Observer,
    pub flow: Flow,
    pub spare: Receiver<Box<Job>>,
    /// Jobs go back here when their frame is left out.
    pub unused: Sender<Box<Job>>,
    pub to_network: Sender<Box<Job>>,
    /// The other end of `to_network`, to take out what has waited longest.
    pub waiting: Receiver<Box<Job>>,
    pub display: Option<Display>,
}

/// The way past the network, for frames that do not wait for their result.
pub(super) struct Display {
    pub spare: Receiver<Box<Job>>,
    pub to_draw: Sender<Box<Job>>,
}

impl Source<'_> {
    pub fn run(self, reader: &mut dyn FrameReader, end: &mut Option<EndOfInput>) -> Result<()> {
        let mut waiting = Duration::ZERO;
        let mut fresh = false;
        while !self.control.stopping() && !self.hub.stopping() {
            let start = Instant::now();
            match reader.read(PATIENCE)? {
                Read::TimedOut => waiting += start.elapsed(),
                Read::Signal(signal) => {
                    fresh |= matches!(signal, Signal::Back { .. });
                    self.meter.signal(&signal);
                    self.observer.signal(&signal);
                }
                Read::End(seen) => {
                    *end = Some(seen);
                    break;
                }
                Read::Frame(frame) => {
                    if frame.lost.is_none() {
                        self.meter.decoded();
                    }
                    self.stats.add(waiting + start.elapsed());
                    waiting = Duration::ZERO;
                    // Frames already decoded are finished even when the run is being stopped: only the reading ends.
                    if !self.hand_on(frame, &mut fresh) {
                        break;
                    }
                }
            }
            self.meter.saw_waiting(self.waiting.len());
        }
        Ok(())
    }

    /// False when there is nobody to hand it to.
    fn hand_on(&self, frame: Frame, fresh: &mut bool) -> bool {
        let Some(Display { spare, to_draw }) = &self.display else { return self.offer(frame, fresh) };
        let shown = frame.share();
        if frame.lost.is_none() && !self.offer(frame, fresh) {
            return false;
        }
        match spare.try_recv() {
            Ok(mut job) => {
                job.frame = Some(shown);
                send_unless(|| self.is_over(), to_draw, job)
            }
            Err(_) => {
                self.meter.crowded_out();
                true
            }
        }
    }

    /// Puts a frame in front of the network, by the policy.
    fn offer(&self, frame: Frame, fresh: &mut bool) -> bool {
        let job = match self.flow.policy {
            Policy::Wait => receive_unless(|| self.is_over(), &self.spare),
            // All jobs are on their way: the one that waits longest makes room, or else the new frame has to go.
            Policy::DropOldest | Policy::Latest => match self.spare.try_recv().ok().or_else(|| self.evict()) {
                Some(job) => Some(job),
                None => {
                    self.crowd_out();
                    return true;
                }
            },
        };
        let Some(mut job) = job else { return false };
        job.frame = Some(frame);
        job.fresh |= std::mem::take(fresh);
        if self.flow.policy == Policy::Wait {
            return send_unless(|| self.is_over(), &self.to_network, job);
        }
        loop {
            match self.to_network.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => {
                    job = back;
                    if let Some(old) = self.evict() {
                        job.fresh |= old.fresh;
                        // There is room for all of them.
                        let _ = self.unused.try_send(old);
                    }
                }
            }
        }
    }

    /// Whether frames handed on will not come back. This stage holds both ends of its channels and cannot tell by them.
    fn is_over(&self) -> bool {
        self.control.failed() || self.hub.failed() || self.hub.aborted()
    }

    /// The job that has waited longest, without its frame.
    fn evict(&self) -> Option<Box<Job>> {
        let mut job = self.waiting.try_recv().ok()?;
        self.crowd_out();
        let fresh = job.fresh;
        job.clear();
        job.fresh = fresh;
        Some(job)
    }

    /// Counts a frame that is not analysed; where every frame is shown, that is no loss.
    fn crowd_out(&self) {
        if self.display.is_none() {
            self.meter.crowded_out();
        }
    }
}

/// The stage that makes alarms of a frame's result and keeps what is to be kept of it.
pub(super) struct Tracking<'a> {
    settings: &'a Settings,
    version: u64,
    watcher: Watcher,
    recorders: Vec<Box<dyn Recorder>>,
}

impl<'a> Tracking<'a> {
    pub fn new(settings: &'a Settings, watcher: Watcher, recorders: Vec<Box<dyn Recorder>>) -> Self {
        Self { settings, version: settings.version(), watcher, recorders }
    }

    pub fn work(&mut self, job: &mut Job) -> Result<()> {
        let version = self.settings.version();
        if version != self.version {
            self.watcher.set((*self.settings.get().events).clone());
            self.version = version;
        }
        let Job { frame: Some(frame), sight, detection: Some(detection), scene, threshold, fresh, .. } = job else {
            return Ok(());
        };
        if sight.is_empty() {
            return Ok(());
        }
        let running_time = Duration::from_nanos(frame.running_time);
        let wall = frame.captured.and_then(|captured| SystemTime::now().checked_sub(captured.elapsed()));
        let picture = frame.map()?;
        let result = sight.with_maps(|maps| {
            let seen = alarm::Frame {
                moment: Moment { running: running_time, wall },
                detection,
                logits: maps.logits,
                luma: picture.i420().y,
                threshold: *threshold,
                fresh: *fresh,
            };
            self.watcher.observe(&seen, scene)?;
            let seen = Seen { index: frame.index, running_time, wall, detection, maps, scene };
            self.recorders.iter_mut().try_for_each(|recorder| recorder.record(&seen))?;
            keep_events(&mut self.recorders, scene)
        });
        drop(picture);
        // The network's tensors go back to its memory here, whether somebody wanted them or not.
        sight.clear();
        result
    }

    /// The stream is over.
    pub fn finish(mut self, name: &str) -> Result<()> {
        let mut scene = Scene::default();
        self.watcher.finish(&mut scene);
        keep_events(&mut self.recorders, &scene)?;
        let (_, withheld) = self.watcher.counts();
        if withheld > 0 {
            tracing::warn!("{name}: {withheld} alarms exceeded events.max_per_minute and were not reported");
        }
        self.recorders.iter_mut().try_for_each(|recorder| recorder.finish())
    }
}

fn keep_events(recorders: &mut [Box<dyn Recorder>], scene: &Scene) -> Result<()> {
    if scene.events.is_empty() {
        return Ok(());
    }
    recorders.iter_mut().try_for_each(|recorder| recorder.events(&scene.events))
}

/// Hands drawn frames to the writer and their jobs back to the source.
pub(super) struct Sink<'a> {
    pub control: &'a Control,
    pub stats: &'a StageStats,
    pub meter: &'a Meter,
    pub observer: &'a dyn Observer,
    pub spare: Sender<Box<Job>>,
    /// The stream is there for the writer alone and ends with it.
    pub only_written: bool,
}

impl Sink<'_> {
    pub fn run(
        self,
        input: &Receiver<Box<Job>>,
        mut writer: Option<Box<dyn FrameWriter>>,
        written: &mut Option<Written>,
    ) -> Result<()> {
        let mut result = Ok(());
        let mut frames = 0u64;
        while let Some(mut job) = self.control.receive(input) {
            self.stats.saw_queue(input.len() + 1);
            let Some(frame) = job.frame.take() else { continue };
            let (running_time, captured, repeat) = (frame.running_time, frame.captured, frame.lost.is_some());
            match self.stats.time(|| write(self.control, writer.as_deref_mut(), frame)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if self.only_written && !self.control.stopping() && writer.as_ref().is_some_and(|writer| writer.is_over()) {
                tracing::info!("{}: nothing takes its pictures any more, it ends", self.meter.name());
                self.control.stop();
            }
            frames += 1;
            tracing::trace!("frame {frames} is out");
            if repeat {
                self.meter.repeated();
            } else {
                self.meter.frame_out(captured, job.ood_share);
                self.observer.frame_done(running_time, job.ood_share);
            }
            job.clear();
            // The source may be gone already; then the job is dropped.
            let _ = self.spare.try_send(job);
        }
        if let Some(writer) = writer {
            if frames == 0 || self.control.aborted() {
                writer.abort();
            } else {
                match writer.finish(&|| self.control.aborted()) {
                    Ok(file) => *written = Some(file),
                    // The first error says more than the one that follows from it.
                    Err(error) => result = result.and(Err(error)),
                }
            }
        }
        result
    }
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

/// Maps back to the detect stage; when it is gone already they are dropped.
pub(super) fn give_back(maps: &Sender<Box<Detection>>, detection: Option<Box<Detection>>) {
    if let Some(detection) = detection {
        let _ = maps.try_send(detection);
    }
}
