//! The method: scores by name, their calibration on ordinary footage, and regions, tracks and events in the mask.

pub mod alarm;
pub mod calibrate;
pub mod calibration;
pub mod components;
pub mod method;
pub mod region;
