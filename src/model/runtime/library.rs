//! The ONNX Runtime library: found, loaded once, and one environment for the process.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;

use crate::model::locate;
use crate::{Error, Result};

/// The environment of the process, with the path that the library was loaded from.
#[derive(Debug)]
pub struct Runtime {
    /// Needed to build a session.
    pub environment: Environment,
    /// The shared library in use.
    pub library: PathBuf,
}

/// Loads ONNX Runtime on the first call and gives the same runtime, or the same error, ever after.
///
/// The library is looked for in this order: `ORT_DYLIB_PATH` (nothing else when it is set), beside the executable and in
/// the data folders (also below `.deps`, where `make` puts it), the folders of packages (`/usr/local/lib/oodstream`,
/// `/usr/lib/oodstream`), the `onnxruntime` package of the Python that is first on the `PATH`, `/usr/lib`.
///
/// # Errors
/// No library where it was looked for, or one that does not load or is too old.
pub fn get() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Runtime> {
    let library = find()?;
    let failed = |reason: String| {
        Error::failed(format!("ONNX Runtime library {}: {reason}", library.display()))
            .hint("`make deps` brings the tested version; ORT_DYLIB_PATH names another one")
    };
    let environment = ort::init_from(&library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("oodstream")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    tracing::debug!(library = %library.display(), "ONNX Runtime loaded");
    Ok(Runtime { environment, library })
}

fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::failed(format!("ONNX Runtime library not found: ORT_DYLIB_PATH names {}", path.display()))
                .hint("point ORT_DYLIB_PATH at libonnxruntime.so, or unset it to search the usual places"))
        };
    }
    let mut looked = Vec::new();
    for folder in locate::data_folders() {
        looked.push(folder.clone());
        looked.push(folder.join(".deps/onnxruntime"));
    }
    looked.extend(["/usr/local/lib/oodstream", "/usr/lib/oodstream"].map(PathBuf::from));
    looked.extend(python_packages());
    looked.extend(
        ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"].map(PathBuf::from),
    );
    looked.iter().find_map(|folder| library_in(folder)).ok_or_else(|| {
        Error::failed(format!(
            "ONNX Runtime library (libonnxruntime.so) not found; looked in {}",
            locate::list(&looked)
        ))
        .hint("`make deps` brings it, or set ORT_DYLIB_PATH to the library's path")
    })
}

/// `libonnxruntime.so` or the highest `libonnxruntime.so.VERSION` (`.dylib`, `.dll` elsewhere) of one folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
                name == "onnxruntime.dll"
                    || name.starts_with("libonnxruntime.so")
                    || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
            })
        })
        .collect();
    found.sort();
    found.pop()
}

/// `site-packages/onnxruntime/capi` of the Python installations that the `PATH` and `VIRTUAL_ENV` name.
fn python_packages() -> Vec<PathBuf> {
    let prefixes = env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().chain(
        env::var_os("PATH")
            .map(|path| env::split_paths(&path).collect::<Vec<_>>())
            .unwrap_or_default()
            .into_iter()
            .filter(|folder| folder.join("python3").exists())
            .filter_map(|folder| folder.parent().map(Path::to_path_buf)),
    );
    prefixes
        .filter_map(|prefix| fs::read_dir(prefix.join("lib")).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/onnxruntime/capi")))
        .filter(|folder| folder.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_a_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["libonnxruntime.so.1.23.0", "libonnxruntime.so.1.24.1", "libonnxruntime_providers_shared.so", "readme"]
        {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        assert_eq!(library_in(folder.path()), Some(folder.path().join("libonnxruntime.so.1.24.1")));
        assert_eq!(library_in(&folder.path().join("absent")), None);
    }
}
