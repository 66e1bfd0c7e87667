//! The choice of an encoder, and its settings.

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;

use crate::gst::decoder::{Hardware, is_hardware};
use crate::gst::init;
use crate::output::Encoding;
use crate::{Error, Result};

/// Default constant rate factor: visually close to the input at half the usual bit rate of a dashcam.
const CRF: u32 = 20;
/// Bits per pixel for encoders limited to a bit rate; about that of a dashcam.
const BITS_PER_PIXEL: f64 = 0.12;

/// Default constant rate factor for live streams, which every viewer has to receive.
const CRF_LIVE: u32 = 23;
/// Least rate limit of a live stream, in kbit/s: small pictures need more bits per pixel.
const LIVE_KBPS: u32 = 500;
/// Longest distance of key frames in live streams, in frames; others are requested.
const KEY_FRAMES_LIVE: u32 = 600;

/// An installed encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderInfo {
    /// Element name, for `--encoder`.
    pub name: String,
    /// GStreamer's rank.
    pub rank: i32,
    /// It runs on separate hardware.
    pub hardware: bool,
    /// The default encoder.
    pub chosen: bool,
}

/// The installed H.264 and H.265 encoders by descending rank; one of them is the default. Empty if there are none or
/// GStreamer cannot start.
pub fn encoders() -> Vec<EncoderInfo> {
    if init().is_err() {
        return Vec::new();
    }
    let chosen = choose(None, Hardware::Auto).map(|encoder| name_of(&encoder)).unwrap_or_default();
    let info = |factory: gst::ElementFactory| EncoderInfo {
        name: factory.name().to_string(),
        rank: rank_of(&factory),
        hardware: is_hardware(&factory),
        chosen: factory.name() == chosen,
    };
    candidates().into_iter().map(info).collect()
}

/// Opens an encoder: the named one; or the first hardware H.264 encoder that opens; or x264; or any that opens, as far as
/// `hardware` allows it.
pub(crate) fn choose(name: Option<&str>, hardware: Hardware) -> Result<gst::Element> {
    if let Some(name) = name {
        let encoder = gst::ElementFactory::make(name).build().map_err(|_| {
            Error::usage(format!("encoder: GStreamer has no element `{name}`"))
                .hint("`oodstream doctor` lists the encoders")
        })?;
        if !encoder.factory().is_some_and(|factory| makes(&factory, &["video/x-h264", "video/x-h265"])) {
            return Err(Error::usage(format!("encoder: {name} does not encode H.264 or H.265"))
                .hint("`oodstream doctor` lists the encoders"));
        }
        if !opens(&encoder) {
            return Err(Error::failed(format!("encoder: {name} is installed but does not open"))
                .hint("its device or driver is missing; without --encoder, the best one that works is used"));
        }
        return Ok(encoder);
    }
    let h264 =
        || candidates().into_iter().filter(|factory| makes(factory, &["video/x-h264"]) && hardware.allows(factory));
    let first = h264().filter(is_hardware);
    let x264 = h264().filter(|factory| factory.name() == "x264enc");
    let mut opened = first.chain(x264).chain(h264()).filter_map(|factory| factory.create().build().ok());
    opened.find(opens).ok_or_else(|| match hardware {
        Hardware::Require => Error::failed("hw: no hardware H.264 encoder opens")
            .hint("`oodstream doctor` lists the encoders; without `require`, x264 is used"),
        _ => Error::failed("there is no H.264 encoder").hint("apt-get install gstreamer1.0-plugins-ugly (for x264enc)"),
    })
}

/// The purpose of encoded frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Files: the best quality for their size.
    File,
    /// Live streams: no delay, and a limited rate at all times.
    Live,
}

/// Sets rate control and speed.
pub(crate) fn configure(
    encoder: &gst::Element,
    encoding: &Encoding,
    pixels_per_second: f64,
    purpose: Purpose,
) -> Result<()> {
    match purpose {
        Purpose::File => configure_file(encoder, encoding, pixels_per_second),
        Purpose::Live => configure_live(encoder, encoding, pixels_per_second),
    }
}

