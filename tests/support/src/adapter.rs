//! The graphics adapter of the tests on GPU code.

use oodstream::compute::{Gpu, adapters};

/// Whether there is an adapter; if not, the reason is printed, or the test fails where the environment says that there must be.
pub fn is_there() -> bool {
    let found = !adapters().is_empty();
    if !found {
        assert!(
            std::env::var_os("OODSTREAM_REQUIRE_GPU").is_none(),
            "OODSTREAM_REQUIRE_GPU is set, but there is no adapter"
        );
        eprintln!("skipped: no graphics adapter that can compute (Debian: mesa-vulkan-drivers brings a software one)");
    }
    found
}

/// The GPU back end, or none as [`is_there`] says.
pub fn gpu() -> Option<Gpu> {
    is_there().then(|| Gpu::new(true).unwrap())
}
