//! The GStreamer elements that this crate needs, and their Debian packages.

use gstreamer as gst;

/// The needed elements, each with its Debian package.
const NEEDED: &[(&str, &str)] = &[
    ("filesrc", "libgstreamer1.0-0"),
    ("filesink", "libgstreamer1.0-0"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("parsebin", "gstreamer1.0-plugins-base"),
    ("decodebin", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
    ("audioconvert", "gstreamer1.0-plugins-base"),
    ("audioresample", "gstreamer1.0-plugins-base"),
    ("videotestsrc", "gstreamer1.0-plugins-base"),
    ("deinterlace", "gstreamer1.0-plugins-good"),
    ("videoflip", "gstreamer1.0-plugins-good"),
    ("videocrop", "gstreamer1.0-plugins-good"),
    ("rtspsrc", "gstreamer1.0-plugins-good"),
    ("souphttpsrc", "gstreamer1.0-plugins-good"),
    ("multipartdemux", "gstreamer1.0-plugins-good"),
    ("v4l2src", "gstreamer1.0-plugins-good"),
    ("hlsdemux", "gstreamer1.0-plugins-bad"),
    ("qtdemux", "gstreamer1.0-plugins-good"),
    ("matroskademux", "gstreamer1.0-plugins-good"),
    ("avidemux", "gstreamer1.0-plugins-good"),
    ("mp4mux", "gstreamer1.0-plugins-good"),
    ("qtmux", "gstreamer1.0-plugins-good"),
    ("matroskamux", "gstreamer1.0-plugins-good"),
    ("aacparse", "gstreamer1.0-plugins-good"),
    ("rtph264pay", "gstreamer1.0-plugins-good"),
    ("ximagesink", "gstreamer1.0-x"),
    ("jpegdec", "gstreamer1.0-plugins-good"),
    ("pngdec", "gstreamer1.0-plugins-good"),
    ("vp8dec", "gstreamer1.0-plugins-good"),
    ("vp9dec", "gstreamer1.0-plugins-good"),
    ("tsdemux", "gstreamer1.0-plugins-bad"),
    ("mpegtsmux", "gstreamer1.0-plugins-bad"),
    ("rtspclientsink", "gstreamer1.0-rtsp"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("h265parse", "gstreamer1.0-plugins-bad"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_h265", "gstreamer1.0-libav"),
    ("avdec_mpeg4", "gstreamer1.0-libav"),
    ("avenc_aac", "gstreamer1.0-libav"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
];

/// The needed elements that are not installed, each with its Debian package. Empty if none is missing.
///
/// Call [`init`](crate::gst::init) first.
pub fn missing_elements() -> Vec<(&'static str, &'static str)> {
    NEEDED.iter().copied().filter(|(name, _)| gst::ElementFactory::find(name).is_none()).collect()
}

/// The Debian package of an element.
pub(crate) fn package_of(element: &str) -> &'static str {
    NEEDED.iter().find(|(name, _)| *name == element).map_or("gstreamer1.0-plugins-bad", |(_, package)| package)
}

/// The Debian package of a decoder or demuxer, by the description that pbutils gives.
pub(crate) fn package_for_description(description: &str) -> &'static str {
    let text = description.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["av1", "h.266", "mpeg-ts", "mpeg-2 system", "mxf", "midi"]) {
        "gstreamer1.0-plugins-bad"
    } else if has(&["vp8", "vp9", "jpeg", "png", "quicktime", "matroska", "avi", "flac", "dv "]) {
        "gstreamer1.0-plugins-good"
    } else if has(&["realmedia", "real video", "asf"]) {
        "gstreamer1.0-plugins-ugly"
    } else {
        "gstreamer1.0-libav"
    }
}
