//! How long the steps of one frame took, for `bench stages`.

use std::time::Instant;

/// Most steps that a back end reports.
pub(crate) const STEPS: usize = 16;

/// One step of one frame.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Notes the step that began at `begin` and returns now.
pub(crate) fn step(steps: &mut Vec<Step>, name: &'static str, begin: Instant) -> Instant {
    let now = Instant::now();
    steps.push(Step { name, seconds: (now - begin).as_secs_f64() });
    now
}
