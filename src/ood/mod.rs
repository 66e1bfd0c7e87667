//! The method: which score is asked for, what ordinary footage says about it, and the regions, tracks and events in its mask.

pub mod alarm;
pub mod calibrate;
pub mod calibration;
pub mod components;
pub mod method;
pub mod region;
