//! Clips of events: parts of a video in files of their own, by copies of its packets.
//!
//! A part begins at a key frame, at or before its time, and has the sound of that time. Nothing is decoded.

mod cut;
mod cutter;
mod live;
mod packets;
mod windows;
mod write;

pub use cut::{Cut, cut, extension};
pub(crate) use live::LiveCutter;
pub use windows::{Window, Windows};
