//! The `-o` options by form, and the output file of each input.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::address::Address;
use crate::notify;
use crate::output::publish::Target;
use crate::record::{Existing, Wanted};
use crate::{Error, Result};

/// The kinds of records, each the prefix of its option.
const KINDS: [&str; 9] =
    ["events", "masks", "scores", "regions", "csv", "chapters", "embeddings", "snapshots", "clips"];

/// The outputs that the `-o` options of one run name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outputs {
    /// The destinations of the video as given; none is `NAME.ood.mp4` in the working directory for files.
    pub video: Vec<Address>,
    /// `events:FILE`, one JSON object a line.
    pub events: Option<PathBuf>,
    /// `masks:DIR`, one PNG a frame.
    pub masks: Option<PathBuf>,
    /// `scores:DIR`, one `.npy` a frame.
    pub scores: Option<PathBuf>,
    /// `regions:FILE`, one JSON object a line for each frame.
    pub regions: Option<PathBuf>,
    /// `csv:FILE`, one row an event.
    pub csv: Option<PathBuf>,
    /// `chapters:FILE`, WebVTT.
    pub chapters: Option<PathBuf>,
    /// `embeddings:FILE.npy`, one row an event, and `FILE.ids.jsonl`.
    pub embeddings: Option<PathBuf>,
    /// `snapshots:DIR`, two JPEG files an event.
    pub snapshots: Option<PathBuf>,
    /// `clips:DIR`, a video an event.
    pub clips: Option<PathBuf>,
    /// `mqtt://`, `webhook:` and `exec:`, which get the events as messages.
    pub messages: Vec<notify::Target>,
}

/// The destination of the video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VideoOutput {
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
    pub fn parse(options: &[Address]) -> Result<Self> {
        let mut outputs = Self::default();
        for option in options {
            if let Some(target) = notify::Target::of(option).map_err(|error| error.at(format!("-o {option}")))? {
                if outputs.messages.contains(&target) {
                    return Err(Error::usage(format!("-o {target}: this output is given twice")));
                }
                outputs.messages.push(target);
                continue;
            }
            let record = KINDS.into_iter().find_map(|kind| Some((kind, option.after(kind)?)));
            match record {
                Some((kind, path)) => {
                    let place = outputs.record(kind);
                    if place.is_some() {
                        return Err(Error::usage(format!("-o {option}: {kind}: is given twice")));
                    }
                    if path.as_os_str().is_empty() {
                        return Err(Error::usage(format!("-o {option}: {kind}: needs a path")));
                    }
                    *place = Some(path.to_path_buf());
                }
                None => outputs.video.push(option.clone()),
            }
        }
        Ok(outputs)
    }

    /// The path of the records of one of [`KINDS`].
    fn record(&mut self, kind: &str) -> &mut Option<PathBuf> {
        match kind {
            "events" => &mut self.events,
            "masks" => &mut self.masks,
            "scores" => &mut self.scores,
            "regions" => &mut self.regions,
            "csv" => &mut self.csv,
            "chapters" => &mut self.chapters,
            "clips" => &mut self.clips,
            "embeddings" => &mut self.embeddings,
            _ => &mut self.snapshots,
        }
    }

    /// Whether there are no outputs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The results to record beside the video; `model` is the SHA-256 of the network.
    pub fn wanted<'a>(&'a self, existing: Existing, model: &'a str) -> Wanted<'a> {
        Wanted {
            events: self.events.as_deref(),
            masks: self.masks.as_deref(),
            scores: self.scores.as_deref(),
            regions: self.regions.as_deref(),
            csv: self.csv.as_deref(),
            chapters: self.chapters.as_deref(),
            snapshots: self.snapshots.as_deref(),
            clips: self.clips.as_deref(),
            embeddings: self.embeddings.as_deref(),
            embedding_ids: None,
            model,
            existing,
        }
    }

    /// The destination of the videos of files.
    ///
    /// # Errors
    /// More than one place, or one that files do not have.
    pub fn of_files(&self) -> Result<VideoOutput> {
        match self.video.as_slice() {
            [] => Ok(VideoOutput::Folder(PathBuf::new())),
            [one] => VideoOutput::parse(one),
            [.., last] => Err(Error::usage(format!("-o {}: a video output is given twice", last))),
        }
    }
}

