//! `clips:DIR`: the part of the file around each event, cut out without encoding it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ood::alarm::{Event, EventType};
use crate::output::file::cut;
use crate::record::{Recorder, Seen};
use crate::{Error, Result};

/// Events whose parts of the file overlap: one clip, named after the first of them.
#[derive(Debug)]
struct Group {
    path: PathBuf,
    start_s: f64,
    end_s: f64,
    /// Tracks that go on.
    open: Vec<u64>,
}

/// Cuts the clips of one file.
pub struct ClipRecorder {
    input: PathBuf,
    folder: PathBuf,
    base: String,
    before_s: f64,
    after_s: f64,
    overwrite: bool,
    groups: Vec<Group>,
}

impl ClipRecorder {
    /// A recorder of clips of `input` into `folder`, which is made if it is not there. They begin the first of `roll_s`
    /// seconds before an event and end the second after it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(input: &Path, folder: &Path, base: &str, roll_s: (f64, f64), overwrite: bool) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io(format!("-o clips:{}: cannot be made", folder.display()), error))?;
        Ok(Self {
            input: input.into(),
            folder: folder.into(),
            base: base.into(),
            before_s: roll_s.0,
            after_s: roll_s.1,
            overwrite,
            groups: Vec::new(),
        })
    }

    /// The clip that shows the event. The name is that of the clip from the start of the event on.
    fn group(&mut self, event: &Event) -> &mut Group {
        let (start_s, end_s) = ((event.start_s - self.before_s).max(0.0), event.end_s + self.after_s);
        let track = event.track_id;
        let known = self.groups.iter().position(|group| group.open.contains(&track));
        // What goes on has no end yet.
        let overlaps = |group: &Group| start_s <= group.end_s || !group.open.is_empty();
        let index = known.or_else(|| self.groups.iter().rposition(overlaps)).unwrap_or_else(|| {
            let path = self.folder.join(format!("{}_{}.mp4", self.base, event.id));
            self.groups.push(Group { path, start_s, end_s, open: Vec::new() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[index];
        (group.start_s, group.end_s) = (group.start_s.min(start_s), group.end_s.max(end_s));
        match event.kind {
            EventType::End => group.open.retain(|open| *open != track),
            _ if !group.open.contains(&track) => group.open.push(track),
            _ => {}
        }
        group
    }
}

impl Recorder for ClipRecorder {
    fn record(&mut self, _: &Seen<'_, '_>) -> Result<()> {
        Ok(())
    }

    fn amend(&mut self, events: &mut [Event]) -> Result<()> {
        for event in events {
            event.clip = Some(self.group(event).path.display().to_string());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for group in &self.groups {
            if self.overwrite && group.path.exists() {
                std::fs::remove_file(&group.path)
                    .map_err(|error| Error::io(group.path.display().to_string(), error))?;
            }
            let [from, to] = [group.start_s, group.end_s].map(Duration::from_secs_f64);
            for note in cut::cut(&self.input, &group.path, from, to)? {
                tracing::warn!("{}: {note}", self.input.display());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ood::alarm::event::TimeSource;
    use crate::ood::region::BoundingBox;

    fn event(track_id: u64, kind: EventType, start_s: f64, end_s: f64) -> Event {
        Event {
            schema: 1,
            id: format!("{track_id:016}"),
            kind,
            stream: "a".to_owned(),
            track_id,
            alarm: true,
            label: "unknown".to_owned(),
            start_s,
            raised_s: start_s,
            end_s,
            start_wall: None,
            end_wall: None,
            time_source: TimeSource::Running,
            bounding_box: BoundingBox::default(),
            area_share: 0.0,
            peak_score: 0.0,
            severity: 0.0,
            mean_confidence: 0.0,
            nearest_class: None,
            snapshot: None,
            clip: None,
            thumbnail: None,
        }
    }

    #[test]
    fn events_that_overlap_share_a_clip_under_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut clips = ClipRecorder::new(Path::new("a.mp4"), folder.path(), "a", (2.0, 3.0), false).unwrap();
        use EventType::{End, Start};
        let mut names = Vec::new();
        for (track, kind, start, end) in [
            (1, Start, 10.0, 10.5),
            (2, Start, 20.0, 20.5),
            (2, End, 20.0, 21.0),
            (1, End, 10.0, 30.0),
            // Its beginning is within the roll of the first.
            (3, Start, 34.0, 34.5),
            (3, End, 34.0, 36.0),
            (4, Start, 60.0, 60.0),
            (4, End, 60.0, 61.0),
        ] {
            let mut events = [event(track, kind, start, end)];
            clips.amend(&mut events).unwrap();
            names.push(events[0].clip.clone().unwrap().rsplit_once("00").unwrap().1.to_owned());
        }
        assert_eq!(names, ["1.mp4", "1.mp4", "1.mp4", "1.mp4", "1.mp4", "1.mp4", "4.mp4", "4.mp4"]);
        let spans: Vec<_> = clips.groups.iter().map(|group| (group.start_s, group.end_s)).collect();
        assert_eq!(spans, [(8.0, 39.0), (58.0, 64.0)]);
    }
}
