//! Completion records: one per input, `NAME.done.json` beside its outputs, written last and whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ood::alarm::rfc3339;
use crate::{Error, Result, atomic_file};

/// Version of the records. A reader of version n reads n + 1 by ignoring what it does not know.
pub const SCHEMA: u32 = 1;
/// The end of a record's name.
pub const SUFFIX: &str = ".done.json";
/// Bytes at the head and at the tail of a file that its hash covers.
const HASHED: u64 = 64 * 1024;

/// How an input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Everything was read and written.
    Ok,
    /// It is damaged; everything that could be read was written.
    Damaged,
    /// It could not be used; it has no outputs.
    Failed,
}

/// What a file was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Bytes.
    pub size: u64,
    /// When it was last changed, RFC 3339 in UTC.
    pub mtime: Option<String>,
    /// SHA-256 of its size and of its first and last 64 KiB.
    pub hash: String,
}

impl Identity {
    /// That of the file at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let size = meta.len();
        let mut hash = Sha256::new();
        hash.update(size.to_le_bytes());
        let mut part = |from: u64, length: u64| {
            let mut bytes = Vec::with_capacity(length as usize);
            file.seek(SeekFrom::Start(from))?;
            (&mut file).take(length).read_to_end(&mut bytes)?;
            hash.update(&bytes);
            Ok::<_, std::io::Error>(())
        };
        if meta.is_file() {
            part(0, size.min(HASHED))?;
            let tail = size.saturating_sub(HASHED).min(HASHED);
            part(size - tail, tail)?;
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { size, mtime: modified(&meta), hash })
    }

    /// Whether the file at `path` is still the same: by size and time, or else by its hash.
    pub fn is_still(&self, path: &Path) -> bool {
        let Ok(meta) = fs::metadata(path) else { return false };
        meta.len() == self.size
            && ((self.mtime.is_some() && modified(&meta) == self.mtime)
                || Self::of(path).is_ok_and(|now| now.hash == self.hash))
    }
}

fn modified(meta: &fs::Metadata) -> Option<String> {
    meta.modified().ok().map(|time| {
        let time = chrono::DateTime::<chrono::Utc>::from(time);
        time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
    })
}

/// A completion record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The program and its version.
    pub program: String,
    /// The key of the input: its path below the root of the archive.
    pub input: String,
    /// Where it was read.
    pub path: String,
    /// What it was; none when it could not be read.
    #[serde(flatten)]
    pub identity: Option<Identity>,
    /// SHA-256 of the network.
    pub model: String,
    /// Hash of the settings that matter.
    pub settings: String,
    /// How it ended.
    pub status: State,
    /// What is wrong, unless it is `ok`.
    pub reason: Option<String>,
    /// Frames decoded.
    pub frames: u64,
    /// Frames that the network looked at.
    #[serde(default)]
    pub frames_looked_at: u64,
    /// Seconds that its container says it lasts.
    #[serde(default)]
    pub duration_s: Option<f64>,
    /// Frames lost or concealed.
    pub damaged: u64,
    /// Mean share of marked pixels, 0..1.
    pub ood_share_mean: f64,
    /// Events.
    pub events: u64,
    /// Everything that was dropped, re-encoded, guessed or moved, one sentence each.
    pub notes: Vec<String>,
    /// Path of each output by its kind, from the folder of the record. A `*` stands for one file a frame or an event.
    pub outputs: BTreeMap<String, PathBuf>,
    /// When the work on it began, RFC 3339 in UTC.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// Seconds from start to end.
    pub took_s: f64,
}

/// What is at the place of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// A record that cannot be read, and why.
    Broken(String),
    /// A record.
    Whole(Box<Record>),
}

impl Record {
    /// Reads the record at `path`.
    pub fn read(path: &Path) -> Kept {
        match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Kept::Nothing,
            Err(error) => Kept::Broken(error.to_string()),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(record) => Kept::Whole(Box::new(record)),
                Err(error) => Kept::Broken(error.to_string()),
            },
        }
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(self, path)
    }

    /// The path of each output, `path` being that of the record.
    pub fn outputs_from(&self, path: &Path) -> BTreeMap<String, PathBuf> {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.outputs.iter().map(|(kind, output)| (kind.clone(), folder.join(output))).collect()
    }
}

/// Writes `value` as JSON at `path`, whole or not at all, and onto the disk.
///
/// # Errors
/// It cannot be written.
pub fn write_json(value: &impl Serialize, path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(path.display().to_string(), error);
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    let mut file = atomic_file::create(path).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Now, as records write it.
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_time_or_by_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let mut bytes = vec![7u8; 200_000];
        fs::write(&path, &bytes).unwrap();
        let identity = Identity::of(&path).unwrap();
        assert!(identity.is_still(&path));
        let touched = File::options().write(true).open(&path).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(identity.is_still(&path), "a copy with another time is the same file");
        bytes[199_999] = 8;
        fs::write(&path, &bytes).unwrap();
        assert!(!identity.is_still(&path), "its tail is another");
        bytes.pop();
        fs::write(&path, &bytes).unwrap();
        assert!(!identity.is_still(&path));
        // Head and tail do not overlap in the hash of small files.
        fs::write(&path, b"abc").unwrap();
        assert!(Identity::of(&path).unwrap().is_still(&path));
    }
}
