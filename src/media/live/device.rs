//! `v4l2://` addresses: cameras at this machine.

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::super::init;
use super::super::test_source::{number, queries};
use crate::{Error, Result};

/// A camera at this machine, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub path: String,
    pub width: Option<i32>,
    pub height: Option<i32>,
    pub fps: Option<i32>,
    pub format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Of a media type, compressed.
    Coded(&'static str),
    Raw(gst_video::VideoFormat),
}

impl Device {
    /// From an address, and what follows its scheme.
    ///
    /// # Errors
    /// An unknown key or format, or a value out of range.
    pub fn parse(address: &str, rest: &str) -> Result<Self> {
        let example = "v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpeg";
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.starts_with('/') {
            return Err(Error::usage(format!("{address}: a device has three slashes")).hint(example));
        }
        let mut device = Self { path: path.to_string(), width: None, height: None, fps: None, format: None };
        for (key, value) in queries(query) {
            match key {
                "width" => device.width = Some(number(address, key, value, 2, 16384)?),
                "height" => device.height = Some(number(address, key, value, 2, 16384)?),
                "fps" => device.fps = Some(number(address, key, value, 1, 1000)?),
                "format" => {
                    // GStreamer knows the names.
                    init()?;
                    device.format = Some(Format::parse(value).ok_or_else(|| {
                        Error::usage(format!("{address}: `{value}` is no format that is known"))
                            .hint("mjpeg, h264, h265, yuyv, uyvy, nv12, i420, rgb, bgr, grey")
                    })?);
                }
                _ => return Err(Error::usage(format!("{address}: unknown key `{key}`")).hint(example)),
            }
        }
        Ok(device)
    }

    /// What may come out of the device, the raw formats first.
    pub fn caps(&self) -> gst::Caps {
        let structure = |media: &str, format: Option<gst_video::VideoFormat>| {
            let mut structure = gst::Structure::builder(media);
            structure = structure.field_if_some("format", format.map(|format| format.to_str().to_string()));
            structure = structure.field_if_some("width", self.width).field_if_some("height", self.height);
            structure.field_if_some("framerate", self.fps.map(|fps| gst::Fraction::new(fps, 1))).build()
        };
        match self.format {
            Some(Format::Coded(media)) => gst::Caps::builder_full().structure(structure(media, None)).build(),
            Some(Format::Raw(format)) => {
                gst::Caps::builder_full().structure(structure("video/x-raw", Some(format))).build()
            }
            None => ["video/x-raw", "image/jpeg", "video/x-h264", "video/x-h265"]
                .iter()
                .fold(gst::Caps::builder_full(), |caps, media| caps.structure(structure(media, None)))
                .build(),
        }
    }
}

impl Format {
    fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let raw = match name.as_str() {
            "MJPEG" | "MJPG" | "JPEG" => return Some(Self::Coded("image/jpeg")),
            "H264" => return Some(Self::Coded("video/x-h264")),
            "H265" | "HEVC" => return Some(Self::Coded("video/x-h265")),
            // The kernel's names for what GStreamer calls otherwise.
            "YUYV" => "YUY2",
            "YU12" => "I420",
            "GREY" => "GRAY8",
            other => other,
        };
        let format = gst_video::VideoFormat::from_string(raw);
        (!matches!(format, gst_video::VideoFormat::Unknown | gst_video::VideoFormat::Encoded))
            .then_some(Self::Raw(format))
    }
}
