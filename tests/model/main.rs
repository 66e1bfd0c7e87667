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
