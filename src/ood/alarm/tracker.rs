//! Identities over time: regions of successive frames joined by where each is expected, and the events they make.

use std::collections::VecDeque;

use super::assign::{Assignment, Pair};
use super::counts::AlarmCounts;
use super::event::{Event, EventType, Moment};
use super::region::{Rect, Region};
use super::settings::EventsConfig;
use super::track::{Observation, Seen, Standing, Times, Track};

/// Boxes with at least this overlap may be the same thing.
const MIN_IOU: f32 = 0.1;
/// So may boxes whose middles are within this share of their mean size.
const MAX_DISTANCE: f32 = 0.5;
/// A region of which this share lies within a track's box is a part of it.
const PART: f32 = 0.6;
/// A region that the network names with at least this probability is of that class with certainty.
const CERTAIN: f32 = 0.6;
/// A track that is raised beside an alarm, nearer than this share of the picture, is a part of it.
const BESIDE: f32 = 0.03;
/// Growth of the search radius of a missed track, in its own sizes per second.
const SEARCH: f32 = 1.5;
/// Length of a trail in seconds.
const TRAIL_S: f64 = 1.5;
/// The span over which `max_per_minute` counts.
const MINUTE_S: f64 = 60.0;

/// A region of the frame and the track that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// The track, from 1.
    pub track_id: u64,
    /// What the track is taken for.
    pub standing: Standing,
    /// Whether the track has an event: it was raised, and is not withheld.
    pub has_event: bool,
    /// The region.
    pub region: Region,
    /// The track's places in [`Tracker::trails`].
    pub trail: (usize, usize),
}

/// Where a place of the last frame is in this one, in shares of the picture: the camera's motion.
pub type Shift<'a> = &'a dyn Fn(f32, f32) -> (f32, f32);

/// One frame for the tracker.
pub struct Step<'a> {
    /// Its time.
    pub moment: Moment,
    /// Seconds since the frame before.
    pub seconds: f64,
    /// Whether its regions count: the start-up is over.
    pub settled: bool,
    /// The camera's motion since the frame before.
    pub shift: Shift<'a>,
    /// Its size in pixels.
    pub size: (u32, u32),
}

/// The tracks of one stream.
#[derive(Debug, Clone)]
pub struct Tracker {
    settings: EventsConfig,
    stream: String,
    classes: Vec<String>,
    classes_guessed: bool,
    known: Vec<bool>,
    tracks: Vec<Track>,
    spare: Vec<Track>,
    next_id: u64,
    assignment: Assignment,
    predicted: Vec<Rect>,
    track_of: Vec<Option<usize>>,
    sightings: Vec<Sighting>,
    trails: Vec<(f32, f32)>,
    events: Vec<Event>,
    raised_at: VecDeque<f64>,
    counts: AlarmCounts,
}

impl Tracker {
    /// A tracker for `stream`; `classes` are the names of the logits' channels, or empty.
    pub fn new(stream: impl Into<String>, classes: Vec<String>, settings: EventsConfig) -> Self {
        let mut tracker = Self {
            settings: EventsConfig::default(),
            stream: stream.into(),
            classes,
            classes_guessed: false,
            known: Vec::new(),
            tracks: Vec::new(),
            spare: Vec::new(),
            next_id: 1,
            assignment: Assignment::default(),
            predicted: Vec::new(),
            track_of: Vec::new(),
            sightings: Vec::new(),
            trails: Vec::new(),
            events: Vec::new(),
            raised_at: VecDeque::new(),
            counts: AlarmCounts::default(),
        };
        tracker.set(settings);
        tracker
    }

    /// Says whether the names of the classes are a guess, which events repeat.
    pub fn guess_classes(&mut self, guessed: bool) {
        self.classes_guessed = guessed;
    }

    /// Puts other rules into force from the next frame on.
    pub fn set(&mut self, settings: EventsConfig) {
        self.known = self.classes.iter().map(|class| settings.known.contains(class)).collect();
        self.settings = settings;
    }

