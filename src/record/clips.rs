//! `clips:DIR`: a video of each event, from before it to after it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::settings::ArchiveConfig;
use crate::lock::lock;
use crate::ood::alarm::{Event, EventType};
use crate::output::clip::{Cut, Windows, cut};
use crate::output::publish::ClipFeed;
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// The clips of one stream.
#[derive(Debug, Clone)]
pub struct Clips {
    folder: PathBuf,
    base: String,
    extension: &'static str,
    overwrite: bool,
    windows: Arc<Mutex<Windows>>,
}

impl Clips {
    /// Clips in `folder`, which is created if missing; the names of its files begin with `base`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(
        folder: &Path,
        base: &str,
        extension: &'static str,
        overwrite: bool,
        config: &ArchiveConfig,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io(format!("-o clips:{}: cannot be made", folder.display()), error))?;
        let windows = Arc::new(Mutex::new(Windows::new(config.clip_before_s, config.clip_after_s)));
        Ok(Self { folder: folder.into(), base: base.into(), extension, overwrite, windows })
    }

    /// A recorder that notes the events of the stream, and their clips in them.
    pub fn recorder(&self) -> Box<dyn Recorder> {
        Box::new(ClipRecorder(self.clone()))
    }

    /// Cuts the clips out of the video at `path`, whose first frame is that of the stream; see [`cut`].
    ///
    /// # Errors
    /// The video cannot be read, or a clip not written.
    pub fn cut(&self, path: &Path, video: u64, stop: &dyn Fn() -> bool) -> Result<Vec<String>> {
        let (first_s, windows) = {
            let windows = self.windows();
            (windows.first_s(), windows.all())
        };
        let what = Cut { path, video, first_s, windows: &windows, overwrite: self.overwrite };
        cut(&what, stop).map_err(|error| error.at("clips"))
    }

    /// A folder within that of the clips for a video that is only written to be cut; removed when it is dropped.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix(".annotated-").tempdir_in(&self.folder);
        made.map_err(|error| Error::io(format!("-o clips:{}: cannot be written", self.folder.display()), error))
    }

    /// The extension of the clips, without the dot.
    pub fn extension(&self) -> &'static str {
        self.extension
    }

    /// What a live stream writes its clips by.
    pub fn feed(&self) -> ClipFeed {
        ClipFeed { folder: self.folder.clone(), windows: Arc::clone(&self.windows), overwrite: self.overwrite }
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        lock(&self.windows)
    }
}

struct ClipRecorder(Clips);

impl Recorder for ClipRecorder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        self.0.windows().saw(seen.running_time.as_secs_f64());
        Ok(())
    }

    fn amend(&mut self, events: &mut [Event]) -> Result<()> {
        let Clips { folder, base, extension, .. } = &self.0;
        let mut windows = self.0.windows();
        for event in events {
            let path = || folder.join(format!("{base}_{}.{extension}", event.id));
            let over = event.kind == EventType::End;
            let clip = windows.note(&event.id, over, (event.start_s, event.end_s), path);
            event.clip = Some(clip.display().to_string());
        }
        Ok(())
    }
}
