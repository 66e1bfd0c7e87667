//! From score maps to alarms, through the public API.

use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, Array3};
use oodstream::ErrorKind;
use oodstream::compute::Detection;
use oodstream::frame::Plane;
use oodstream::ood::alarm::motion::MotionFinder;
use oodstream::ood::alarm::{
    EventType, EventsConfig, Filler, Frame, IgnoreMap, Ignored, Moment, Scene, Standing, Watcher,
};

const WIDTH: usize = 320;
const HEIGHT: usize = 180;
/// Sky above, road below.
const CLASSES: [&str; 3] = ["sky", "road", "car"];

/// A smooth texture that looks the same at no two places.
fn texture(x: f64, y: f64) -> u8 {
    let value = (x / 9.0).sin() + (y / 7.0 + (x / 23.0).cos() * 2.0).sin() + ((x + 2.0 * y) / 17.0).cos();
    (128.0 + 40.0 * value) as u8
}

/// One frame: everything scores 0 but `boxes` (x, y, width, height in pixels), which score 4; the threshold is 1.
struct Shot {
    detection: Detection,
    logits: Array3<f32>,
    luma: Vec<u8>,
}

impl Shot {
    fn new(boxes: &[[usize; 4]], shift: f64) -> Self {
        let boxes: Vec<_> = boxes.iter().map(|&place| (place, 4.0)).collect();
        Self::scored(&boxes, shift)
    }

    /// The same with a score for each box.
    fn scored(boxes: &[([usize; 4], f32)], shift: f64) -> Self {
        let inside = |x: usize, y: usize, [left, top, w, h]: [usize; 4]| {
            (left..left + w).contains(&x) && (top..top + h).contains(&y)
        };
        let score = Array2::from_shape_fn((HEIGHT, WIDTH), |(y, x)| {
            boxes.iter().find(|(place, _)| inside(x, y, *place)).map_or(0.0, |(_, score)| *score)
        });
        let mask = score.mapv(|score| u8::from(score >= 1.0));
        let logits =
            Array3::from_shape_fn((3, 45, 80), |(class, y, _)| if class == usize::from(y >= 20) { 8.0 } else { 0.0 });
        let luma = (0..WIDTH * HEIGHT).map(|i| texture((i % WIDTH) as f64 + shift, (i / WIDTH) as f64)).collect();
        Self { detection: Detection { score, mask, ..Detection::default() }, logits, luma }
    }

    fn frame(&self, milliseconds: u64) -> Frame<'_> {
        Frame {
            moment: Moment { running: Duration::from_millis(milliseconds), wall: None },
            detection: &self.detection,
            logits: self.logits.view(),
            luma: Plane { data: &self.luma, stride: WIDTH, columns: WIDTH, rows: HEIGHT },
            threshold: 1.0,
            fresh: false,
        }
    }
}

fn watcher(classes: &[&str], settings: EventsConfig, ignore: &[&str]) -> Watcher {
    let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
    let parts: Vec<Ignored> = ignore.iter().map(|part| Ignored::parse(part).unwrap()).collect();
    Watcher::new("s", &classes, settings, Arc::new(IgnoreMap::load(&parts).unwrap()))
}

/// Two seconds of the same frame; when the first alarm came, in milliseconds.
fn first_alarm(watcher: Watcher, boxes: &[[usize; 4]]) -> Option<u64> {
    first_alarm_in(watcher, &Shot::new(boxes, 0.0))
}

fn first_alarm_in(mut watcher: Watcher, shot: &Shot) -> Option<u64> {
    let mut scene = Scene::default();
    (0..50).map(|i| 40 * i).find(|&time| {
        watcher.observe(&shot.frame(time), &mut scene).unwrap();
        scene.sightings.iter().any(|sighting| sighting.standing == Standing::Alarm)
    })
}

const ON_ROAD: [usize; 4] = [140, 100, 40, 40];
const IN_SKY: [usize; 4] = [140, 10, 40, 30];

#[test]
fn an_unknown_thing_on_the_road_is_an_alarm_after_the_start_up() {
    let rules = EventsConfig::default();
    let alarm = first_alarm(watcher(&CLASSES, rules.clone(), &[]), &[ON_ROAD]).unwrap() as f64 / 1000.0;
    let least = rules.settle_s + rules.min_seconds;
    assert!((least - 0.09..=least + 0.09).contains(&alarm), "{alarm}");
    assert_eq!(first_alarm(watcher(&CLASSES, rules, &[]), &[]), None);
}