/// Low latency: no reordering, no lookahead. Without a bit rate, x264 and x265 target a quality, below a rate limit
/// over every second.
fn configure_live(encoder: &gst::Element, encoding: &Encoding, pixels_per_second: f64) -> Result<()> {
    let name = name_of(encoder);
    let limit = bit_rate(encoding, pixels_per_second).max(LIVE_KBPS);
    match name.as_str() {
        "x264enc" => {
            set_enum(encoder, "speed-preset", encoding.preset.as_deref().unwrap_or("veryfast"), "preset")?;
            encoder.set_property_from_str("tune", "zerolatency");
            encoder.set_property("threads", threads());
            encoder.set_property("bframes", 0u32);
            // Key frames are requested by running time; x264 would count frames, which is wrong at a variable rate.
            encoder.set_property("key-int-max", KEY_FRAMES_LIVE);
            encoder.set_property("vbv-buf-capacity", 1000u32);
            match encoding.bitrate_kbps {
                Some(rate) => set_number(encoder, "bitrate", rate, "bitrate")?,
                None => {
                    encoder.set_property_from_str("pass", "qual");
                    set_number(encoder, "quantizer", encoding.crf.unwrap_or(CRF_LIVE), "crf")?;
                    encoder.set_property("qp-min", encoding.crf.unwrap_or(CRF_LIVE).min(10));
                    encoder.set_property("bitrate", limit);
                }
            }
        }
        "x265enc" => {
            set_enum(encoder, "speed-preset", encoding.preset.as_deref().unwrap_or("ultrafast"), "preset")?;
            encoder.set_property_from_str("tune", "zerolatency");
            encoder.set_property("key-int-max", KEY_FRAMES_LIVE as i32);
            let limit = format!("vbv-maxrate={limit}:vbv-bufsize={limit}");
            match encoding.bitrate_kbps {
                Some(rate) => {
                    set_number(encoder, "bitrate", rate, "bitrate")?;
                    encoder.set_property("option-string", limit);
                }
                None => {
                    let crf = encoding.crf.unwrap_or(CRF_LIVE);
                    encoder.set_property("option-string", format!("crf={crf}:{limit}"));
                }
            }
        }
        _ => {
            configure_file(encoder, encoding, pixels_per_second)?;
            // The names of these settings in hardware and system encoders.
            for (property, value) in [
                ("zerolatency", "true"),
                ("zero-reorder-delay", "true"),
                ("realtime", "true"),
                ("bframes", "0"),
                ("b-frames", "0"),
                ("max-bframes", "0"),
            ] {
                if encoder.find_property(property).is_some_and(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE))
                {
                    encoder.set_property_from_str(property, value);
                }
            }
            if name == "openh264enc" {
                encoder.set_property("gop-size", KEY_FRAMES_LIVE);
                encoder.set_property_from_str("rate-control", "bitrate");
            }
        }
    }
    Ok(())
}

/// Makes an encoder output frames in input order.
pub(crate) fn in_order(encoder: &gst::Element) {
    for property in ["bframes", "b-frames", "max-bframes"] {
        if encoder.find_property(property).is_some_and(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE)) {
            encoder.set_property_from_str(property, "0");
        }
    }
}

/// The requested bit rate, or an estimate from the picture size, in kbit/s.
fn bit_rate(encoding: &Encoding, pixels_per_second: f64) -> u32 {
    encoding.bitrate_kbps.unwrap_or((pixels_per_second * BITS_PER_PIXEL / 1000.0).max(100.0) as u32)
}

fn threads() -> u32 {
    std::thread::available_parallelism().map_or(1, usize::from).min(4) as u32
}

