//! Archives: trees of files, each with a completion record, so that a run that was stopped goes on where it was.
//!
//! 1. [`find`]: folders, lists and patterns to the files that are meant, each with its key: the path below the root.
//! 2. [`plan`]: keys to the places of the outputs, and records to what is left to do.
//! 3. [`run`]: the work, `jobs` files at a time; [`record`]s are written last.
//! 4. [`status`]: what the records of a folder say; [`review`]: a page to look through them; [`export`]: other formats;
//!    [`mine`]: events that are alike, or as different as possible.

pub mod export;
pub mod find;
pub mod merge;
pub mod mine;
pub mod passed;
pub mod plan;
pub mod record;
pub mod review;
pub mod run;
pub mod settings;
pub mod shard;
pub mod status;
mod work;

pub use find::Find;
pub use passed::Passed;
pub use plan::{Resume, Worklist};
pub use record::{Record, State};
pub use run::{Archive, ArchiveReport, Follow, Stop};
pub use shard::Shard;
