//! ONNX files and manifests, the maps that networks give, and views.

mod hostile;
mod providers;
mod taken_as_is;
mod values;
mod views;
