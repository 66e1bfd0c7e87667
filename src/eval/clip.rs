//! Metrics of the alarms in a video: rate, duration, nearest class, and delay on labelled objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::challenge::{Alarms, FrameNumbers};
use super::metrics::{PixelCounts, pixel_metrics};
use super::objects::{ClipTruth, LabelledFrame, VOID_THING};
use super::ranking::{Exact, key};
use crate::Result;
use crate::lock::lock;
use crate::ood::alarm::{AlarmCounts, Event, EventType, Standing};
use crate::record::{FrameResults, Recorder};

/// Share of the picture from which a thing should be reported.
pub const REACHED: f32 = 0.005;
/// An alarm is on each thing that is at least this share of all labelled things under it. A sliver of a thing that stands
/// behind another does not make the other's alarm its own.
const OWN_SHARE: f64 = 0.25;
/// Stride of the pixels used for the pixel figures, across and down.
const STRIDE: usize = 2;

/// The alarms whose nearest known class is the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ClassAlarms {
    /// Events whose nearest class it is.
    pub events: u64,
    /// Mean share of the picture under alarms that are nearest to it, 0..1.
    pub share: f64,
}

/// One labelled thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ThingReport {
    /// Its identity.
    pub id: u16,
    /// Running time at which it is first labelled.
    pub first_s: f64,
    /// Running time at which it is last labelled.
    pub last_s: f64,
    /// Labelled frames.
    pub frames: u64,
    /// Its largest share of the picture, 0..1.
    pub area_share: f32,
    /// Running time at which it reaches [`REACHED`] of the picture.
    pub reached_s: Option<f64>,
    /// Running time of the first alarm on it.
    pub alarm_s: Option<f64>,
    /// Seconds from reaching that share to the first alarm; below 0 where the alarm came first.
    pub delay_s: Option<f64>,
    /// The same in labelled frames.
    pub delay_frames: Option<i64>,
    /// Labelled frames with an alarm on it.
    pub alarm_frames: u64,
    /// Interruptions of the alarm on it while it was still there and large enough.
    pub interruptions: u64,
}

/// The figures against labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TruthReport {
    /// Labelled frames.
    pub labelled_frames: u64,
    /// Things that reach [`REACHED`] of the picture.
    pub things: u64,
    /// Those of them that had an alarm.
    pub found: u64,
    /// Alarms that touch nothing labelled.
    pub false_events: u64,
    /// The same per minute; none for pictures, which have no duration.
    pub false_events_per_minute: Option<f64>,
    /// Interruptions per second of things under alarm; none where no time was under alarm.
    pub flicker_per_s: Option<f64>,
    /// `1 - (missed + false + switches) / things`, over labelled frames, as the scorer of the Obstacle Sequence
    /// Challenge counts; none without things.
    pub mota: Option<f64>,
    /// Things of labelled frames without an alarm.
    pub missed: u64,
    /// Alarms of labelled frames without a thing.
    pub false_alarms: u64,
    /// Changes of the track on a thing.
    pub switches: u64,
    /// Average precision of the pixels' scores.
    pub ap: Option<f64>,
    /// Area under their ROC curve.
    pub auroc: Option<f64>,
    /// Their false-positive rate at 95 % true positives.
    pub fpr95: Option<f64>,
    /// Thing by thing.
    pub per_thing: Vec<ThingReport>,
}

