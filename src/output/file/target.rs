//! The name of an output: checked before any work, temporary while the file is written, final at the end.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::output::Encoding;
use crate::{Error, Result};

/// The container of an output, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Mp4,
    Mov,
    Matroska,
}

impl Container {
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("mp4" | "m4v") => Ok(Self::Mp4),
            Some("mov") => Ok(Self::Mov),
            Some("mkv") => Ok(Self::Matroska),
            _ => Err(Error::usage(format!("{}: an output file ends in .mp4, .m4v, .mov or .mkv", path.display()))),
        }
    }

    /// The name for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "MP4",
            Self::Mov => "QuickTime",
            Self::Matroska => "Matroska",
        }
    }

    /// The GStreamer element of the muxer.
    pub fn muxer(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4mux",
            Self::Mov => "qtmux",
            Self::Matroska => "matroskamux",
        }
    }
}

/// An output under its temporary name, `.NAME.part` beside the final one. The file is deleted if this is dropped before
/// [`Target::keep`] or [`Target::publish`].
pub(crate) struct Target {
    pub path: PathBuf,
    pub temporary: PathBuf,
    pub container: Container,
    /// The input, if it is a file.
    pub input: Option<PathBuf>,
    overwrite: bool,
    keep: bool,
    /// Open for its lock: another run with the same output is refused.
    file: File,
}

impl Target {
    /// Checks that `path` may and can be written, and creates the temporary file.
    pub fn check(path: &Path, input: Option<&Path>, encoding: &Encoding) -> Result<Self> {
        let target = Self::claim(path, input, encoding)?;
        if target.file.metadata().is_ok_and(|meta| meta.len() > 0) {
            tracing::warn!("{} of an unfinished run is replaced", target.temporary.display());
        }
        Ok(target)
    }

    /// As [`Target::check`], but keeps the data that an unfinished run left.
    pub fn claim(path: &Path, input: Option<&Path>, encoding: &Encoding) -> Result<Self> {
        let name = path.display();
        let container = Container::of(path)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(Error::failed(format!("{name}: the folder {} does not exist", folder.display()))
                .hint(format!("mkdir -p {}", folder.display())));
        }
        if path.is_dir() {
            return Err(Error::usage(format!("{name}: this is a folder")));
        }
        if let Some(input) = input
            && same_file(path, input)
        {
            return Err(Error::usage(format!("{name}: the output is the input"))
                .hint("give another name with -o; the input is never overwritten"));
        }
        if path.exists() && !encoding.overwrite {
            return Err(Error::usage(format!("{name}: it exists already"))
                .hint("give another name with -o, or --overwrite to replace it"));
        }
        let temporary = Self::temporary_of(path);
        let file = open_own(&temporary).map_err(|e| {
            if e.kind() == ErrorKind::InvalidFilename {
                return Error::failed(format!("{name}: this name is too long for the file system"))
                    .hint("give a shorter name with -o");
            }
            Error::failed(format!("{name}: the folder {} cannot be written: {e}", folder.display()))
                .hint("give a folder with write permission")
        })?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::failed(format!("{name}: another run is writing it now")));
        }
        Ok(Self {
            path: path.to_path_buf(),
            temporary,
            container,
            input: input.map(Path::to_path_buf),
            overwrite: encoding.overwrite,
            keep: false,
            file,
        })
    }

    /// The temporary name of `path`.
    pub fn temporary_of(path: &Path) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".part");
        path.with_file_name(name)
    }

    /// The path that a writer opens: that of the file descriptor where the system has one, so that a file which
    /// replaces the temporary one meanwhile is not written to.
    pub fn location(&self) -> PathBuf {
        location_of(&self.file, &self.temporary)
    }

    /// Sets whether the temporary file is kept on drop.
    pub fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Gives the file its final name; replaces a file that appeared meanwhile only with `overwrite`.
    pub fn publish(mut self) -> Result<PathBuf> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::failed(format!("{}: the finished file cannot be renamed: {e}", self.path.display()))
                .hint(format!("the finished file is {}", self.temporary.display()))
        };
        // Data before the name: after a power failure the name must not refer to an empty file.
        self.file.sync_all().map_err(|e| failed(&e))?;
        let renamed = if self.overwrite {
            fs::rename(&self.temporary, &self.path)
        } else {
            rename_without_clobber(&self.temporary, &self.path)
        };
        match renamed {
            Ok(()) => {
                self.keep = true;
                Ok(self.path.clone())
            }
            Err(e) => {
                self.keep = true;
                if e.kind() == ErrorKind::AlreadyExists {
                    return Err(failed(&"a file of that name appeared while this one was written"));
                }
                Err(failed(&e))
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Opens or creates the temporary file at `path`. An existing symbolic or hard link is removed and not followed: its
/// target is another file.
fn open_own(path: &Path) -> std::io::Result<File> {
    let is_own = |meta: &fs::Metadata| meta.is_file() && links(meta) == 1;
    match fs::symlink_metadata(path) {
        Ok(meta) if is_own(&meta) => {
            let file = unfollowed(OpenOptions::new().read(true).write(true)).open(path)?;
            if file.metadata().is_ok_and(|meta| is_own(&meta)) {
                return Ok(file);
            }
            Err(std::io::Error::other(format!("{} was replaced meanwhile", path.display())))
        }
        Ok(meta) if meta.is_dir() => Err(std::io::Error::other(format!("{} is a folder", path.display()))),
        Ok(_) => {
            tracing::warn!("{} was a link or not a file; it is removed, and its target is unchanged", path.display());
            fs::remove_file(path)?;
            OpenOptions::new().write(true).create_new(true).open(path)
        }
        Err(_) => OpenOptions::new().write(true).create_new(true).open(path),
    }
}

#[cfg(unix)]
fn links(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(meta)
}

#[cfg(not(unix))]
fn links(_: &fs::Metadata) -> u64 {
    1
}

fn unfollowed(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    options
}

/// The path of an open file's descriptor, or `path` where the system has none.
pub(crate) fn location_of(file: &File, path: &Path) -> PathBuf {
    #[cfg(target_os = "linux")]
    {
        let name = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
        if name.exists() {
            return name;
        }
    }
    let _ = file;
    path.to_path_buf()
}

/// Renames without replacing: by a hard link, which fails if the final name exists; or, on file systems without links
/// (memory cards), by claiming the name with an empty file first.
fn rename_without_clobber(temporary: &Path, path: &Path) -> std::io::Result<()> {
    match fs::hard_link(temporary, path) {
        Ok(()) => fs::remove_file(temporary),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(e),
        Err(_) => {
            OpenOptions::new().create_new(true).write(true).open(path)?;
            fs::rename(temporary, path)
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
            return (a.dev(), a.ino()) == (b.dev(), b.ino());
        }
    }
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
