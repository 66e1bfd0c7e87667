//! Trees and lists of files: completion records, resuming, what is kept of an event.

mod clips;
mod deploy;
mod errors;
mod exports;
mod kept;
mod messages;
mod mine;
mod page;
mod ray;
mod resume;
mod review;
mod sampling;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::common::Place;
use support::onnx;

/// The options by which the white box of [`tree`] is an event.
pub const RULES: &str = "--method max-logit --threshold 1.5 --set events.settle_s=0 --set events.road_gate=false";

/// A folder with a network to which white is unknown, and a clip of a white box that crosses the picture, which
/// [`copies`] multiplies.
pub fn place() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    fs::write(place.path("model.toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    place
}

/// `seconds` of a white box on black that is there from the first to the second last second, with a tone.
pub fn boxed(place: &Place, name: &str, seconds: u32) -> PathBuf {
    coloured(place, name, seconds, "white")
}

/// The clip of [`boxed`] with a box of another colour.
pub fn coloured(place: &Place, name: &str, seconds: u32, colour: &str) -> PathBuf {
    if let Some(folder) = place.path(name).parent() {
        fs::create_dir_all(folder).unwrap();
    }
    let until = seconds - 1;
    place.clip(
        name,
        &format!(
            "-f lavfi -i color=black:size=160x90:rate=10:duration={seconds} -f lavfi -i sine=frequency=440:duration={seconds} \
             -f lavfi -i color={colour}:size=40x30:rate=10:duration={seconds} \
             -filter_complex [0][2]overlay=x=20+10*t:y=40:enable='between(t,1,{until})' \
             -c:v libx264 -preset ultrafast -g 10 -pix_fmt yuv420p -c:a aac -shortest"
        ),
    )
}

/// `count` copies of a clip in the folders `a`, `b`, `c` of `tree`, each of its own content by a few bytes at the end.
pub fn copies(place: &Place, count: usize) -> Vec<String> {
    let clip = fs::read(boxed(place, "clip.mp4", 3)).unwrap();
    let name = |n: usize| format!("{}/{:03}.mp4", ["a", "b", "c"][n % 3], n / 3);
    let keys: Vec<String> = (0..count).map(name).collect();
    for (n, key) in keys.iter().enumerate() {
        let path = place.path(&format!("tree/{key}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = clip.clone();
        // A box that players leave alone.
        bytes.extend(12u32.to_be_bytes());
        bytes.extend(b"free");
        bytes.extend((n as u32).to_be_bytes());
        fs::write(path, bytes).unwrap();
    }
    keys
}

/// The contents of all files below `folder` whose names end with `suffix`, by their paths below it.
pub fn contents(folder: &Path, suffix: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The names below `folder`.
pub fn names(folder: &Path) -> Vec<String> {
    contents(folder, "").into_keys().collect()
}

/// A record, or the last line of an events file.
#[track_caller]
pub fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}
