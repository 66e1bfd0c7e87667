//! From folders, lists and patterns to the files of an archive.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

use crate::address::Address;
use crate::input::{Input, expand_input, is_video};
use crate::{Error, Result};

/// Folders of deleted files and of thumbnails that systems and network drives make.
const TRASH: &[&str] = &[
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "#recycle",
    "@recycle",
    "@eadir",
    "trash",
    "thumbnails",
];
/// Small copies and thumbnails that cameras write beside their videos.
const PREVIEWS: &[&str] = &["lrv", "lrf", "thm"];

/// One of several machines' parts of an archive, `I/N` with `I` from 1.
///
/// A file belongs to the shard that the SHA-256 of its key names, so that files added later move no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Numbers")]
pub struct Shard {
    /// Which shard, from 1.
    pub number: u64,
    /// How many there are.
    pub count: u64,
}

/// A [`Shard`] as it stands in a run file.
#[derive(Deserialize)]
struct Numbers {
    number: u64,
    count: u64,
}

impl TryFrom<Numbers> for Shard {
    type Error = String;

    fn try_from(Numbers { number, count }: Numbers) -> std::result::Result<Self, String> {
        let shard = Self { number, count };
        if shard.is_valid() { Ok(shard) } else { Err(format!("there is no shard {shard}")) }
    }
}

impl Shard {
    /// The most that an archive may have: those that are missing are listed one by one.
    const MOST: u64 = 1_000_000;

    fn is_valid(self) -> bool {
        self.count <= Self::MOST && (1..=self.count).contains(&self.number)
    }

    /// Whether the file with this key is in the shard.
    pub fn has(&self, key: &str) -> bool {
        let hash = Sha256::digest(key.as_bytes());
        let first = hash.iter().take(8).fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        first % self.count.max(1) == self.number.saturating_sub(1)
    }
}

impl std::str::FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("--shard {text}: expected I/N, such as 17/1000: I from 1 to N, N up to a million"));
        let (number, count) = text.split_once('/').ok_or_else(wrong)?;
        let shard = Self { number: number.parse().map_err(|_| wrong())?, count: count.parse().map_err(|_| wrong())? };
        if shard.is_valid() { Ok(shard) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

/// Which files are meant.
#[derive(Debug, Clone, Default)]
pub struct Find {
    /// Files, folders and patterns.
    pub inputs: Vec<Address>,
    /// A file with one path a line, `-` for standard input.
    pub list: Option<PathBuf>,
    /// Whether folders are searched at every depth.
    pub recursive: bool,
    /// Patterns of which a file must match one; none: all files.
    pub include: Vec<String>,
    /// Patterns of files that are left out.
    pub exclude: Vec<String>,
    /// Folders that are outputs of this run.
    pub outputs: Vec<PathBuf>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path below the root, with `/`: the name by which records, events and shards know it.
    pub key: String,
    /// Where it is read.
    pub path: PathBuf,
}

/// What was passed by, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Hidden files and folders, `._*` of macOS among them.
    pub hidden: u64,
    /// Folders of deleted files and thumbnails.
    pub trash: u64,
    /// Previews and thumbnails of cameras: `.LRV`, `.LRF`, `.THM`.
    pub previews: u64,
    /// Symbolic links to folders, which are not followed, and links to nothing.
    pub links: u64,
    /// Outputs of runs: `NAME.ood.mp4` beside `NAME.*`, and the folders of this run's outputs.
    pub outputs: u64,
    /// Files that `--include` and `--exclude` leave out.
    pub excluded: u64,
    /// Files that are no videos by their extension.
    pub others: u64,
    /// Lines of a list, or inputs, that name a file once more.
    pub repeated: u64,
    /// Files of other shards.
    pub other_shards: u64,
    /// Folders and files that could not be read, with the reason.
    pub unreadable: Vec<String>,
}

impl Passed {
    /// The numbers that are not zero, in words.
    pub fn describe(&self) -> Option<String> {
        let counts = [
            (self.hidden, "hidden"),
            (self.trash, "trash or thumbnail folders"),
            (self.previews, "camera previews"),
            (self.links, "symbolic links to folders or to nothing"),
            (self.outputs, "outputs of runs"),
            (self.excluded, "left out by --include or --exclude"),
            (self.others, "not known as videos"),
            (self.repeated, "named twice"),
            (self.other_shards, "in other shards"),
            (self.unreadable.len() as u64, "unreadable"),
        ];
        let said: Vec<_> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}

/// Includes and excludes as they are matched.
struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    fn new(find: &Find) -> Result<Self> {
        let set = |option: &str, patterns: &[String]| {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns {
                let failed = |error: globset::Error| Error::usage(format!("{option} {pattern}: {}", error.kind()));
                // As in .gitignore: a pattern without a slash is about names, at every depth.
                let anywhere = if pattern.contains('/') { pattern.clone() } else { format!("**/{pattern}") };
                set.add(GlobBuilder::new(&anywhere).literal_separator(true).build().map_err(failed)?);
            }
            set.build().map_err(|error| Error::usage(format!("{option}: {}", error.kind())))
        };
        Ok(Self {
            include: (!find.include.is_empty()).then(|| set("--include", &find.include)).transpose()?,
            exclude: set("--exclude", &find.exclude)?,
        })
    }

