//! The Obstacle Sequence Challenge through the binary: its layout is read, and what its scorer reads is written.

use std::fs;

use image::{GrayImage, Luma, Rgb, RgbImage};
use support::common::Place;
use support::onnx;

const WIDTH: u32 = 96;
const HEIGHT: u32 = 64;
/// The first number in the names of the pictures.
const FIRST: u64 = 10;

/// The white thing of each picture.
fn inside(x: u32, y: u32) -> bool {
    (40..60).contains(&x) && (24..44).contains(&y)
}

/// A data set of one sequence of 12 pictures, of which two are labelled.
fn set() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(u64::from(WIDTH), u64::from(HEIGHT)).save(&place.path("white.onnx"));
    for folder in ["set/raw_data/sequence_001", "set/instance_ood/sequence_001"] {
        fs::create_dir_all(place.path(folder)).unwrap();
    }
    // A little texture, so that the camera's motion is found.
    let picture = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let dark = ((x * 7 + y * 13) % 23) as u8;
        if inside(x, y) { Rgb([255; 3]) } else { Rgb([dark; 3]) }
    });
    let mask = GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([if inside(x, y) { 3 } else { 0 }]));
    for number in FIRST..FIRST + 12 {
        picture.save(place.path(&format!("set/raw_data/sequence_001/{number:06}_raw_data.png"))).unwrap();
        if number >= FIRST + 10 {
            mask.save(place.path(&format!("set/instance_ood/sequence_001/{number:06}_instance_ood.png"))).unwrap();
        }
    }
    place
}

const AT_ONCE: &str = "-m white.onnx --set detect.method=\"max-logit\" --set detect.threshold=0 \
                       --set events.min_seconds=0 --set events.settle_s=0";

/// The type and the bytes of the elements of a NumPy file of `HEIGHT` x `WIDTH`.
fn array(place: &Place, name: &str) -> (String, Vec<[u8; 4]>) {
    let bytes = fs::read(place.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..end]).into_owned();
    assert!(
        header.contains(&format!("'shape': ({HEIGHT}, {WIDTH})")) || header.contains(&format!("({HEIGHT}, {WIDTH}, )")),
        "{header}"
    );
    let elements: Vec<[u8; 4]> = bytes[end..].chunks_exact(4).map(|chunk| chunk.try_into().unwrap()).collect();
    assert_eq!(elements.len(), (WIDTH * HEIGHT) as usize);
    (header, elements)
}

#[test]
fn the_layout_is_read_and_the_scorers_files_are_written() {
    let place = set();
    let ended = place.run(&format!("-q eval set --sequences --save-sequences out --json - {AT_ONCE}"));
    let clip = ended.code(0).json()["clips"][0].clone();
    assert_eq!(clip["path"], "sequence_001");
    let truth = &clip["truth"];
    assert_eq!(
        (&truth["labelled_frames"], &truth["things"], &truth["found"]),
        (&2.into(), &1.into(), &1.into()),
        "{truth}"
    );
    assert_eq!(truth["per_thing"][0]["id"], 3);
    let number = FIRST + 11;
    let (header, scores) = array(&place, &format!("out/ood_score/sequence_001/{number:06}.npy"));
    assert!(header.contains("<f4"), "{header}");
    let (header, tracks) = array(&place, &format!("out/ood_prediction_tracked/sequence_001/{number:06}.npy"));
    assert!(header.contains("<i4"), "{header}");
    let at = |x: u32, y: u32| (y * WIDTH + x) as usize;
    assert!(f32::from_le_bytes(scores[at(50, 34)]) > 0.0 && f32::from_le_bytes(scores[at(5, 5)]) < 0.0);
    assert_eq!((i32::from_le_bytes(tracks[at(50, 34)]), i32::from_le_bytes(tracks[at(5, 5)])), (1, 0));
    let files = |kind: &str| fs::read_dir(place.path(&format!("out/{kind}/sequence_001"))).unwrap().count();
    assert_eq!((files("ood_score"), files("ood_prediction_tracked")), (12, 12));
    let again = place.run(&format!("eval set --sequences --save-sequences out {AT_ONCE}"));
    again.code(2).says(&["out/ood_score/sequence_001", "has files already"]);
}

