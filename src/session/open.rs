//! Opens inputs by their kind.

use std::path::Path;

use crate::Result;
use crate::input::file::{FileOptions, VideoTrack};
use crate::input::live::SourceOptions;
use crate::input::{Input, open_live};
use crate::output::Encoding;
use crate::output::file::{OpenFile, Opened, open_file, open_images, open_test};

/// Opens an input, and beside it the video file that it is written to, if any.
///
/// # Errors
/// The input cannot be read, or the output cannot be created.
pub(crate) fn open_input(
    input: &Input,
    output: Option<&Path>,
    encoding: &Encoding,
    source: &SourceOptions,
    stream: u32,
) -> Result<Opened> {
    match input {
        Input::File(path) => open_file(&OpenFile { path, output, encoding, stream }, source.of_files()),
        Input::Track(path, number) => {
            let options = FileOptions { video_track: VideoTrack::Number(*number), ..source.of_files() };
            open_file(&OpenFile { path, output, encoding, stream }, options)
        }
        Input::Images(files) => open_images(files, output, encoding, stream),
        Input::Test(spec) => open_test(spec, output, encoding, stream),
        Input::Live(input) => Ok((open_live(input, source, stream)?, None)),
    }
}
