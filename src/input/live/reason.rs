//! The reason for the loss of a connection.

use std::path::Path;

use gstreamer as gst;

use crate::gst::message::Trouble;
use crate::input::live::address::{LiveInput, LiveSource};
use crate::input::live::relay::Finding;

/// The reason for a page of HTML.
pub(crate) const WEB_PAGE: &str =
    "the server sent a web page, not a video: it may require a login, or the address is that of its pages";

/// A reason and its consequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub words: String,
    /// The login was refused: cameras lock out clients that try too often.
    pub refused: bool,
    /// The server is busy.
    pub busy: bool,
    /// The reason is unspecific.
    pub vague: bool,
    /// The target of a redirection.
    pub moved: Option<String>,
}

impl Reason {
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), refused: false, busy: false, vague: false, moved: None }
    }

    /// From a finding about the server.
    pub fn found(finding: Finding) -> Self {
        match finding {
            Finding::Unreachable(words) | Finding::Refused(words) => Self::new(words),
            Finding::Denied(words) => Self { refused: true, ..Self::new(words) },
            Finding::Busy(words) => Self { busy: true, ..Self::new(words) },
            Finding::Moved(address) => {
                Self { moved: Some(address), ..Self::new("the server redirects to another address") }
            }
        }
    }

    /// From the errors on the bus.
    pub fn of(trouble: &Trouble, input: &LiveInput) -> Self {
        if let Some((what, package)) = &trouble.missing {
            if what.contains("html") || what.contains("HTML") {
                return Self::new(WEB_PAGE);
            }
            return Self::new(format!("the {what} is missing (apt-get install {package})"));
        }
        let Some((error, debug)) = &trouble.error else { return Self::new("the stream stopped") };
        // Without a detail, the last line is a location in GStreamer's source.
        let detail = debug.lines().last().map(str::trim).filter(|line| !line.contains(".c(")).unwrap_or_default();
        let text = input.hide(&format!("{} {detail}", error.message()));
        let vague = Self { vague: true, ..Self::new(text.trim().trim_end_matches('.')) };
        if let LiveSource::Device(device) = &input.source {
            return of_device(&device.path, error, &text).map_or(vague, Self::new);
        }
        match error.kind::<gst::ResourceError>() {
            Some(gst::ResourceError::NotFound) => Self::new("404: there is nothing at this address"),
            _ => vague,
        }
    }
}

/// The meaning of an error of the device at `path`.
fn of_device(path: &str, error: &gst::glib::Error, text: &str) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let kind = error.kind::<gst::ResourceError>();
    if says(&["not a capture device"]) {
        Some(format!("{path} is not a video capture device; usually the first device of a camera is"))
    } else if says(&["Inappropriate ioctl"]) {
        Some(format!("{path} is not a camera"))
    } else if says(&["Permission denied", "Operation not permitted"]) {
        Some(format!(
            "{path} cannot be read: permission denied; the user may have to be in its group, `video` on most systems"
        ))
    } else if kind == Some(gst::ResourceError::Busy) || says(&["Device or resource busy"]) {
        Some("the device is in use, perhaps by another program".to_owned())
    // The driver's error for an unplugged device depends on what it was doing.
    } else if kind == Some(gst::ResourceError::NotFound) || !Path::new(path).exists() {
        Some(format!("there is no device {path}"))
    } else {
        None
    }
}
