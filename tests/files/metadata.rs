//! What a file says about itself: titles, place and date, names of tracks, chapters, time codes, text with its styles.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{notes, pass};
use support::common::{Place, ffprobe, through_ffmpeg};

const VIDEO: &str = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=2";
const SOUND: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=2";
const ENCODE: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac";
const LINES: &str = "1\n00:00:00,200 --> 00:00:01,000\nplain <i>slanted</i> & <b>bold</b>\n\n2\n00:00:01,200 --> 00:00:01,800\n\
                     N 37.77 \u{b0} 50 km/h\n";
const CHAPTERS: &str = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=Start\n\
                        [CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Br\u{fc}cke\n";

/// As [`Place::clip`], with arguments that hold blanks.
#[track_caller]
fn clip(place: &Place, name: &str, arguments: &str, more: &[&str]) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y"]).args(arguments.split_whitespace()).args(more).arg(place.path(name));
    let output = ffmpeg.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tag of the file, or of a stream such as `a:0`, by ffprobe; empty where there is none.
fn tag(path: &Path, stream: &str, name: &str) -> String {
    let arguments = match stream {
        "" => format!("-show_entries format_tags={name}"),
        stream => format!("-select_streams {stream} -show_entries stream_tags={name}"),
    };
    ffprobe(path, &arguments).concat().trim_matches('"').to_owned()
}

fn chapters(path: &Path) -> Vec<String> {
    ffprobe(path, "-show_entries chapter=start_time:chapter_tags=title")
}

/// The subtitles with what styles can be written between words.
fn text(path: &Path) -> String {
    String::from_utf8(through_ffmpeg(path, "-map 0:s:0 -f srt -")).unwrap()
}

#[test]
fn titles_places_dates_and_names_go_along() {
    let place = Place::new();
    let tags = [
        "title=Fahrt \u{fc}ber die Br\u{fc}cke \u{9053}\u{8def}",
        "artist=Me",
        "comment=Dashcam 7",
        "description=a drive",
        "location=+37.7749-122.4194/",
        "creation_time=2021-03-04T05:06:07Z",
    ];
    let mut more: Vec<&str> = tags.iter().flat_map(|tag| ["-metadata", tag]).collect();
    more.extend(["-metadata:s:a:0", "language=ger"]);
    let names = |key: &'static str| ["-metadata:s:v:0", key, "-metadata:s:a:0"];
    for (input, output, name) in [
        ("in.mp4", "a.mp4", "handler_name"),
        ("in.mp4", "b.mov", "handler_name"),
        ("in.mp4", "c.mkv", "title"),
        ("in.mkv", "d.mkv", "title"),
        ("in.mkv", "e.mp4", "handler_name"),
    ] {
        println!("{input} -> {output}");
        let (front, cabin) = if input.ends_with("mp4") {
            ("handler_name=Front Camera", "handler_name=Cabin Mic")
        } else {
            ("title=Front Camera", "title=Cabin Mic")
        };
        let mut all = more.clone();
        all.extend(names(front));
        all.push(cabin);
        clip(&place, input, &format!("{VIDEO} {SOUND} {ENCODE}"), &all);
        pass(&place, input, output).code(0);
        let path = place.path(output);
        for tag_value in tags {
            let (key, value) = tag_value.split_once('=').unwrap();
            let got = tag(&path, "", key);
            assert!(got.starts_with(value.trim_end_matches('Z')), "{key}: {got}");
        }
        assert_eq!((tag(&path, "v:0", name), tag(&path, "a:0", name)), ("Front Camera".into(), "Cabin Mic".into()));
        assert!(["ger", "deu"].contains(&tag(&path, "a:0", "language").as_str()));
    }
}

#[test]
fn tags_of_asf_go_along() {
    let place = Place::new();
    let tags = [
        "title=\u{9053}\u{8def}",
        "artist=Me",
        "comment=Dashcam 7",
        "copyright=Us",
        "genre=roads",
        "make=Maker",
        "gps_log=52.5,13.4",
        "creation_time=2021-03-04T05:06:07Z",
    ];
    let more: Vec<&str> = tags.iter().flat_map(|tag| ["-metadata", tag]).collect();
    clip(&place, "in.wmv", &format!("{VIDEO} {SOUND} -c:v wmv2 -c:a wmav2"), &more);
    for output in ["a.mkv", "b.mov"] {
        pass(&place, "in.wmv", output).code(0);
        for tag_value in tags {
            let (key, value) = tag_value.split_once('=').unwrap();
            let got =
                [key, &format!("com.apple.quicktime.{key}")].map(|key| tag(&place.path(output), "", key)).concat();
            assert!(got.starts_with(value.trim_end_matches('Z')), "{output} {key}: {got}");
        }
    }
}

#[test]
fn default_names_of_tracks_stay_in_mp4_and_are_no_titles() {
    let place = Place::new();
    let names = ["-metadata:s:v:0", "handler_name=Core Media Video", "-metadata:s:a:0", "handler_name=SoundHandler"];
    clip(&place, "in.mp4", &format!("{VIDEO} {SOUND} {ENCODE}"), &names);
    for output in ["out.mp4", "out.mov"] {
        pass(&place, "in.mp4", output).code(0);
        let name = |stream| tag(&place.path(output), stream, "handler_name");
        assert_eq!([name("v:0"), name("a:0")], ["Core Media Video", "SoundHandler"], "{output}");
    }
    pass(&place, "in.mp4", "out.mkv").code(0);
    let name = |stream| tag(&place.path("out.mkv"), stream, "title");
    assert_eq!([name("v:0"), name("a:0")], ["", ""]);
}

#[test]
fn the_metadata_of_mxf_is_left_out_with_a_note() {
    let place = Place::new();
    place.clip("in.mxf", &format!("{VIDEO} -c:v mpeg2video"));
    let ended = pass(&place, "in.mxf", "out.mp4").code(0);
    assert!(notes(&ended).contains("the metadata of the MXF file"), "{}", notes(&ended));
}

#[test]
fn keys_of_phones_go_along() {
    let place = Place::new();
    let keys = ["com.apple.quicktime.make=Apple", "com.apple.quicktime.model=iPhone 15", "x.y=z"];
    let mut more: Vec<&str> = keys.iter().flat_map(|key| ["-metadata", key]).collect();
    more.extend(["-movflags", "use_metadata_tags"]);
    clip(&place, "phone.mov", &format!("{VIDEO} {ENCODE}"), &more);
    for output in ["out.mov", "out.mp4", "out.mkv"] {
        pass(&place, "phone.mov", output).code(0);
        for key in keys {
            let (key, value) = key.split_once('=').unwrap();
            let name = if output.ends_with("mkv") { key.to_uppercase() } else { key.to_owned() };
            assert_eq!(tag(&place.path(output), "", &name), value, "{output}");
        }
    }
}

#[test]
fn a_file_without_a_date_gets_none() {
    let place = Place::new();
    for (input, output) in [
        ("in.mp4", "out.mp4"),
        ("in.mkv", "out.mkv"),
        ("in.ts", "ts.mp4"),
        ("in.avi", "avi.mkv"),
        ("in.wmv", "wmv.mp4"),
    ] {
        place.clip(input, &format!("{VIDEO} {ENCODE}"));
        pass(&place, input, output).code(0);
        assert_eq!(tag(&place.path(output), "", "creation_time"), "", "{output}");
    }
}

#[test]
fn chapters_go_along() {
    let place = Place::new();
    fs::write(place.path("chapters.txt"), CHAPTERS).unwrap();
    let list = place.path("chapters.txt");
    for input in ["in.mp4", "in.mkv"] {
        place.clip(input, &format!("{VIDEO} -i {} -map 0 -map_metadata 1 {ENCODE}", list.display()));
        for output in ["out.mp4", "out.mkv"] {
            pass(&place, input, output).code(0);
            assert_eq!(chapters(&place.path(output)), chapters(&place.path(input)), "{input} -> {output}");
            assert_eq!(chapters(&place.path(output)).len(), 2);
            fs::remove_file(place.path(output)).unwrap();
        }
    }
}

#[test]
fn time_codes_go_along() {
    let place = Place::new();
    place.clip("in.mov", &format!("{VIDEO} {SOUND} {ENCODE} -timecode 09:19:47:10"));
    pass(&place, "in.mov", "out.mov").code(0);
    pass(&place, "in.mov", "out.mkv").code(0);
    for output in ["out.mov", "out.mkv"] {
        let name = if output.ends_with("mkv") { "TIMECODE" } else { "timecode" };
        assert_eq!(tag(&place.path(output), "v:0", name), "09:19:47:10");
    }
}

#[test]
fn telemetry_goes_along_byte_by_byte() {
    let place = Place::new();
    fs::write(place.path("lines.srt"), LINES).unwrap();
    let lines = place.path("lines.srt");
    place.clip(
        "text.mp4",
        &format!("{VIDEO} {SOUND} -i {} -map 0 -map 1 -map 2 {ENCODE} -c:s mov_text", lines.display()),
    );
    // ffmpeg makes no telemetry: a track of text under the names of such a one.
    let mut bytes = fs::read(place.path("text.mp4")).unwrap();
    for (old, new) in [(b"sbtl", b"meta"), (b"tx3g", b"gpmd")] {
        let at = bytes.windows(4).position(|window| window == old).unwrap();
        bytes[at..at + 4].copy_from_slice(new);
    }
    fs::write(place.path("in.mp4"), bytes).unwrap();
    let ended = pass(&place, "in.mp4", "out.mp4").code(0);
    assert!(!notes(&ended).contains("left out"), "{}", notes(&ended));
    let packets = |name| {
        ffprobe(
            &place.path(name),
            "-select_streams d -show_entries packet=pts_time,duration_time,size,data_hash -show_data_hash md5",
        )
    };
    assert!(packets("in.mp4").len() >= 2);
    assert_eq!(packets("out.mp4"), packets("in.mp4"));
    // Matroska has no place for it, and the run says so.
    assert!(notes(&pass(&place, "in.mp4", "out.mkv").code(0)).contains("data track"));
}

#[test]
fn text_keeps_its_styles_or_the_run_says_that_it_does_not() {
    let place = Place::new();
    fs::write(place.path("lines.srt"), LINES).unwrap();
    let lines = place.path("lines.srt");
    for (input, codec) in [("in.mp4", "mov_text"), ("ass.mkv", "ass"), ("srt.mkv", "srt")] {
        let flags = "-metadata:s:s:0 language=spa -disposition:s:0 forced -disposition:a:0 0";
        let maps = "-map 0 -map 1 -map 2";
        place.clip(input, &format!("{VIDEO} {SOUND} -i {} {maps} {ENCODE} -c:s {codec} {flags}", lines.display()));
        let same = format!("out-{input}");
        let ended = pass(&place, input, &same).code(0);
        assert!(!notes(&ended).contains("subtitle"), "{}", notes(&ended));
        assert_eq!(text(&place.path(&same)), text(&place.path(input)), "{input}");
        assert_eq!(tag(&place.path(&same), "s:0", "language"), "spa");
        if input.ends_with("mkv") {
            let flags = |name: &str| ffprobe(&place.path(name), "-show_entries stream_disposition=default,forced");
            assert_eq!(flags(&same), flags(input), "{input}");
        }
    }
    let ended = pass(&place, "ass.mkv", "plain.mp4").code(0);
    assert!(notes(&ended).contains("styles"), "{}", notes(&ended));
    assert!(text(&place.path("plain.mp4")).contains("plain slanted & bold"));
}

#[test]
fn what_finds_no_place_is_named() {
    let place = Place::new();
    fs::write(place.path("note.txt"), "hello").unwrap();
    let attach = format!("-attach {} -metadata:s:t mimetype=text/plain", place.path("note.txt").display());
    place.clip("in.mkv", &format!("{VIDEO} {ENCODE} {attach}"));
    assert!(notes(&pass(&place, "in.mkv", "out.mp4").code(0)).contains("attached files"));
    pass(&place, "in.mkv", "out.mkv").code(0);
    assert_eq!(tag(&place.path("out.mkv"), "t:0", "filename"), "note.txt");
    fs::write(place.path("lines.srt"), LINES).unwrap();
    let lines = place.path("lines.srt");
    place.clip("vtt.mkv", &format!("{VIDEO} -i {} -map 0 -map 1 {ENCODE} -c:s webvtt", lines.display()));
    let ended = pass(&place, "vtt.mkv", "vtt-out.mkv").code(0);
    let kept = !ffprobe(&place.path("vtt-out.mkv"), "-select_streams s -show_entries stream=codec_name").is_empty();
    assert!(kept || notes(&ended).contains("subtitle track"), "{}", notes(&ended));
}