/// The figures of one video.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ClipReport {
    /// The video.
    pub path: String,
    /// Frames.
    pub frames: u64,
    /// Running time in seconds; 0 for pictures.
    pub seconds: f64,
    /// Alarms raised.
    pub events: u64,
    /// The same per minute; none for pictures.
    pub events_per_minute: Option<f64>,
    /// Unusual members of classes that `--known` names.
    pub unusual: u64,
    /// Things not seen to stand on the road, withheld by `events.road_gate`.
    pub off_road: u64,
    /// Things below the level that they need: see [`AlarmCounts::below_level`].
    pub below_level: u64,
    /// Alarms withheld by `events.max_per_minute`.
    pub over_limit: u64,
    /// Share of the time with at least one alarm, 0..1; none for pictures.
    pub alarm_time_share: Option<f64>,
    /// Share of the frames with at least one alarm, 0..1.
    pub alarm_frame_share: f64,
    /// Mean share of the picture under alarms, 0..1.
    pub alarm_area_share: f64,
    /// Mean share of the picture at or above the threshold, 0..1.
    pub marked_share: f64,
    /// By nearest known class.
    pub classes: BTreeMap<String, ClassAlarms>,
    /// Whether the names of these classes are a guess by their number.
    pub classes_guessed: bool,
    /// Against labels, where there are any.
    pub truth: Option<TruthReport>,
}

/// `count` per minute of some seconds; none without a duration.
pub(super) fn per_minute(count: u64, seconds: f64) -> Option<f64> {
    ratio(60.0 * count as f64, seconds)
}

fn ratio(amount: f64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| amount / seconds)
}

#[derive(Debug, Default)]
struct Thing {
    report: ThingReport,
    /// Labelled frames until it reached the share, and until the first alarm.
    reached_frame: Option<i64>,
    alarm_frame: Option<i64>,
    alarmed: bool,
    alarm_seconds: f64,
    last_track: Option<u64>,
}

#[derive(Debug, Default)]
struct Tally {
    report: ClipReport,
    classes: Vec<String>,
    first_s: Option<f64>,
    last_s: f64,
    alarm_s: f64,
    alarm_frames: u64,
    truth: TruthReport,
    things: BTreeMap<u16, Thing>,
    /// Tracks under alarm in labelled frames, and those that touched something labelled or void.
    tracks: BTreeSet<u64>,
    justified: BTreeSet<u64>,
    positives: Vec<u32>,
    negatives: Vec<u32>,
    matches: u64,
}

/// The figures of a video, collected while it runs.
#[derive(Debug, Clone, Default)]
pub struct ClipFigures(Arc<Mutex<Tally>>);

impl ClipFigures {
    /// For a network with these classes.
    pub fn new(classes: &[String]) -> Self {
        let tally = Tally { classes: classes.to_vec(), ..Tally::default() };
        Self(Arc::new(Mutex::new(tally)))
    }

    /// A recorder that collects, against `truth` where there is one; `numbers` are those of the frames in its masks.
    pub fn recorder(&self, truth: Option<ClipTruth>, numbers: FrameNumbers) -> Box<dyn Recorder> {
        Box::new(Collector { tally: Arc::clone(&self.0), truth, numbers })
    }

    /// Adds what raised no alarm in one input of the video.
    pub fn add_withheld(&self, counts: AlarmCounts) {
        let mut tally = lock(&self.0);
        tally.report.off_road += counts.off_road;
        tally.report.below_level += counts.below_level;
        tally.report.over_limit += counts.over_limit;
    }

    /// The figures of the video called `path`, once it is over.
    pub fn report(&self, path: &str, labelled: bool) -> ClipReport {
        let mut tally = lock(&self.0);
        tally.report(path, labelled)
    }
}

struct Collector {
    tally: Arc<Mutex<Tally>>,
    truth: Option<ClipTruth>,
    numbers: FrameNumbers,
}

impl Recorder for Collector {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        let time_s = seen.running_time.as_secs_f64();
        let mut tally = lock(&self.tally);
        let step = tally.frame(seen, time_s);
        if let Some(truth) = &mut self.truth
            && let Some(labels) = truth.frame(self.numbers.get(seen.index), time_s)?
        {
            tally.compare(seen, &labels, time_s, step);
        }
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        let mut tally = lock(&self.tally);
        for event in events.iter().filter(|event| event.kind == EventType::End) {
            if event.alarm {
                tally.report.events += 1;
                tally.report.classes_guessed |= event.classes_guessed;
                let class = event.nearest_class.clone().unwrap_or_else(|| "-".to_owned());
                tally.report.classes.entry(class).or_default().events += 1;
            } else {
                tally.report.unusual += 1;
            }
        }
        Ok(())
    }
}

