//! The HTTP server of `--http`, on any bytes of a connection.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run http_request
#![no_main]

use libfuzzer_sys::fuzz_target;
use oodstream::monitor::answer;
use oodstream::session::Handle;

fuzz_target!(|bytes: &[u8]| {
    let said = answer(Handle::default(), bytes).expect("a runtime");
    assert!(said.is_empty() || said.starts_with(b"HTTP/1."));
});