    /// Takes the regions of the next frame. Returns them with their tracks, in their order.
    pub fn update(&mut self, step: &Step<'_>, regions: &[Region]) -> &[Sighting] {
        self.predict(step);
        self.assign(regions);
        for track in &mut self.tracks {
            track.missed_s += step.seconds;
            track.window.push_back(Observation { seconds: step.seconds, seen: Seen::No });
        }
        for (index, region) in regions.iter().enumerate() {
            let track = match self.track_of[index] {
                Some(track) => track,
                None => self.begin(step, region),
            };
            self.track_of[index] = Some(track);
            self.see(track, step, region);
        }
        self.keep_wholes();
        self.judge(step);
        self.report(step);
        self.list(regions);
        let end_after = self.settings.end_after_s;
        // A candidate gets half the patience of an event, so that flicker does not add up to one.
        self.end_tracks(step.size, |track| {
            track.missed_s >= if track.raised.is_some() { end_after } else { end_after / 2.0 }
        });
        &self.sightings
    }

    /// Ends all tracks: the stream is over, or a cut or a break makes the boxes meaningless.
    pub fn finish(&mut self, size: (u32, u32)) {
        self.end_tracks(size, |_| true);
        self.sightings.clear();
    }

    /// The places of all trails of the last frame, oldest first within each; see [`Sighting::trail`].
    pub fn trails(&self) -> &[(f32, f32)] {
        &self.trails
    }

    /// Hands over the events since the last call, in the order in which they came about.
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// Alarms raised so far, and what raised none.
    pub fn counts(&self) -> AlarmCounts {
        self.counts
    }

    /// Moves every track to where it is expected.
    fn predict(&mut self, step: &Step<'_>) {
        self.predicted.clear();
        for track in &mut self.tracks {
            let Rect { left, top, right, bottom } = track.rect;
            let (x, y) = track.rect.centre();
            let seconds = step.seconds as f32;
            let [l, t, r, b] = track.speed.map(|speed| speed * seconds);
            track.rect = Rect {
                left: left + (step.shift)(left, y).0 + l,
                top: top + (step.shift)(x, top).1 + t,
                right: right + (step.shift)(right, y).0 + r,
                bottom: bottom + (step.shift)(x, bottom).1 + b,
            };
            self.predicted.push(track.rect);
        }
    }

    /// Pairs regions with tracks; what is left over and lies within a track's box is a part of that track.
    fn assign(&mut self, regions: &[Region]) {
        self.track_of.clear();
        self.track_of.resize(regions.len(), None);
        self.assignment.clear(self.predicted.len(), regions.len());
        for (t, expected) in self.predicted.iter().enumerate() {
            for (r, region) in regions.iter().enumerate() {
                let reach = MAX_DISTANCE + SEARCH * self.tracks[t].missed_s as f32;
                if let Some(similarity) = similarity(expected, &region.rect, reach) {
                    // Events before candidates, where both fit.
                    let bonus = if self.tracks[t].raised.is_some() { 0.2 } else { 0.0 };
                    self.assignment.push(Pair { track: t, region: r, similarity: similarity + bonus });
                }
            }
        }
        for &(track, region) in self.assignment.solve() {
            self.track_of[region] = Some(track);
        }
        for (index, region) in regions.iter().enumerate() {
            if self.track_of[index].is_some() {
                continue;
            }
            let share = |rect: &Rect| rect.intersection(&region.rect).area() / region.rect.area().max(1e-9);
            let whole = (0..self.predicted.len())
                .map(|track| (track, share(&self.predicted[track])))
                .filter(|(_, share)| *share >= PART)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            self.track_of[index] = whole.map(|(track, _)| track);
        }
    }

