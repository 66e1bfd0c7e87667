//! Evaluation on labelled images (`docs/method.md`, M13 and M14): data sets, metrics, reports.
//!
//! One pass takes the pictures through the network and keeps the small score grids ([`gather`]); the passes over the
//! grids rank all pixels of the set for the pixel metrics and label components at the best threshold ([`measure`]).

pub mod challenge;
pub mod classes;
pub mod clip;
pub mod clip_report;
pub mod components;
pub mod dataset;
pub mod gather;
pub mod html;
pub mod measure;
pub mod metrics;
pub mod objects;
pub mod plot;
pub mod ranking;
pub mod report;
pub mod sample;
pub mod save;
pub mod source;
pub mod store;
pub mod truth;
pub mod upsample;
