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
        assert!(notes(&ended).contains(name) && notes(&ended).contains("10 bits per channel"), "{}", notes(&ended));
        assert_eq!(tags(&place.path("out.mp4")), tags(&input));
        alike(&input, &place.path("out.mp4"), 3.0);
    }
}

/// An SDR picture, and the same as PQ with reference white as its peak, where tone mapping has nothing to compress.
fn sdr_and_pq(place: &Place) -> (std::path::PathBuf, std::path::PathBuf) {
    let source = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=0.4";
    let names = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv";
    let as_709 = "eq=saturation=0.4,scale=out_color_matrix=bt709:out_range=tv,format=yuv444p,setparams=colorspace=bt709:range=tv";
    let sdr = place.clip("sdr.mkv", &format!("{source} -vf {as_709} -c:v ffv1 {names}"));
    let pq = "zscale=min=709:tin=709:pin=709:rin=limited:m=2020_ncl:t=smpte2084:p=2020:npl=203,format=yuv420p10le";
    let x265 = "log-level=none:crf=8:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1:\
                master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(2030000,50):max-cll=203,100";
    let encode = format!("-vf {pq} -c:v libx265 -preset ultrafast -x265-params {x265}");
    let pq = place.clip("pq.mkv", &format!("-i {} {encode}", sdr.display()));
    (sdr, pq)
}

/// Mastering display and light levels in the container, else in the first frame.
fn light(path: &Path) -> Vec<(String, Vec<f64>)> {
    let of = |entries| {
        let all = ffprobe(path, &format!("-select_streams v:0 -read_intervals %+#1 -show_entries {entries}"));
        let mut found: Vec<_> =
            all.into_iter().filter(|line| line.starts_with("Mas") || line.starts_with("Con")).collect();
        found.sort();
        found
    };
    let in_stream = of("stream_side_data");
    let lines = if in_stream.is_empty() { of("frame_side_data") } else { in_stream };
    let number = |text: &str| {
        let (above, below) = text.split_once('/').unwrap_or((text, "1"));
        above.parse::<f64>().unwrap() / below.parse::<f64>().unwrap()
    };
    let numbers = |line: &str| line.split(',').skip(1).map(number).collect();
    lines.iter().map(|line| (line.split(',').next().unwrap().to_owned(), numbers(line))).collect()
}

#[test]
fn the_metadata_of_a_high_dynamic_range_are_kept() {
    let place = Place::new();
    let (_, input) = sdr_and_pq(&place);
    assert_eq!(light(&input).len(), 2, "{:?}", light(&input));
    pass(&place, "pq.mkv", "out.mkv").code(0);
    // From a container that has them to another one.
    place.clip("pq.mp4", &format!("-i {} -c copy -tag:v hvc1", input.display()));
    pass(&place, "pq.mp4", "out.mp4").code(0);
    for output in ["out.mkv", "out.mp4"] {
        for ((name, got), (wanted_name, wanted)) in light(&place.path(output)).iter().zip(light(&input)) {
            assert_eq!((name, got.len()), (&wanted_name, wanted.len()));
            assert!(got.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= b * 0.001), "{output}: {got:?} {wanted:?}");
        }
        assert_eq!(light(&place.path(output)).len(), 2);
        let stream = ffprobe(&place.path(output), "-select_streams v:0 -show_entries stream_side_data").concat();
        assert!(stream.contains("203"), "{output}: the container has no light levels: {stream}");
    }
}

#[test]
fn a_high_dynamic_range_is_tone_mapped_on_request() {
    let place = Place::new();
    let (sdr, _) = sdr_and_pq(&place);
    let options = "--method max-logit --threshold 1000000 --no-legend --json -";
    let ended = place.run(&format!("run pq.mkv -o out.mp4 --hdr tone-map {options}")).code(0);
    assert!(notes(&ended).contains("tone-mapped"), "{}", notes(&ended));
    let output = place.path("out.mp4");
    assert_eq!(tags(&output), "tv,bt709,bt709,bt709");
    assert!(light(&output).is_empty(), "{:?}", light(&output));
    alike(&sdr, &output, 3.0);
    assert_eq!(super::frame_times(&output), super::frame_times(&place.path("pq.mkv")));
    place.run("run pq.mkv -o none --hdr bright").code(2).says(&["tone-map"]);
}

#[test]
fn a_full_range_without_a_matrix_stays_full() {
    let place = Place::new();
    let input = place.clip(
        "in.mp4",
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=0.4 -c:v libx264 -preset ultrafast -pix_fmt yuvj420p",
    );
    assert_eq!(ffprobe(&input, "-show_entries stream=color_range,color_space"), ["pc,unknown"]);
    pass(&place, "in.mp4", "out.mp4").code(0);
    assert_eq!(tags(&place.path("out.mp4")), tags(&input));
    alike(&input, &place.path("out.mp4"), 0.8);
}

#[test]
fn what_4_2_0_lacks_is_a_note() {
    for (pixels, codec, sampling) in [
        ("yuv444p", "libx264", "4:4:4"),
        ("yuv422p10le", "libx264", "4:2:2"),
        ("yuvj422p", "mjpeg", "4:2:2"),
        ("rgb24", "png", "RGB"),
    ] {
        let place = Place::new();
        let source = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=0.2";
        place.clip("in.mov", &format!("{source} -c:v {codec} -pix_fmt {pixels}"));
        let ended = pass(&place, "in.mov", "out.mp4").code(0);
        assert!(notes(&ended).contains(&format!("({sampling}) is reduced to 4:2:0")), "{pixels}: {}", notes(&ended));
    }
    let place = Place::new();
    place.clip(
        "odd.mkv",
        "-f lavfi -i testsrc2=size=160x96:rate=25:duration=0.2 -vf scale=161:97 -c:v ffv1 -pix_fmt yuv420p",
    );
    let ended = pass(&place, "odd.mkv", "odd.mp4").code(0);
    assert!(notes(&ended).contains("cropped"), "{}", notes(&ended));
    place.moving("plain.mp4", 5);
    assert_eq!(notes(&pass(&place, "plain.mp4", "out.mp4").code(0)), "[]");
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
