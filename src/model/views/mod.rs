//! The windows in which the network sees a frame: their layout, and the maps of all of them brought together.

pub mod inference;
pub mod layout;
pub mod merge;
pub mod rgb;

pub use layout::{Resize, Views};
