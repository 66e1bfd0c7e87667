//! Choice of the back end.

use super::Backend;
use super::cpu::Cpu;
use crate::Result;

/// Which back end is wanted: `--compute auto|gpu|cpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ComputeChoice {
    /// A hardware GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// Any adapter, a software one too.
    Gpu,
    /// The CPU.
    Cpu,
}

/// Opens a back end. `threads` is for the CPU; `None` takes all cores.
///
/// # Errors
/// A thread could not be started.
pub fn open(_choice: ComputeChoice, threads: Option<usize>) -> Result<Box<dyn Backend>> {
    Ok(Box::new(Cpu::new(threads)?))
}
