//! ONNX files: read in place, searched for logits and features, and edited without touching the rest.

mod collect;
pub mod describe;
pub mod edit;
pub mod graph;
mod parts;
pub mod plan;
pub mod tap;
pub mod wire;
