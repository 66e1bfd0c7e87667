//! What `-o` asks for, by its form, and which file each input is written to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Everything that the `-o` options of one run ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs {
    /// Where the video goes; `None` is `NAME.ood.mp4` in the working directory.
    pub video: Option<VideoOutput>,
    /// `events:FILE`, one JSON object a line.
    pub events: Option<PathBuf>,
    /// `masks:DIR`, one PNG a frame.
    pub masks: Option<PathBuf>,
    /// `scores:DIR`, one `.npy` a frame.
    pub scores: Option<PathBuf>,
}

/// Where the video goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoOutput {
    /// One file, `.mp4` or `.mkv`.
    File(PathBuf),
    /// A folder, one `NAME.ood.mp4` per input.
    Folder(PathBuf),
    /// `none`: no video, only the other outputs.
    Nothing,
}

impl Outputs {
    /// Reads the `-o` options.
    ///
    /// # Errors
    /// A form that is not known or not built in, or the same kind twice.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut outputs = Self::default();
        for option in options {
            let place = format!("-o {option}");
            let once = |taken: bool, what: &str| {
                if taken { Err(Error::usage(format!("{place}: {what} is given twice"))) } else { Ok(()) }
            };
            match option.split_once(':') {
                Some(("events", path)) => {
                    once(outputs.events.is_some(), "events:")?;
                    outputs.events = Some(path.into());
                }
                Some(("masks", path)) => {
                    once(outputs.masks.is_some(), "masks:")?;
                    outputs.masks = Some(path.into());
                }
                Some(("scores", path)) => {
                    once(outputs.scores.is_some(), "scores:")?;
                    outputs.scores = Some(path.into());
                }
                Some((scheme @ ("rtsp" | "rtsps" | "rtsp+push" | "hls" | "display"), _)) => {
                    return Err(Error::usage(format!("{place}: {scheme}: outputs are not built in yet"))
                        .hint("write a file for now: -o out.mp4 or -o out.mkv"));
                }
                _ => {
                    once(outputs.video.is_some(), "a video output")?;
                    outputs.video = Some(video(option, &place)?);
                }
            }
        }
        Ok(outputs)
    }

    /// Makes the folder that the videos go to.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_folder(&self) -> Result<()> {
        let Some(VideoOutput::Folder(folder)) = &self.video else { return Ok(()) };
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::failed(format!("-o {}: cannot be made: {error}", folder.display())))
    }

    /// The video file for each of `inputs` (`name` is the file name that an input gives to its output), in order.
    ///
    /// # Errors
    /// One file for several inputs.
    pub fn files(&self, names: &[PathBuf]) -> Result<Vec<Option<PathBuf>>> {
        let folder = match &self.video {
            Some(VideoOutput::Nothing) => return Ok(vec![None; names.len()]),
            Some(VideoOutput::File(path)) if names.len() == 1 => return Ok(vec![Some(path.clone())]),
            Some(VideoOutput::File(path)) => {
                return Err(Error::usage(format!("-o {}: one file for {} inputs", path.display(), names.len()))
                    .hint("give a folder: -o DIR/ writes one NAME.ood.mp4 per input"));
            }
            Some(VideoOutput::Folder(folder)) => folder.as_path(),
            None => Path::new(""),
        };
        let mut taken = HashSet::new();
        Ok(names
            .iter()
            .map(|name| {
                let stem = name.file_stem().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
                let full = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
                // a.mp4 and a.avi of one folder must not meet in a.ood.mp4.
                let mut base = stem;
                let mut number = 2;
                while !taken.insert(base.clone()) {
                    base = if number == 2 { full.clone() } else { format!("{full}.{}", number - 1) };
                    number += 1;
                }
                Some(folder.join(format!("{base}.ood.mp4")))
            })
            .collect())
    }
}

fn video(option: &str, place: &str) -> Result<VideoOutput> {
    if option == "none" {
        return Ok(VideoOutput::Nothing);
    }
    let path = PathBuf::from(option);
    if option.ends_with('/') || path.is_dir() {
        return Ok(VideoOutput::Folder(path));
    }
    match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("mp4" | "mkv" | "m4v" | "mov") => Ok(VideoOutput::File(path)),
        _ => Err(Error::usage(format!("{place}: not an output that is known"))
            .hint("x.mp4, x.mkv, FOLDER/, none, events:x.jsonl, masks:DIR or scores:DIR")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Outputs> {
        Outputs::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn forms_are_told_apart() {
        let outputs = parse(&["x.mkv", "events:e.jsonl", "masks:m", "scores:s"]).unwrap();
        assert_eq!(outputs.video, Some(VideoOutput::File("x.mkv".into())));
        assert_eq!((outputs.events, outputs.masks), (Some("e.jsonl".into()), Some("m".into())));
        assert_eq!(parse(&["marked/"]).unwrap().video, Some(VideoOutput::Folder("marked/".into())));
        for (options, word) in
            [(&["x.gif"][..], "x.gif"), (&["a.mp4", "b.mp4"], "twice"), (&["rtsp://0.0.0.0:8554/a"], "not built in")]
        {
            let error = parse(options).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn inputs_of_one_stem_get_files_of_their_own() {
        let files = Outputs::default().files(&paths(&["d/a.mp4", "d/a.avi", "e/a.avi", "b.mov"])).unwrap();
        let expected =
            ["a.ood.mp4", "a.avi.ood.mp4", "a.avi.2.ood.mp4", "b.ood.mp4"].map(|name| Some(PathBuf::from(name)));
        assert_eq!(files, expected);
    }

    #[test]
    fn one_file_for_several_inputs_is_refused() {
        let outputs = parse(&["x.mp4"]).unwrap();
        assert!(outputs.files(&paths(&["a.mp4", "b.mp4"])).unwrap_err().to_string().contains("2 inputs"));
    }
}
