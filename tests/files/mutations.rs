//! Damaged files by the thousand: whatever a file holds, a run ends in time, without a panic, and its output holds every
//! frame that it claims.
//!
//! The suite takes a few; `OODSTREAM_MUTATIONS=10000 OODSTREAM_SEED=1 cargo test --release --test files mutations --
//! --nocapture` takes as many as one likes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use support::common::Place;

/// Mutations in an ordinary run of the suite.
const USUAL: u64 = 40;
/// Seconds of computing after which a run has to have ended, and seconds by the clock: other programs may be busy.
const SECONDS: &str = "10";
const LIMIT: &str = "60";
/// Address space of a run in KiB; most of it is reserved by threads and never used.
const MEMORY: &str = "6000000";

const PICTURES: &str = "-f lavfi -i testsrc2=size=96x64:rate=25:duration=0.32";
const SOUND: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=0.32";
const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 4";

/// What the files are made from: names and the arguments of ffmpeg.
fn recipes() -> [(&'static str, String); 10] {
    let fragments = "-movflags +frag_keyframe+empty_moov+default_base_moof";
    let hevc = "-c:v libx265 -preset ultrafast -x265-params log-level=none -tag:v hvc1";
    let mjpeg = "-c:v mjpeg -pix_fmt yuvj420p";
    [
        ("h264.mp4", format!("{PICTURES} {SOUND} {H264} -c:a aac -metadata title=x -metadata location=+1.0+2.0/")),
        ("fragments.mp4", format!("{PICTURES} {SOUND} {H264} -c:a aac {fragments}")),
        ("hevc.mp4", format!("{PICTURES} {hevc} -movflags +faststart")),
        ("mjpeg.mov", format!("{PICTURES} {SOUND} {mjpeg} -c:a pcm_s16le -timecode 01:00:00:00")),
        ("h264.mkv", format!("{PICTURES} {SOUND} {H264} -c:a aac -metadata title=x")),
        ("vp9.webm", format!("{PICTURES} {SOUND} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus")),
        ("h264.ts", format!("{PICTURES} {SOUND} {H264} -c:a aac")),
        ("mpeg2.ts", format!("{PICTURES} {SOUND} -c:v mpeg2video -bf 2 -g 4 -c:a mp2")),
        ("mpeg4.avi", format!("{PICTURES} {SOUND} -c:v mpeg4 -g 4 -c:a libmp3lame")),
        ("mjpeg.avi", format!("{PICTURES} {SOUND} {mjpeg} -c:a pcm_s16le")),
    ]
}

/// Kinds of boxes and chunks, and identifiers of EBML elements, whose sizes are changed.
const BOXES: &[&[u8]] = &[
    b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl",
    b"stsd", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"moof", b"traf", b"trun", b"tfhd", b"tfdt", b"mdat",
    b"udta", b"meta", b"ilst", b"avc1", b"avcC", b"esds", b"hvcC", b"mp4a",
];
const CHUNKS: &[&[u8]] =
    &[b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"JUNK", b"idx1", b"00dc", b"01wb", b"odml", b"dmlh"];
const ELEMENTS: &[&[u8]] = &[
    &[0x1a, 0x45, 0xdf, 0xa3],
    &[0x18, 0x53, 0x80, 0x67],
    &[0x1f, 0x43, 0xb6, 0x75],
    &[0x16, 0x54, 0xae, 0x6b],
    &[0x15, 0x49, 0xa9, 0x66],
    &[0x1c, 0x53, 0xbb, 0x6b],
    &[0x12, 0x54, 0xc3, 0x67],
    &[0x11, 0x4d, 0x9b, 0x74],
    &[0xae],
    &[0xe0],
    &[0xe1],
    &[0xa3],
    &[0xa0],
    &[0xa1],
    &[0xe7],
    &[0x63, 0xa2],
];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.throw() % end.max(1) as u64) as usize
    }
}

/// Changes a file; what was done, in words.
fn mutate(name: &str, bytes: &mut Vec<u8>, dice: &mut Dice) -> String {
    match dice.below(5) {
        0 => {
            let flips = 1 + dice.below(8);
            for _ in 0..flips {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            format!("{flips} bits flipped")
        }
        1 => {
            let length = dice.below(bytes.len());
            bytes.truncate(length);
            format!("cut to {length} bytes")
        }
        2 => {
            let start = dice.below(bytes.len());
            let end = (start + 1 + dice.below(2000)).min(bytes.len());
            bytes.drain(start..end);
            format!("bytes {start} to {end} taken out")
        }
        3 => {
            // Headers come early, or late where the index is at the end.
            let reach = bytes.len().min(4096);
            let from = if dice.below(2) == 0 { 0 } else { bytes.len() - reach };
            let at = from + dice.below(reach.saturating_sub(8));
            let value = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)];
            let width = [1, 2, 4, 8][dice.below(4)];
            bytes.iter_mut().skip(at).take(width).for_each(|byte| *byte = value);
            format!("{width} bytes at {at} set to {value:#x}")
        }
        _ => resize(name, bytes, dice),
    }
}

