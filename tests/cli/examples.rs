//! Every example runs as its first line says.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use support::common;
use support::common::{Place, ffprobe};

/// The example `name`, with the tiny network as its default model.
fn example(place: &Place, name: &str, arguments: &[&str]) -> Command {
    let folder = support::binary().parent().unwrap().join("examples");
    let mut command = Command::new(folder.join(name));
    command.args(arguments).current_dir(place.path("")).env("OODSTREAM_MODEL", place.path("model.onnx"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What an example prints.
#[track_caller]
fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn annotate_file_writes_the_same_video() {
    let place = Place::new();
    place.moving("drive.mp4", 12);
    let text = printed(example(&place, "annotate_file", &["drive.mp4", "marked.mp4"]));
    assert!(text.contains("drive.mp4: 12 frames"), "{text}");
    let size = ffprobe(
        &place.path("marked.mp4"),
        "-select_streams v:0 -count_frames -show_entries stream=width,height,nb_read_frames",
    );
    assert_eq!(size, ["160,90,12"]);
}

#[test]
fn score_images_takes_pictures_of_any_size() {
    let place = Place::new();
    place.clip("a.png", "-f lavfi -i testsrc2=size=160x90 -frames:v 1");
    place.clip("b.jpg", "-f lavfi -i testsrc=size=97x61 -frames:v 1 -pix_fmt yuvj444p");
    // The tiny network has no threshold of its own, so the example says what to do.
    let output = example(&place, "score_images", &["a.png", "b.jpg"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("no threshold"), "{error}");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default.onnx");
    let mut command = example(&place, "score_images", &["a.png", "b.jpg"]);
    command.env("OODSTREAM_MODEL", shipped);
    let text = printed(command);
    assert!(text.contains("a.png: ") && text.contains("b.jpg: "), "{text}");
}

#[test]
fn live_to_rtsp_serves_until_its_time_is_over() {
    let place = Place::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("rtsp://127.0.0.1:{port}/front");
    let arguments = ["test://ball?width=160&height=96&live=1", address.as_str(), "3"];
    let mut child = example(&place, "live_to_rtsp", &arguments).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let served = text.lines().last().and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    assert!(served.is_some_and(|frames| frames > 0), "{text}");
}

#[test]
fn own_source_writes_its_frames() {
    let place = Place::new();
    let text = printed(example(&place, "own_source", &["marked.mp4"]));
    assert!(text.contains("25 frames written"), "{text}");
    let times = common::video_times(&place.path("marked.mp4"));
    assert_eq!(times.len(), 25);
    assert!(times.iter().zip(0..).all(|(time, index)| (time - 0.04 * f64::from(index)).abs() < 1e-3), "{times:?}");
    // The box is red where it was drawn: its middle in the last frame, left of the legend's place.
    let pixels = common::through_ffmpeg(&place.path("marked.mp4"), "-f rawvideo -pix_fmt rgb24 -");
    let last = &pixels[pixels.len() - 320 * 180 * 3..];
    let at = (100 * 320 + 260) * 3;
    assert!(last[at] > last[at + 1] + 40, "{:?}", &last[at..at + 3]);
}