    fn takes(&self, key: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(key)) && !self.exclude.is_match(key)
    }
}

/// The files found so far.
struct Finding<'a> {
    find: &'a Find,
    filter: Filter,
    outputs: Vec<PathBuf>,
    sources: Vec<Source>,
    keys: HashSet<String>,
    passed: Passed,
}

/// The files that `find` means, sorted by key, and what was passed by. Files that a list names need not exist.
///
/// # Errors
/// A pattern is malformed, the list cannot be read, or an input is not there.
pub fn find(find: &Find) -> Result<(Vec<Source>, Passed)> {
    let filter = Filter::new(find)?;
    let outputs = find.outputs.iter().filter_map(|folder| std::fs::canonicalize(folder).ok()).collect();
    let mut finding =
        Finding { find, filter, outputs, sources: Vec::new(), keys: HashSet::new(), passed: Passed::default() };
    let alone = find.inputs.len() == 1 && find.list.is_none();
    for input in &find.inputs {
        finding.input(input, alone)?;
    }
    if let Some(list) = &find.list {
        for line in lines(list)? {
            finding.line(PathBuf::from(line));
        }
    }
    let Finding { mut sources, mut passed, .. } = finding;
    sources.sort_by(|a, b| a.key.cmp(&b.key));
    leave_out_own_outputs(&mut sources, &mut passed);
    Ok((sources, passed))
}

impl Finding<'_> {
    fn input(&mut self, input: &Address, alone: bool) -> Result<()> {
        let path = input.path();
        if path.is_dir() {
            self.folder(path, if alone { path } else { Path::new("") });
            return Ok(());
        }
        if path.is_file() {
            self.add(path.to_path_buf(), Path::new(""));
            return Ok(());
        }
        for found in expand_input(input)? {
            match found {
                Input::File(path) => self.add(path, Path::new("")),
                other => {
                    return Err(Error::usage(format!("{other}: -r, --inputs-from and --resume take video files")));
                }
            }
        }
        Ok(())
    }

    /// A line of a list. What is not there is found out, and recorded, when its turn comes.
    fn line(&mut self, path: PathBuf) {
        if path.is_dir() && self.find.recursive {
            self.folder(&path, Path::new(""));
        } else {
            self.add(path, Path::new(""));
        }
    }

    fn folder(&mut self, folder: &Path, root: &Path) {
        let depth = if self.find.recursive { usize::MAX } else { 1 };
        let mut walk = WalkDir::new(folder).max_depth(depth).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let place = error.path().unwrap_or(folder).display().to_string();
                    let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    self.passed.unreadable.push(format!("{place}: {why}"));
                    continue;
                }
            };
            if entry.depth() > 0 && self.passes_by(&entry) {
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
                continue;
            }
            if !entry.file_type().is_dir() {
                self.file(entry.path(), root);
            }
        }
    }

    /// Whether an entry is left out by its name or kind; counted if so.
    fn passes_by(&mut self, entry: &DirEntry) -> bool {
        let name = entry.file_name().to_string_lossy();
        let folder = entry.file_type().is_dir();
        let count = if name.starts_with('.') {
            &mut self.passed.hidden
        } else if folder && TRASH.contains(&name.to_lowercase().as_str()) {
            &mut self.passed.trash
        } else if folder
            && !self.outputs.is_empty()
            && std::fs::canonicalize(entry.path()).is_ok_and(|path| self.outputs.contains(&path))
        {
            &mut self.passed.outputs
        } else if entry.path_is_symlink() && !entry.path().is_file() {
            &mut self.passed.links
        } else {
            return false;
        };
        *count += 1;
        true
    }

    fn file(&mut self, path: &Path, root: &Path) {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if extension.is_some_and(|extension| PREVIEWS.contains(&extension.as_str())) {
            self.passed.previews += 1;
        } else if is_video(path) {
            self.add(path.to_path_buf(), root);
        } else {
            self.passed.others += 1;
        }
    }

    fn add(&mut self, path: PathBuf, root: &Path) {
        let key = key(path.strip_prefix(root).unwrap_or(&path));
        if !self.filter.takes(&key) {
            self.passed.excluded += 1;
        } else if !self.keys.insert(key.clone()) {
            self.passed.repeated += 1;
        } else {
            self.sources.push(Source { key, path });
        }
    }
}

