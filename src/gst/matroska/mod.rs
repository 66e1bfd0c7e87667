//! Matroska and WebM files (RFC 9559): the parts that GStreamer's demuxer and muxer do not handle.

pub(crate) mod ebml;
pub(crate) mod finish;
pub(crate) mod metadata;