impl Tally {
    /// Counts a frame; the seconds since the one before.
    fn frame(&mut self, seen: &FrameResults<'_>, time_s: f64) -> f64 {
        let step = if self.first_s.is_some() { (time_s - self.last_s).max(0.0) } else { 0.0 };
        self.first_s.get_or_insert(time_s);
        self.last_s = time_s;
        self.report.frames += 1;
        self.report.marked_share += f64::from(seen.detection.ood_share);
        let mut any = false;
        for sighting in seen.scene.sightings.iter().filter(|sighting| sighting.standing == Standing::Alarm) {
            any = true;
            let share = f64::from(sighting.region.area_share);
            self.report.alarm_area_share += share;
            let class = self.classes.get(sighting.region.nearest_class).map_or("-", String::as_str);
            match self.report.classes.get_mut(class) {
                Some(alarms) => alarms.share += share,
                None => {
                    self.report.classes.insert(class.to_owned(), ClassAlarms { events: 0, share });
                }
            }
        }
        if any {
            self.alarm_frames += 1;
            self.alarm_s += step;
        }
        step
    }

    /// Compares the alarms of a frame with what is labelled.
    fn compare(&mut self, seen: &FrameResults<'_>, labels: &LabelledFrame, time_s: f64, step: f64) {
        self.truth.labelled_frames += 1;
        let scene = seen.scene;
        let alarms = Alarms::of(scene);
        let mut areas: BTreeMap<u16, u64> = BTreeMap::new();
        let mut covers: BTreeMap<u64, u64> = BTreeMap::new();
        let mut common: BTreeMap<(u16, u64), u64> = BTreeMap::new();
        let scores = seen.detection.score.dim() == (labels.height, labels.width);
        for y in (0..labels.height).step_by(STRIDE) {
            for x in (0..labels.width).step_by(STRIDE) {
                let thing = labels.things[y * labels.width + x];
                if scores && thing != VOID_THING {
                    let keys = if thing == 0 { &mut self.negatives } else { &mut self.positives };
                    keys.push(key(seen.detection.score[(y, x)]));
                }
                if thing != 0 && thing != VOID_THING {
                    *areas.entry(thing).or_default() += 1;
                }
                let Some(track) = alarms.at((x, y), (labels.width, labels.height)) else { continue };
                *covers.entry(track).or_default() += 1;
                if thing != 0 {
                    *common.entry((thing, track)).or_default() += 1;
                }
            }
        }
        let mut labelled: BTreeMap<u64, u64> = BTreeMap::new();
        for (&(_, track), pixels) in common.iter().filter(|((thing, _), _)| *thing != VOID_THING) {
            *labelled.entry(track).or_default() += pixels;
        }
        self.tracks.extend(covers.keys());
        self.justified.extend(common.keys().map(|(_, track)| track));
        // MOTA counts the best track of each thing, by intersection over union.
        let mut matched: BTreeSet<u64> = BTreeSet::new();
        let pixels = (labels.width.div_ceil(STRIDE) * labels.height.div_ceil(STRIDE)) as f32;
        let frame = self.truth.labelled_frames as i64;
        for (&id, &area) in &areas {
            let overlap = |&(&(_, track), &common): &(&(u16, u64), &u64)| {
                common as f64 / (area + covers.get(&track).copied().unwrap_or(0) - common) as f64
            };
            let best = common
                .iter()
                .filter(|((thing, _), _)| *thing == id)
                .max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
                .map(|((_, track), _)| *track);
            matched.extend(best);
            let own =
                |(&(_, track), &common): (&(u16, u64), &u64)| common as f64 >= OWN_SHARE * labelled[&track] as f64;
            let alarmed = common.iter().filter(|((thing, _), _)| *thing == id).any(own);
            let share = area as f32 / pixels;
            let thing = self.things.entry(id).or_insert_with(|| Thing {
                report: ThingReport { id, first_s: time_s, ..ThingReport::default() },
                ..Thing::default()
            });
            thing.report.last_s = time_s;
            thing.report.frames += 1;
            thing.report.area_share = thing.report.area_share.max(share);
            if share >= REACHED && thing.reached_frame.is_none() {
                (thing.reached_frame, thing.report.reached_s) = (Some(frame), Some(time_s));
            }
            match best {
                Some(track) => {
                    self.matches += 1;
                    self.truth.switches += u64::from(thing.last_track.is_some_and(|last| last != track));
                    thing.last_track = Some(track);
                }
                None => self.truth.missed += 1,
            }
            if alarmed {
                thing.report.alarm_frames += 1;
                thing.alarm_seconds += step;
                if thing.alarm_frame.is_none() {
                    (thing.alarm_frame, thing.report.alarm_s) = (Some(frame), Some(time_s));
                }
            } else if thing.alarmed && share >= REACHED {
                thing.report.interruptions += 1;
            }
            thing.alarmed = alarmed;
        }
        let on_void = |track: &u64| common.contains_key(&(VOID_THING, *track));
        self.truth.false_alarms +=
            covers.keys().filter(|track| !matched.contains(track) && !on_void(track)).count() as u64;
    }

