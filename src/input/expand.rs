//! Expands the inputs on the command line to files, image folders and live inputs.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::address::Address;
use crate::input::LiveInput;
use crate::input::file::count_video_tracks;
use crate::{Error, Result};

/// Extensions of videos in a folder.
const VIDEOS: &[&str] = &[
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "3gp", "flv", "wmv", "ogv", "m2t",
    "trp", "vob", "mod", "mxf", "asf", "f4v", "3g2", "dv", "insv", "360", "dav", "h264", "264", "h265", "hevc", "265",
    "m2v", "mjpg", "mjpeg", "ivf", "y4m",
];
/// Extensions of images in a folder.
const IMAGES: &[&str] = &["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff"];
const KNOWN: &str = "give a file, a folder, a glob, test://, rtsp://, rtsps://, http://, https:// or v4l2://";

/// One input: each has one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A video file.
    File(PathBuf),
    /// One of several video tracks of a file, by its number from 1.
    Track(PathBuf, u32),
    /// Images in order, which form one video.
    Images(Vec<PathBuf>),
    /// A synthetic input, `test://...`.
    Test(String),
    /// A live input.
    Live(LiveInput),
}

impl Input {
    /// The file name from which that of the output is derived.
    pub fn file_name(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Track(path, number) => {
                let mut name = path.file_stem().unwrap_or_default().to_os_string();
                name.push(format!(".{number}."));
                name.push(path.extension().unwrap_or_default());
                path.with_file_name(name)
            }
            // A video of images is named after its folder.
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
            Self::Track(path, number) => write!(f, "{} (video track {number})", path.display()),
            Self::Images(files) => {
                let folder = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("")).display();
                write!(f, "{folder} ({} images)", files.len())
            }
            Self::Test(spec) => f.write_str(spec),
            Self::Live(input) => input.fmt(f),
        }
    }
}

/// Expands `address`: a path, a folder of videos or images, a glob pattern, or the address of a live or `test://`
/// input.
///
/// # Errors
/// The path does not exist, a folder has no videos or images, a pattern is malformed or matches nothing, or an address
/// is malformed or of an unknown kind.
pub fn expand_input(address: &Address) -> Result<Vec<Input>> {
    if let Some(live) = LiveInput::of(address)? {
        return Ok(vec![Input::Live(live)]);
    }
    match address.url() {
        Some((scheme, _)) if scheme == "test" => return Ok(vec![Input::Test(address.to_string())]),
        Some((scheme, rest)) if scheme == "file" => return expand_path(Path::new(rest)),
        Some((scheme, _)) => {
            return Err(Error::usage(format!("{scheme}://: unknown kind of input")).hint(KNOWN));
        }
        None => {}
    }
    if address.path().exists() {
        return expand_path(address.path());
    }
    match address.text().filter(|text| text.contains(['*', '?', '['])) {
        Some(pattern) => expand_glob(pattern),
        None => Err(Error::failed(format!("{address}: there is no such file or folder"))),
    }
}

/// Replaces every file with several video tracks by one input per track.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn each_track(inputs: Vec<Input>) -> Result<Vec<Input>> {
    let mut all = Vec::new();
    for input in inputs {
        match input {
            Input::File(path) => match count_video_tracks(&path)? {
                0 | 1 => all.push(Input::File(path)),
                tracks => all.extend((1..=tracks).map(|number| Input::Track(path.clone(), number))),
            },
            input => all.push(input),
        }
    }
    Ok(all)
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
    leave_out_own_outputs(&mut files);
    let with = |known: &[&str]| files.iter().filter(|f| has_extension(f, known)).cloned().collect::<Vec<_>>();
    let (videos, images) = (with(VIDEOS), with(IMAGES));
    let others: Vec<_> = files
        .iter()
        .filter(|f| !has_extension(f, VIDEOS) && (!videos.is_empty() || !has_extension(f, IMAGES)))
        .filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let deeper = folders_with_videos(path);
    if !others.is_empty() {
        tracing::warn!("{name}: skipped, not videos by their extensions: {}", others.join(", "));
    }
    if !videos.is_empty() {
        if !deeper.is_empty() {
            tracing::warn!("{name}: skipped, subfolders with videos: {}", deeper.join(", "));
        }
        return Ok(videos.into_iter().map(Input::File).collect());
    }
    if !deeper.is_empty() {
        return Err(Error::failed(format!("{name}: there are no videos in this folder, only in its subfolders"))
            .hint(format!("give them: {}", deeper.join(" "))));
    }
    if !images.is_empty() {
        return Ok(vec![Input::Images(images)]);
    }
    Err(Error::failed(format!("{name}: there are no videos or images in this folder")).hint(format!(
        "the known extensions are {} and {}",
        VIDEOS.join(" "),
        IMAGES.join(" ")
    )))
}