#[test]
fn an_alarm_stands_out_from_the_rest_of_the_picture() {
    // A wall below the threshold takes up 15 % of the picture.
    let wall = [0, 0, WIDTH, 27];
    let alarm = |rules: EventsConfig, ignore: &[&str], thing: f32, wall_score: f32| {
        let shot = Shot::scored(&[(ON_ROAD, thing), (wall, wall_score)], 0.0);
        first_alarm_in(watcher(&CLASSES, rules, ignore), &shot).is_some()
    };
    let (rules, off) = (EventsConfig::default, EventsConfig { rest_level: 100.0, ..EventsConfig::default() });
    assert!(alarm(rules(), &[], 1.8, 0.0), "the rest is ordinary");
    assert!(!alarm(rules(), &[], 1.8, 0.85), "the rest is nearly as unusual");
    assert!(alarm(rules(), &[], 2.8, 0.85), "the thing stands out all the same");
    assert!(alarm(off, &[], 1.8, 0.85), "the rule is off");
    assert!(alarm(rules(), &["poly:0,0 1,0 1,0.2 0,0.2"], 1.8, 0.85), "what is ignored is no part of the rest");
    // Two unknown things do not hide one another; where there are more, the picture is unusual.
    let things = [ON_ROAD, [20, 100, 80, 30], [200, 100, 80, 30], [20, 145, 80, 30]];
    let among = |count: usize| {
        let shot = Shot::scored(&things[..count].iter().map(|&place| (place, 1.8)).collect::<Vec<_>>(), 0.0);
        first_alarm_in(watcher(&CLASSES, rules(), &[]), &shot).is_some()
    };
    assert_eq!([1, 2, 4].map(among), [true, true, false]);
}

#[test]
fn without_rules_of_time_a_single_frame_is_enough() {
    let timeless = EventsConfig {
        min_seconds: 0.0,
        window_s: 0.0,
        end_after_s: 0.0,
        settle_s: 0.0,
        smoothing_s: 0.0,
        ..EventsConfig::default()
    };
    let shown = |settings: EventsConfig, boxes: &[[usize; 4]]| {
        let (mut watcher, mut scene) = (watcher(&CLASSES, settings, &[]), Scene::default());
        watcher.observe(&Shot::new(boxes, 0.0).frame(0), &mut scene).unwrap();
        let mut events = std::mem::take(&mut scene.events);
        watcher.finish(&mut scene);
        events.append(&mut scene.events);
        events.iter().filter(|event| event.alarm && event.kind == EventType::End).count()
    };
    assert_eq!((shown(timeless.clone(), &[ON_ROAD]), shown(timeless.clone(), &[])), (1, 0));
    assert_eq!((shown(timeless, &[IN_SKY]), shown(EventsConfig::default(), &[ON_ROAD])), (0, 0));
}

#[test]
fn the_road_gate_is_off_by_switch_and_without_a_road_class() {
    let open = EventsConfig { road_gate: false, ..EventsConfig::default() };
    let gated = watcher(&CLASSES, EventsConfig::default(), &[]);
    assert!(gated.has_road_gate());
    assert_eq!(first_alarm(gated, &[IN_SKY]), None);
    assert!(first_alarm(watcher(&CLASSES, open, &[]), &[IN_SKY]).is_some());
    let blind = watcher(&["a", "b", "c"], EventsConfig::default(), &[]);
    assert!(!blind.has_road_gate());
    assert!(first_alarm(blind, &[IN_SKY]).is_some());
}

#[test]
fn what_the_lower_edge_of_the_picture_cuts_off_raises_no_alarm() {
    let bonnet = [100, HEIGHT - 30, 120, 30];
    let above = [100, HEIGHT - 34, 120, 30];
    let alarm = |rules: EventsConfig, boxes: &[[usize; 4]]| first_alarm(watcher(&CLASSES, rules, &[]), boxes).is_some();
    assert!(!alarm(EventsConfig::default(), &[bonnet]));
    assert!(alarm(EventsConfig::default(), &[above]), "its foot is seen");
    assert!(alarm(EventsConfig::default(), &[bonnet, ON_ROAD]), "it says nothing about others");
    assert!(alarm(EventsConfig { road_gate: false, ..EventsConfig::default() }, &[bonnet]));
}

