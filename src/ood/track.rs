//! Identities over time: regions of successive frames joined by the overlap of their boxes, and the events they make.
//!
//! How long something lasted is told in running time. Frames count only for the hysteresis: a track must be seen in a
//! number of frames before it is an event, and be missed in a number of frames before the event is over.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::region::{BoundingBox, Region};

/// When a track begins, goes on and ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackSettings {
    /// Boxes of successive frames with at least this overlap (intersection over union, 0..1) are the same thing.
    pub min_iou: f32,
    /// Frames in which a region must be seen before it is an event, at least 1.
    pub start_after: u32,
    /// Frames in a row without the region after which its event is over, at least 1.
    pub end_after: u32,
}

impl Default for TrackSettings {
    fn default() -> Self {
        Self { min_iou: 0.2, start_after: 3, end_after: 8 }
    }
}

/// The moment of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Running time since the start of the stream.
    pub running: Duration,
    /// Wall clock, where the stream is live.
    pub wall: Option<SystemTime>,
}

/// One thing that was seen for a while: a line of the events file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Name of the stream.
    pub stream: String,
    /// Identity, from 1, unique within the stream.
    pub track_id: u64,
    /// Running time of its first frame, in seconds.
    pub start_s: f64,
    /// Running time of its last frame, in seconds.
    pub end_s: f64,
    /// Wall time of its first frame, RFC 3339 in UTC.
    pub start_wall: Option<String>,
    /// Wall time of its last frame, RFC 3339 in UTC.
    pub end_wall: Option<String>,
    /// Its box at the peak, in pixels of the frame.
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// Its largest share of the frame, 0..1.
    pub area_share: f32,
    /// Its highest score.
    pub peak_score: f32,
    /// Mean over its frames of the mean confidence, the raw maximum logit.
    pub mean_confidence: f32,
    /// The known class that it was nearest to in most frames.
    pub nearest_class: Option<String>,
    /// A picture of it, where one was written.
    pub thumbnail: Option<String>,
}

/// A change that a frame brought about.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A track has become an event; what is known of it so far.
    Started(Event),
    /// An event is over.
    Ended(Event),
}

/// The identity that a region of the frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The track, from 1.
    pub track_id: u64,
    /// Whether it has been seen often enough to be an event.
    pub is_event: bool,
}

#[derive(Debug, Clone)]
struct Track {
    id: u64,
    last_box: BoundingBox,
    first: Moment,
    last: Moment,
    seen: u32,
    missed: u32,
    is_event: bool,
    peak: Region,
    area_share: f32,
    confidence_sum: f64,
    class_frames: Vec<u32>,
}

/// The tracks of one stream.
#[derive(Debug, Clone)]
pub struct Tracker {
    settings: TrackSettings,
    stream: String,
    classes: Vec<String>,
    tracks: Vec<Track>,
    spare: Vec<Track>,
    next_id: u64,
    pairs: Vec<(f32, usize, usize)>,
    taken: Vec<bool>,
    identities: Vec<Identity>,
    changes: Vec<Change>,
}