impl VideoOutput {
    fn parse(option: &Address) -> Result<Self> {
        let place = format!("-o {option}");
        if option.text() == Some("none") {
            return Ok(Self::Nothing);
        }
        // A file's name may hold anything, only addresses have a form.
        let formed = option.text().is_some_and(|text| text.contains(':'));
        let target = if formed { Target::of(option).map_err(|error| error.at(&place))? } else { None };
        if target.is_some_and(|target| !matches!(target, Target::Record(_))) {
            return Err(Error::usage(format!("{place}: this output is for live inputs"))
                .hint("play a file at its own speed with --realtime"));
        }
        let path = option.path().to_path_buf();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir() {
            return Ok(Self::Folder(path));
        }
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("mp4" | "mkv" | "m4v" | "mov") => Ok(Self::File(path)),
            _ => Err(Error::usage(format!("{place}: not an output that is known"))
                .hint("x.mp4, x.mkv, FOLDER/, none, events:x.jsonl, regions:x.jsonl, csv:x.csv, chapters:x.vtt, embeddings:x.npy, masks:DIR, scores:DIR, snapshots:DIR, clips:DIR, mqtt://, webhook: or exec:")),
        }
    }

    /// The folder of the videos of a tree; none for no videos.
    ///
    /// # Errors
    /// It is one file.
    pub fn folder(self) -> Result<Option<PathBuf>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Folder(folder) => Ok(Some(folder)),
            Self::File(path) => Err(Error::usage(format!("-o {}: one file for a tree", path.display()))
                .hint("give a folder: -o DIR/ writes one NAME.ood.mp4 per input, in the folders of the inputs")),
        }
    }

    /// Creates the folder for the videos.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn make_folder(&self) -> Result<()> {
        let Self::Folder(folder) = self else { return Ok(()) };
        if folder.as_os_str().is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::failed(format!("-o {}: cannot be made: {error}", folder.display())))
    }

    /// For each input, in order, the name that its outputs begin with, and its video file. `names` are the file names of
    /// the inputs.
    ///
    /// # Errors
    /// One file for several inputs.
    pub fn files(&self, names: &[PathBuf]) -> Result<Vec<(String, Option<PathBuf>)>> {
        let bases = bases(names);
        if let (Self::File(path), true) = (self, names.len() > 1) {
            return Err(Error::usage(format!("-o {}: one file for {} inputs", path.display(), names.len()))
                .hint("give a folder: -o DIR/ writes one NAME.ood.mp4 per input"));
        }
        let file = |mut base: OsString| {
            let name = base.to_string_lossy().into_owned();
            let video = match self {
                Self::Nothing => None,
                Self::File(path) => Some(path.clone()),
                Self::Folder(folder) => {
                    base.push(".ood.mp4");
                    Some(folder.join(base))
                }
            };
            (name, video)
        };
        Ok(bases.into_iter().map(file).collect())
    }
}

/// A name for the outputs of each input, no two of them the same.
fn bases(names: &[PathBuf]) -> Vec<OsString> {
    let mut taken = HashSet::new();
    let base = |name: &PathBuf| {
        let full = name.file_name().unwrap_or(name.as_os_str());
        // a.mp4 and a.avi of one folder must not meet in a.ood.mp4.
        let mut base = name.file_stem().unwrap_or(name.as_os_str()).to_owned();
        let mut number = 2;
        // Names that differ only in bytes that are not UTF-8 are distinct, too.
        while !taken.insert(base.to_string_lossy().into_owned()) {
            base = full.to_owned();
            if number > 2 {
                base.push(format!(".{}", number - 1));
            }
            number += 1;
        }
        base
    };
    names.iter().map(base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Outputs> {
        Outputs::parse(&options.iter().map(Address::from).collect::<Vec<_>>())
    }

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn forms_are_distinguished() {
        let outputs = parse(&["x.mkv", "events:e.jsonl", "masks:m", "scores:s"]).unwrap();
        assert_eq!(outputs.of_files().unwrap(), VideoOutput::File("x.mkv".into()));
        assert_eq!((outputs.events, outputs.masks), (Some("e.jsonl".into()), Some("m".into())));
        assert_eq!(parse(&["marked/"]).unwrap().of_files().unwrap(), VideoOutput::Folder("marked/".into()));
        assert!(parse(&["events:a", "events:b"]).unwrap_err().to_string().contains("twice"));
        for (options, word) in
            [(&["x.gif"][..], "x.gif"), (&["a.mp4", "b.mp4"], "twice"), (&["rtsp://0.0.0.0:8554/a"], "--realtime")]
        {
            let error = parse(options).unwrap().of_files().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
        }
    }

    #[test]
    fn inputs_of_one_stem_get_files_of_their_own() {
        let files =
            Outputs::default().of_files().unwrap().files(&paths(&["d/a.mp4", "d/a.avi", "e/a.avi", "b.mov"])).unwrap();
        let expected = ["a", "a.avi", "a.avi.2", "b"]
            .map(|base| (base.to_owned(), Some(PathBuf::from(format!("{base}.ood.mp4")))));
        assert_eq!(files, expected);
    }

    #[test]
    fn one_file_for_several_inputs_is_refused() {
        let output = parse(&["x.mp4"]).unwrap().of_files().unwrap();
        assert!(output.files(&paths(&["a.mp4", "b.mp4"])).unwrap_err().to_string().contains("2 inputs"));
    }
}
