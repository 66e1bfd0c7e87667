//! The locations of bundled files: the default model and the ONNX Runtime library.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Name of the default model below a `models` folder.
const DEFAULT_MODEL: &str = "models/default.onnx";

/// Folders in which files that ship with the program may lie, in order: beside the executable and above it (up to the
/// project folder of a `target/release` build), then the user's and the system's data folders.
pub fn data_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(executable) = env::current_exe() {
        folders.extend(executable.ancestors().skip(1).take(4).map(Path::to_path_buf));
    }
    let home_data = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
    folders.extend(home_data.map(|data| data.join("oodstream")));
    folders.extend(["/usr/local/share/oodstream", "/usr/share/oodstream"].map(PathBuf::from));
    folders
}

/// The default model: `OODSTREAM_MODEL`, else the first `models/default.onnx` of [`data_folders`].
///
/// # Errors
/// It is in none of them; the message lists where it was looked for.
pub fn default_model() -> Result<PathBuf> {
    if let Some(path) = env::var_os("OODSTREAM_MODEL") {
        return Ok(PathBuf::from(path));
    }
    let places: Vec<PathBuf> = data_folders().into_iter().map(|folder| folder.join(DEFAULT_MODEL)).collect();
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        Error::failed(format!("the default model was not found; looked for {}", list(&places)))
            .hint("give a model with --model FILE.onnx, or set OODSTREAM_MODEL")
    })
}

/// Paths for an error message, in one line.
pub fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
