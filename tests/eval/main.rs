//! Labelled image sets, metrics and reports.

mod datasets;
mod metrics;
mod passes;
mod shared;
