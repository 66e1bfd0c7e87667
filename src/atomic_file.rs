//! Atomic files: written beside their destination and then renamed, so that no reader sees half a file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::{fs, io};

use tempfile::NamedTempFile;

/// Random characters in the name of a temporary file.
const RANDOM: usize = 6;

/// An empty file that will become the one at `path`; removed if it is dropped before that.
///
/// # Errors
/// The folder is missing or not writable.
pub fn create(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part").rand_bytes(RANDOM);
    // Temporary files are private by default, these are results: as open as the user's umask has it.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Removes what [`create`] left of the files at `paths` where a process was killed before it gave them their names.
/// No other process may be writing them.
///
/// # Errors
/// A leftover cannot be removed.
pub fn remove_leftovers<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    let mut folders: BTreeMap<&Path, BTreeSet<&OsStr>> = BTreeMap::new();
    for path in paths {
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            folders.entry(folder).or_default().insert(name);
        }
    }
    for (folder, names) in folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let target = entry.file_name().to_str().and_then(target_of).map(ToOwned::to_owned);
            if target.is_some_and(|target| names.contains(OsStr::new(&target))) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// The name of the file that a temporary one of [`create`] will become.
fn target_of(name: &str) -> Option<&str> {
    let (target, random) = name.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    (random.len() == RANDOM).then_some(target)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn leftovers_of_the_given_files_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [".a.doing", "b.done.json", "c.mp4"] {
            create(&path(name)).unwrap().keep().unwrap();
        }
        fs::write(path(".a.doing"), "").unwrap();
        fs::write(path(".a.doing.part"), "").unwrap();
        fs::write(path("..a.doing.longer-name.part"), "").unwrap();
        remove_leftovers([path(".a.doing"), path("b.done.json"), path("absent/d")].iter().map(PathBuf::as_path))
            .unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let left: Vec<_> = left.iter().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(left[..3], ["..a.doing.longer-name.part", ".a.doing", ".a.doing.part"]);
        assert!(left.len() == 4 && left[3].starts_with(".c.mp4."), "{left:?}");
    }
}
