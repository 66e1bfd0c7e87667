//! A folder of images as an input: one frame per image, at ten frames/s.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::{Frame, init};
use crate::input::file::{FileOptions, check_readable, file_reader};
use crate::input::{EndOfInput, FrameReader, Read, VideoInfo};
use crate::{Error, Result};

/// Frame rate, in frames/s.
const RATE: i32 = 10;
/// Duration of one image, in nanoseconds.
const STEP: u64 = 1_000_000_000 / RATE as u64;

/// Opens images as a video of ten frames/s, in the order given. Returns the reader and the caps of its frames.
///
/// # Errors
/// No images, or the first one cannot be decoded.
pub(crate) fn open(files: &[PathBuf], stream: u32) -> Result<(ImageReader, gst_video::VideoInfo)> {
    init()?;
    let Some(first) = files.first() else { return Err(Error::usage("there are no images")) };
    let (frame, mut info, frame_info) = decode(first)?;
    info.fps = Some(f64::from(RATE));
    info.frames = Some(files.len() as u64);
    info.duration = Some(STEP * files.len() as u64);
    info.container = "images".to_string();
    let caps = gst_video::VideoInfo::builder_from_info(&frame_info).fps(gst::Fraction::new(RATE, 1)).build();
    let caps = caps.map_err(|e| Error::failed(format!("{}: {}", first.display(), e.message)))?;
    let files = files.iter().skip(1).cloned().collect();
    Ok((ImageReader { files, first: Some(frame), info, stream, index: 0 }, caps))
}

pub(crate) struct ImageReader {
    files: VecDeque<PathBuf>,
    first: Option<Frame>,
    info: VideoInfo,
    stream: u32,
    index: u64,
}

impl FrameReader for ImageReader {
    fn read(&mut self, _timeout: Duration) -> Result<Read> {
        let mut frame = match self.first.take() {
            Some(frame) => frame,
            None => {
                let Some(file) = self.files.pop_front() else { return Ok(Read::End(EndOfInput::default())) };
                let (frame, ..) = decode(&file)?;
                let (width, height) = (self.info.width, self.info.height);
                if (frame.width(), frame.height()) != (width, height) {
                    return Err(Error::failed(format!(
                        "{}: it is {}x{}, the first image is {width}x{height}",
                        file.display(),
                        frame.width(),
                        frame.height()
                    ))
                    .hint("the images of a folder form one video and must have one size"));
                }
                frame
            }
        };
        frame.set_index_and_time(self.stream, self.index, self.index * STEP, STEP);
        self.index += 1;
        Ok(Read::Frame(frame))
    }

    fn info(&self) -> Option<&VideoInfo> {
        Some(&self.info)
    }
}

fn decode(file: &Path) -> Result<(Frame, VideoInfo, gst_video::VideoInfo)> {
    check_readable(file)?;
    let mut reader = file_reader(file, 0, FileOptions::default())?;
    match reader.read(Duration::from_secs(10))? {
        Read::Frame(frame) => Ok((frame, reader.video_info().clone(), reader.frame_info().clone())),
        _ => Err(Error::failed(format!("{}: the image cannot be decoded", file.display()))),
    }
}
