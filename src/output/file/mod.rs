//! Output files, and the readers that supply their frames and packets.
//!
//! A reader and a writer are two pipelines. The caller passes frames from one to the other; compressed audio and
//! subtitle packets are passed internally ([`crate::gst::track`]), unchanged. With two pipelines, an early stop, a
//! damaged input or a full disk at one end leaves the other end able to finish properly.

mod colours;
pub(crate) mod feed;
pub(crate) mod mux;
mod plain;
pub(crate) mod target;
mod text;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Result;
use gstreamer_video::VideoInfo;

use crate::gst::init;
use crate::gst::track::InputTracks;
use crate::input::file::{FileOptions, check_readable, file_reader, images, key_frame_reader};
use crate::input::own::OwnReader;
use crate::input::reader::PipelineReader;
use crate::input::{FrameReader, test_source};
use crate::output::{Encoding, FrameWriter};
use target::Target;
use writer::FileWriter;

pub use plain::plain_copy;

/// A file to open, see [`open_file`].
#[derive(Debug, Clone, Copy)]
pub struct OpenFile<'a> {
    /// The input.
    pub path: &'a Path,
    /// The output file, its container by the extension mp4, m4v, mov or mkv; none: read only.
    pub output: Option<&'a Path>,
    /// The encoder settings of the output.
    pub encoding: &'a Encoding,
    /// The stream number of the frames, [`Frame::stream`](crate::gst::Frame::stream).
    pub stream: u32,
}

/// A reader, and a writer if there is an output.
pub type Opened = (Box<dyn FrameReader>, Option<Box<dyn FrameWriter>>);

/// Opens a video file, and an output for it if one is named. Returns once the first frame is decoded.
///
/// # Errors
/// The file does not exist, is not a video, lacks a video stream or the chosen track, has no decoder, or is damaged
/// from the start; the output exists, equals the input, or cannot be written.
pub fn open_file(open: &OpenFile, options: FileOptions) -> Result<Opened> {
    open_by(open, options, file_reader)
}

/// As [`open_file`], for the key frames alone; the others are not decoded.
///
/// # Errors
/// As [`open_file`].
pub fn open_key_frames(open: &OpenFile, options: FileOptions) -> Result<Opened> {
    open_by(open, options, key_frame_reader)
}

fn open_by(
    open: &OpenFile,
    options: FileOptions,
    reader: impl Fn(&Path, u32, FileOptions) -> Result<PipelineReader>,
) -> Result<Opened> {
    init()?;
    check_readable(open.path)?;
    let target = open.output.map(|path| Target::check(path, Some(open.path), open.encoding)).transpose()?;
    with_writer(reader(open.path, open.stream, options)?, target, open.encoding)
}

/// Opens a synthetic input: `test://PATTERN?width=640&height=360&fps=25&frames=100`, PATTERN being one of
/// videotestsrc's; 250 frames by default.
///
/// # Errors
/// An unknown pattern or key, a value out of range; for the output those of [`open_file`].
pub fn open_test(spec: &str, output: Option<&Path>, encoding: &Encoding, stream: u32) -> Result<Opened> {
    init()?;
    let target = output.map(|path| Target::check(path, None, encoding)).transpose()?;
    let reader = test_source::open(spec, stream)?;
    with_writer(reader, target, encoding)
}

/// Opens images as a video of ten frames/s, in the order given.
///
/// # Errors
/// No images, or the first one cannot be decoded; for the output those of [`open_file`].
pub fn open_images(files: &[PathBuf], output: Option<&Path>, encoding: &Encoding, stream: u32) -> Result<Opened> {
    init()?;
    let target = output.map(|path| Target::check(path, None, encoding)).transpose()?;
    let (reader, frames) = images::open(files, stream)?;
    let writer = writer(target, &frames, &Arc::default(), encoding)?;
    Ok((Box::new(reader), writer))
}

/// Opens frames from the caller.
///
/// # Errors
/// The source has no frames; for the output those of [`open_file`].
pub(crate) fn open_own(own: OwnReader, output: Option<&Path>, encoding: &Encoding, stream: u32) -> Result<Opened> {
    init()?;
    let target = output.map(|path| Target::check(path, None, encoding)).transpose()?;
    let reader = own.open(stream)?;
    let writer = writer(target, reader.caps(), &Arc::default(), encoding)?;
    Ok((Box::new(reader), writer))
}

fn with_writer(reader: PipelineReader, target: Option<Target>, encoding: &Encoding) -> Result<Opened> {
    let writer = writer(target, reader.frame_info(), &reader.shared, encoding)?;
    if writer.is_none() {
        reader.shared.discard();
    }
    Ok((Box::new(reader), writer))
}

/// The writer of `target`, if any, for frames like `frames` and the packets in `shared`.
fn writer(
    target: Option<Target>,
    frames: &VideoInfo,
    shared: &Arc<InputTracks>,
    encoding: &Encoding,
) -> Result<Option<Box<dyn FrameWriter>>> {
    let open = |target| FileWriter::open(target, frames, shared, encoding);
    Ok(target.map(open).transpose()?.map(|writer| Box::new(writer) as _))
}
