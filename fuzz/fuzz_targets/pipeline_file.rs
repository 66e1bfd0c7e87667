//! The pipeline file, as keys given on the command line, on any text.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run pipeline_file
#![no_main]

use libfuzzer_sys::fuzz_target;
use oodstream::config::Config;

fuzz_target!(|text: &str| {
    let overrides: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = Config::load(None, &overrides);
});
