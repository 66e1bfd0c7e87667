//! The staged pipeline: one named thread per stage, bounded channels between them, one road out.
//!
//! ```text
//! source -> prepare -> infer -> detect -> track -> draw -> sink
//!    ^------------------ spare jobs -----------------------'
//! ```
//! A job carries one frame and every buffer that its stages need. The jobs go round: the sink hands an emptied one back to
//! the source, so that their number bounds the memory and nothing is allocated per frame after the first round.

pub mod control;
mod policy;
pub mod run;
pub mod stage;
pub mod stats;

pub use control::Control;
pub use policy::{Policy, Sync};
pub use run::{Engine, Observer, Outcome, run};
pub use stats::{StageReport, StageStats};
