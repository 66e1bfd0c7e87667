//! The thread of a connection, which starts and stops its pipeline. Either can hang on a server or device that does not
//! respond; the reader must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use gst::prelude::*;
use gstreamer as gst;

use crate::{Error, Result, memory};

/// Holds a pipeline in the playing state until it is dropped.
pub(crate) struct Keeper {
    stop: Sender<()>,
    done: Receiver<()>,
}

/// The number of keepers whose pipeline has not stopped yet.
#[derive(Clone, Default)]
pub(crate) struct KeeperCount(Arc<AtomicUsize>);

impl KeeperCount {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

struct Counted(KeeperCount);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Keeper {
    /// Starts `pipeline`; drops `link` after it has stopped.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(pipeline: gst::Pipeline, link: Option<Box<dyn Send>>, keepers: &KeeperCount) -> Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let (finished, done) = bounded::<()>(0);
        keepers.0.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(keepers.clone());
        let work = move || {
            let (_counted, _finished) = (counted, finished);
            // A failure also posts an error, which has the details.
            let _ = pipeline.set_state(gst::State::Playing);
            // Until the other end is dropped.
            let _ = stopped.recv();
            let _ = pipeline.set_state(gst::State::Null);
            drop(pipeline);
            // The farewell went through it.
            drop(link);
            memory::give_back();
        };
        std::thread::Builder::new()
            .name("live".to_string())
            .spawn(work)
            .map_err(|e| Error::failed(format!("no thread can be started for a live input: {e}")))?;
        Ok(Self { stop, done })
    }

    /// Stops the pipeline and waits for that, for at most `timeout`.
    pub fn stop(self, timeout: Duration) {
        drop(self.stop);
        let _ = self.done.recv_timeout(timeout);
    }
}
