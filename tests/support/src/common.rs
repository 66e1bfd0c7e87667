//! What tests through the binary share: a folder of their own, a tiny network, clips made with ffmpeg, and ffprobe's eyes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::onnx;

/// A temporary folder with a tiny network in it.
pub struct Place {
    folder: tempfile::TempDir,
}

/// How a run of the binary ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Checks the exit code, showing what was printed when it is another one.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Checks that standard error holds each of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in: {}", self.stderr);
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A fresh folder with `model.onnx` in it, see [`onnx::tiny`].
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        onnx::tiny(64, 32).save(&place.path("model.onnx"));
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary, to be run in the folder, with the tiny network as its default model.
    pub fn program(&self) -> Command {
        let mut command = Command::new(crate::binary());
        command.current_dir(self.folder.path()).env("OODSTREAM_MODEL", self.path("model.onnx")).env_remove("RUST_LOG");
        command
    }

    /// Runs the binary with `arguments` (split at blanks) in the folder.
    pub fn run(&self, arguments: &str) -> Ended {
        self.program().args(arguments.split_whitespace()).output().unwrap().into()
    }

    /// Makes `name` with ffmpeg from `arguments` (split at blanks).
    #[track_caller]
    pub fn clip(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-y"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .output()
            .expect("ffmpeg runs");
        assert!(output.status.success(), "ffmpeg {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// `frames` frames of a moving test picture with a tone, H.264 and AAC.
    pub fn moving(&self, name: &str, frames: u32) -> PathBuf {
        let seconds = f64::from(frames) / 25.0;
        self.clip(
            name,
            &format!(
                "-f lavfi -i testsrc2=size=160x90:rate=25:duration={seconds} -f lavfi -i sine=frequency=440:duration={seconds} \
                 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10 -c:a aac -shortest"
            ),
        )
    }

    /// Names in the folder, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// What ffprobe prints for `path` with `arguments` (split at blanks), one value a line.
#[track_caller]
pub fn ffprobe(path: &Path, arguments: &str) -> Vec<String> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0"])
        .args(arguments.split_whitespace())
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success(), "ffprobe {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    // Side data of a frame gives lines of commas or nothing.
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Presentation times of the video frames, in seconds, from the first one.
#[track_caller]
pub fn video_times(path: &Path) -> Vec<f64> {
    let times: Vec<f64> = ffprobe(path, "-select_streams v:0 -show_entries frame=best_effort_timestamp_time")
        .iter()
        .map(|time| time.parse().unwrap_or_else(|_| panic!("{}: time `{time}`", path.display())))
        .collect();
    let first = times.first().copied().unwrap_or(0.0);
    times.iter().map(|time| time - first).collect()
}

/// What ffmpeg writes to its standard output with `path` as the input and `arguments` (split at blanks) behind it.
#[track_caller]
pub fn through_ffmpeg(path: &Path, arguments: &str) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(path).args(arguments.split_whitespace());
    let output = command.output().expect("ffmpeg runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A hash over the packets of each audio stream.
#[track_caller]
pub fn audio_hash(path: &Path) -> String {
    let hash = through_ffmpeg(path, "-map 0:a -c copy -f streamhash -hash md5 -");
    String::from_utf8_lossy(&hash).into_owned()
}

/// The folder of data that is not part of the project, or `None` with a printed reason.
pub fn shared(what: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("OODSTREAM_SHARED").map_or_else(|| crate::repository().join("../shared"), PathBuf::from);
    let path = folder.join(what);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is missing", path.display());
    None
}

/// The values of every f32 score map in a folder, by file name.
pub fn score_maps(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let values = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let begin = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert!(bytes[..begin].windows(3).any(|w| w == b"<f4"), "another kind of score map");
        bytes[begin..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), values(&entry.path()))
    };
    std::fs::read_dir(folder).unwrap().map(entry).collect()
}
