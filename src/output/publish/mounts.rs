//! The mount points of an RTSP server with users, where unknown paths look like known ones.
//!
//! GStreamer answers 404 for an unknown path before it requests a login, so that stream names could be guessed. Here
//! such a path leads to a mount that nobody may watch: without a login the answer is 401 for both.

use crate::lock::lock;
use std::sync::{Mutex, MutexGuard};

use gstreamer_rtsp_server as rtsp;
use rtsp::glib;
use rtsp::glib::subclass::prelude::*;
use rtsp::prelude::*;
use rtsp::subclass::prelude::*;

/// The mount of unknown paths; no stream has it, as addresses hold no blanks.
const NOWHERE: &str = "/no where";

#[derive(Default)]
pub(crate) struct Mounts {
    served: Mutex<Vec<String>>,
}

impl Mounts {
    fn served(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.served)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for Mounts {
    const NAME: &'static str = "OodstreamMounts";
    type Type = HiddenMounts;
    type ParentType = rtsp::RTSPMountPoints;
}

impl ObjectImpl for Mounts {}

impl RTSPMountPointsImpl for Mounts {
    fn make_path(&self, url: &rtsp::gst_rtsp::RTSPUrl) -> Option<glib::GString> {
        let path = self.parent_make_path(url)?;
        let served = self.served().iter().any(|mount| holds(mount, &path));
        Some(if served { path } else { NOWHERE.into() })
    }
}

glib::wrapper! {
    pub(crate) struct HiddenMounts(ObjectSubclass<Mounts>) @extends rtsp::RTSPMountPoints;
}

impl HiddenMounts {
    pub fn new() -> Self {
        let mounts: Self = glib::Object::new();
        let nothing = rtsp::RTSPMediaFactory::new();
        nothing.set_launch("( fakesrc ! rtpgstpay name=pay0 )");
        mounts.add_factory(NOWHERE, nothing);
        mounts
    }

    /// Adds or removes `path`.
    pub fn set_served(&self, path: &str, served: bool) {
        let mut paths = self.imp().served();
        paths.retain(|known| known != path);
        if served {
            paths.push(path.to_owned());
        }
    }
}

/// Whether `path` is that of `mount` or of one of its tracks.
pub(crate) fn holds(mount: &str, path: &str) -> bool {
    path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