    fn report(&mut self, path: &str, labelled: bool) -> ClipReport {
        let mut report = std::mem::take(&mut self.report);
        path.clone_into(&mut report.path);
        let frames = report.frames.max(1) as f64;
        report.seconds = self.last_s - self.first_s.unwrap_or(self.last_s);
        report.events_per_minute = per_minute(report.events, report.seconds);
        report.alarm_time_share = ratio(self.alarm_s, report.seconds);
        report.alarm_frame_share = self.alarm_frames as f64 / frames;
        report.alarm_area_share /= frames;
        report.marked_share /= frames;
        report.classes.values_mut().for_each(|class| class.share /= frames);
        report.truth = labelled.then(|| self.truth(report.seconds));
        report
    }

    fn truth(&mut self, seconds: f64) -> TruthReport {
        let mut truth = std::mem::take(&mut self.truth);
        let (mut interruptions, mut alarm_seconds) = (0, 0.0);
        for (_, mut thing) in std::mem::take(&mut self.things) {
            interruptions += thing.report.interruptions;
            alarm_seconds += thing.alarm_seconds;
            if thing.reached_frame.is_some() {
                truth.things += 1;
                truth.found += u64::from(thing.alarm_frame.is_some());
            }
            thing.report.delay_frames =
                thing.alarm_frame.zip(thing.reached_frame).map(|(alarm, reached)| alarm - reached);
            thing.report.delay_s =
                thing.report.alarm_s.zip(thing.report.reached_s).map(|(alarm, reached)| alarm - reached);
            truth.per_thing.push(thing.report);
        }
        truth.false_events = self.tracks.difference(&self.justified).count() as u64;
        truth.false_events_per_minute = per_minute(truth.false_events, seconds);
        truth.flicker_per_s = ratio(interruptions as f64, alarm_seconds);
        let all = self.matches + truth.missed;
        let wrong = (truth.missed + truth.false_alarms + truth.switches) as f64;
        truth.mota = (all > 0).then(|| 1.0 - wrong / all as f64);
        let (positives, negatives) = (std::mem::take(&mut self.positives), std::mem::take(&mut self.negatives));
        let counts =
            PixelCounts { anomalous: positives.len() as u64, known: negatives.len() as u64, ..PixelCounts::default() };
        if let Some(pixels) = pixel_metrics(Exact::new(positives, negatives).groups(), counts) {
            (truth.ap, truth.auroc, truth.fpr95) = (Some(pixels.ap), Some(pixels.auroc), Some(pixels.fpr95));
        }
        truth
    }
}
