//! The stages that all streams share behind the gathering: the network and the dense maths.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use super::control::Control;
use super::job::{Batch, Job};
use super::meter::Meter;
use super::policy::{Flow, Policy, Sync};
use super::settings::Settings;
use super::stats::StageStats;
use crate::compute::{Backend, Detection, Luma, Maps, Recipe, Size};
use crate::model::runtime::Network;
use crate::model::views::merge::Merge;
use crate::ood::alarm::Filler;
use crate::{Error, Result};

/// A job of a stream, or the end of the stream.
pub(super) type Piece = (usize, Option<Box<Job>>);

/// The network: batches in, jobs with outputs out.
pub(super) fn infer(
    control: &Control,
    stats: &StageStats,
    network: &mut Network,
    input: &Receiver<Batch>,
    spare: &Sender<Batch>,
    output: &Sender<Piece>,
) -> Result<()> {
    while let Some(mut batch) = control.receive(input) {
        stats.saw_queue(input.len() + 1);
        let Batch { jobs, ended, tensor, slots } = &mut batch;
        let frames = jobs.iter().filter(|(_, job)| job.views() > 0).count();
        stats.time_each(frames, || {
            let mut outputs = network.infer_all(tensor, *slots)?.into_iter();
            for (_, job) in jobs.iter_mut() {
                outputs.by_ref().take(job.views()).for_each(|outputs| job.sight.push(outputs));
            }
            Ok(())
        })?;
        *slots = 0;
        let pieces: Vec<Piece> = jobs
            .drain(..)
            .map(|(lane, job)| (lane, Some(job)))
            .chain(ended.drain(..).map(|lane| (lane, None)))
            .collect();
        // There is room for all of them. The next picture is chosen from here on.
        let _ = spare.try_send(batch);
        if !pieces.into_iter().all(|piece| control.send(output, piece)) {
            break;
        }
    }
    Ok(())
}

/// Where the results of one stream go.
pub(super) struct Outlet<'a> {
    pub control: &'a Control,
    pub meter: &'a Meter,
    pub flow: Flow,
    /// Maps that are free.
    pub maps: Receiver<Box<Detection>>,
    /// Has room for every job of the stream.
    pub track: Sender<Box<Job>>,
    /// Where jobs go that will not be worked on.
    pub spare: Sender<Box<Job>>,
    /// The stream's threshold, as long as the settings give none.
    pub threshold: Option<f32>,
}

impl Outlet<'_> {
    /// Maps to fill. A stream that may fall behind waits for its own; any other goes without, so that one stream whose
    /// drawing is stuck does not hold up the rest.
    fn take_maps(&self, control: &Control) -> Option<Box<Detection>> {
        match self.flow.policy {
            Policy::Wait => control.receive(&self.maps),
            Policy::DropOldest | Policy::Latest => self.maps.try_recv().ok(),
        }
    }
}

/// Jobs whose frames the back end works on, in the order of submission: stream, job, and how long the submission took.
type Flights = VecDeque<(usize, Box<Job>, Duration)>;

/// The dense maths: jobs of all streams in, each out to its own stream.
///
/// While the back end works on one frame the next is submitted, as far as its depth goes; a result that nothing follows is
/// fetched at once.
pub(super) fn detect(
    control: &Control,
    stats: &StageStats,
    backend: &mut dyn Backend,
    recipe: &Recipe,
    settings: &Settings,
    mut filler: Filler,
    input: &Receiver<Piece>,
    mut outlets: Vec<Option<Outlet<'_>>>,
) -> Result<()> {
    let mut recipe = recipe.clone();
    let mut merge = Merge::default();
    let mut flights = Flights::with_capacity(backend.depth());
    // What a run that failed may have left in flight.
    while backend.collect().is_ok() {}
    loop {
        let piece = if flights.is_empty() { control.receive(input) } else { input.try_recv().ok() };
        let Some((lane, job)) = piece else {
            if flights.is_empty() {
                return Ok(());
            }
            collect_oldest(stats, backend, &mut recipe, &mut flights, &outlets)?;
            continue;
        };
        stats.saw_queue(input.len() + 1);
        let scored = job.as_ref().is_some_and(|job| !job.sight.is_empty());
        let open = outlets.get(lane).and_then(Option::as_ref);
        let threshold = open.and_then(|outlet| settings.get().threshold.or(outlet.threshold));
        if !scored || threshold.is_none() || open.is_none_or(|outlet| outlet.maps.is_empty()) {
            // It must not overtake those before it, or cannot go on without them.
            while !flights.is_empty() {
                collect_oldest(stats, backend, &mut recipe, &mut flights, &outlets)?;
            }
        }
        let Some(slot) = outlets.get_mut(lane) else { continue };
        let (Some(outlet), Some(mut job)) = (slot.as_mut(), job) else {
            *slot = None;
            continue;
        };
        if !job.sight.is_empty() {
            // Waiting for the maps of an earlier frame is not work of this stage.
            job.detection = outlet.take_maps(control);
            if job.detection.is_none() {
                // Where every frame is shown, one result less is no loss.
                if outlet.flow.sync == Sync::Exact {
                    outlet.meter.crowded_out();
                }
                job.clear();
                let _ = outlet.spare.try_send(job);
                continue;
            }
            let begin = Instant::now();
            let scored = bring_together(&mut job, &mut merge, &mut filler)
                .and_then(|()| score(lane as u32, &mut job, outlet, threshold, backend, &mut recipe));
            if let Err(error) = scored {
                outlet.control.fail(error);
                *slot = None;
                continue;
            }
            flights.push_back((lane, job, begin.elapsed()));
            if flights.len() == backend.depth() {
                collect_oldest(stats, backend, &mut recipe, &mut flights, &outlets)?;
            }
            continue;
        }
        // There is room for all of them; or the stream has ended on the other side.
        let _ = outlet.track.try_send(job);
    }
}

