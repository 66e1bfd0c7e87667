//! Evaluation on labelled images: data sets, metrics, reports.

pub mod components;
pub mod dataset;
pub mod metrics;
pub mod npy;
pub mod ranking;
