//! The stages of a single stream: source before the network; track, draw and sink after it.

use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, Sender, TrySendError};

use super::control::{Control, PATIENCE, receive_unless, send_unless};
use super::message::{Captured, Detected, Drawn, Passage, Permit, Recorded, return_permit};
use super::meter::Meter;
use super::observer::Observer;
use super::policy::{Flow, Policy};
use super::sampling::{Choice, Sampler};
use super::settings::{Settings, Tunable};
use super::stats::StageStats;
use crate::Result;
use crate::gst::Frame;
use crate::input::{EndOfInput, FrameReader, Read, Signal};
use crate::ood::alarm::{self, Moment, Scene, Watcher};
use crate::output::{FrameWriter, Written};
use crate::record::{FrameResults, Recorder};

/// The first stage of a stream: frames from its reader to the network, by the policy.
pub(super) struct Source<'a> {
    pub control: &'a Control,
    /// Of the stages that all streams share: without them there is nothing to read for.
    pub hub: &'a Control,
    pub stats: &'a StageStats,
    pub meter: &'a Meter,
    pub observer: &'a dyn Observer,
    pub flow: Flow,
    pub permits: Receiver<Permit>,
    /// The other end of `permits`, to return those of dropped frames.
    pub unused: Sender<Permit>,
    pub to_network: Sender<Captured>,
    /// The other end of `to_network`, to remove the oldest waiting frame.
    pub waiting: Receiver<Captured>,
    pub display: Option<Display>,
    pub sampler: Sampler,
    /// Whether frames that are not analysed are shown all the same.
    pub shows: bool,
}

/// The way past the network, for frames that do not wait for their result.
pub(super) struct Display {
    pub permits: Receiver<Permit>,
    pub to_draw: Sender<Passage<Recorded>>,
}

impl Source<'_> {
    pub fn run(mut self, reader: &mut dyn FrameReader, end: &mut Option<EndOfInput>) -> Result<()> {
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
                    let choice = if frame.lost.is_some() { Choice::Analyse } else { self.sampler.choose(&frame)? };
                    if choice == Choice::Still {
                        self.meter.still();
                    }
                    if choice != Choice::Analyse && !self.shows {
                        self.meter.saw_waiting(self.waiting.len());
                        continue;
                    }
                    // Frames already decoded are finished even when the run is being stopped: only the reading ends.
                    if !self.hand_on(frame, choice == Choice::Analyse, &mut fresh) {
                        break;
                    }
                }
            }
            self.meter.saw_waiting(self.waiting.len());
            self.meter.saw_packets(reader.packets());
        }
        Ok(())
    }

    /// False when the receiver is gone.
    fn hand_on(&self, frame: Frame, analyse: bool, fresh: &mut bool) -> bool {
        let Some(Display { permits, to_draw }) = &self.display else { return self.offer(frame, analyse, fresh) };
        let shown = frame.share();
        if frame.lost.is_none() && analyse && !self.offer(frame, analyse, fresh) {
            return false;
        }
        match permits.try_recv() {
            Ok(permit) => {
                let shown = Captured { frame: shown, fresh: false, analyse: false, permit };
                send_unless(|| self.is_over(), to_draw, Passage::Bare(shown))
            }
            Err(_) => {
                self.meter.crowded_out();
                true
            }
        }
    }

    /// Puts a frame in front of the network, by the policy.
    fn offer(&self, frame: Frame, analyse: bool, fresh: &mut bool) -> bool {
        let permit = match self.flow.policy {
            Policy::Wait => receive_unless(|| self.is_over(), &self.permits),
            // All permits are taken: the frame that waits longest makes room, or else the new one has to go.
            Policy::DropOldest | Policy::Latest => match self.permits.try_recv().ok().or_else(|| self.evict(fresh)) {
                Some(permit) => Some(permit),
                None => {
                    self.crowd_out();
                    return true;
                }
            },
        };
        let Some(permit) = permit else { return false };
        let mut captured = Captured { frame, fresh: analyse && std::mem::take(fresh), analyse, permit };
        if self.flow.policy == Policy::Wait {
            return send_unless(|| self.is_over(), &self.to_network, captured);
        }
        loop {
            match self.to_network.try_send(captured) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => {
                    captured = back;
                    if let Some(permit) = self.evict(&mut captured.fresh) {
                        return_permit(&self.unused, permit);
                    }
                }
            }
        }
    }

    /// Whether frames handed on will not come back. This stage holds both ends of its channels, so they do not show it.
    fn is_over(&self) -> bool {
        self.control.failed() || self.hub.failed() || self.hub.aborted()
    }

    /// Leaves out the frame that has waited longest. The next one is `fresh` where that one was.
    fn evict(&self, fresh: &mut bool) -> Option<Permit> {
        let oldest = self.waiting.try_recv().ok()?;
        self.crowd_out();
        *fresh |= oldest.fresh;
        Some(oldest.permit)
    }

    /// Counts a frame that is not analysed; where every frame is shown, that is no loss.
    fn crowd_out(&self) {
        if self.display.is_none() {
            self.meter.crowded_out();
        }
    }
}

