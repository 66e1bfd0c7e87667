//! MP4 and MOV files (ISO/IEC 14496-12, QuickTime File Format): the parts that GStreamer's demuxer and muxer do not
//! handle.

pub(crate) mod boxes;
pub(crate) mod copied;
pub(crate) mod edit_list;
pub(crate) mod finish;
mod headers;
pub(crate) mod index;
pub(crate) mod matrix;
pub(crate) mod metadata;
pub(crate) mod samples;
