//! Atomic files: written beside their destination and then renamed, so that no reader sees half a file.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// An empty file that will become the one at `path`; removed if it is dropped before that.
///
/// # Errors
/// The folder is missing or not writable.
pub fn create(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part");
    // Temporary files are private by default, these are results: as open as the user's umask has it.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}
