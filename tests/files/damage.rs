//! What is damage, and which error is which.

use std::fs;

use super::{notes, pass};
use support::common::Place;

const VIDEO: &str =
    "-f lavfi -i testsrc2=size=320x240:rate=25:duration=2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p";

#[test]
fn a_fragmented_file_that_is_cut_off_is_damaged() {
    let place = Place::new();
    let flags = "-g 10 -movflags +frag_keyframe+empty_moov+default_base_moof";
    let whole = fs::read(place.clip("whole.mp4", &format!("{VIDEO} {flags}"))).unwrap();
    pass(&place, "whole.mp4", "out.mp4").code(0);
    fs::write(place.path("cut.mp4"), &whole[..whole.len() * 3 / 5]).unwrap();
    let ended = pass(&place, "cut.mp4", "cut-out.mp4").code(3);
    assert!(notes(&ended).contains("cut off"), "{}", notes(&ended));
}

#[test]
fn sound_that_outlasts_the_pictures_is_no_damage() {
    let place = Place::new();
    let source = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=1 -f lavfi -i sine=frequency=440:duration=4";
    place.clip("long.mp4", &format!("{source} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac"));
    pass(&place, "long.mp4", "out.mp4").code(0);
}

#[test]
fn what_cannot_be_played_is_named() {
    let place = Place::new();
    let key = "-encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb";
    let id = "-encryption_kid a7e61c373e219033c21091fa607bf3b8";
    place.clip("locked.mp4", &format!("{VIDEO} {key} {id}"));
    pass(&place, "locked.mp4", "out.mp4").code(1).says(&["encrypted"]);
    let whole = fs::read(place.clip("front.mp4", &format!("{VIDEO} -movflags +faststart"))).unwrap();
    fs::write(place.path("cut.mp4"), &whole[..600]).unwrap();
    pass(&place, "cut.mp4", "out.mp4").code(1).says(&["inside its index"]);
    assert!(!place.path("out.mp4").exists());
}
