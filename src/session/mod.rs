//! Whole runs: inputs and outputs by their addresses, all stages between them, a typed report at the end.
//!
//! [`Session`] runs streams; [`Detector`] takes single pictures. The command line is a client of both.

pub(crate) mod board;
pub(crate) mod builder;
pub mod detector;
pub mod engine;
pub(crate) mod files;
mod handle;
mod live;
mod observer;
pub mod open;
pub(crate) mod outputs;
mod report;
mod streams;

pub use builder::{Session, SessionBuilder};
pub use detector::{Detector, Finding};
pub(crate) use handle::Change;
pub use handle::{Handle, StreamStatus};
pub use observer::Observer;
pub use report::{Ending, InputReport, LiveReport, Report};