/// The path with `/` between its names, without what leads out of a folder.
fn key(path: &Path) -> String {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    names.collect::<Vec<_>>().join("/")
}

/// The paths of a list: one a line, or separated by NUL as `find -print0` writes them.
fn lines(list: &Path) -> Result<Vec<OsString>> {
    let place = format!("--inputs-from {}", list.display());
    let mut bytes = Vec::new();
    let read = if list == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(list).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| Error::io(place, error))?;
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let line = |line: &[u8]| {
        let line = if end == b'\n' { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        (!line.is_empty()).then(|| os_string(line))
    };
    Ok(bytes.split(|byte| *byte == end).filter_map(line).collect())
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Removes `NAME.ood.EXT` where there is a `NAME.*`: it is the output of an earlier run.
fn leave_out_own_outputs(sources: &mut Vec<Source>, passed: &mut Passed) {
    let stem = |source: &Source| source.path.with_extension("");
    let stems: HashSet<PathBuf> = sources.iter().map(stem).collect();
    let before = sources.len();
    sources.retain(|source| {
        let stem = stem(source);
        !(stem.extension().is_some_and(|e| e == "ood") && stems.contains(&stem.with_extension("")))
    });
    passed.outputs += (before - sources.len()) as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        folder
    }

    fn found(find: &Find) -> (Vec<String>, Passed) {
        let (sources, passed) = super::find(find).unwrap();
        (sources.into_iter().map(|source| source.key).collect(), passed)
    }

    #[test]
    fn a_tree_gives_its_videos_and_counts_the_rest() {
        let folder = tree(&[
            "cam1/a.mp4",
            "cam1/a.ood.mp4",
            "cam1/._a.mp4",
            "cam2/deep/er/a.MOV",
            "cam2/a.LRV",
            "cam2/a.THM",
            "cam2/notes.txt",
            "$RECYCLE.BIN/gone.mp4",
            ".Trashes/gone.mp4",
            "marked/cam1/a.ood.mp4",
        ]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), folder.path().join("cam1/up")).unwrap();
        let root = Address::from(folder.path());
        let find = Find {
            inputs: vec![root.clone()],
            recursive: true,
            outputs: vec![folder.path().join("marked")],
            ..Find::default()
        };
        let (keys, passed) = found(&find);
        assert_eq!(keys, ["cam1/a.mp4", "cam2/deep/er/a.MOV"]);
        let expected =
            Passed { hidden: 2, trash: 1, previews: 2, links: 1, outputs: 2, others: 1, ..Passed::default() };
        assert_eq!(passed, expected);
        let (keys, passed) = found(&Find { exclude: vec!["cam1/**".into()], ..find.clone() });
        assert_eq!((keys.as_slice(), passed.excluded), (&["cam2/deep/er/a.MOV".to_owned()][..], 2));
        let (keys, _) = found(&Find { include: vec!["*.mp4".into()], ..find.clone() });
        assert_eq!(keys, ["cam1/a.mp4"]);
        let error = super::find(&Find { include: vec!["a[".into()], ..find }).unwrap_err();
        assert!(error.to_string().contains("--include a["), "{error}");
    }

    #[test]
    fn lists_have_lines_or_nul() {
        let folder = tree(&["a b.mp4"]);
        let list = folder.path().join("list");
        for text in ["x/a b.mp4\r\n\n/y/b.mp4\nx/a b.mp4\n", "x/a b.mp4\0/y/b.mp4\0x/a b.mp4\0"] {
            std::fs::write(&list, text).unwrap();
            let (keys, passed) = found(&Find { list: Some(list.clone()), ..Find::default() });
            assert_eq!(keys, ["x/a b.mp4", "y/b.mp4"]);
            assert_eq!(passed.repeated, 1);
        }
    }

    #[test]
    fn shards_are_disjoint_and_complete_and_added_files_move_no_others() {
        let keys: Vec<String> = (0..500).map(|n| format!("cam{}/{n}.mp4", n % 3)).collect();
        let shards: Vec<Shard> = (1..=7).map(|number| Shard { number, count: 7 }).collect();
        for key in &keys {
            assert_eq!(shards.iter().filter(|shard| shard.has(key)).count(), 1, "{key}");
        }
        let sizes: Vec<usize> = shards.iter().map(|shard| keys.iter().filter(|key| shard.has(key)).count()).collect();
        assert!(sizes.iter().all(|size| (40..110).contains(size)), "{sizes:?}");
        for wrong in ["0/7", "8/7", "7", "a/b", "1/0", "-1/7"] {
            assert!(wrong.parse::<Shard>().unwrap_err().to_string().contains("--shard"), "{wrong}");
        }
    }
}
