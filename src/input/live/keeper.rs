//! A thread for each connection that starts its pipeline and takes it down again. Either can hang on a server or a
//! device that does not answer; the reader must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use gst::prelude::*;
use gstreamer as gst;

use crate::input::live::address::Server;
use crate::input::live::relay::{Relay, tcp};
use crate::{Error, Result, memory};

/// Holds a pipeline in the playing state until it is dropped.
pub(crate) struct Keeper {
    ask: Sender<()>,
    finding: Receiver<String>,
    done: Receiver<()>,
}

/// Keepers that are not done yet.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

impl Alive {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

struct Counted(Alive);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Keeper {
    /// Starts `pipeline`, and ends `relay` after it. `server` is asked when [`Keeper::why`] is; `wake` hears of the answer.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        pipeline: gst::Pipeline,
        relay: Option<Relay>,
        server: Option<Server>,
        wake: Sender<()>,
        alive: &Alive,
    ) -> Result<Self> {
        let (ask, asked) = bounded(1);
        let (found, finding) = bounded(1);
        let (finished, done) = bounded::<()>(0);
        alive.0.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(alive.clone());
        let work = move || {
            let (_counted, _finished) = (counted, finished);
            // A refusal also posts an error, which says more.
            let _ = pipeline.set_state(gst::State::Playing);
            while asked.recv().is_ok() {
                let answer = server.as_ref().and_then(unreachable).unwrap_or_default();
                // Nobody waits for it any more when this fails.
                let _ = found.try_send(answer);
                let _ = wake.try_send(());
            }
            let _ = pipeline.set_state(gst::State::Null);
            drop(pipeline);
            // The goodbye went through it.
            drop(relay);
            memory::give_back();
        };
        std::thread::Builder::new()
            .name("live".to_string())
            .spawn(work)
            .map_err(|e| Error::failed(format!("no thread can be started for a live input: {e}")))?;
        Ok(Self { ask, finding, done })
    }

    /// Asks the server why it cannot be connected to. The answer comes through [`Keeper::answer`].
    pub fn why(&self) {
        // Full: it is being found out already.
        let _ = self.ask.try_send(());
    }

    /// What was found: why the server is out of reach, empty when it is not.
    pub fn answer(&self) -> Option<String> {
        self.finding.try_recv().ok()
    }

    /// Takes the pipeline down and waits for it, for at most `timeout`.
    pub fn stop(self, timeout: Duration) {
        drop(self.ask);
        let _ = self.done.recv_timeout(timeout);
    }
}

/// Why no TCP connection to a server can be made; none when it can.
fn unreachable(server: &Server) -> Option<String> {
    tcp(&server.host, server.port).err()
}
