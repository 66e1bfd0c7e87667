//! From folders, lists and patterns to the files of an archive.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use walkdir::{DirEntry, WalkDir};

use super::passed::Passed;
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
pub struct ArchiveFile {
    /// Its path below the root, with `/`: the name by which records, events and shards know it.
    pub key: String,
    /// Where it is read.
    pub path: PathBuf,
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
    sources: Vec<ArchiveFile>,
    keys: HashSet<String>,
    passed: Passed,
}

/// The files that `find` means, sorted by key, and what was passed by. Files that a list names need not exist.
///
/// # Errors
/// A pattern is malformed, the list cannot be read, or an input does not exist.
pub fn find(find: &Find) -> Result<(Vec<ArchiveFile>, Passed)> {
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

    /// A line of a list. A file that does not exist is recorded as failed when its turn comes.
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
            self.sources.push(ArchiveFile { key, path });
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
fn leave_out_own_outputs(sources: &mut Vec<ArchiveFile>, passed: &mut Passed) {
    let stem = |source: &ArchiveFile| source.path.with_extension("");
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
}
