//! Calibration, and from score maps to events.

mod alarm;
mod calibration;
mod tracks;
