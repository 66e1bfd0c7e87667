//! The locations of bundled files: the models and the ONNX Runtime library.

use std::env;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::address::{Anchor, located};
use crate::{Error, Result};

/// The models that ship with the program, by name. The first that is there is the default.
const BUNDLED: [&str; 2] = ["default", "free"];

/// A model as a pipeline file names it: the path of an ONNX file, relative to the folder of that file, or the name of a
/// bundled model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPath(PathBuf);

impl Deref for ModelPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl<P: Into<PathBuf>> From<P> for ModelPath {
    fn from(path: P) -> Self {
        Self(path.into())
    }
}

impl<'de> Deserialize<'de> for ModelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct PathOrName(PathBuf);

        impl Anchor for PathOrName {
            fn anchor(&mut self, folder: &Path) {
                if !is_bundled(&self.0) {
                    self.0.anchor(folder);
                }
            }
        }

        located(deserializer).map(|PathOrName(path)| Self(path))
    }
}

fn is_bundled(path: &Path) -> bool {
    BUNDLED.iter().any(|name| path == Path::new(name))
}

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

/// The ONNX file of `model`: itself, or for the name of a bundled model `models/NAME.onnx` in the first of
/// [`data_folders`] that has it, unless a file is called like that. Without one `OODSTREAM_MODEL`, else the first bundled
/// model that is there.
///
/// # Errors
/// It is in none of the folders; the message lists where it was looked for.
pub fn model_file(model: Option<&Path>) -> Result<PathBuf> {
    let (names, what) = match model {
        Some(path) if !is_bundled(path) || path.is_file() => return Ok(path.to_path_buf()),
        Some(name) => (vec![name], format!("the model `{}`", name.display())),
        None => match env::var_os("OODSTREAM_MODEL") {
            Some(path) => return Ok(PathBuf::from(path)),
            None => (BUNDLED.map(Path::new).to_vec(), "the default model".to_owned()),
        },
    };
    let folders = data_folders();
    let file = |name: &Path, folder: &PathBuf| folder.join("models").join(name).with_extension("onnx");
    let places: Vec<_> = names.iter().flat_map(|name| folders.iter().map(|folder| file(name, folder))).collect();
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        Error::failed(format!("{what} was not found; looked for {}", list(&places)))
            .hint("give a model with --model FILE.onnx, or set OODSTREAM_MODEL")
    })
}

/// Paths for an error message, in one line.
pub fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
