//! What stands behind `oodstream bench`.

mod kmeans;
mod pipeline;
mod prepare;
mod stages;
mod synthetic;

pub use self::kmeans::{KMeansJob, KMeansReport, Python, kmeans};
pub use self::pipeline::{PipelineJob, PipelineReport, Round, frames_of, pipeline};
pub use self::prepare::{PrepareReport, prepare};
pub use self::stages::{FrameMaps, Grey, Pass, StagesReport, StepReport, stages};
pub use self::synthetic::{MapShapes, points, scene};

/// The middle value; 0 for none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