fn configure_file(encoder: &gst::Element, encoding: &Encoding, pixels_per_second: f64) -> Result<()> {
    let name = name_of(encoder);
    match name.as_str() {
        "x264enc" => {
            set_enum(encoder, "speed-preset", encoding.preset.as_deref().unwrap_or("veryfast"), "preset")?;
            // Every thread and every frame of lookahead holds pictures: at 1080p these settings take 110 MB less than
            // x264's defaults, for the same CPU time.
            encoder.set_property("threads", threads());
            encoder.set_property("sync-lookahead", 0i32);
            if encoding.preset.is_none() {
                encoder.set_property("rc-lookahead", 5i32);
            }
            if let Some(rate) = encoding.bitrate_kbps {
                set_number(encoder, "bitrate", rate, "bitrate")?;
            } else {
                encoder.set_property_from_str("pass", "qual");
                set_number(encoder, "quantizer", encoding.crf.unwrap_or(CRF), "crf")?;
                // Otherwise the default bit rate would limit the quality.
                encoder.set_property("vbv-buf-capacity", 0u32);
                encoder.set_property("qp-min", encoding.crf.unwrap_or(CRF).min(10));
            }
        }
        "x265enc" => {
            set_enum(encoder, "speed-preset", encoding.preset.as_deref().unwrap_or("veryfast"), "preset")?;
            match encoding.bitrate_kbps {
                Some(rate) => set_number(encoder, "bitrate", rate, "bitrate")?,
                None => encoder.set_property("option-string", format!("crf={}", encoding.crf.unwrap_or(CRF))),
            }
        }
        _ => {
            if encoding.crf.is_some() {
                return Err(Error::usage(format!("crf: {name} has no constant rate factor")).hint("use --bitrate"));
            }
            if let Some(preset) = &encoding.preset {
                set_enum(encoder, "preset", preset, "preset")?;
            }
            let rate = bit_rate(encoding, pixels_per_second);
            // The unit of openh264enc is bit/s, that of the others kbit/s.
            let unit = if name == "openh264enc" { 1000 } else { 1 };
            set_number(encoder, "bitrate", rate.saturating_mul(unit), "bitrate")?;
        }
    }
    Ok(())
}

/// The parser for an encoder's output.
pub(crate) fn parser_of(encoder: &gst::Element) -> &'static str {
    let h265 = encoder.factory().is_some_and(|factory| makes(&factory, &["video/x-h265"]));
    if h265 { "h265parse" } else { "h264parse" }
}

pub(crate) fn name_of(encoder: &gst::Element) -> String {
    encoder.factory().map(|factory| factory.name().to_string()).unwrap_or_default()
}

fn candidates() -> Vec<gst::ElementFactory> {
    let kind = gst::ElementFactoryType::VIDEO_ENCODER;
    let mut found: Vec<_> = gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE)
        .into_iter()
        .filter(|factory| makes(factory, &["video/x-h264", "video/x-h265"]))
        .collect();
    found.sort_by_key(|factory| (std::cmp::Reverse(rank_of(factory)), factory.name().to_string()));
    found
}

fn makes(factory: &gst::ElementFactory, formats: &[&str]) -> bool {
    factory
        .static_pad_templates()
        .iter()
        .filter(|t| t.direction() == gst::PadDirection::Src)
        .any(|template| template.caps().iter().any(|structure| formats.contains(&structure.name().as_str())))
}

fn rank_of(factory: &gst::ElementFactory) -> i32 {
    factory.rank().into()
}

/// Whether the encoder opens: an installed one may lack its device.
fn opens(encoder: &gst::Element) -> bool {
    let open = encoder.set_state(gst::State::Ready).is_ok();
    let _ = encoder.set_state(gst::State::Null);
    open
}

fn set_enum(encoder: &gst::Element, property: &str, value: &str, option: &str) -> Result<()> {
    let name = name_of(encoder);
    let Some(spec) = encoder.find_property(property) else {
        return Err(Error::usage(format!("{option}: {name} has no such setting")));
    };
    if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
        if class.value_by_nick(value).is_none() {
            let known: Vec<_> = class.values().iter().map(|v| v.nick().to_string()).collect();
            return Err(Error::usage(format!("{option}: {name} has no value `{value}`"))
                .hint(format!("one of {}", known.join(", "))));
        }
        encoder.set_property_from_str(property, value);
        return Ok(());
    }
    Err(Error::usage(format!("{option}: {name} has no such setting")))
}

fn set_number(encoder: &gst::Element, property: &str, value: u32, option: &str) -> Result<()> {
    let name = name_of(encoder);
    let Some(spec) = encoder.find_property(property) else {
        return Err(Error::usage(format!("{option}: {name} has no such setting")));
    };
    let number = glib::Value::from(i64::from(value)).transform_with_type(spec.value_type()).ok();
    let fits = |low: i64, high: i64| (low..=high).contains(&i64::from(value));
    let in_range = if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        fits(spec.minimum().into(), spec.maximum().into())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        fits(spec.minimum().into(), spec.maximum().into())
    } else {
        true
    };
    match number {
        Some(number) if in_range => {
            encoder.set_property_from_value(property, &number);
            Ok(())
        }
        _ => Err(Error::usage(format!("{option}: {value} is out of the range of {name}"))),
    }
}