/// Waits for the frame that was submitted first, and hands its job on.
///
/// # Errors
/// The back end cannot go on.
fn collect_oldest(
    stats: &StageStats,
    backend: &mut dyn Backend,
    recipe: &mut Recipe,
    flights: &mut Flights,
    outlets: &[Option<Outlet<'_>>],
) -> Result<()> {
    let begin = Instant::now();
    let found = loop {
        match backend.collect()? {
            Some(found) => break found,
            // The device was replaced.
            None => {
                for (lane, job, _) in flights.iter_mut() {
                    submit(*lane as u32, job, backend, recipe)?;
                }
            }
        }
    };
    let Some((lane, mut job, submission)) = flights.pop_front() else { return Ok(()) };
    if let Some(detection) = &mut job.detection {
        **detection = found;
    }
    stats.add(submission + begin.elapsed());
    if let Some(Some(outlet)) = outlets.get(lane) {
        // There is room for all of them; or the stream has ended on the other side.
        let _ = outlet.track.try_send(job);
    }
    Ok(())
}

/// Lays the maps of all views of the frame onto one canvas, where there are several, and takes out what is left out.
fn bring_together(job: &mut Job, merge: &mut Merge, filler: &mut Filler) -> Result<()> {
    job.layout.as_ref().map_or(Ok(()), |layout| job.sight.merge(layout, merge))?;
    if filler.is_needed() { job.sight.edit(|map| filler.fill(map)) } else { Ok(()) }
}

/// Calls `work` with what the network said of the frame, the frame's size and where the result goes.
fn with_maps(job: &mut Job, work: impl FnOnce(&Maps<'_>, Size, &mut Detection) -> Result<()>) -> Result<()> {
    let Job { frame: Some(frame), sight, detection: Some(detection), .. } = job else {
        return Err(Error::failed("a frame came without its picture or room for its result"));
    };
    let size = Size { width: frame.width() as usize, height: frame.height() as usize };
    let picture = frame.map()?;
    let picture = picture.i420();
    let luma = Luma { plane: picture.y, range: picture.colour.range };
    sight.with_maps(|maps| work(&Maps { picture: Some(luma), ..*maps }, size, detection))
}

/// Starts the work on a frame whose threshold is set.
fn submit(lane: u32, job: &mut Job, backend: &mut dyn Backend, recipe: &mut Recipe) -> Result<()> {
    recipe.threshold = job.threshold;
    with_maps(job, |maps, size, out| backend.submit(lane, maps, recipe, size, std::mem::take(out)))
}

/// Starts the work on a frame. Without a threshold it is done twice, first for the threshold, and nothing may be in flight.
fn score(
    lane: u32,
    job: &mut Job,
    outlet: &mut Outlet<'_>,
    threshold: Option<f32>,
    backend: &mut dyn Backend,
    recipe: &mut Recipe,
) -> Result<()> {
    if job.fresh {
        backend.reset(lane);
    }
    job.threshold = match threshold {
        Some(known) => known,
        None => {
            // Nothing says which score is high for this network and method: take the first frame as ordinary.
            recipe.threshold = f32::INFINITY;
            with_maps(job, |maps, size, out| backend.detect(lane, maps, recipe, size, out))?;
            let scores = job.detection.iter().flat_map(|found| found.grid_score.iter().copied());
            let threshold = quantile(scores, 0.99);
            tracing::warn!(
                "no threshold is known for this model and method: marking what scores above {threshold:.4}, the top 1 % of the first frame; \
                 `oodstream calibrate` finds a better one on ordinary footage"
            );
            *outlet.threshold.insert(threshold)
        }
    };
    submit(lane, job, backend, recipe)
}

fn quantile(values: impl Iterator<Item = f32>, q: f64) -> f32 {
    let mut values: Vec<f32> = values.collect();
    let index = ((values.len().max(1) - 1) as f64 * q).round() as usize;
    values.sort_by(f32::total_cmp);
    values.get(index).copied().unwrap_or(0.0)
}
