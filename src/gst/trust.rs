//! Whose certificates are taken.

use std::path::Path;

use gio::prelude::*;
use gstreamer_rtsp_server::gio;

use crate::{Error, Result};

/// The authorities in a PEM file, in place of those of the system.
///
/// # Errors
/// It cannot be read, or there are none in it.
pub(crate) fn authorities(path: &Path) -> Result<gio::TlsDatabase> {
    let name = path.display();
    std::fs::metadata(path)
        .map_err(|e| Error::failed(format!("{name}: the certificate authorities cannot be read: {e}")))?;
    // GLib asks for an absolute path.
    let path = std::path::absolute(path).map_err(|e| Error::failed(format!("{name}: {e}")))?;
    gio::TlsFileDatabase::new(path).map(|database| database.upcast()).map_err(|e| {
        Error::failed(format!("{name}: there are no certificate authorities in it: {}", e.message()))
            .hint("give a PEM file; TLS itself needs the Debian package glib-networking")
    })
}
