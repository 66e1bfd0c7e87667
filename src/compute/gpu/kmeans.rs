//! K-Means alone, without a frame.

use ndarray::{Array2, ArrayView2};

use super::super::Size;
use super::super::kmeans::{self, Clustering, KMeans, Seeds};
use super::super::plan::{Blend, Plan};
use super::params::{Frame, Run};
use super::shape::Spec;
use super::transfer::{self, Inputs};
use super::{Gpu, builder};
use crate::{Error, Result};

impl Gpu {
    fn try_kmeans(
        &mut self,
        data: ArrayView2<'_, f32>,
        k: usize,
        seeds: Seeds<'_>,
        max_iterations: usize,
    ) -> Result<KMeans> {
        let (n, dims) = data.dim();
        // The points as one feature map of D channels, N rows and one column.
        let map = data.t().insert_axis(ndarray::Axis(2));
        let plan = Plan {
            grid: (n, 1),
            pixels: n,
            dims,
            clusters: true,
            bank: false,
            guided: false,
            pixel: Blend::default(),
            cluster: Blend::default(),
        };
        self.program(Spec {
            plan,
            logits: None,
            features: vec![[dims, n, 1]],
            target: Size { width: 1, height: 1 },
            k: vec![k],
            seed: if let Seeds::PlusPlus { seed, .. } = seeds { seed } else { 0 },
            max_iterations,
            unit_length: false,
            smoothing: None,
            codebook: None,
            settled: [0, 0],
        })?;
        let Self { programs, context, pool, scratch, .. } = self;
        let Some(program) = programs.last() else { return Err(Error::failed("no program")) };
        let slot = pool.take(context, program.staging.bytes, program.layout.bytes)?;
        let frame = Frame { threshold: f32::INFINITY };
        let source = Inputs { logits: None, features: &[map], guide: &[], frame };
        transfer::write(&program.staging, &slot, &source, context.half, scratch)?;
        let start = match seeds {
            Seeds::PlusPlus { .. } => &program.cold,
            Seeds::Given(rows) => {
                let rows: Vec<f32> = rows.iter().copied().collect();
                context.queue.write_buffer(&program.carried, 0, bytemuck::cast_slice(&rows));
                &program.warm
            }
        };
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let commands = program.prepare.iter().chain(start).chain(&program.means).chain(&program.finish);
        builder::encode(context, &slot, &mut encoder, commands);
        let submission = slot.submit(context, encoder.finish());
        let results = slot.wait(context, submission)?;
        let (mut labels, mut centroids, mut run) = (vec![0u32; n], Array2::<f32>::zeros((k, dims)), [Run::default()]);
        results.read(program.layout.labels, &mut labels);
        results.read(program.layout.centroids, centroids.as_slice_mut().unwrap_or_default());
        results.read(program.layout.runs, &mut run);
        drop(results);
        pool.give_back(slot);
        Ok(KMeans { labels, centroids, iterations: run[0].iterations as usize })
    }

    /// Runs `job`, once more on a new device if the first was lost.
    fn with_device<T>(&mut self, mut job: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        if self.context.is_lost() {
            self.rebuild()?;
        }
        let mut result = job(self);
        if result.is_err() {
            self.context.settle();
        }
        if self.context.is_lost() {
            self.rebuild()?;
            result = job(self);
        }
        let value = result?;
        self.context.check()?;
        Ok(value)
    }
}

impl Clustering for Gpu {
    fn kmeans(&mut self, points: ArrayView2<'_, f32>, seeds: Seeds<'_>, max_iterations: usize) -> Result<KMeans> {
        let k = kmeans::check(&points, &seeds)?;
        self.with_device(|gpu| gpu.try_kmeans(points, k, seeds, max_iterations))
    }
}
