//! What is to be done: the places of the outputs of each file, and what records say of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::find::ArchiveFile;
use super::record::{Kept, Record, SUFFIX, State};
use crate::record::embeddings::IDS;
use crate::{Error, Result, atomic_file};

/// Whether records of earlier runs count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resume {
    /// Everything is done again.
    pub anew: bool,
    /// What failed is tried again.
    pub retry_failed: bool,
}

/// The folders of an archive's outputs by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders(pub BTreeMap<&'static str, PathBuf>);

/// The name of the outputs of each kind: one file, or many beginning with the base name.
fn file_name(kind: &str, base: &str) -> String {
    match kind {
        "video" => format!("{base}.ood.mp4"),
        "events" => format!("{base}.jsonl"),
        "regions" => format!("{base}.regions.jsonl"),
        "csv" => format!("{base}.csv"),
        "chapters" => format!("{base}.vtt"),
        "embeddings" => format!("{base}.npy"),
        "embedding-ids" => format!("{base}.{IDS}"),
        "masks" => format!("{base}_*.png"),
        "scores" => format!("{base}_*.npy"),
        "clips" => format!("{base}_*.mp4"),
        "snapshots" => format!("{base}_*.jpg"),
        other => format!("{base}.{other}"),
    }
}

impl Folders {
    /// The kinds, in order.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// The folder of the records: that of the video, else of the events, else of the first output.
    ///
    /// # Errors
    /// There is no output.
    pub fn records(&self) -> Result<&Path> {
        let first = ["video", "events"].iter().find_map(|kind| self.0.get(kind)).or_else(|| self.0.values().next());
        first.map(PathBuf::as_path).ok_or_else(|| {
            Error::usage("there is no output for the files").hint("-o FOLDER/, or -o none with -o events:FOLDER/")
        })
    }

    /// The places of the outputs whose names begin with `base`, a path with `/`.
    ///
    /// # Errors
    /// There is no output.
    pub fn places(&self, base: &str) -> Result<Places> {
        let (folder, name) = base.rsplit_once('/').unwrap_or(("", base));
        let records = self.records()?.join(folder);
        let outputs =
            self.0.iter().map(|(kind, root)| (*kind, root.join(folder).join(file_name(kind, name)))).collect();
        Ok(Places {
            base: name.to_owned(),
            record: records.join(format!("{name}{SUFFIX}")),
            claim: records.join(format!(".{name}.doing")),
            outputs,
        })
    }
}

/// Where everything of one file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The name that its outputs begin with.
    pub base: String,
    /// The completion record.
    pub record: PathBuf,
    /// Exists while the file is processed: the outputs it names after a run that was killed are incomplete.
    pub claim: PathBuf,
    /// The outputs by kind; a `*` in the name stands for one file a frame or an event.
    pub outputs: BTreeMap<&'static str, PathBuf>,
}

impl Places {
    /// Removes all outputs that are there.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_outputs(&self) -> Result<()> {
        self.existing().iter().try_for_each(|path| remove(path))
    }

    /// The outputs that are there.
    pub fn existing(&self) -> Vec<PathBuf> {
        self.outputs.values().flat_map(|path| matching(path)).collect()
    }
}

/// Removes what was left where a run was killed while it wrote the record or the claim of a file; `bases` begin the names
/// of the files' outputs.
///
/// # Errors
/// It cannot be removed.
pub fn remove_leftovers<'a>(folders: &Folders, bases: impl Iterator<Item = &'a str>) -> Result<()> {
    let places = bases.map(|base| folders.places(base)).collect::<Result<Vec<_>>>()?;
    let written = places.iter().flat_map(|places| [places.record.as_path(), places.claim.as_path()]);
    atomic_file::remove_leftovers(written).map_err(|error| Error::io("what a killed run left", error))
}

/// Removes a file, if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("{}: cannot be removed", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The files that a path of an output stands for. `NAME_*.EXT` are `NAME_`, the number of a frame or the identity of an
/// event, and what follows a `-`: not the outputs of another input called `NAME_2`.
pub fn matching(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((before, after)) = name.split_once('*') else {
        return if path.exists() { vec![path.to_path_buf()] } else { Vec::new() };
    };
    // Clips are Matroska where MP4 cannot hold their streams.
    let other = if after == ".mp4" { ".mkv" } else { after };
    let is_one = |name: &str| {
        let ended = |rest: &str| rest.strip_suffix(after).or_else(|| rest.strip_suffix(other)).map(ToOwned::to_owned);
        name.strip_prefix(before).and_then(ended).is_some_and(|middle| {
            let number = middle.split('-').next().unwrap_or_default();
            let frame = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
            let event = number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
            frame || event
        })
    };
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_one(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// What there is to do for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Nothing: a record says how it ended.
    Nothing(State),
    /// It has not been done.
    Do,
    /// It is done again, for this reason.
    Again(String),
}

/// A file of the plan.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The file.
    pub source: ArchiveFile,
    /// The name that its outputs begin with, with the folders before it.
    pub base: String,
    /// What there is to do.
    pub task: Task,
}

