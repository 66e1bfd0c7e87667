//! A frame between its submission and its results.

use std::sync::Arc;

use super::super::cpu::resize;
use super::super::{Cluster, Detection};
use super::device::Context;
use super::params::Run;
use super::shape::Spec;
use super::transfer::{Readback, Results, Slot};
use crate::Result;

/// A frame on the device.
pub(super) struct Flight {
    pub slot: Slot,
    pub submission: wgpu::SubmissionIndex,
    pub spec: Arc<Spec>,
    pub layout: Readback,
    /// Points with padding.
    pub padded: usize,
    /// The result under construction.
    pub out: Detection,
}

impl Flight {
    /// Waits for the device to be done with the frame.
    pub fn wait(&mut self, context: &Context) -> Result<Results> {
        self.slot.wait(context, self.submission.clone())
    }

    /// Fills `out`.
    pub fn read(&mut self, results: &Results) {
        let Self { spec, layout, padded, out, .. } = self;
        let size = (spec.target.height, spec.target.width);
        let pixels = spec.plan.pixels;
        results.read(layout.score, resize(&mut out.score, size));
        results.read(layout.mask, resize(&mut out.mask, size));
        results.read(layout.grid, resize(&mut out.grid_score, spec.plan.grid));
        let marked: usize = out.mask.iter().map(|&m| usize::from(m)).sum();
        out.ood_share = (marked as f64 / (size.0 * size.1) as f64) as f32;
        let labels = resize(&mut out.labels, (spec.k.len(), pixels));
        for (r, row) in labels.chunks_exact_mut(pixels).enumerate() {
            results.read(layout.labels + (r * *padded * 4) as u64, row);
        }
        out.clusters.clear();
        out.iterations.clear();
        let mut at = layout.clusters;
        for (r, &k) in spec.k.iter().enumerate() {
            for _ in 0..k {
                let mut row = [0u32; 4];
                results.read(at, &mut row);
                at += 16;
                out.clusters.push(Cluster { k, pixels: row[0], mean_confidence: f32::from_bits(row[2]) });
            }
            let mut run = [Run::default()];
            results.read(layout.runs + r as u64 * size_of::<Run>() as u64, &mut run);
            out.iterations.push(run[0].iterations as usize);
        }
    }
}