impl Tracker {
    /// A tracker for `stream`; `classes` are the names of the logits' channels, or empty.
    pub fn new(stream: impl Into<String>, classes: Vec<String>, settings: TrackSettings) -> Self {
        Self {
            settings,
            stream: stream.into(),
            classes,
            tracks: Vec::new(),
            spare: Vec::new(),
            next_id: 1,
            pairs: Vec::new(),
            taken: Vec::new(),
            identities: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Takes the regions of the next frame. Returns the identity of each region, in their order.
    pub fn update(&mut self, moment: Moment, regions: &[Region]) -> &[Identity] {
        self.identities.clear();
        self.identities.resize(regions.len(), Identity { track_id: 0, is_event: false });
        self.match_boxes(regions);
        for index in 0..self.pairs.len() {
            let (_, track, region) = self.pairs[index];
            self.see(track, region, moment, &regions[region]);
        }
        for track in 0..self.taken.len() {
            if !self.taken[track] {
                self.tracks[track].missed += 1;
            }
        }
        for (index, region) in regions.iter().enumerate() {
            if self.identities[index].track_id == 0 {
                self.begin(moment, region);
                let track = self.tracks.len() - 1;
                self.see(track, index, moment, region);
            }
        }
        // An unconfirmed track gets half the patience of an event, so that flicker does not add up to one.
        let (end_after, patience) = (self.settings.end_after, self.settings.end_after.div_ceil(2));
        self.end_tracks(|track| track.missed >= if track.is_event { end_after } else { patience });
        &self.identities
    }

    /// Ends all tracks: the stream is over, or a cut or a break makes the boxes meaningless.
    pub fn finish(&mut self) {
        self.end_tracks(|_| true);
    }

    /// Hands over the changes since the last call, in the order in which they came about.
    pub fn drain_changes(&mut self) -> std::vec::Drain<'_, Change> {
        self.changes.drain(..)
    }

    /// Pairs tracks with regions, the largest overlap first; the result is in `pairs`, `taken` is per track.
    fn match_boxes(&mut self, regions: &[Region]) {
        self.pairs.clear();
        for (t, track) in self.tracks.iter().enumerate() {
            for (r, region) in regions.iter().enumerate() {
                let iou = track.last_box.iou(&region.bounding_box);
                if iou >= self.settings.min_iou {
                    self.pairs.push((iou, t, r));
                }
            }
        }
        // Ties go to the older track and the earlier region, so that the result does not depend on chance.
        self.pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        self.taken.clear();
        self.taken.resize(self.tracks.len(), false);
        let (taken, identities) = (&mut self.taken, &mut self.identities);
        self.pairs.retain(|&(_, track, region)| {
            let free = !taken[track] && identities[region].track_id == 0;
            if free {
                taken[track] = true;
                identities[region].track_id = u64::MAX;
            }
            free
        });
    }

    fn begin(&mut self, moment: Moment, region: &Region) {
        let class_frames = self.spare.pop().map_or_else(Vec::new, |mut track| {
            track.class_frames.clear();
            track.class_frames
        });
        self.tracks.push(Track {
            id: self.next_id,
            last_box: region.bounding_box,
            first: moment,
            last: moment,
            seen: 0,
            missed: 0,
            is_event: false,
            peak: *region,
            area_share: 0.0,
            confidence_sum: 0.0,
            class_frames,
        });
        self.next_id += 1;
    }

    fn see(&mut self, track: usize, index: usize, moment: Moment, region: &Region) {
        let track = &mut self.tracks[track];
        track.last_box = region.bounding_box;
        track.last = moment;
        track.seen += 1;
        track.missed = 0;
        if region.peak_score >= track.peak.peak_score {
            track.peak = *region;
        }
        track.area_share = track.area_share.max(region.area_share);
        track.confidence_sum += f64::from(region.mean_confidence);
        if track.class_frames.len() <= region.nearest_class {
            track.class_frames.resize(region.nearest_class + 1, 0);
        }
        track.class_frames[region.nearest_class] += 1;
        if !track.is_event && track.seen >= self.settings.start_after {
            track.is_event = true;
            self.changes.push(Change::Started(event(track, &self.stream, &self.classes)));
        }
        self.identities[index] = Identity { track_id: track.id, is_event: track.is_event };
    }

    fn end_tracks(&mut self, is_over: impl Fn(&Track) -> bool) {
        let mut index = 0;
        while index < self.tracks.len() {
            if is_over(&self.tracks[index]) {
                let track = self.tracks.remove(index);
                if track.is_event {
                    self.changes.push(Change::Ended(event(&track, &self.stream, &self.classes)));
                }
                self.spare.push(track);
            } else {
                index += 1;
            }
        }
    }
}

fn event(track: &Track, stream: &str, classes: &[String]) -> Event {
    let most = track.class_frames.iter().enumerate().max_by_key(|&(class, frames)| (frames, std::cmp::Reverse(class)));
    Event {
        stream: stream.to_owned(),
        track_id: track.id,
        start_s: track.first.running.as_secs_f64(),
        end_s: track.last.running.as_secs_f64(),
        start_wall: track.first.wall.map(rfc3339),
        end_wall: track.last.wall.map(rfc3339),
        bounding_box: track.peak.bounding_box,
        area_share: track.area_share,
        peak_score: track.peak.peak_score,
        mean_confidence: (track.confidence_sum / f64::from(track.seen.max(1))) as f32,
        nearest_class: most.and_then(|(class, _)| classes.get(class).cloned()),
        thumbnail: None,
    }
}

/// A wall time as RFC 3339 in UTC with milliseconds; times before 1970 are given as its start.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date in the proleptic Gregorian calendar: years start in March so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}
