//! The staged pipeline: one named thread per stage, bounded channels between them, one way to shut down.
//!
//! ```text
//! stream 0: source -.                               .-> track -> draw -> sink
//! stream 1: source --+-> prepare -> infer -> detect +-> track -> draw -> sink
//! stream 2: source -'                               '-> track -> draw -> sink
//!              ^----------------------- permits -------------------------'
//! ```
//! A stream has a lane for as long as it lasts; lanes of files run one stream after the other.
//!
//! A message carries one frame and the results so far, which its type names. The permits of a stream circulate with the
//! reusable memory: the sink returns each to the source, so that their number bounds the memory, nothing is allocated
//! per frame after the first round, and a stream whose sink is stuck has no permits left with which to delay the others.
//! The stream's policy applies to frames that find no permit or no room: a file waits, a live stream drops frames and
//! counts them.

mod align;
mod analyse;
pub mod control;
mod drawing;
mod gather;
mod lane;
mod message;
mod meter;
mod observer;
mod policy;
pub mod run;
mod sampling;
mod settings;
pub mod stage;
pub mod stats;
mod stream;

pub use control::Control;
pub use meter::{LATENCY_BOUNDS, LatencyReport, Link, Meter, Reading};
pub use observer::Observer;
pub use policy::{Flow, Policy, Sync};
pub use run::{Engine, Outcome, Stream, run, run_lanes};
pub use sampling::Sampling;
pub use settings::{Settings, Tunable};
pub use stats::{StageReport, StageStats};
pub use stream::Lane;
