//! Signals: Ctrl-C and SIGTERM end a run, SIGHUP reloads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::thread;

use signal_hook::consts::SIGHUP;
pub use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::session::Handle;
use crate::{Error, Result};

/// Stops the session at the first Ctrl-C or SIGTERM, finishing its output; the second one aborts it.
///
/// # Errors
/// The handlers cannot be installed.
pub fn stop_on_interrupt(session: Handle) -> Result<()> {
    watch(move |_, count| {
        if count == 1 {
            session.stop();
        } else {
            session.abort();
        }
        said(count).to_owned()
    })
    .map(|_| ())
}

/// Counts the signals that ask the process to end.
///
/// # Errors
/// The handlers cannot be installed.
pub fn count_interrupts() -> Result<Arc<AtomicU32>> {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    watch(move |_, signals| {
        counted.store(signals, Ordering::Relaxed);
        said(signals).to_owned()
    })?;
    Ok(count)
}

fn said(count: u32) -> &'static str {
    if count == 1 { "finishing the output; once more to give up on it" } else { "giving up" }
}

/// Calls `act` with each SIGINT and SIGTERM and their number so far, and prints what it returns. Returns where the last
/// signal is noted; 0 for none.
///
/// # Errors
/// The handlers cannot be installed.
pub fn watch(act: impl Fn(i32, u32) -> String + Send + 'static) -> Result<Arc<AtomicI32>> {
    let failed = |error| Error::io("cannot watch for Ctrl-C", error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let last = Arc::new(AtomicI32::new(0));
    let noted = Arc::clone(&last);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for (count, signal) in (1..).zip(signals.forever()) {
                noted.store(signal, Ordering::Relaxed);
                eprintln!("\noodstream: {}", act(signal, count));
            }
        })
        .map_err(failed)?;
    Ok(last)
}

/// Reloads the session on SIGHUP until the handle is closed. A SIGHUP before it is ready is ignored.
///
/// # Errors
/// The handler cannot be installed.
pub fn reload_on_hangup(session: Handle) -> Result<signal_hook::iterator::Handle> {
    let failed = |error| Error::io("cannot watch for SIGHUP", error);
    let mut signals = Signals::new([SIGHUP]).map_err(failed)?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("hangup".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if session.is_ready()
                    && let Err(error) = session.reload()
                {
                    tracing::error!("reload: {error}");
                }
            }
        })
        .map_err(failed)?;
    Ok(handle)
}
