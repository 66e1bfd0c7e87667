//! Files of lines, shared by all streams of a run.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;

use crate::lock::lock;
use crate::{Error, Result};

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// It is replaced.
    Replace,
    /// What comes is put behind what is there.
    Append,
}

/// Opens or makes the file of `-o kind:path`.
///
/// # Errors
/// It cannot be made, or exists and `existing` refuses that.
pub(super) fn open_file(kind: &str, path: &Path, existing: Existing, options: &mut OpenOptions) -> Result<File> {
    options.create(true).write(true).truncate(existing == Existing::Replace).create_new(existing == Existing::Refuse);
    options.open(path).map_err(|error| {
        let place = format!("-o {kind}:{}", path.display());
        match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::usage(format!("{place}: it exists already")).hint("--overwrite replaces it")
            }
            _ => Error::failed(format!("{place}: {error}")),
        }
    })
}

/// A file of lines.
#[derive(Debug)]
pub struct Lines {
    /// The output that it is, as in `-o KIND:PATH`.
    kind: &'static str,
    path: PathBuf,
    file: Mutex<File>,
}

impl Lines {
    /// Opens or makes the file of `-o kind:path`.
    ///
    /// # Errors
    /// It cannot be made, or exists and `existing` refuses that.
    pub fn open(kind: &'static str, path: &Path, existing: Existing) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.append(existing == Existing::Append);
        let file = open_file(kind, path, existing, &mut options)?;
        Ok(Self { kind, path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        let file = lock(&self.file);
        file.metadata().is_ok_and(|metadata| metadata.len() == 0)
    }

    /// Writes `value` as a line of JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value)
            .map_err(|error| Error::failed(format!("{} file {}", self.kind, self.path.display())).caused_by(error))?;
        self.write_line(&line)
    }

    /// Writes a line; it holds no line feed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_line(&self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        let mut file = lock(&self.file);
        let length = file.metadata().map(|metadata| metadata.len());
        let written = file.write_all(line.as_bytes());
        if let (Err(_), Ok(length)) = (&written, length) {
            // No half a line stays, should there be room for the next one. Pipes and devices have no length to go back to.
            let _ = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
        }
        written.map_err(|error| Error::io(format!("{} file {}", self.kind, self.path.display()), error))
    }
}