#[test]
fn ignored_parts_raise_no_alarm() {
    let ignored = watcher(&CLASSES, EventsConfig::default(), &["poly:0.3,0.5 0.7,0.5 0.7,0.9 0.3,0.9"]);
    assert_eq!(first_alarm(ignored, &[ON_ROAD]), None);
    let beside = watcher(&CLASSES, EventsConfig::default(), &["poly:0,0.9 1,0.9 1,1 0,1"]);
    assert!(first_alarm(beside, &[ON_ROAD]).is_some());
}

#[test]
fn thin_lines_and_specks_are_no_regions() {
    // Along the border of sky and road, and a few pixels.
    let (shot, mut scene) = (Shot::new(&[[0, 78, WIDTH, 4], [100, 120, 5, 5]], 0.0), Scene::default());
    let mut watcher = watcher(&CLASSES, EventsConfig::default(), &[]);
    for i in 0..20 {
        watcher.observe(&shot.frame(40 * i), &mut scene).unwrap();
        assert!(scene.sightings.is_empty(), "{:?}", scene.sightings);
    }
}

#[test]
fn a_thing_that_moves_with_the_picture_keeps_its_level_and_its_track() {
    let levels = |moving_luma: bool| {
        let mut watcher = watcher(&CLASSES, EventsConfig::default(), &[]);
        let mut scene = Scene::default();
        let mut seen = (0.0, 0);
        for i in 0..20_usize {
            let shift = 8 * i;
            let shot = Shot::new(&[[280 - shift, 100, 16, 16]], if moving_luma { shift as f64 } else { 0.0 });
            watcher.observe(&shot.frame(40 * i as u64), &mut scene).unwrap();
            if let Some(sighting) = scene.sightings.first() {
                seen = (sighting.region.level, sighting.track_id);
            } else {
                seen.0 = -1.0;
            }
        }
        seen
    };
    let (followed, track) = levels(true);
    let (smeared, _) = levels(false);
    assert!(followed > 0.9 && track == 1, "{followed} of track {track}");
    assert!(smeared < followed - 0.3, "{smeared} without the motion, {followed} with it");
}

#[test]
fn shifts_and_zooms_are_recovered() {
    let (width, height) = (160, 92);
    let picture = |f: &dyn Fn(f64, f64) -> (f64, f64)| -> Vec<u8> {
        let at = |i: usize| f((i % width) as f64 - 79.5, (i / width) as f64 - 45.5);
        (0..width * height).map(at).map(|(x, y)| texture(2.0 * x, 2.0 * y)).collect()
    };
    for (dx, dy, zoom) in [(0.0, 0.0, 1.0), (1.5, -0.75, 1.0), (-2.25, 0.0, 1.0), (0.5, 0.25, 1.02)] {
        let mut finder = MotionFinder::default();
        assert_eq!(finder.update(&picture(&|x, y| (x, y)), width, height), None);
        let motion = finder.update(&picture(&|x, y| (zoom * x + dx, zoom * y + dy)), width, height).unwrap();
        for (x, y) in [(0.0, 0.0), (40.0, -20.0), (-50.0, 25.0)] {
            let (found_x, found_y) = motion.at(x, y);
            let wanted = (f64::from(x) * (zoom - 1.0) + dx, f64::from(y) * (zoom - 1.0) + dy);
            let error = (f64::from(found_x) - wanted.0).hypot(f64::from(found_y) - wanted.1);
            assert!(error < 0.4, "{found_x}, {found_y} for {wanted:?}");
        }
    }
}

#[test]
fn a_cut_and_a_lost_signal_end_everything() {
    let mut watcher = watcher(&CLASSES, EventsConfig::default(), &[]);
    let (shot, mut scene) = (Shot::new(&[ON_ROAD], 0.0), Scene::default());
    let mut negative = Shot::new(&[ON_ROAD], 0.0);
    negative.luma.iter_mut().enumerate().for_each(|(i, luma)| *luma = (i * 7919 % 251) as u8);
    let mut kinds = Vec::new();
    for i in 0..120_u64 {
        let mut frame = if i == 40 { negative.frame(40 * i) } else { shot.frame(40 * i) };
        frame.fresh = i == 80;
        watcher.observe(&frame, &mut scene).unwrap();
        kinds.extend(scene.events.iter().map(|event| (event.kind, event.track_id)));
    }
    watcher.finish(&mut scene);
    kinds.extend(scene.events.iter().map(|event| (event.kind, event.track_id)));
    let ends: Vec<u64> = kinds.iter().filter(|(kind, _)| *kind == EventType::End).map(|(_, id)| *id).collect();
    let starts = kinds.iter().filter(|(kind, _)| *kind == EventType::Start).count();
    assert_eq!((starts, ends.len()), (3, 3), "{kinds:?}");
}

