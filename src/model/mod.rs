//! All of ONNX: the manifest beside a model, the runtime library, the session, and the I420 picture as its input tensor.

pub mod locate;
pub mod manifest;
pub mod network;
pub mod prepare;
pub mod runtime;

pub use manifest::Manifest;
pub use network::{Network, Outputs, SessionOptions};
