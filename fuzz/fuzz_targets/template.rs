//! The names of recordings in segments, on any text before the extension.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run template
#![no_main]

use libfuzzer_sys::fuzz_target;
use oodstream::output::publish::Target;

fuzz_target!(|text: &str| {
    let _ = Target::parse(&format!("{text}.mp4"));
    let _ = Target::parse(&format!("x-{text}-%Y%m%d-%H%M%S.mkv"));
});