    fn begin(&mut self, step: &Step<'_>, region: &Region) -> usize {
        let mut track = self.spare.pop().unwrap_or_else(|| Track::new(step.moment, region));
        track.start(self.next_id, step.moment, step.seconds, region);
        self.next_id += 1;
        self.tracks.push(track);
        self.tracks.len() - 1
    }

    fn see(&mut self, index: usize, step: &Step<'_>, region: &Region) {
        let fits = step.settled && region.area_share >= self.settings.min_area;
        let is_known = self.known.get(region.nearest_class).copied().unwrap_or(false) && region.certainty >= CERTAIN;
        let seen = match (fits, region.counts(), region.stands_on_road()) {
            (false, ..) | (true, false, false) => Seen::No,
            (true, false, true) => Seen::BelowLevel,
            (true, true, false) => Seen::OffRoad,
            (true, true, true) if is_known => Seen::Unusual,
            (true, true, true) => Seen::Alarm,
        };
        let now = Observation { seconds: step.seconds, seen };
        self.tracks[index].see(step.moment, region, now, self.predicted.get(index));
    }

    /// A part that is seen keeps its whole going, and stands for it where the whole is not seen itself.
    fn keep_wholes(&mut self) {
        for index in 0..self.tracks.len() {
            let part = &self.tracks[index];
            let (Some(whole), 0.0) = (part.whole, part.missed_s) else { continue };
            let (rect, last, level, area) = (part.rect, part.last, part.gravity.level, part.gravity.area_share);
            let Some(whole) = self.tracks.iter_mut().find(|track| track.id == whole) else { continue };
            if whole.missed_s > 0.0 {
                (whole.rect, whole.last, whole.missed_s) = (rect, last, 0.0);
            }
            whole.gravity.level = whole.gravity.level.max(level);
            whole.gravity.area_share = whole.gravity.area_share.max(area);
        }
    }

    /// Raises the tracks that have been seen for long enough.
    fn judge(&mut self, step: &Step<'_>) {
        let now = step.moment.running.as_secs_f64();
        let EventsConfig { min_seconds, window_s, max_per_minute, .. } = self.settings;
        for index in 0..self.tracks.len() {
            let beside = self.beside(index);
            let track = &mut self.tracks[index];
            track.trim(window_s);
            let Times { alarm, unusual, off_road, below_level } = track.times();
            let lasts = |times: &[Option<f64>]| {
                times.iter().any(Option::is_some)
                    && times.iter().flatten().sum::<f64>() >= min_seconds
                    && track.missed_s == 0.0
            };
            let enough = lasts(&[alarm, unusual]);
            let kept_back = if off_road.is_some() && lasts(&[alarm, unusual, off_road]) {
                Seen::OffRoad
            } else if below_level.is_some() && lasts(&[alarm, unusual, off_road, below_level]) {
                Seen::BelowLevel
            } else {
                Seen::No
            };
            let is_free = !enough && track.raised.is_none() && track.whole.is_none();
            if is_free && kept_back > track.kept_back {
                self.counts.keep_back(&mut track.kept_back, kept_back);
            }
            let standing = match (enough, alarm >= unusual) {
                (false, _) => continue,
                (true, true) => Standing::Alarm,
                (true, false) => Standing::Unusual,
            };
            if track.whole.is_some() || track.standing == Standing::Alarm || track.standing == standing {
                continue;
            }
            self.counts.keep_back(&mut track.kept_back, Seen::No);
            if let Some(whole) = beside.filter(|_| track.raised.is_none()) {
                (track.whole, track.standing) = (Some(whole), standing);
                continue;
            }
            if track.standing == Standing::Unusual {
                self.counts.known -= 1;
            }
            if standing == Standing::Unusual {
                self.counts.known += 1;
            } else {
                while self.raised_at.front().is_some_and(|at| now - at >= MINUTE_S) {
                    self.raised_at.pop_front();
                }
                if max_per_minute.is_some_and(|most| self.raised_at.len() >= most as usize) {
                    track.withheld = true;
                    self.counts.over_limit += 1;
                } else {
                    track.withheld = false;
                    self.raised_at.push_back(now);
                    self.counts.raised += 1;
                }
            }
            track.standing = standing;
            track.raised.get_or_insert(step.moment);
            // Reported at once: as a start, or as an update where it was an unusual member of a class before.
            track.reported_s = f64::NEG_INFINITY;
        }
    }

