//! The figures of videos as a table and as a page.

use std::fmt::Write as _;
use std::path::Path;

use maud::{Markup, html};
use serde::Serialize;

use super::clip::{ClipReport, REACHED, TruthReport, per_minute};
use super::html::{save, whole};
use crate::Result;

/// The figures of all videos of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClipsReport {
    /// The model's file name.
    pub model: String,
    /// The score.
    pub method: String,
    /// Running time of all videos, in seconds.
    pub seconds: f64,
    /// Alarms per minute over all videos; none for pictures, which have no duration.
    pub events_per_minute: Option<f64>,
    /// Video by video.
    pub clips: Vec<ClipReport>,
}

const COLUMNS: [&str; 9] =
    ["video", "frames", "seconds", "events", "per min", "time %", "frames %", "alarm %", "marked %"];

impl ClipsReport {
    /// Brings the figures of videos together.
    pub fn new(model: String, method: String, clips: Vec<ClipReport>) -> Self {
        let seconds: f64 = clips.iter().map(|clip| clip.seconds).sum();
        let events: u64 = clips.iter().map(|clip| clip.events).sum();
        Self { model, method, seconds, events_per_minute: per_minute(events, seconds), clips }
    }

    /// Alarms per minute, or per picture.
    fn total(&self) -> String {
        let sum = |count: fn(&ClipReport) -> u64| self.clips.iter().map(count).sum::<u64>();
        match self.events_per_minute {
            Some(rate) => format!("{rate:.1} events per minute in {:.1} s", self.seconds),
            None => format!("{} events in {} pictures", sum(|clip| clip.events), sum(|clip| clip.frames)),
        }
    }

    fn rows(&self) -> impl Iterator<Item = [String; 9]> + '_ {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        self.clips.iter().map(move |clip| {
            [
                clip.path.clone(),
                clip.frames.to_string(),
                format!("{:.1}", clip.seconds),
                clip.events.to_string(),
                decimal(clip.events_per_minute),
                clip.alarm_time_share.map_or_else(|| "-".to_owned(), percent),
                percent(clip.alarm_frame_share),
                percent(clip.alarm_area_share),
                percent(clip.marked_share),
            ]
        })
    }

    /// The table for a terminal: time and frames with an alarm, mean share of the picture under alarms and at or above
    /// the threshold, in percent.
    pub fn table(&self) -> String {
        let width = self.clips.iter().map(|clip| clip.path.chars().count()).max().unwrap_or(0).max(5);
        let mut text = String::new();
        for row in std::iter::once(COLUMNS.map(str::to_owned)).chain(self.rows()) {
            let _ = write!(text, "{:width$}", row[0]);
            for cell in &row[1..] {
                let _ = write!(text, " {cell:>8}");
            }
            text.push('\n');
        }
        let _ = writeln!(text, "all: {}", self.total());
        for clip in &self.clips {
            if clip.unusual + clip.off_road + clip.below_level + clip.over_limit > 0 {
                let _ = writeln!(
                    text,
                    "{}: withheld: {} unusual members of known classes, {} not seen to stand on the road, \
                     {} below the level that they need, {} over the limit",
                    clip.path, clip.unusual, clip.off_road, clip.below_level, clip.over_limit
                );
            }
            for (class, alarms) in &clip.classes {
                let _ = writeln!(
                    text,
                    "{}: nearest to {class}{}: {} events, {:.3} % of the picture",
                    clip.path,
                    if clip.classes_guessed { " (a guess)" } else { "" },
                    alarms.events,
                    100.0 * alarms.share
                );
            }
            if let Some(truth) = &clip.truth {
                text.push_str(&lines(truth));
            }
        }
        text
    }

    /// Writes `index.html` into `folder`.
    ///
    /// # Errors
    /// The folder or the page cannot be written.
    pub fn write_page(&self, folder: &Path) -> Result<()> {
        save(folder, self.page())
    }

    fn page(&self) -> Markup {
        let body = html! {
            h1 { "Alarms" }
            p.lead {
                "model " (self.model) ", score " (self.method) ": " (self.total())
            }
            table {
                tr { @for column in COLUMNS { th { (column) } } }
                @for row in self.rows() { tr { @for cell in row { td { (cell) } } } }
            }
            @for clip in &self.clips {
                h2 { (clip.path) }
                table {
                    tr {
                        th { "nearest class" @if clip.classes_guessed { " (a guess)" } }
                        th { "events" }
                        th { "% of the picture" }
                    }
                    @for (class, alarms) in &clip.classes {
                        tr { td { (class) } td { (alarms.events) } td { (format!("{:.3}", 100.0 * alarms.share)) } }
                    }
                }
                @if let Some(truth) = &clip.truth { pre { (lines(truth)) } }
            }
        };
        whole("oodstream: alarms", &body)
    }
}

fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

fn lines(truth: &TruthReport) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2}", 100.0 * share));
    let mut text = format!(
        "labelled: {} of {} things found, {} false events ({} per minute), flicker {} per second, MOTA {}\n\
         pixels: AP {}, AUROC {}, FPR95 {}\n",
        truth.found,
        truth.things,
        truth.false_events,
        decimal(truth.false_events_per_minute),
        truth.flicker_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}")),
        percent(truth.mota),
        percent(truth.ap),
        percent(truth.auroc),
        percent(truth.fpr95),
    );
    for thing in &truth.per_thing {
        let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} s"));
        let _ = writeln!(
            text,
            "thing {}: {:.2} to {:.2} s, up to {:.2} % of the picture; {:.1} % reached at {}, first alarm at {} (delay {}, \
             {} frames), alarm in {} of {} frames, {} interruptions",
            thing.id,
            thing.first_s,
            thing.last_s,
            100.0 * thing.area_share,
            100.0 * REACHED,
            seconds(thing.reached_s),
            seconds(thing.alarm_s),
            seconds(thing.delay_s),
            thing.delay_frames.map_or_else(|| "-".to_owned(), |frames| frames.to_string()),
            thing.alarm_frames,
            thing.frames,
            thing.interruptions,
        );
    }
    text
}
