//! ONNX Runtime: its library, execution providers, and a loaded network.

mod bound;
pub mod library;
pub mod network;
pub mod open;
mod outputs;
pub mod placement;
pub mod provider;

pub use network::{Network, Outputs};
pub use provider::{Device, Precision, Provider, SessionOptions};
