//! Small clips of every awkward kind, made with ffmpeg; and what ffprobe says of them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// Where the clips are kept between runs: one folder for each version of the recipes.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut recipes = DefaultHasher::new();
        include_str!("clips.rs").hash(&mut recipes);
        let folder = crate::scratch().join(format!("clips-{:016x}", recipes.finish()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// False, with the reason printed, when ffmpeg or ffprobe is not installed.
pub fn ffmpeg_is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let runs = |tool: &str| Command::new(tool).arg("-version").output().is_ok_and(|o| o.status.success());
        let there = runs("ffmpeg") && runs("ffprobe");
        if !there {
            eprintln!("skipped: ffmpeg and ffprobe are not installed, the clips cannot be made");
        }
        there
    })
}

const TONE: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000 -map 0:v -map 1:a -shortest -c:a aac -b:a 64k";
const SUBTITLE: &str =
    "1\n00:00:00,200 --> 00:00:01,000\nfirst line\n\n2\n00:00:01,200 --> 00:00:01,800\nsecond line\n";

/// The ffmpeg arguments of each clip, after the picture input.
fn recipe(name: &str) -> (&'static str, String) {
    let plain = "testsrc=size=160x120:rate=30:duration=2";
    let x264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    match name {
        "plain.mp4" => (plain, format!("{TONE} -c:v libx264 -preset medium -bf 2 -pix_fmt yuv420p \
            -metadata title=Drive -metadata location=+37.7749-122.4194/ -metadata creation_time=2021-03-04T05:06:07Z")),
        "silent.mp4" | "silent.mov" => (plain, x264.to_string()),
        "plain.mkv" => (plain, format!("{TONE} {x264}")),
        // Three frames of 30 a second, then one after a fifth of a second, and so on.
        "vfr.mp4" => (plain, format!("{x264} -vf select=not(mod(n\\,5))+not(mod(n\\,3)) -vsync vfr -video_track_timescale 90000")),
        "vfr.mkv" => (plain, format!("{x264} -vf select=not(mod(n\\,5))+not(mod(n\\,3)) -vsync vfr")),
        "upright.mp4" => (plain, format!("{TONE} {x264}")),
        "ten-bit.mp4" => (plain, "-c:v libx264 -preset ultrafast -pix_fmt yuv422p10le".to_string()),
        "hevc.mp4" => (plain, "-c:v libx265 -preset ultrafast -x265-params log-level=none -tag:v hvc1".to_string()),
        "odd.mkv" => ("testsrc=size=161x121:rate=25:duration=1", "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime".to_string()),
        "vp8.webm" => (plain, "-f lavfi -i sine=frequency=440 -map 0:v -map 1:a -shortest -c:a libopus -c:v libvpx -cpu-used 8 -deadline realtime".to_string()),
        "vp9.webm" => (plain, "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime".to_string()),
        "mjpeg.avi" => (plain, "-f lavfi -i sine=frequency=440 -map 0:v -map 1:a -shortest -c:a pcm_s16le -c:v mjpeg -pix_fmt yuvj422p".to_string()),
        "mpeg4.avi" => (plain, "-c:v mpeg4".to_string()),
        "stream.ts" => (plain, format!("{TONE} -c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p")),
        "interlaced.mp4" => ("testsrc=size=160x120:rate=50:duration=2", "-vf tinterlace=interleave_top,fieldorder=tff -c:v libx264 -preset ultrafast -pix_fmt yuv420p -flags +ildct+ilme -top 1".to_string()),
        "anamorphic.mp4" => (plain, format!("{x264} -vf setsar=4/3 -colorspace bt709 -color_primaries bt709 -color_trc bt709")),
        "many.mkv" | "many.mp4" => (plain, format!("-f lavfi -i sine=frequency=440 -f lavfi -i sine=frequency=660 -i {} \
            -map 0:v -map 1:a -map 2:a -map 3:s -t 2 {x264} -c:a:0 aac -c:a:1 {} -c:s {} \
            -metadata:s:a:0 language=eng -metadata:s:a:1 language=spa",
            subtitle().display(),
            if name.ends_with("mkv") { "libopus" } else { "libmp3lame" },
            if name.ends_with("mkv") { "srt" } else { "mov_text" })),
        "late-video.mp4" => (plain, format!("{TONE} {x264} -vf setpts=PTS+0.4/TB")),
        "late-both.mp4" => (plain, format!("{TONE} {x264} -output_ts_offset 0.3")),
        "late-audio.mp4" => (plain, format!("-itsoffset 0.5 {TONE} {x264}")),
        "front.mp4" => (plain, format!("{TONE} {x264} -movflags +faststart")),
        "theora.ogv" => (plain, "-c:v libtheora".to_string()),
        "sound.m4a" => (plain, "-f lavfi -i sine=frequency=440 -map 1:a -t 1 -c:a aac".to_string()),
        other => panic!("no recipe for {other}"),
    }
}

fn subtitle() -> PathBuf {
    let path = folder().join("lines.srt");
    std::fs::write(&path, SUBTITLE).unwrap();
    path
}

/// The path of a clip, made on first use.
pub fn clip(name: &str) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(|p| p.into_inner());
    let path = folder().join(name);
    if path.exists() {
        return path;
    }
    let (source, arguments) = recipe(name);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-y", "-threads", "1", "-f", "lavfi", "-i", source]);
    // Under another name first: a run that is stopped leaves no half clip.
    let unfinished = folder().join(format!("unfinished-{name}"));
    ffmpeg.args(arguments.split_whitespace()).arg(&unfinished);
    let output = ffmpeg.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(unfinished, &path).unwrap();
    path
}

/// `clip(name)` with rotation metadata of `degrees`.
pub fn rotated(name: &str, degrees: i32) -> PathBuf {
    let path = folder().join(format!("rotated{degrees}-{name}"));
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-i"])
        .arg(clip(name))
        .args(["-c", "copy", "-metadata:s:v:0", &format!("rotate={degrees}")])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// A file with the bytes that `change` makes of a clip.
pub fn changed(name: &str, new_name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = std::fs::read(clip(name)).unwrap();
    change(&mut bytes);
    let path = folder().join(new_name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// One line of ffprobe's CSV per entry, `stream` as `v:0`.
pub fn ffprobe(path: &Path, stream: &str, entries: &str) -> Vec<String> {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-of", "csv=p=0", "-show_entries", entries]);
    if !stream.is_empty() {
        probe.args(["-select_streams", stream]);
    }
    let output = probe.arg(path).output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|l| l.trim_end_matches(',').to_string()).filter(|l| !l.is_empty()).collect()
}

/// The times of the frames in presentation order, in seconds.
pub fn times(path: &Path, stream: &str) -> Vec<f64> {
    let mut times: Vec<f64> = ffprobe(path, stream, "packet=pts_time")
        .iter()
        .filter_map(|line| line.split(',').next()?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// How many pictures of an unfinished file can be read; 0 when it cannot be opened.
pub fn frames_to_play(path: &Path) -> usize {
    let args = ["-v", "quiet", "-of", "csv=p=0", "-select_streams", "v:0", "-show_entries", "packet=pts_time"];
    let output = Command::new("ffprobe").args(args).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).count()
}

/// The compressed bytes of a stream, as a hash over all its packets, in order.
pub fn stream_hash(path: &Path, stream: &str) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", &format!("0:{stream}"), "-c", "copy", "-f", "streamhash", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}
