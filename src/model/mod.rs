//! All of ONNX: the manifest beside a model, the graph in its file ([`onnx_file`]), the loaded network ([`runtime`]), the
//! I420 picture as its input tensor ([`prepare`]), and the parts and sizes in which it sees a frame ([`views`]).

pub mod classes;
pub mod inspect;
pub mod locate;
pub mod manifest;
pub mod onnx_file;
pub mod prepare;
pub mod runtime;
pub mod verify;
pub mod views;

pub use manifest::Manifest;
pub use runtime::{Network, Outputs, SessionOptions};
pub use views::{Resize, Views};