#[test]
fn masks_ignore_white_pixels_and_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bonnet.png");
    let mask =
        image::GrayImage::from_fn(WIDTH as u32, HEIGHT as u32, |_, y| image::Luma([if y >= 90 { 255 } else { 0 }]));
    mask.save(&path).unwrap();
    let map = IgnoreMap::load(&[Ignored::parse(path.to_str().unwrap()).unwrap()]).unwrap();
    assert!((map.share() - 0.5).abs() < 0.01);
    map.check_size(320, 180).unwrap();
    let error = map.check_size(640, 360).unwrap_err().to_string();
    assert!(error.contains("bonnet.png") && error.contains("320x180") && error.contains("640x360"), "{error}");
    let ignored = watcher(&CLASSES, EventsConfig::default(), &[path.to_str().unwrap()]);
    assert_eq!(first_alarm(ignored, &[ON_ROAD]), None);
}

#[test]
fn statistics_leave_out_ignored_parts() {
    let part = Ignored::parse("poly:0,0.5 1,0.5 1,1 0,1").unwrap();
    let mut filler = Filler::new(Arc::new(IgnoreMap::load(&[part]).unwrap()));
    let mut map = Array3::from_shape_fn((2, 4, 6), |(channel, y, _)| if y < 2 { channel as f32 } else { 99.0 });
    filler.fill(&mut map);
    assert!(map.outer_iter().enumerate().all(|(channel, plane)| plane.iter().all(|value| *value == channel as f32)));
    let part = Ignored::parse("poly:0.5,0 1,0 1,1 0.5,1").unwrap();
    let mut filler = Filler::new(Arc::new(IgnoreMap::load(&[part]).unwrap()));
    let mut map = Array3::from_shape_fn((1, 2, 6), |(_, y, x)| if x < 3 { (10 * y + x) as f32 } else { 99.0 });
    filler.fill(&mut map);
    assert_eq!(map.into_raw_vec_and_offset().0, [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 10.0, 11.0, 12.0, 12.0, 12.0, 12.0]);
}

#[test]
fn wrong_polygons_say_what_is_wrong() {
    for (text, word) in [
        ("poly:0,0 1,0", "three corners"),
        ("poly:0,0 1,1 1,0 0,1", "crosses itself"),
        ("poly:0,0 1.2,0 1,1", "outside"),
        ("poly:0,0 x,0 1,1", "`x,0`"),
        ("poly:", "three corners"),
    ] {
        let error = Ignored::parse(text).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(word), "{text}: {error}");
    }
    let text = "poly:0.1,0.2 0.5,0.2 0.5,0.9";
    assert_eq!(Ignored::parse(text).unwrap().to_string(), text);
}

#[test]
fn rules_are_checked() {
    for (rules, key) in [
        (EventsConfig { min_area: 2.0, ..EventsConfig::default() }, "events.min_area"),
        (EventsConfig { min_seconds: -1.0, ..EventsConfig::default() }, "events.min_seconds"),
        (EventsConfig { window_s: 0.1, min_seconds: 0.2, ..EventsConfig::default() }, "events.window_s"),
        (EventsConfig { rest_level: -2.0, ..EventsConfig::default() }, "events.rest_level"),
        (EventsConfig { grow_level: 0.5, start_level: 0.2, ..EventsConfig::default() }, "events.grow_level"),
        (EventsConfig { max_per_minute: Some(0), ..EventsConfig::default() }, "events.max_per_minute"),
    ] {
        assert!(rules.check().unwrap_err().to_string().contains(key), "{key}");
    }
    let known = EventsConfig { known: vec!["cat".to_owned()], ..EventsConfig::default() };
    let error = known.check_classes(&CLASSES.map(str::to_owned)).unwrap_err().to_string();
    assert!(error.contains("cat") && error.contains("sky, road, car"), "{error}");
}
