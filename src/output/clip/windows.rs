//! Which parts of a video become clips.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A part of a video around one event, or around several that overlap.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The file.
    pub path: PathBuf,
    /// Running time, in seconds.
    pub start_s: f64,
    /// Running time, in seconds; so far, while an event goes on.
    pub end_s: f64,
    /// Events that go on.
    active: BTreeSet<String>,
}

impl Window {
    /// Whether its end is known.
    pub fn is_over(&self) -> bool {
        self.active.is_empty()
    }
}

/// The parts of one video, as its events come.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Seconds before and after an event.
    before_s: f64,
    after_s: f64,
    windows: Vec<Window>,
    /// Running time of the first frame, in seconds.
    first_s: Option<f64>,
    /// Changes with every event.
    version: u64,
}

impl Windows {
    /// Parts that begin `before_s` before an event and end `after_s` after it.
    pub fn new(before_s: f64, after_s: f64) -> Self {
        Self { before_s, after_s, windows: Vec::new(), first_s: None, version: 0 }
    }

    /// Seconds of a clip before its event.
    pub fn before_s(&self) -> f64 {
        self.before_s
    }

    /// Changes with every event.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Forgets the parts that ended before `time_s`: what comes later gets a file of its own.
    pub fn close(&mut self, time_s: f64) {
        self.windows.retain(|window| !window.is_over() || window.end_s > time_s);
    }

    /// Notes the running time of a frame; the first one counts.
    pub fn saw(&mut self, running_s: f64) {
        self.first_s.get_or_insert(running_s);
    }

    /// Running time of the first frame, in seconds.
    pub fn first_s(&self) -> f64 {
        self.first_s.unwrap_or(0.0)
    }

    /// Notes what is known of an event so far; the file of its clip, which is `path` unless an earlier clip reaches as
    /// far as the beginning of this one.
    pub fn note(&mut self, id: &str, over: bool, times: (f64, f64), path: impl FnOnce() -> PathBuf) -> &Path {
        self.version += 1;
        let (start_s, end_s) = ((times.0 - self.before_s).max(0.0), times.1 + self.after_s);
        let known = self.windows.iter().position(|window| window.active.contains(id));
        let reaches = |window: &Window| !window.active.is_empty() || window.end_s >= start_s;
        let index = known.or_else(|| self.windows.iter().rposition(reaches)).unwrap_or_else(|| {
            let active = BTreeSet::new();
            self.windows.push(Window { path: path(), start_s, end_s, active });
            self.windows.len() - 1
        });
        let window = &mut self.windows[index];
        window.start_s = window.start_s.min(start_s);
        window.end_s = window.end_s.max(end_s);
        if over {
            window.active.remove(id);
        } else {
            window.active.insert(id.to_owned());
        }
        &window.path
    }

    /// All parts, in the order of their beginnings.
    pub fn all(&self) -> Vec<Window> {
        let mut all = self.windows.clone();
        all.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_overlap_with_their_rolls_share_a_clip() {
        let mut windows = Windows::new(2.0, 1.0);
        let mut note = |id: &str, over, start, end| windows.note(id, over, (start, end), || id.into()).to_owned();
        assert_eq!(note("a", false, 10.0, 10.5), Path::new("a"));
        // While one goes on, others join it.
        assert_eq!(note("b", false, 30.0, 30.5), Path::new("a"));
        assert_eq!(note("a", true, 10.0, 31.0), Path::new("a"));
        assert_eq!(note("b", true, 30.0, 33.0), Path::new("a"));
        assert_eq!(note("c", true, 35.9, 36.0), Path::new("a"), "from 33.9, and a ends at 34");
        assert_eq!(note("d", true, 39.1, 39.5), Path::new("d"), "from 37.1, and a ends at 37");
        let times: Vec<_> = windows.all().iter().map(|window| (window.start_s, window.end_s)).collect();
        assert_eq!(times, [(8.0, 37.0), (37.1, 40.5)]);
    }
}