    /// The alarm that a track stands beside.
    fn beside(&self, index: usize) -> Option<u64> {
        let rect = self.tracks[index].rect;
        let wide = Rect {
            left: rect.left - BESIDE,
            top: rect.top - BESIDE,
            right: rect.right + BESIDE,
            bottom: rect.bottom + BESIDE,
        };
        let touches = |(other, track): &(usize, &Track)| {
            *other != index && track.raised.is_some() && track.rect.intersection(&wide).area() > 0.0
        };
        self.tracks.iter().enumerate().find(touches).map(|(_, track)| track.id)
    }

    /// Writes the starts and updates that are due.
    fn report(&mut self, step: &Step<'_>) {
        let now = step.moment.running.as_secs_f64();
        for track in self.tracks.iter_mut().filter(|track| track.has_event()) {
            let first = track.raised == Some(step.moment);
            let due = self.settings.update_s > 0.0 && now - track.reported_s >= self.settings.update_s;
            if first || track.reported_s == f64::NEG_INFINITY || (due && track.missed_s == 0.0) {
                let kind = if first { EventType::Start } else { EventType::Update };
                track.reported_s = now;
                self.events.push(track.event(kind, &self.stream, (&self.classes, self.classes_guessed), step.size));
            }
        }
        for track in self.tracks.iter_mut().filter(|track| track.missed_s == 0.0) {
            track.trail.push_back((now, (track.rect.left + track.rect.right) / 2.0, track.rect.bottom));
            while track.trail.front().is_some_and(|(at, _, _)| now - at > TRAIL_S) {
                track.trail.pop_front();
            }
        }
    }

    /// Lists every region with its track.
    fn list(&mut self, regions: &[Region]) {
        self.sightings.clear();
        self.trails.clear();
        for (region, index) in regions.iter().zip(&self.track_of) {
            let Some(track) = index.and_then(|index| self.tracks.get(index)) else { continue };
            let start = self.trails.len();
            let id = track.whole.unwrap_or(track.id);
            let has_event = self.tracks.iter().any(|track| track.id == id && track.has_event());
            self.trails.extend(track.trail.iter().map(|(_, x, y)| (*x, *y)));
            self.sightings.push(Sighting {
                track_id: id,
                standing: track.standing,
                has_event,
                region: *region,
                trail: (start, self.trails.len()),
            });
        }
    }

    fn end_tracks(&mut self, size: (u32, u32), is_over: impl Fn(&Track) -> bool) {
        let mut index = 0;
        while index < self.tracks.len() {
            if is_over(&self.tracks[index]) {
                let track = self.tracks.remove(index);
                if track.has_event() {
                    self.events.push(track.event(
                        EventType::End,
                        &self.stream,
                        (&self.classes, self.classes_guessed),
                        size,
                    ));
                }
                self.spare.push(track);
            } else {
                index += 1;
            }
        }
    }
}

/// The similarity of an expected and a found box, above 0; none where they cannot be the same thing.
fn similarity(expected: &Rect, found: &Rect, reach: f32) -> Option<f32> {
    let iou = expected.iou(found);
    let size = (expected.area().sqrt() + found.area().sqrt()) / 2.0;
    let ((x0, y0), (x1, y1)) = (expected.centre(), found.centre());
    let distance = (x1 - x0).hypot(y1 - y0) / size.max(1e-6);
    (iou >= MIN_IOU || distance <= reach).then(|| iou + 0.5 * (1.0 - distance.min(1.0)) + 0.01)
}
