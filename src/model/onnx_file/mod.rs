//! ONNX files: read in place, searched for logits and features, and edited without touching the rest.

pub mod axes;
mod baked;
mod collect;
pub mod describe;
pub mod edit;
pub mod graph;
pub mod noted;
mod parts;
pub mod plan;
pub mod quantised;
pub mod tap;
pub mod wire;
