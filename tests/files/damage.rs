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
    let parts = fs::read(place.clip("parts.mp4", &format!("{VIDEO} -movflags +frag_keyframe+empty_moov"))).unwrap();
    let first = parts.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    fs::write(place.path("part.mp4"), &parts[first..]).unwrap();
    pass(&place, "part.mp4", "out.mp4").code(1).says(&["fragment", "cat init.mp4"]);
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn a_scrambled_transport_stream_is_encrypted() {
    let place = Place::new();
    let mut bytes = fs::read(place.clip("plain.ts", &format!("{VIDEO} -muxdelay 0"))).unwrap();
    for packet in bytes.chunks_exact_mut(188) {
        let number = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        // The tables stay in clear, as broadcasters leave them.
        if number == 256 {
            packet[3] |= 0x80;
        }
    }
    fs::write(place.path("locked.ts"), bytes).unwrap();
    pass(&place, "locked.ts", "out.mp4").code(1).says(&["encrypted"]);
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn a_codec_that_nothing_installed_decodes_is_named_with_what_helps() {
    let place = Place::new();
    let picture = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=0.4";
    place.clip("edit.mov", &format!("{picture} -c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p"));
    let ended = pass(&place, "edit.mov", "out.mp4").code(1).says(&["AVdh", "ffmpeg -i"]);
    assert!(!ended.stderr.contains("apt-get"), "{}", ended.stderr);
}

#[test]
fn sound_without_channels_and_bits_is_left_out_with_a_note() {
    let place = Place::new();
    let source = "-f lavfi -i testsrc2=size=96x64:rate=25:duration=0.4 -f lavfi -i sine=frequency=440:duration=0.4";
    let mut bytes = fs::read(place.clip("whole.mov", &format!("{source} -c:v mjpeg -c:a pcm_s16le"))).unwrap();
    let entry = bytes.windows(4).rposition(|kind| kind == b"sowt").unwrap() - 4;
    bytes[entry + 24..entry + 28].fill(0);
    fs::write(place.path("zero.mov"), bytes).unwrap();
    let ended = pass(&place, "zero.mov", "out.mp4").code(0);
    assert!(notes(&ended).contains("audio track 2 (sowt"), "{}", notes(&ended));
    assert_eq!(super::frame_times(&place.path("out.mp4")).len(), 10);
}

#[test]
fn sound_without_a_packet_is_left_out_with_a_note() {
    let place = Place::new();
    let sound = "-f lavfi -i sine=frequency=440:duration=2 -c:a aac";
    let mut bytes =
        fs::read(place.clip("whole.ts", &format!("-f lavfi -i testsrc2=duration=2 {sound} -muxdelay 0"))).unwrap();
    // Announced in the tables, and never there.
    let packets = bytes.chunks_exact(188).filter(|p| (u16::from(p[1] & 0x1f) << 8 | u16::from(p[2])) != 257);
    bytes = packets.flatten().copied().collect();
    fs::write(place.path("mute.ts"), bytes).unwrap();
    for output in ["out.mp4", "out.mkv"] {
        let ended = pass(&place, "mute.ts", output);
        let held = super::frame_times(&place.path(output)).len() as u64;
        assert_eq!(ended.json()["inputs"][0]["frames_out"], held, "{}", ended.stderr);
    }
}