fn expand_glob(pattern: &str) -> Result<Vec<Input>> {
    // As in a shell, `*` does not match hidden files.
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let mut files = matches(pattern, options)?;
    files.sort();
    leave_out_own_outputs(&mut files);
    if files.is_empty() {
        return Err(Error::failed(format!("{pattern}: nothing matches this pattern")));
    }
    // Images matched by one pattern form one video, as in a folder.
    if files.iter().all(|f| has_extension(f, IMAGES)) {
        return Ok(vec![Input::Images(files)]);
    }
    Ok(files.iter().map(|file| of_file(file)).collect())
}

/// The files matched by a pattern, in the order of folders. The walk of the `glob` crate panics on names that are not
/// UTF-8.
fn matches(pattern: &str, options: glob::MatchOptions) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    let parts: Vec<&str> = pattern.split('/').collect();
    let start = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() };
    let mut open = vec![(start, 0)];
    while let Some((place, depth)) = open.pop() {
        let Some(part) = parts.get(depth) else {
            if place.is_file() {
                found.push(place);
            }
            continue;
        };
        if part.is_empty() || !part.contains(['*', '?', '[']) {
            open.push((if part.is_empty() { place } else { place.join(part) }, depth + 1));
            continue;
        }
        let wanted =
            glob::Pattern::new(part).map_err(|e| Error::usage(format!("{pattern}: {} at {}", e.msg, e.pos)))?;
        let folder = if place.as_os_str().is_empty() { Path::new(".") } else { &place };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let fits = wanted.matches_with(&name.to_string_lossy(), options);
            if *part == "**" && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((place.join(&name), depth));
            } else if fits && *part != "**" {
                open.push((place.join(&name), depth + 1));
            }
        }
        if *part == "**" {
            open.push((place, depth + 1));
        }
    }
    Ok(found)
}

/// Removes `NAME.ood.EXT` if `NAME.EXT` exists: it is the output of an earlier run.
fn leave_out_own_outputs(files: &mut Vec<PathBuf>) {
    let stems: Vec<_> = files.iter().filter_map(|file| file.file_stem().map(ToOwned::to_owned)).collect();
    files.retain(|file| {
        let stem = file.file_stem().map(Path::new);
        let own = stem.is_some_and(|stem| {
            stem.extension().is_some_and(|e| e == "ood")
                && stem.file_stem().is_some_and(|original| stems.iter().any(|known| known == original))
        });
        if own {
            tracing::warn!("{}: skipped, it is the output of an earlier run", file.display());
        }
        !own
    });
}

/// Folders with videos below `path`, up to three levels deep as cameras create them (`DCIM/100MEDIA`).
fn folders_with_videos(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(path.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        if depth > 0 && entries.iter().any(|file| has_extension(file, VIDEOS) && file.is_file()) {
            found.push(folder.display().to_string());
        }
        if depth < 3 {
            open.extend(entries.into_iter().filter(|e| e.is_dir() && !e.is_symlink()).map(|e| (e, depth + 1)));
        }
    }
    found.sort();
    found
}

fn of_file(path: &Path) -> Input {
    if has_extension(path, IMAGES) { Input::Images(vec![path.to_path_buf()]) } else { Input::File(path.to_path_buf()) }
}

/// Whether a file is taken for a video by its extension.
pub fn is_video(path: &Path) -> bool {
    has_extension(path, VIDEOS)
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    path.extension().is_some_and(|e| known.contains(&e.to_string_lossy().to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(address: &str) -> Result<Vec<Input>> {
        expand_input(&Address::from(address))
    }

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

        let empty = expand(&here).unwrap_err().to_string();
        assert!(empty.contains("no videos") && empty.contains("mp4"), "{empty}");

        touch(folder.path(), &["b.png", "a.JPG", "notes.txt"]);
        assert_eq!(expand(&here).unwrap(), [Input::Images(vec![at("a.JPG"), at("b.png")])]);

        touch(folder.path(), &["z.mp4", "c.MKV", ".z.mp4.part", ".hidden.mp4"]);
        assert_eq!(expand(&here).unwrap(), [Input::File(at("c.MKV")), Input::File(at("z.mp4"))]);
        assert_eq!(expand(&arg("*.mp4")).unwrap(), [Input::File(at("z.mp4"))]);
        assert_eq!(expand(&arg("?.png")).unwrap(), [Input::Images(vec![at("b.png")])]);
        assert!(expand(&arg("*.webm")).unwrap_err().to_string().contains("nothing matches"));
        assert!(expand(&arg("gone.mp4")).unwrap_err().to_string().contains("gone.mp4"));
        assert_eq!(expand("test://ball").unwrap(), [Input::Test("test://ball".into())]);
        for live in ["rtsp://user:secret@cam/1", "v4l2:///dev/video0", "test://ball?live=1", "https://cam/a.m3u8"] {
            let inputs = expand(live).unwrap();
            assert!(matches!(inputs.as_slice(), [Input::Live(_)]), "{inputs:?}");
            assert!(!format!("{inputs:?} {}", inputs[0]).contains("secret"));
        }
        for wrong in ["rtsp://user:secret@", "rtsp://user:secret@cam:port/1", "nope://user:secret@x"] {
            let error = expand(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }
}