/// All files of a run.
#[derive(Debug, Clone, Default)]
pub struct Worklist {
    /// In the order of their keys.
    pub files: Vec<Planned>,
}

impl Worklist {
    /// How many files satisfy `which`.
    pub fn count(&self, which: impl Fn(&Task) -> bool) -> usize {
        self.files.iter().filter(|file| which(&file.task)).count()
    }
}

/// The base names of `sources`, no two of them the same: the key without its extension. Files of one folder that differ
/// by their extension alone keep it, but for the one that has the name already by its record, or else for the `.mp4`.
///
/// # Errors
/// There is no output.
pub fn bases(sources: &[ArchiveFile], folders: &Folders) -> Result<Vec<String>> {
    let stem = |key: &str| match key.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') && !stem.is_empty() && !stem.ends_with('/') => {
            stem.to_owned()
        }
        _ => key.to_owned(),
    };
    let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, source) in sources.iter().enumerate() {
        groups.entry(stem(&source.key)).or_default().push(index);
    }
    let mut bases: Vec<String> = sources.iter().map(|source| source.key.clone()).collect();
    for (stem, group) in groups {
        let owner = match Record::read(&folders.places(&stem)?.record) {
            Kept::Whole(record) => group.iter().find(|index| sources[**index].key == record.input).copied(),
            _ => group
                .iter()
                .find(|index| sources[**index].key.to_lowercase().ends_with(".mp4"))
                .or(group.first())
                .copied(),
        };
        if let Some(owner) = owner {
            bases[owner] = stem;
        }
    }
    // `x.avi` beside `x.mp4` and `x.avi.mp4`.
    let mut taken = HashSet::new();
    for (base, source) in bases.iter_mut().zip(sources) {
        if !taken.insert(base.clone()) {
            base.clone_from(&source.key);
            taken.insert(base.clone());
        }
    }
    Ok(bases)
}

/// What is to be done for `source`, by its record.
pub fn task(source: &ArchiveFile, places: &Places, model: &str, settings: &str, resume: Resume) -> Task {
    let record = match Record::read(&places.record) {
        Kept::Nothing => return Task::Do,
        Kept::Broken(why) => return Task::Again(format!("its record {} is damaged: {why}", places.record.display())),
        Kept::Whole(record) => record,
    };
    if resume.anew {
        return Task::Again("--no-resume".to_owned());
    }
    if record.model != model {
        return Task::Again("the model is another".to_owned());
    }
    if record.settings != settings {
        return Task::Again("the settings are others".to_owned());
    }
    let same = match &record.identity {
        Some(identity) => identity.is_still(&source.path),
        None => !source.path.exists(),
    };
    if !same {
        return Task::Again("the file has changed".to_owned());
    }
    if record.status == State::Failed {
        return if resume.retry_failed { Task::Again("it failed".to_owned()) } else { Task::Nothing(State::Failed) };
    }
    let gone = record.outputs_from(&places.record).into_iter().find(|(_, path)| {
        // Of many files each is as good as the other, and there may be none.
        !path.to_string_lossy().contains('*') && !path.exists()
    });
    match gone {
        Some((_, path)) => Task::Again(format!("its output {} is gone", path.display())),
        None => Task::Nothing(record.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(keys: &[&str]) -> Vec<ArchiveFile> {
        keys.iter().map(|key| ArchiveFile { key: (*key).to_owned(), path: PathBuf::from(key) }).collect()
    }

    #[test]
    fn names_are_those_of_the_files_and_do_not_collide() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders(BTreeMap::from([("events", folder.path().to_path_buf())]));
        let bases = bases(&sources(&["a/x.avi", "a/x.mp4", "b/x.mp4", "c.d/noext", "k.mkv"]), &folders).unwrap();
        assert_eq!(bases, ["a/x.avi", "a/x", "b/x", "c.d/noext", "k"]);
        let places = folders.places("a/x").unwrap();
        assert_eq!(places.record, folder.path().join("a/x.done.json"));
        assert_eq!(places.outputs["events"], folder.path().join("a/x.jsonl"));
    }

    #[test]
    fn the_files_of_another_input_are_not_matched() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["x_000001.png", "x_000000.png", "x_2_000000.png", "x_notes.png", "x_0123456789abcdef-clean.jpg"];
        for name in names {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        assert_eq!(matching(&at("x_*.png")), [at("x_000000.png"), at("x_000001.png")]);
        assert_eq!(matching(&at("x_*.jpg")), [at("x_0123456789abcdef-clean.jpg")]);
    }
}
