//! The video files of a stream: which of them shows a time of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::lock;
use crate::output::file::target::Target;

/// Files that are remembered.
const FILES: usize = 1000;
/// The number of the next file, of all streams.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A video file that was begun. Times are running times of its stream, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFile {
    /// Its number, which no other file of the process has.
    pub number: u64,
    /// Its final name.
    pub path: PathBuf,
    /// The time of its first picture.
    pub start: u64,
    /// The time at which it ended.
    end: Option<u64>,
    /// Whether it can be played while it is written.
    grows: bool,
}

impl VideoFile {
    /// Where it can be read now; none before a clip is finished, and once it was removed.
    pub fn location(&self) -> Option<PathBuf> {
        let temporary = || self.grows.then(|| Target::temporary_of(&self.path));
        [Some(self.path.clone()), temporary()].into_iter().flatten().find(|path| path.is_file())
    }
}

/// The files that one output wrote.
#[derive(Debug, Default)]
pub struct Recordings(Mutex<VecDeque<VideoFile>>);

impl Recordings {
    /// Notes a file that was begun.
    pub(super) fn begin(&self, path: &Path, start: u64, grows: bool) {
        let mut files = lock(&self.0);
        if files.len() == FILES {
            files.pop_front();
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        files.push_back(VideoFile { number, path: path.to_path_buf(), start, end: None, grows });
    }

    /// Notes that the file which was begun last has ended.
    pub(super) fn end(&self, time: u64) {
        if let Some(file) = lock(&self.0).back_mut() {
            file.end = Some(time);
        }
    }

    /// The file of that number.
    pub fn number(&self, number: u64) -> Option<VideoFile> {
        lock(&self.0).iter().find(|file| file.number == number).cloned()
    }

    /// The file at `path`.
    pub fn at(&self, path: &Path) -> Option<VideoFile> {
        lock(&self.0).iter().rfind(|file| file.path == path).cloned()
    }

    /// The file of a recording that shows `time`.
    pub fn showing(&self, time: u64) -> Option<VideoFile> {
        let shows = |file: &&VideoFile| file.grows && file.start <= time && file.end.is_none_or(|end| time <= end);
        lock(&self.0).iter().rfind(shows).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_shows_a_time_is_found_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (recordings, names) = (Recordings::default(), ["a.mp4", "b.mp4", "clip.mp4"]);
        let [a, b, clip] = names.map(|name| folder.path().join(name));
        recordings.begin(&a, 10, true);
        recordings.end(19);
        recordings.begin(&b, 20, true);
        let shown = |time| recordings.showing(time).map(|file| file.path);
        assert_eq!(
            [9, 10, 19, 20, 1000].map(shown),
            [None, Some(a.clone()), Some(a), Some(b.clone()), Some(b.clone())]
        );
        recordings.begin(&clip, 5, false);
        assert_eq!(shown(7), None, "clips are found by their names");
        let clip_file = recordings.at(&clip).unwrap();
        assert_eq!(recordings.number(clip_file.number), Some(clip_file.clone()));
        // A recording can be read while it is written, a clip once it is finished.
        let b = recordings.at(&b).unwrap();
        assert_eq!((b.location(), clip_file.location()), (None, None));
        for path in [&b.path, &clip] {
            std::fs::write(Target::temporary_of(path), "").unwrap();
        }
        assert_eq!((b.location(), clip_file.location()), (Some(Target::temporary_of(&b.path)), None));
        std::fs::write(&clip, "").unwrap();
        assert_eq!(clip_file.location(), Some(clip));
    }

    #[test]
    fn the_list_is_bounded() {
        let recordings = Recordings::default();
        for time in 0..2 * FILES as u64 {
            recordings.begin(Path::new("x.mp4"), time, true);
        }
        assert_eq!(lock(&recordings.0).len(), FILES);
    }
}