/// Changes the size that a box, chunk, element or packet has by its header.
fn resize(name: &str, bytes: &mut [u8], dice: &mut Dice) -> String {
    let kinds = match name.rsplit('.').next() {
        Some("mp4" | "mov") => BOXES,
        Some("avi") => CHUNKS,
        Some("mkv" | "webm") => ELEMENTS,
        _ => {
            let packet = dice.below(bytes.len() / 188) * 188;
            let at = packet + 1 + dice.below(24);
            bytes[at] = dice.throw() as u8;
            return format!("byte {at} in the header of a packet changed");
        }
    };
    let mut places = Vec::new();
    for at in 0..bytes.len() {
        places.extend(kinds.iter().filter(|kind| bytes[at..].starts_with(kind)).map(|kind| (at, kind.len())));
    }
    let (at, length) = places[dice.below(places.len())];
    let change = [0u64, 1, 7, 8, 0x7fff_ffff, u64::from(u32::MAX), dice.throw() & 0xff, dice.throw()][dice.below(8)];
    let (place, width) = match kinds {
        BOXES => (at.saturating_sub(4), 4),
        CHUNKS => (at + 4, 4),
        _ => (at + length, 1 + dice.below(4)),
    };
    let little = kinds == CHUNKS;
    for (index, slot) in bytes.iter_mut().skip(place).take(width).enumerate() {
        let byte = if little { index } else { width - 1 - index };
        *slot = (change >> (8 * byte)) as u8;
    }
    format!("size at byte {place} set to {change:#x}")
}

/// Runs the binary on `input` within the limits of time and memory.
fn run(place: &Place, input: &str, output: &str) -> Output {
    let program = place.program();
    let mut limited = Command::new("sh");
    let line = format!("ulimit -v {MEMORY}; ulimit -t {SECONDS}; exec timeout -k 2 {LIMIT} \"$@\"");
    limited.args(["-c", &line, "sh"]).arg(program.get_program());
    limited.args(["run", input, "-o", output, "--method", "max-logit", "--json", "-"]);
    limited.current_dir(place.path("")).env("OODSTREAM_MODEL", place.path("model.onnx")).env_remove("RUST_LOG");
    limited.output().unwrap()
}

/// What is wrong with how a run ended, if anything is.
fn fault(ended: &Output, output: &Path) -> Option<String> {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    if stderr.contains("panicked") {
        return Some(format!("panic: {stderr}"));
    }
    let Some(code) = ended.status.code() else { return Some(format!("signal {:?}: {last}", ended.status.signal())) };
    match code {
        124 | 137 => return Some(format!("not at its end after {LIMIT} seconds: {last}")),
        0 | 3 => {}
        1 => return output.exists().then(|| format!("failed, and there is an output: {last}")),
        other => return Some(format!("exit code {other}: {last}")),
    }
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).ok()?;
    let claimed = report["inputs"][0]["frames_out"].as_u64().unwrap_or(0);
    let held = frames_in(output);
    (held != claimed).then(|| format!("{claimed} frames are claimed, the output holds {held}"))
}

/// Frames that the file holds; 0 if it cannot be read.
fn frames_in(output: &Path) -> u64 {
    let counted = Command::new("ffprobe")
        .args(["-v", "quiet", "-of", "csv=p=0", "-select_streams", "v:0", "-show_entries", "packet=size"])
        .arg(output)
        .output()
        .unwrap();
    String::from_utf8_lossy(&counted.stdout).lines().filter(|line| !line.is_empty()).count() as u64
}

#[test]
fn mutations_end_in_time_and_claim_nothing_false() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (count, seed) = (number("OODSTREAM_MUTATIONS", USUAL), number("OODSTREAM_SEED", 1));
    let place = Place::new();
    let originals: Vec<(&str, Vec<u8>)> =
        recipes().into_iter().map(|(name, recipe)| (name, fs::read(place.clip(name, &recipe)).unwrap())).collect();
    let mut endings: BTreeMap<String, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    for (name, _) in &originals {
        let ended = run(&place, name, "whole.mkv");
        assert!(ended.status.success(), "{name}: {}", String::from_utf8_lossy(&ended.stderr));
        fs::remove_file(place.path("whole.mkv")).unwrap();
    }
    for index in 0..count {
        // Each one by itself, so that it can be repeated alone: as many mutations with the same seed, and the rest skipped.
        let mut dice = Dice(seed.wrapping_mul(1 << 32).wrapping_add(index));
        let (name, original) = &originals[(index % originals.len() as u64) as usize];
        let mut bytes = original.clone();
        let done = mutate(name, &mut bytes, &mut dice);
        let (input, output) = (format!("in-{name}"), if name.ends_with("mkv") { "out.mkv" } else { "out.mp4" });
        fs::write(place.path(&input), &bytes).unwrap();
        let ended = run(&place, &input, output);
        *endings.entry(format!("{:?}", ended.status.code())).or_default() += 1;
        if let Some(fault) = fault(&ended, &place.path(output)) {
            println!("seed {seed}, mutation {index}, {name}, {done}: {fault}");
            if let Some(folder) = std::env::var_os("OODSTREAM_KEEP") {
                fs::copy(place.path(&input), Path::new(&folder).join(format!("{seed}-{index}-{name}"))).unwrap();
            }
            faults.push(index);
        }
        if index % 100 == 99 {
            println!("{} of {count} with seed {seed}", index + 1);
        }
        for rest in [output, ".out.mkv.part", ".out.mp4.part"] {
            let _ = fs::remove_file(place.path(rest));
        }
    }
    println!("{count} mutations with seed {seed}; exit codes: {endings:?}; faults: {faults:?}");
    assert_eq!(faults, Vec::<u64>::new());
}
