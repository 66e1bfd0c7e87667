//! The certificate authorities to trust.

use std::path::Path;

use gio::prelude::*;
use gstreamer_rtsp_server::gio;

use crate::{Error, Result};

/// Loads the authorities in a PEM file, which replace those of the system.
///
/// # Errors
/// The file cannot be read, or has no certificates.
pub(crate) fn authorities(path: &Path) -> Result<gio::TlsDatabase> {
    let name = path.display();
    std::fs::metadata(path)
        .map_err(|e| Error::failed(format!("{name}: the certificate authorities cannot be read: {e}")))?;
    // GLib requires an absolute path.
    let path = std::path::absolute(path).map_err(|e| Error::failed(format!("{name}: {e}")))?;
    gio::TlsFileDatabase::new(path).map(|database| database.upcast()).map_err(|e| {
        Error::failed(format!("{name}: there are no certificate authorities in it: {}", e.message()))
            .hint("give a PEM file; TLS itself needs the Debian package glib-networking")
    })
}
