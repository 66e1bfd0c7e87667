//! Matroska and WebM files (RFC 9559), as far as GStreamer's demuxer and muxer leave them alone.

pub(crate) mod ebml;
pub(crate) mod finish;
pub(crate) mod metadata;
