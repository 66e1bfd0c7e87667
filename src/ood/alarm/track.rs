//! One track: the regions of one thing over time, and the events it makes.

use std::collections::VecDeque;

use super::event::{
    Event, EventType, Gravity, Moment, SCHEMA, TimeSource, event_id, nearness, pixels, rfc3339, severity,
};
use super::region::{Rect, Region};

/// Weight of the newest difference in the speed of a track.
const SPEED_PACE: f32 = 0.3;

/// The standing of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not seen for long enough.
    Candidate,
    /// An unusual member of a class of `events.known`.
    Unusual,
    /// An alarm.
    Alarm,
}

/// The standing that one frame of a track supports; of several regions the last in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    No,
    BelowLevel,
    OffRoad,
    Unusual,
    Alarm,
}

/// One frame of a track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    /// Its length.
    pub(super) seconds: f64,
    /// The standing that it supports.
    pub(super) seen: Seen,
}

/// Seconds for which each standing is supported; none without a frame of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) alarm: Option<f64>,
    pub(super) unusual: Option<f64>,
    pub(super) off_road: Option<f64>,
    pub(super) below_level: Option<f64>,
}

/// One track, from its first region to its end.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) id: u64,
    pub(super) rect: Rect,
    /// Speed of the four sides on top of the camera's motion, in shares of the picture per second.
    pub(super) speed: [f32; 4],
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) missed_s: f64,
    /// The frames within the last `window_s`.
    pub(super) window: VecDeque<Observation>,
    pub(super) standing: Standing,
    pub(super) raised: Option<Moment>,
    pub(super) withheld: bool,
    /// What keeps it from being raised, although it was seen for long enough; `No` where nothing does.
    pub(super) kept_back: Seen,
    /// The track that this one is a part of.
    pub(super) whole: Option<u64>,
    pub(super) reported_s: f64,
    pub(super) peak: Region,
    pub(super) gravity: Gravity,
    pub(super) peak_score: f32,
    pub(super) sightings: u32,
    pub(super) confidence_sum: f64,
    pub(super) class_frames: Vec<u32>,
    pub(super) trail: VecDeque<(f64, f32, f32)>,
}

impl Track {
    /// A track that [`Track::start`] has still to start.
    pub(super) fn new(moment: Moment, region: &Region) -> Self {
        Self {
            id: 0,
            rect: region.rect,
            speed: [0.0; 4],
            first: moment,
            last: moment,
            missed_s: 0.0,
            window: VecDeque::new(),
            standing: Standing::Candidate,
            raised: None,
            withheld: false,
            kept_back: Seen::No,
            whole: None,
            reported_s: 0.0,
            peak: *region,
            gravity: Gravity::default(),
            peak_score: region.peak_score,
            sightings: 0,
            confidence_sum: 0.0,
            class_frames: Vec::new(),
            trail: VecDeque::new(),
        }
    }

    /// Starts the track `id` at `region`, keeping the buffers of the one that it was before.
    pub(super) fn start(&mut self, id: u64, moment: Moment, seconds: f64, region: &Region) {
        self.window.clear();
        self.class_frames.clear();
        self.trail.clear();
        (self.id, self.rect, self.speed) = (id, region.rect, [0.0; 4]);
        (self.first, self.last, self.missed_s) = (moment, moment, seconds);
        (self.standing, self.raised, self.whole) = (Standing::Candidate, None, None);
        (self.withheld, self.kept_back) = (false, Seen::No);
        (self.peak, self.peak_score, self.gravity) = (*region, region.peak_score, Gravity::default());
        (self.sightings, self.confidence_sum) = (0, 0.0);
        self.window.push_back(Observation { seconds, seen: Seen::No });
    }

    /// Leaves the frames of the last `seconds` in the window, and the last frame in any case.
    pub(super) fn trim(&mut self, seconds: f64) {
        let mut length: f64 = self.window.iter().map(|frame| frame.seconds).sum();
        while self.window.len() > 1
            && let Some(&Observation { seconds: first, .. }) = self.window.front()
            && length - first >= seconds
        {
            length -= first;
            self.window.pop_front();
        }
    }

