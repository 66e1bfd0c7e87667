//! The addresses of live inputs and outputs, the names of recordings in segments among them, on any text.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run address
#![no_main]

use libfuzzer_sys::fuzz_target;
use oodstream::address::hide_credentials;
use oodstream::input::LiveInput;
use oodstream::output::publish::Target;

fuzz_target!(|text: &str| {
    let _ = hide_credentials(text);
    if let Ok(Some(input)) = LiveInput::parse(text) {
        assert_eq!(input.file_name().components().count(), 1);
    }
    if let Ok(Some(target)) = Target::parse(text) {
        let _ = target.to_string();
    }
});
