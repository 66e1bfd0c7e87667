//! ONNX Runtime: its library, execution providers, and a loaded network.

mod bound;
mod check;
pub mod file;
pub mod library;
pub mod network;
pub mod open;
mod outputs;
pub mod placement;
pub mod probe;
pub mod provider;
mod values;

pub use network::{Network, Outputs};
pub use provider::{Device, Precision, Provider, SessionOptions};
