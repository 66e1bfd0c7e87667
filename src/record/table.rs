//! `csv:FILE` and `chapters:FILE.vtt`: the events of a run for spreadsheets and players.

use std::sync::Arc;

use super::lines::Lines;
use crate::Result;
use crate::ood::alarm::{Event, EventType};
use crate::record::{FrameResults, Recorder};

/// The columns of the table.
const COLUMNS: &str = "id,stream,track_id,label,alarm,severity,start_s,end_s,start_wall,end_wall,time_source,x,y,width,height,\
                       area_share,peak_score,mean_confidence,nearest_class,snapshot,clip,classes_guessed,latitude,\
                       longitude";

/// Writes one row per event when it is over.
pub struct TableRecorder {
    lines: Arc<Lines>,
}

impl TableRecorder {
    /// A recorder that writes to `lines`.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(lines: Arc<Lines>) -> Result<Self> {
        if lines.is_empty() {
            lines.write_line(COLUMNS)?;
        }
        Ok(Self { lines })
    }
}

/// A field, in quotes where it needs them (RFC 4180).
pub fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The row of an event.
pub fn row(event: &Event) -> String {
    let text = |text: &Option<String>| field(text.as_deref().unwrap_or_default());
    let time_source = serde_json::to_value(event.time_source).ok();
    let fields = [
        event.id.clone(),
        field(&event.stream),
        event.track_id.to_string(),
        field(&event.label),
        event.alarm.to_string(),
        event.severity.to_string(),
        event.start_s.to_string(),
        event.end_s.to_string(),
        text(&event.start_wall),
        text(&event.end_wall),
        time_source.and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default(),
        event.bounding_box.x.to_string(),
        event.bounding_box.y.to_string(),
        event.bounding_box.width.to_string(),
        event.bounding_box.height.to_string(),
        event.area_share.to_string(),
        event.peak_score.to_string(),
        event.mean_confidence.map_or_else(String::new, |confidence| confidence.to_string()),
        text(&event.nearest_class),
        text(&event.snapshot),
        text(&event.clip),
        event.classes_guessed.to_string(),
        event.position.map_or_else(String::new, |position| position.latitude.to_string()),
        event.position.map_or_else(String::new, |position| position.longitude.to_string()),
    ];
    fields.join(",")
}

impl Recorder for TableRecorder {
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        events
            .iter()
            .filter(|event| event.kind == EventType::End)
            .try_for_each(|event| self.lines.write_line(&row(event)))
    }
}

/// Writes the events of one video as WebVTT chapters, in the order of their starts, when it is over.
pub struct ChapterRecorder {
    lines: Arc<Lines>,
    chapters: Vec<(f64, f64, String)>,
}

impl ChapterRecorder {
    /// A recorder that writes to `lines`.
    pub fn new(lines: Arc<Lines>) -> Self {
        Self { lines, chapters: Vec::new() }
    }
}

impl Recorder for ChapterRecorder {
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        self.chapters.extend(events.iter().filter(|event| event.kind == EventType::End).map(|event| {
            let guess = if event.classes_guessed { " (a guess)" } else { "" };
            let class =
                event.nearest_class.as_ref().map_or_else(String::new, |class| format!(", nearest {class}{guess}"));
            (
                event.start_s,
                event.end_s,
                format!("{} #{}{class}, severity {:.2}", event.label, event.track_id, event.severity),
            )
        }));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.chapters.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        self.lines.write_line("WEBVTT")?;
        for (start, end, title) in &self.chapters {
            // A cue of no length is not shown.
            let end = end.max(start + 0.001);
            self.lines.write_line(&format!("\n{} --> {}\n{title}", stamp(*start), stamp(end)))?;
        }
        Ok(())
    }
}

fn stamp(seconds: f64) -> String {
    let ms = (seconds.max(0.0) * 1000.0).round() as u64;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(["a b", "a,b", "say \"x\""].map(super::field), ["a b", "\"a,b\"", "\"say \"\"x\"\"\""]);
        assert_eq!(super::stamp(3725.0625), "01:02:05.063");
    }
}
