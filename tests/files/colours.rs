//! Colours and shape as a player shows them.

use std::fs;
use std::path::Path;

use super::{notes, pass};
use support::common::{Place, ffprobe, through_ffmpeg};

/// The pictures in RGB, small.
fn colours(path: &Path) -> Vec<u8> {
    let filter = "scale=64:48:flags=area+accurate_rnd+full_chroma_int,format=rgb24";
    through_ffmpeg(path, &format!("-map 0:v:0 -fps_mode passthrough -vf {filter} -f rawvideo -"))
}

#[track_caller]
fn alike(a: &Path, b: &Path, most: f64) {
    let (a, b) = (colours(a), colours(b));
    assert_eq!(a.len(), b.len());
    let mean = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
    assert!(mean < most, "mean difference {mean}");
}

fn tags(path: &Path) -> String {
    ffprobe(path, "-select_streams v:0 -show_entries stream=color_range,color_space,color_transfer,color_primaries")
        .concat()
}

#[test]
fn colours_without_a_name_stay_without_one() {
    for (size, codec) in [("1280x720", "libx264"), ("320x240", "libx264"), ("1280x720", "mpeg4")] {
        println!("{size} {codec}");
        let place = Place::new();
        let input = place.clip(
            "in.mp4",
            &format!("-f lavfi -i testsrc2=size={size}:rate=25:duration=0.4 -c:v {codec} -q:v 2 -pix_fmt yuv420p"),
        );
        for output in ["out.mp4", "out.mkv"] {
            pass(&place, "in.mp4", output).code(0);
            alike(&input, &place.path(output), 3.0);
            assert!(!tags(&place.path(output)).contains("bt"), "{}", tags(&place.path(output)));
        }
    }
}

#[test]
fn colours_with_a_name_keep_it() {
    for space in ["bt709", "smpte170m", "bt2020nc"] {
        for range in ["tv", "pc"] {
            println!("{space} {range}");
            let place = Place::new();
            let convert = format!(
                "-vf scale=out_color_matrix={}:out_range={range}",
                if space == "bt2020nc" { "bt2020" } else { space }
            );
            let name = format!("-color_range {range} -colorspace {space} -color_primaries bt709 -color_trc bt709");
            let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
            let input = place.clip(
                "in.mp4",
                &format!("-f lavfi -i testsrc2=size=320x240:rate=25:duration=0.4 {convert} {encode} {name}"),
            );
            pass(&place, "in.mp4", "out.mp4").code(0);
            assert_eq!(tags(&place.path("out.mp4")), tags(&input));
            alike(&input, &place.path("out.mp4"), 3.0);
        }
    }
}

#[test]
fn a_high_dynamic_range_is_kept_with_its_tags_and_a_note() {
    for (transfer, name) in [("smpte2084", "PQ"), ("arib-std-b67", "HLG")] {
        let place = Place::new();
        let x265 = format!("log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc");
        let input = place.clip(
            "in.mkv",
            &format!(
                "-f lavfi -i testsrc2=size=320x240:rate=25:duration=0.4 -c:v libx265 -preset ultrafast -pix_fmt \
                 yuv420p10le -x265-params {x265}"
            ),
        );
        let ended = pass(&place, "in.mkv", "out.mp4").code(0);
        assert!(notes(&ended).contains(name) && notes(&ended).contains("10 bits"), "{}", notes(&ended));
        assert_eq!(tags(&place.path("out.mp4")), tags(&input));
        alike(&input, &place.path("out.mp4"), 3.0);
    }
}

#[test]
fn pixels_without_a_shape_are_square() {
    let place = Place::new();
    let input =
        place.clip("in.avi", "-f lavfi -i testsrc2=size=160x96:rate=25:duration=0.4 -c:v rawvideo -pix_fmt bgr24");
    pass(&place, "in.avi", "out.mp4").code(0);
    alike(&input, &place.path("out.mp4"), 4.0);
}

#[test]
fn pictures_are_turned_and_mirrored_as_the_matrix_says() {
    let place = Place::new();
    let plain =
        place.clip("plain.mp4", "-f lavfi -i testsrc2=size=160x96:rate=25:duration=0.4 -c:v libx264 -pix_fmt yuv420p");
    let bytes = fs::read(&plain).unwrap();
    let matrix = bytes.windows(4).position(|window| window == b"tkhd").unwrap() + 4 + 40;
    // a, b, c, d of the matrix, and what ffmpeg calls the same.
    for (turn, filter) in [
        ([0, 1, -1, 0], "transpose=clock"),
        ([-1, 0, 0, -1], "hflip,vflip"),
        ([0, -1, 1, 0], "transpose=cclock"),
        ([-1, 0, 0, 1], "hflip"),
        ([1, 0, 0, -1], "vflip"),
        ([0, 1, 1, 0], "transpose=cclock_flip"),
        ([0, -1, -1, 0], "transpose=clock_flip"),
    ] {
        println!("{filter}");
        let mut turned = bytes.clone();
        for (entry, value) in [0, 1, 3, 4].into_iter().zip(turn) {
            let at = matrix + 4 * entry;
            turned[at..at + 4].copy_from_slice(&(value * 0x1_0000i32).to_be_bytes());
        }
        fs::write(place.path("turned.mp4"), turned).unwrap();
        pass(&place, "turned.mp4", "out.mp4").code(0);
        let wanted = place.clip("wanted.mkv", &format!("-i {} -vf {filter} -c:v ffv1", plain.display()));
        alike(&wanted, &place.path("out.mp4"), 4.0);
        fs::remove_file(place.path("out.mp4")).unwrap();
    }
}
