//! Ctrl-C and SIGTERM: the first one ends the reading and finishes the output, the second one gives up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{Error, Result};

/// Counts the signals that ask the process to end.
///
/// # Errors
/// The handlers cannot be installed.
pub fn watch() -> Result<Arc<AtomicU32>> {
    let failed = |error: std::io::Error| Error::failed(format!("cannot watch for Ctrl-C: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                match counted.fetch_add(1, Ordering::Relaxed) {
                    0 => eprintln!("\noodstream: finishing the output; once more to give up on it"),
                    _ => eprintln!("oodstream: giving up"),
                }
            }
        })
        .map_err(failed)?;
    Ok(count)
}
