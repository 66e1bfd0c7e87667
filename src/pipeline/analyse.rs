//! The stages that all streams share behind the gathering: the network and the dense maths.

use crossbeam::channel::{Receiver, Sender};

use super::control::Control;
use super::job::{Batch, Job};
use super::meter::Meter;
use super::policy::{Flow, Policy, Sync};
use super::settings::Settings;
use super::stats::StageStats;
use crate::Result;
use crate::compute::{Backend, Detection, Recipe, Size};
use crate::model::Network;
use crate::model::merge::Merge;

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

/// The dense maths: jobs of all streams in, each out to its own stream.
pub(super) fn detect(
    control: &Control,
    stats: &StageStats,
    backend: &mut dyn Backend,
    recipe: &Recipe,
    settings: &Settings,
    input: &Receiver<Piece>,
    mut outlets: Vec<Option<Outlet<'_>>>,
) -> Result<()> {
    let mut recipe = recipe.clone();
    let mut merge = Merge::default();
    while let Some((lane, job)) = control.receive(input) {
        stats.saw_queue(input.len() + 1);
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
            let found = stats.time(|| score(lane as u32, &mut job, outlet, &mut merge, backend, &mut recipe, settings));
            if let Err(error) = found {
                outlet.control.fail(error);
                *slot = None;
                continue;
            }
        }
        // There is room for all of them; or the stream has ended on the other side.
        let _ = outlet.track.try_send(job);
    }
    Ok(())
}

fn score(
    lane: u32,
    job: &mut Job,
    outlet: &mut Outlet<'_>,
    merge: &mut Merge,
    backend: &mut dyn Backend,
    recipe: &mut Recipe,
    settings: &Settings,
) -> Result<()> {
    let Job { frame: Some(frame), layout: Some(layout), sight, detection: Some(detection), .. } = job else {
        return Ok(());
    };
    let size = Size { width: frame.width() as usize, height: frame.height() as usize };
    if job.fresh {
        backend.reset(lane);
    }
    let known = settings.get().threshold.or(outlet.threshold);
    recipe.threshold = known.unwrap_or(f32::INFINITY);
    sight.merge(layout, merge)?;
    sight.with_maps(|maps| {
        backend.detect(lane, maps, recipe, size, detection)?;
        if known.is_none() {
            // Nothing says which score is high for this network and method: take the first frame as ordinary.
            recipe.threshold = quantile(detection.grid_score.iter().copied(), 0.99);
            outlet.threshold = Some(recipe.threshold);
            tracing::warn!(
                "no threshold is known for this model and method: marking what scores above {:.4}, the top 1 % of the first frame; \
                 `oodstream calibrate` finds a better one on ordinary footage",
                recipe.threshold
            );
            backend.detect(lane, maps, recipe, size, detection)?;
        }
        Ok(())
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
