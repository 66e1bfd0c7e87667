//! Files as people have them: what comes out shows the same pictures at the same times, or the run says what changed.

mod colours;
mod damage;
mod decoders;
mod edits;
mod fields;
mod media_copy;
mod media_damage;
mod media_output;
mod metadata;
#[cfg(unix)]
mod mutations;
mod paths;
mod shape;
mod sound;
mod times;
mod tracks;

use std::path::Path;

use support::common::{Ended, Place, ffprobe, through_ffmpeg};

/// Columns and rows that pictures are compared at.
const SIZE: (usize, usize) = (64, 48);

/// Runs `name` to `out` with nothing drawn.
fn pass(place: &Place, name: &str, out: &str) -> Ended {
    place.run(&format!("run {name} -o {out} --method max-logit --threshold 1000000 --no-legend --json -"))
}

/// Times of the frames in seconds, in the order of the file.
fn frame_times(path: &Path) -> Vec<f64> {
    ffprobe(path, "-select_streams v:0 -show_entries frame=best_effort_timestamp_time")
        .iter()
        .map(|time| time.parse().unwrap())
        .collect()
}

/// The pictures, small and in grey, after `filter`.
fn pictures(path: &Path, filter: &str) -> Vec<Vec<u8>> {
    let (width, height) = SIZE;
    let arguments = format!(
        "-map 0:v:0 -fps_mode passthrough -vf {filter}scale={width}:{height}:flags=area,format=gray -f rawvideo -"
    );
    through_ffmpeg(path, &arguments).chunks_exact(width * height).map(<[u8]>::to_vec).collect()
}

/// The largest mean difference between two pictures at the same place.
#[track_caller]
fn difference(a: &[Vec<u8>], b: &[Vec<u8>]) -> f64 {
    assert_eq!(a.len(), b.len(), "pictures");
    let one =
        |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
    a.iter().zip(b).map(|(a, b)| one(a, b)).fold(0.0, f64::max)
}

fn notes(ended: &Ended) -> String {
    ended.json()["inputs"][0]["notes"].to_string()
}
