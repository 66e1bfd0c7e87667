//! `v4l2://` addresses: local cameras.

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils as gst_pbutils;
use gstreamer_video as gst_video;

use crate::gst::init;
use crate::input::test_source::{number, queries};
use crate::{Error, Result};

/// Limit of formats that a message lists.
const MOST_OFFERS: usize = 12;

/// A local camera, and the format requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub path: String,
    pub width: Option<i32>,
    pub height: Option<i32>,
    pub fps: Option<i32>,
    pub format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Compressed, by its media type.
    Coded(&'static str),
    Raw(gst_video::VideoFormat),
}

impl Device {
    /// Parses an address; `rest` follows its scheme.
    ///
    /// # Errors
    /// An unknown key or format, or a value out of range.
    pub fn parse(address: &str, rest: &str) -> Result<Self> {
        let example = "v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpeg";
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.starts_with('/') {
            return Err(
                Error::usage(format!("{address}: the path of a device is absolute, with three slashes")).hint(example)
            );
        }
        let mut device = Self { path: path.to_string(), width: None, height: None, fps: None, format: None };
        for (key, value) in queries(query) {
            match key {
                "width" => device.width = Some(number(address, key, value, 2, 16384)?),
                "height" => device.height = Some(number(address, key, value, 2, 16384)?),
                "fps" => device.fps = Some(number(address, key, value, 1, 1000)?),
                "format" => {
                    // The names are GStreamer's.
                    init()?;
                    device.format = Some(Format::parse(value).ok_or_else(|| {
                        Error::usage(format!("{address}: `{value}` is an unknown format"))
                            .hint("mjpeg, h264, h265, yuyv, uyvy, nv12, i420, rgb, bgr, grey")
                    })?);
                }
                _ => return Err(Error::usage(format!("{address}: unknown key `{key}`")).hint(example)),
            }
        }
        Ok(device)
    }

    /// The formats to accept, the best first: without a requested size 1280 to 1920 pixels wide, without a requested
    /// rate 24 to 30 frames/s (many cameras send uncompressed pictures at 5 or 10), and raw pictures before compressed
    /// ones.
    pub fn caps(&self) -> gst::Caps {
        let media: &[(&str, Option<gst_video::VideoFormat>)] = match self.format {
            Some(Format::Coded(media)) => &[(media, None)],
            Some(Format::Raw(format)) => &[("video/x-raw", Some(format))],
            None => &["video/x-raw", "image/jpeg", "video/x-h264", "video/x-h265"].map(|media| (media, None)),
        };
        let widths = || gst::IntRange::new(1280, 1920);
        let rates = |most| gst::FractionRange::new(gst::Fraction::new(24, 1), gst::Fraction::new(most, 1));
        let any_size = self.width.is_none() && self.height.is_none();
        let mut caps = gst::Caps::builder_full();
        for (width, rate) in [(Some(widths()), Some(rates(30))), (None, Some(rates(1000))), (None, None)] {
            for (media, format) in media {
                let structure = gst::Structure::builder(*media)
                    .field_if_some("format", format.map(|format| format.to_str().to_string()))
                    .field_if_some("width", width.filter(|_| any_size))
                    .field_if_some("width", self.width)
                    .field_if_some("height", self.height)
                    .field_if_some("framerate", rate.filter(|_| self.fps.is_none()))
                    .field_if_some("framerate", self.fps.map(|fps| gst::Fraction::new(fps, 1)));
                caps = caps.structure(structure.build());
            }
        }
        caps.build()
    }

    /// The formats of the camera behind `source`, an open `v4l2src`, if the requested one is not among them; none if it
    /// is, or if they are unknown.
    pub fn refusal(&self, source: &gst::Element) -> Option<String> {
        let offered = source.static_pad("src")?.query_caps(None);
        if offered.is_any() || offered.is_empty() || offered.can_intersect(&self.caps()) {
            return None;
        }
        // Interlaced formats (with caps features) are never requested.
        let whole = offered
            .iter_with_features()
            .filter(|(_, features)| features.is_equal(gst::CapsFeatures::new_empty().as_ref()));
        let mut kinds: Vec<_> = whole.map(|(shape, _)| kind(shape)).collect();
        if kinds.is_empty() {
            return None;
        }
        let more = if kinds.len() > MOST_OFFERS { ", ..." } else { "" };
        kinds.truncate(MOST_OFFERS);
        Some(format!("the camera does not have this format; it has {}{more}", kinds.join(", ")))
    }
}

/// Format, size and rates as text.
fn kind(shape: &gst::StructureRef) -> String {
    let field = |name| shape.value(name).map_or_else(|_| "?".to_owned(), words);
    let format = if shape.name() == "video/x-raw" {
        format!("raw {}", field("format"))
    } else {
        gst_pbutils::pb_utils_get_codec_description(&gst::Caps::new_empty_simple(shape.name())).to_string()
    };
    format!("{format} {}x{} at {} fps", field("width"), field("height"), field("framerate"))
}

/// A field of caps: a value or its alternatives.
fn words(value: &glib::SendValue) -> String {
    if let Ok(list) = value.get::<gst::List>() {
        return list.iter().map(words).collect::<Vec<_>>().join(" or ");
    }
    if let Ok(rate) = value.get::<gst::Fraction>() {
        return format!("{}", (f64::from(rate.numer()) / f64::from(rate.denom()) * 100.0).round() / 100.0);
    }
    match (value.get::<i32>(), value.get::<String>()) {
        (Ok(number), _) => number.to_string(),
        (_, Ok(text)) => text,
        _ => value.serialize().map(|text| text.to_string()).unwrap_or_default(),
    }
}

impl Format {
    /// None for an unknown format, or one that `v4l2src` does not take.
    fn parse(name: &str) -> Option<Self> {
        let raw = match name.to_ascii_lowercase().as_str() {
            "mjpeg" | "mjpg" | "jpeg" => return Some(Self::Coded("image/jpeg")),
            "h264" => return Some(Self::Coded("video/x-h264")),
            "h265" | "hevc" => return Some(Self::Coded("video/x-h265")),
            // The kernel's names, where GStreamer has others.
            "yuyv" => "YUY2".to_owned(),
            "yu12" => "I420".to_owned(),
            "grey" => "GRAY8".to_owned(),
            other => other.to_ascii_uppercase(),
        };
        let taken = gst::ElementFactory::find("v4l2src").is_none_or(|factory| {
            let wanted = gst::Caps::builder("video/x-raw").field("format", &raw).build();
            factory.can_src_any_caps(&wanted)
        });
        let format = gst_video::VideoFormat::from_string(&raw);
        let known = !matches!(format, gst_video::VideoFormat::Unknown | gst_video::VideoFormat::Encoded);
        (known && taken).then_some(Self::Raw(format))
    }
}
