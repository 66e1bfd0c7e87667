//! ONNX Runtime: its library, execution providers, and a loaded network.

mod bound;
pub mod library;
pub mod network;
mod outputs;
pub mod probe;
pub mod provider;
mod values;

pub use network::{Network, Outputs};
pub use provider::{Provider, SessionOptions};
