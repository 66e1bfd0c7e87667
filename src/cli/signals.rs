//! Signals: Ctrl-C and SIGTERM end a run, SIGHUP reloads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::session::Handle;
use crate::{Error, Result};

/// Stops the session at the first Ctrl-C or SIGTERM, finishing its output; the second one aborts it.
///
/// # Errors
/// The handlers cannot be installed.
pub fn stop_on_interrupt(session: Handle) -> Result<()> {
    watch(move |count| if count == 1 { session.stop() } else { session.abort() })
}

/// Counts the signals that ask the process to end.
///
/// # Errors
/// The handlers cannot be installed.
pub fn count_interrupts() -> Result<Arc<AtomicU32>> {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    watch(move |signals| counted.store(signals, Ordering::Relaxed))?;
    Ok(count)
}

fn watch(act: impl Fn(u32) + Send + 'static) -> Result<()> {
    let failed = |error| Error::io("cannot watch for Ctrl-C", error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for count in (1..).zip(signals.forever()).map(|(count, _)| count) {
                act(count);
                match count {
                    1 => eprintln!("\noodstream: finishing the output; press Ctrl-C again to abort"),
                    _ => eprintln!("oodstream: aborting"),
                }
            }
        })
        .map_err(failed)?;
    Ok(())
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
