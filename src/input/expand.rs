//! From what the command line names to the inputs it means.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::input::LiveInput;
use crate::{Error, Result};

/// Extensions taken for videos in a folder.
const VIDEOS: &[&str] =
    &["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "3gp", "flv", "wmv", "ogv"];
/// Extensions taken for images in a folder.
const IMAGES: &[&str] = &["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff"];
const KNOWN: &str = "give a file, a folder, a glob, test://, rtsp://, rtsps://, http://, https:// or v4l2://";

/// One input: each becomes one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A video file.
    File(PathBuf),
    /// Images in order, which make one video.
    Images(Vec<PathBuf>),
    /// A synthetic input, `test://...`.
    Test(String),
    /// A live input.
    Live(LiveInput),
}

impl Input {
    /// The file name that its output is named after.
    pub fn file_name(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            // A video of images is named after their folder.
            Self::Images(files) => files
                .first()
                .and_then(|file| file.parent()?.file_name())
                .map_or_else(|| PathBuf::from("images"), PathBuf::from),
            Self::Test(_) => PathBuf::from("test"),
            Self::Live(input) => input.file_name(),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Images(files) => {
                let folder = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("")).display();
                write!(f, "{folder} ({} images)", files.len())
            }
            Self::Test(spec) => f.write_str(spec),
            Self::Live(input) => input.fmt(f),
        }
    }
}

/// What `arg` means: a path, a folder of videos or of images, a glob, or the address of a live or `test://` input.
///
/// # Errors
/// Nothing there, a folder without videos or images, a pattern that matches nothing or is malformed, a malformed
/// address or one of an unknown kind.
pub fn expand_input(arg: &str) -> Result<Vec<Input>> {
    if let Some(live) = LiveInput::parse(arg)? {
        return Ok(vec![Input::Live(live)]);
    }
    if arg.starts_with("test://") {
        return Ok(vec![Input::Test(arg.to_string())]);
    }
    if let Some((scheme, rest)) = arg.split_once("://") {
        if scheme == "file" {
            return expand_path(Path::new(rest));
        }
        return Err(Error::usage(format!("{scheme}://: this kind of input is not known")).hint(KNOWN));
    }
    let path = Path::new(arg);
    if path.exists() {
        return expand_path(path);
    }
    if arg.contains(['*', '?', '[']) {
        return expand_glob(arg);
    }
    Err(Error::failed(format!("{arg}: there is no such file or folder")))
}

fn expand_path(path: &Path) -> Result<Vec<Input>> {
    if !path.exists() {
        return Err(Error::failed(format!("{}: there is no such file or folder", path.display())));
    }
    if !path.is_dir() {
        return Ok(vec![of_file(path)]);
    }
    let name = path.display();
    let entries = std::fs::read_dir(path).map_err(|e| Error::failed(format!("{name}: cannot be listed: {e}")))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let file = entry.map_err(|e| Error::failed(format!("{name}: cannot be listed: {e}")))?.path();
        // Hidden files are unfinished outputs and the like.
        let hidden = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    let with = |known: &[&str]| files.iter().filter(|f| has_extension(f, known)).cloned().collect::<Vec<_>>();
    let (videos, images) = (with(VIDEOS), with(IMAGES));
    if !videos.is_empty() {
        return Ok(videos.into_iter().map(Input::File).collect());
    }
    if !images.is_empty() {
        return Ok(vec![Input::Images(images)]);
    }
    Err(Error::failed(format!("{name}: there are no videos or images in this folder")).hint(format!(
        "looked for {} and {}",
        VIDEOS.join(" "),
        IMAGES.join(" ")
    )))
}

fn expand_glob(pattern: &str) -> Result<Vec<Input>> {
    // As a shell does: `*` leaves hidden files out.
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let paths =
        glob::glob_with(pattern, options).map_err(|e| Error::usage(format!("{pattern}: {} at {}", e.msg, e.pos)))?;
    let mut files: Vec<PathBuf> = paths.filter_map(|path| path.ok()).filter(|path| path.is_file()).collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::failed(format!("{pattern}: nothing matches this pattern")));
    }
    // Images named by one pattern are one video, as in a folder.
    if files.iter().all(|f| has_extension(f, IMAGES)) {
        return Ok(vec![Input::Images(files)]);
    }
    Ok(files.iter().map(|file| of_file(file)).collect())
}

fn of_file(path: &Path) -> Input {
    if has_extension(path, IMAGES) { Input::Images(vec![path.to_path_buf()]) } else { Input::File(path.to_path_buf()) }
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    path.extension().is_some_and(|e| known.contains(&e.to_string_lossy().to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, names: &[&str]) {
        for name in names {
            std::fs::write(folder.join(name), b"x").unwrap();
        }
    }

    #[test]
    fn folders_globs_and_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let arg = |name: &str| at(name).to_string_lossy().into_owned();
        let here = folder.path().to_string_lossy().into_owned();

        let empty = expand_input(&here).unwrap_err().to_string();
        assert!(empty.contains("no videos") && empty.contains("mp4"), "{empty}");

        touch(folder.path(), &["b.png", "a.JPG", "notes.txt"]);
        assert_eq!(expand_input(&here).unwrap(), [Input::Images(vec![at("a.JPG"), at("b.png")])]);

        touch(folder.path(), &["z.mp4", "c.MKV", ".z.mp4.part", ".hidden.mp4"]);
        assert_eq!(expand_input(&here).unwrap(), [Input::File(at("c.MKV")), Input::File(at("z.mp4"))]);
        assert_eq!(expand_input(&arg("*.mp4")).unwrap(), [Input::File(at("z.mp4"))]);
        assert_eq!(expand_input(&arg("?.png")).unwrap(), [Input::Images(vec![at("b.png")])]);
        assert!(expand_input(&arg("*.webm")).unwrap_err().to_string().contains("nothing matches"));
        assert!(expand_input(&arg("gone.mp4")).unwrap_err().to_string().contains("gone.mp4"));
        assert_eq!(expand_input("test://ball").unwrap(), [Input::Test("test://ball".into())]);
        for live in ["rtsp://user:secret@cam/1", "v4l2:///dev/video0", "test://ball?live=1", "https://cam/a.m3u8"] {
            let inputs = expand_input(live).unwrap();
            assert!(matches!(inputs.as_slice(), [Input::Live(_)]), "{inputs:?}");
            assert!(!format!("{inputs:?} {}", inputs[0]).contains("secret"));
        }
        for wrong in ["rtsp://user:secret@", "rtsp://user:secret@cam:port/1", "nope://user:secret@x"] {
            let error = expand_input(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }
}