/// The track stage: makes alarms of a frame's result and hands it to the recorders.
pub(super) struct Tracking<'a> {
    settings: &'a Settings,
    version: u64,
    alarm_threshold: Option<f32>,
    watcher: Watcher,
    recorders: Vec<Box<dyn Recorder>>,
    meter: &'a Meter,
}

impl<'a> Tracking<'a> {
    pub fn new(settings: &'a Settings, watcher: Watcher, recorders: Vec<Box<dyn Recorder>>, meter: &'a Meter) -> Self {
        let alarm_threshold = settings.get().alarm_threshold;
        Self { settings, version: settings.version(), alarm_threshold, watcher, recorders, meter }
    }

    pub fn work(&mut self, frame: Passage<Detected>) -> Result<Passage<Recorded>> {
        let mut detected = match frame {
            Passage::Analysed(detected) => detected,
            Passage::Bare(frame) => return Ok(Passage::Bare(frame)),
        };
        self.meter.looked_at();
        let version = self.settings.version();
        if version != self.version {
            let Tunable { events, ignore, alarm_threshold, .. } = self.settings.get();
            self.watcher.set((*events).clone(), ignore);
            self.alarm_threshold = alarm_threshold;
            self.version = version;
        }
        let Detected { frame, fresh, outputs, detection, scene } = &mut detected;
        let running_time = Duration::from_nanos(frame.running_time);
        let wall = frame.captured.and_then(|captured| SystemTime::now().checked_sub(captured.elapsed()));
        let picture = frame.map()?;
        outputs.with_maps(|maps| {
            let seen = alarm::Frame {
                moment: Moment { running: running_time, wall },
                detection,
                logits: maps.logits,
                luma: picture.i420().y,
                threshold: self.alarm_threshold.unwrap_or(detection.threshold),
                fresh: *fresh,
            };
            self.watcher.observe(&seen, scene)?;
            let picture = picture.i420();
            let seen = FrameResults {
                index: frame.index,
                running_time,
                wall,
                picture: Some(&picture),
                detection,
                scene,
                features: maps.features,
            };
            self.recorders.iter_mut().try_for_each(|recorder| recorder.record(&seen))?;
            keep_events(&mut self.recorders, scene)
        })?;
        drop(picture);
        self.meter.saw_alarms(self.watcher.counts());
        Ok(Passage::Analysed(detected.recorded()))
    }

    /// The stream is over.
    pub fn finish(mut self) -> Result<()> {
        let mut scene = Scene::default();
        self.watcher.finish(&mut scene);
        keep_events(&mut self.recorders, &mut scene)?;
        self.recorders.iter_mut().try_for_each(|recorder| recorder.finish())
    }
}

fn keep_events(recorders: &mut [Box<dyn Recorder>], scene: &mut Scene) -> Result<()> {
    if scene.events.is_empty() {
        return Ok(());
    }
    recorders.iter_mut().try_for_each(|recorder| recorder.amend(&mut scene.events))?;
    recorders.iter_mut().try_for_each(|recorder| recorder.events(&scene.events))
}

/// Hands drawn frames to the writer and their permits back to the source.
pub(super) struct Sink<'a> {
    pub control: &'a Control,
    pub stats: &'a StageStats,
    pub meter: &'a Meter,
    pub observer: &'a dyn Observer,
    pub permits: Sender<Permit>,
    /// The stream is there for the writer alone and ends with it.
    pub only_written: bool,
}

impl Sink<'_> {
    pub fn run(
        self,
        input: &Receiver<Drawn>,
        mut writer: Option<Box<dyn FrameWriter>>,
        written: &mut Option<Written>,
    ) -> Result<()> {
        let mut result = Ok(());
        let mut frames = 0u64;
        while let Some(Drawn { frame, ood_share, permit }) = self.control.receive(input) {
            self.stats.saw_queue(input.len() + 1);
            let (running_time, captured, repeat) = (frame.running_time, frame.captured, frame.lost.is_some());
            self.observer.drawn(&frame);
            match self.stats.time(|| write(self.control, writer.as_deref_mut(), frame)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if self.only_written && !self.control.stopping() && writer.as_ref().is_some_and(|writer| writer.is_over()) {
                tracing::info!("{}: no output takes its pictures any more, the stream ends", self.meter.name());
                self.control.stop();
            }
            frames += 1;
            tracing::trace!("frame {frames} is out");
            if repeat {
                self.meter.repeated();
            } else {
                self.meter.frame_out(captured, ood_share);
                self.observer.frame_done(running_time, ood_share);
            }
            return_permit(&self.permits, permit);
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