    /// Whether it was raised, and is not withheld.
    pub(super) fn has_event(&self) -> bool {
        self.raised.is_some() && !self.withheld
    }

    /// The time within the window for which each standing is supported.
    pub(super) fn times(&self) -> Times {
        let of = |seen: Seen| {
            let frames = self.window.iter().filter(|frame| frame.seen == seen);
            frames.map(|frame| frame.seconds).reduce(|a, b| a + b)
        };
        Times {
            alarm: of(Seen::Alarm),
            unusual: of(Seen::Unusual),
            off_road: of(Seen::OffRoad),
            below_level: of(Seen::BelowLevel),
        }
    }

    /// Adds a region of the frame at `moment`, which counts as `now`; `expected` is the place that was predicted.
    pub(super) fn see(&mut self, moment: Moment, region: &Region, now: Observation, expected: Option<&Rect>) {
        let Observation { seconds, seen } = now;
        let again = self.missed_s == 0.0;
        if let Some(frame) = self.window.back_mut() {
            frame.seen = seen.max(frame.seen);
        }
        if again {
            // A further part of the same thing.
            self.rect = self.rect.union(&region.rect);
        } else {
            if let Some(expected) = expected {
                let span = (seconds as f32).max(1e-3);
                let sides = |rect: &Rect| [rect.left, rect.top, rect.right, rect.bottom];
                for ((speed, new), old) in self.speed.iter_mut().zip(sides(&region.rect)).zip(sides(expected)) {
                    *speed = (*speed + SPEED_PACE * (new - old) / span).clamp(-1.0, 1.0);
                }
            }
            self.rect = region.rect;
            self.missed_s = 0.0;
            self.last = moment;
            self.gravity.seconds += seconds;
        }
        if region.level >= self.peak.level {
            self.peak = *region;
        }
        self.peak_score = self.peak_score.max(region.peak_score);
        self.gravity.level = self.gravity.level.max(region.level);
        self.gravity.area_share = self.gravity.area_share.max(region.area_share);
        self.gravity.nearness = self.gravity.nearness.max(nearness(&region.rect));
        self.sightings += 1;
        self.confidence_sum += f64::from(region.mean_confidence);
        if self.class_frames.len() <= region.nearest_class {
            self.class_frames.resize(region.nearest_class + 1, 0);
        }
        self.class_frames[region.nearest_class] += 1;
    }

    /// The event of this track in its present state.
    pub(super) fn event(
        &self,
        kind: EventType,
        stream: &str,
        (classes, classes_guessed): (&[String], bool),
        size: (u32, u32),
    ) -> Event {
        let most =
            self.class_frames.iter().enumerate().max_by_key(|&(class, frames)| (frames, std::cmp::Reverse(class)));
        let nearest_class = most.and_then(|(class, _)| classes.get(class).cloned());
        let label = match (self.standing, &nearest_class) {
            (Standing::Unusual, Some(class)) => format!("unusual {class}"),
            _ => "unknown".to_owned(),
        };
        Event {
            schema: SCHEMA,
            id: event_id(stream, self.id, &self.first),
            kind,
            stream: stream.to_owned(),
            track_id: self.id,
            alarm: self.standing == Standing::Alarm,
            label,
            start_s: self.first.running.as_secs_f64(),
            raised_s: self.raised.unwrap_or(self.last).running.as_secs_f64(),
            end_s: self.last.running.as_secs_f64(),
            start_wall: self.first.wall.map(rfc3339),
            end_wall: self.last.wall.map(rfc3339),
            time_source: if self.first.wall.is_some() { TimeSource::Arrival } else { TimeSource::Running },
            position: None,
            bounding_box: pixels(&self.peak.rect, size.0, size.1),
            area_share: self.gravity.area_share,
            peak_score: self.peak_score,
            severity: severity(&self.gravity),
            mean_confidence: Some((self.confidence_sum / f64::from(self.sightings.max(1))) as f32)
                .filter(|confidence| !confidence.is_nan()),
            classes_guessed: classes_guessed && nearest_class.is_some(),
            nearest_class,
            snapshot: None,
            clip: None,
            thumbnail: None,
        }
    }
}