#[test]
fn an_alarm_that_covers_a_sliver_of_a_thing_behind_does_not_find_it() {
    let place = set();
    // 36 of the 400 pixels under the alarm belong to another thing, which is large enough to be reported.
    let sliver = |x: u32, y: u32| (54..60).contains(&x) && (24..30).contains(&y);
    let thing = |x, y| if sliver(x, y) { 5 } else { 3 * u8::from(inside(x, y)) };
    let mask = GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([thing(x, y)]));
    for number in FIRST + 10..FIRST + 12 {
        mask.save(place.path(&format!("set/instance_ood/sequence_001/{number:06}_instance_ood.png"))).unwrap();
    }
    let ended = place.run(&format!("-q eval set --sequences --json - {AT_ONCE}"));
    let truth = ended.code(0).json()["clips"][0]["truth"].clone();
    assert_eq!(
        (&truth["things"], &truth["found"], &truth["false_events"]),
        (&2.into(), &1.into(), &0.into()),
        "{truth}"
    );
    let alarms =
        |thing: usize| (truth["per_thing"][thing]["id"].clone(), truth["per_thing"][thing]["alarm_frames"].clone());
    assert_eq!((alarms(0), alarms(1)), ((3.into(), 2.into()), (5.into(), 0.into())), "{truth}");
    assert!(truth["per_thing"][1]["alarm_s"].is_null() && truth["per_thing"][1]["delay_s"].is_null(), "{truth}");
}

#[test]
fn a_folder_of_another_layout_is_refused() {
    let place = set();
    place.run("eval . --sequences").code(2).says(&["raw_data", "instance_ood/SEQ"]);
    fs::remove_dir_all(place.path("set/instance_ood/sequence_001")).unwrap();
    place.run("eval set --sequences").code(2).says(&["instance_ood/sequence_001"]);
    place.run("eval set --sequences --ordinary").code(2);
}

#[test]
fn what_raises_no_alarm_is_in_the_summary_and_the_report() {
    let place = set();
    // Two things side by side, too far apart to be parts of one.
    let picture = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let thing = (24..40).contains(&y) && ((8..24).contains(&x) || (64..80).contains(&x));
        if thing { Rgb([255; 3]) } else { Rgb([((x * 7 + y * 13) % 23) as u8; 3]) }
    });
    fs::create_dir(place.path("pictures")).unwrap();
    (0..8).for_each(|number| picture.save(place.path(&format!("pictures/{number}.png"))).unwrap());
    let run = |more: &str| {
        let limited = "--set events.max_per_minute=1 --ignore poly:0,0.9_1,0.9_1,1_0,1";
        let arguments = format!("run pictures -o none --json - {AT_ONCE} {limited} {more}");
        let arguments = arguments
            .split_whitespace()
            .map(|argument| argument.replace('_', if argument.starts_with("poly:") { " " } else { "_" }));
        support::common::Ended::from(place.program().args(arguments).output().unwrap()).code(0)
    };
    let ended = run("");
    let report = ended.json();
    let alarms = &report["inputs"][0]["alarms"];
    assert_eq!((&alarms["raised"], &alarms["over_limit"], &alarms["off_road"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!(report["road_gate"], "no-road-class");
    assert!((report["ignored_share"].as_f64().unwrap() - 0.1).abs() < 0.01, "{report}");
    assert_eq!(ended.stderr.matches("no class of road").count(), 1, "{}", ended.stderr);
    ended.says(&["alarms: 1; withheld: 1 over events.max_per_minute"]);
    let open = run("--set events.road_gate=false");
    assert_eq!(open.json()["road_gate"], "off");
    assert!(!open.stderr.contains("no class of road"), "{}", open.stderr);
}
