//! ONNX files and manifests, the maps that networks give, and views.

mod features_alone;
mod graphs;
mod hostile;
mod providers;
mod quantised;
mod queries;
mod taken_as_is;
mod values;
mod verify;
mod views;

use oodstream::model::runtime::{Provider, SessionOptions};

/// On the CPU, whose figures are the reference, whatever providers are installed.
fn on_cpu() -> SessionOptions {
    SessionOptions { provider: Provider::Cpu, ..SessionOptions::default() }
}
