//! Troubles beside the pictures of a live run: results that cannot be kept, streams that fail or end, an early hang-up.

use std::fs;

use support::common::Place;
use support::live::{decoded, free_port, goes_on, http, names, until};
use support::running::Live;

const PATTERN: &str = "test://ball?live=1&width=160&height=90&fps=25";

#[test]
fn results_that_cannot_be_kept_do_not_end_the_video() {
    let (place, port) = (Place::new(), free_port());
    let mut run = Live::start(&place, &format!("run {PATTERN} -o x.mkv -o masks:m --http {port}"));
    let masks = place.path("m");
    let count = || fs::read_dir(&masks).map_or(0, Iterator::count);
    until("there are masks", || count() > 3);
    fs::rename(&masks, place.path("moved")).unwrap();
    until("it is told", || run.log().contains("cannot be written"));
    goes_on(port, "test");
    fs::create_dir(&masks).unwrap();
    until("there are masks again", || count() > 3);
    // Something asked for is missing, and the exit code says so.
    run.stop(1);
    let log = run.log();
    assert!(log.contains("results could not be written") && log.matches("the video goes on").count() == 1, "{log}");
    assert!(decoded(&place.path("x.mkv")) > 25);
}

#[test]
fn a_run_with_a_gap_in_its_recordings_says_so_at_its_end() {
    let (place, port) = (Place::new(), free_port());
    let mut run = Live::start(&place, &format!("run {PATTERN} -o r/%Y%m%d-%H%M%S.mkv --http {port}"));
    let files = || names(&place.path("r"));
    let written = || files().into_iter().find(|name| name.ends_with(".part"));
    until("it records", || written().is_some());
    fs::remove_file(place.path("r").join(written().unwrap())).unwrap();
    until("it is reported", || run.log().contains("was removed while it was written"));
    until("it records again", || written().is_some());
    goes_on(port, "test");
    run.stop(1);
    assert!(run.log().contains("parts are missing"), "{}", run.log());
    assert!(files().iter().any(|name| name.ends_with(".mkv") && decoded(&place.path("r").join(name)) > 0));
}

#[test]
fn a_stream_that_fails_or_ends_does_so_alone_and_is_reported() {
    let (place, port) = (Place::new(), free_port());
    // The second stream finds its first mask there already, and the third one is a short film.
    fs::create_dir(place.path("m")).unwrap();
    fs::write(place.path("m/test-2_000000.png"), "not ours").unwrap();
    place.moving("short.mp4", 10);
    let mut run = Live::start(
        &place,
        &format!("run {PATTERN} {PATTERN} short.mp4 --realtime -o none -o masks:m --http {port} --json r.json"),
    );
    let health = || http(port, "GET", "/healthz");
    until("one has failed", || health().0 == 503 && health().1.contains("test-2_000000.png: exists already"));
    until("one has ended", || health().1.contains("it came to its end"));
    until("it is told", || run.log().contains("test-2 has ended, the other streams go on"));
    goes_on(port, "test");
    run.stop(130);
    assert!(run.log().contains("error: test-2: m/test-2_000000.png"), "{}", run.log());
    assert_eq!(fs::read_to_string(place.path("m/test-2_000000.png")).unwrap(), "not ours");
}

#[test]
fn a_hang_up_before_the_streams_are_there_ends_nothing() {
    let (place, port) = (Place::new(), free_port());
    let mut run = Live::start(&place, &format!("run {PATTERN} -o none --http {port}"));
    until("it is on its way", || http(port, "GET", "/readyz").0 != 0);
    run.signal("-HUP");
    until("it is ready", || http(port, "GET", "/readyz").0 == 200);
    goes_on(port, "test");
    run.stop(130);
}
