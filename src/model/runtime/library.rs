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

/// A build of the library, by the provider that it alone brings. A process can load one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// The CPU, and CUDA and TensorRT where their files lie beside it.
    Plain,
    /// With the WebGPU provider.
    Webgpu,
    /// With the OpenVINO provider.
    Openvino,
}

impl Build {
    /// The folder that it is installed in, and the start of its name among Python packages.
    fn folder(self) -> &'static str {
        match self {
            Self::Plain => "onnxruntime",
            Self::Webgpu => "onnxruntime-webgpu",
            Self::Openvino => "onnxruntime-openvino",
        }
    }
}

static RUNTIME: OnceLock<Result<Runtime>> = OnceLock::new();

/// Loads ONNX Runtime on the first call, that build of it where it is installed; gives the same runtime, or the same
/// error, ever after, whatever build is requested.
///
/// The library is looked for in this order: `ORT_DYLIB_PATH` (nothing else when it is set); the folder of the build beside
/// the executable and in the data folders (also below `.deps`, where `make` puts it), in `/usr/local/lib/oodstream` and
/// `/usr/lib/oodstream`; the Python package of the build in the Python that is first on the `PATH`; `/usr/lib`.
///
/// # Errors
/// No library where it was looked for, or one that does not load or is too old.
pub fn load(build: Build) -> Result<&'static Runtime> {
    RUNTIME.get_or_init(|| open(build)).as_ref().map_err(Clone::clone)
}

/// The library that this process has loaded, if any.
pub fn loaded() -> Option<&'static Runtime> {
    RUNTIME.get().and_then(|runtime| runtime.as_ref().ok())
}

/// Whether the user names the library, in `ORT_DYLIB_PATH`.
pub fn chosen_by_user() -> bool {
    by_user().is_some()
}

fn by_user() -> Option<PathBuf> {
    env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn open(build: Build) -> Result<Runtime> {
    let library = find(build)?;
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

fn find(build: Build) -> Result<PathBuf> {
    if let Some(path) = by_user() {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::failed(format!("ONNX Runtime library not found: ORT_DYLIB_PATH names {}", path.display()))
                .hint("point ORT_DYLIB_PATH at libonnxruntime.so, or unset it to search the usual places"))
        };
    }
    let looked = places(Build::Plain);
    find_build(build).or_else(|| find_build(Build::Plain)).ok_or_else(|| {
        Error::failed(format!(
            "ONNX Runtime library (libonnxruntime.so) not found; looked in {}",
            locate::list(&looked)
        ))
        .hint("`make deps` brings it, or set ORT_DYLIB_PATH to the library's path")
    })
}

/// The library of that build where one is installed.
pub fn find_build(build: Build) -> Option<PathBuf> {
    places(build).iter().find_map(|folder| library_in(folder))
}

/// Whether the files of a provider that is a library of its own (`cuda`, `tensorrt`) lie beside the plain build.
pub fn has_shared_provider(name: &str) -> bool {
    let file = format!("{}onnxruntime_providers_{name}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    find_build(Build::Plain).is_some_and(|library| library.with_file_name(file).is_file())
}

/// The folders in which a build may lie, in order.
fn places(build: Build) -> Vec<PathBuf> {
    let name = build.folder();
    let mut places = Vec::new();
    for folder in locate::data_folders() {
        if build == Build::Plain {
            places.push(folder.clone());
        } else {
            places.push(folder.join(name));
        }
        places.push(folder.join(".deps").join(name));
    }
    for folder in ["/usr/local/lib/oodstream", "/usr/lib/oodstream"].map(Path::new) {
        places.push(if build == Build::Plain { folder.to_path_buf() } else { folder.join(name) });
    }
    places.extend(python_packages(build));
    if build == Build::Plain {
        places.extend(
            ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
                .map(PathBuf::from),
        );
    }
    places
}

/// `libonnxruntime.so` or the highest `libonnxruntime.so.VERSION` (`.dylib`, `.dll` elsewhere) of one folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let found: Vec<PathBuf> = fs::read_dir(folder)
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
    found.into_iter().max_by_key(|path| version(path))
}

/// The numbers in the name of a file, so that 1.100 comes after 1.24.
fn version(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// `site-packages/onnxruntime/capi` of the Python installations that the `PATH` and `VIRTUAL_ENV` name. All builds install
/// there; the package's metadata says which one it is.
fn python_packages(build: Build) -> Vec<PathBuf> {
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
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
        .filter(|packages| build == Build::Plain || has_package(packages, build))
        .map(|packages| packages.join("onnxruntime/capi"))
        .filter(|folder| folder.is_dir())
        .collect()
}

fn has_package(packages: &Path, build: Build) -> bool {
    let start = build.folder().replace('-', "_") + "-";
    fs::read_dir(packages).is_ok_and(|entries| {
        entries.filter_map(|entry| entry.ok()).any(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&start) && name.ends_with(".dist-info"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_a_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.24.1", "libonnxruntime_providers_shared.so", "readme"]
        {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        assert_eq!(library_in(folder.path()), Some(folder.path().join("libonnxruntime.so.1.24.1")));
        assert_eq!(library_in(&folder.path().join("absent")), None);
    }
}
