//! All of ONNX: the manifest beside a model, the graph in its file, the runtime library, the session, the I420 picture as its
//! input tensor, and the parts and sizes in which a frame is looked at.

mod bound;
pub mod classes;
mod collect;
pub mod describe;
pub mod edit;
pub mod graph;
pub mod inspect;
pub mod locate;
pub mod look;
pub mod manifest;
pub mod merge;
pub mod network;
pub mod plan;
pub mod prepare;
pub mod provider;
pub mod runtime;
pub mod tap;
pub mod views;
pub mod wire;

pub use manifest::Manifest;
pub use network::{Network, Outputs, SessionOptions};
pub use views::{Resize, Views};
