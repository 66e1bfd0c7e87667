//! Sound stays with the pictures to the sample, copied or encoded anew.

use std::path::Path;

use super::{notes, pass};
use support::common::{Place, ffprobe, through_ffmpeg};

const VIDEO: &str = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=3";

/// A tone of 50 ms after a second of silence.
fn click(rate: u32) -> String {
    format!("-f lavfi -i aevalsrc=if(between(t\\,1\\,1.05)\\,0.9*sin(2*PI*1000*t)\\,0):s={rate}:d=3")
}

/// When the tone sets in, and how long all sound is, in seconds.
fn heard(path: &Path) -> (f64, f64) {
    let first: f64 = ffprobe(path, "-select_streams a:0 -show_entries frame=pts_time")[0].parse().unwrap();
    let bytes = through_ffmpeg(path, "-map 0:a:0 -af aresample=48000 -ac 1 -f s16le -");
    let samples: Vec<i32> =
        bytes.chunks_exact(2).map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]])).abs()).collect();
    let loudest = samples.iter().max().copied().unwrap_or(0);
    assert!(loudest > 5000, "{}: silence", path.display());
    let onset = samples.iter().position(|sample| *sample * 3 > loudest).unwrap();
    (first + onset as f64 / 48_000.0, samples.len() as f64 / 48_000.0)
}

#[test]
fn the_tone_sets_in_where_it_did() {
    let h264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2";
    let mjpeg = "-c:v mjpeg -pix_fmt yuvj420p";
    // Input, how it is made, samples a second, output, whether sound is encoded anew.
    let cases = [
        ("aac.mp4", format!("{h264} -c:a aac"), 48_000, "aac.mkv", false),
        ("aac.mp4", format!("{h264} -c:a aac"), 48_000, "aac-out.mp4", false),
        ("alaw.mkv", format!("{mjpeg} -c:a pcm_alaw"), 8000, "alaw.mp4", true),
        ("alaw.mkv", format!("{mjpeg} -c:a pcm_alaw"), 8000, "alaw-out.mkv", false),
        ("pcm.avi", format!("{mjpeg} -c:a pcm_s16le"), 44_100, "pcm.mp4", true),
        ("adpcm.avi", format!("{mjpeg} -c:a adpcm_ima_wav"), 8000, "adpcm.mp4", true),
        ("ms.avi", format!("{mjpeg} -c:a adpcm_ms"), 16_000, "ms.mkv", true),
        ("wma.wmv", "-c:v wmv2 -c:a wmav2".to_owned(), 44_100, "wma.mp4", true),
        ("latm.ts", format!("{h264} -c:a aac -mpegts_flags latm"), 48_000, "latm.mp4", true),
        ("eac3.mkv", format!("{h264} -c:a eac3"), 48_000, "eac3.mp4", true),
        ("eac3.mkv", format!("{h264} -c:a eac3"), 48_000, "eac3-out.mkv", false),
        ("opus.mkv", format!("{h264} -c:a libopus"), 48_000, "opus.mp4", false),
        ("opus.mkv", format!("{h264} -c:a libopus"), 48_000, "opus-out.mkv", false),
        ("opus.mp4", format!("{h264} -c:a libopus"), 48_000, "opus-out.mp4", false),
        ("vorbis.mkv", format!("{h264} -c:a libvorbis"), 48_000, "vorbis.mp4", true),
    ];
    for (input, encode, rate, output, anew) in cases {
        println!("{input} -> {output}");
        let place = Place::new();
        place.clip(input, &format!("{VIDEO} {} {encode}", click(rate)));
        let ended = pass(&place, input, output).code(0);
        assert_eq!(notes(&ended).contains("encoded as AAC"), anew, "{}", notes(&ended));
        let first = |path: &Path| -> f64 {
            let times = super::frame_times(path);
            times.first().copied().unwrap_or_default()
        };
        let ((wanted, length), (got, now)) = (heard(&place.path(input)), heard(&place.path(output)));
        let (wanted, got) = (wanted - first(&place.path(input)), got - first(&place.path(output)));
        assert!((wanted - got).abs() < 0.003, "{input} -> {output}: {wanted} -> {got}");
        assert!((length - now).abs() < 0.14, "{input} -> {output}: {length} s -> {now} s");
    }
}

#[test]
fn sound_before_the_first_key_frame_is_kept() {
    let place = Place::new();
    let source = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=4 -f lavfi -i sine=frequency=440:duration=4";
    let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 25 -sc_threshold 0 -c:a aac";
    let whole = place.clip("whole.ts", &format!("{source} {encode}"));
    // Cut inside the first group of pictures: the tables follow some packets later.
    let bytes = std::fs::read(whole).unwrap();
    let table = |index: usize| bytes[index * 188 + 1] & 0x1f == 0 && bytes[index * 188 + 2] == 0;
    let start = (100..200).find(|index| (0..20).all(|ahead| !table(index + ahead))).unwrap();
    std::fs::write(place.path("cut.ts"), &bytes[start * 188..]).unwrap();
    let ended = pass(&place, "cut.ts", "out.mp4").code(0);
    assert!(!notes(&ended).contains("left out"), "{}", notes(&ended));
    let packets = |name: &str| -> Vec<f64> {
        let times = ffprobe(&place.path(name), "-select_streams a:0 -show_entries packet=pts_time");
        times.iter().map(|time| time.parse().unwrap()).collect()
    };
    let (wanted, got) = (packets("cut.ts"), packets("out.mp4"));
    assert_eq!(got.len(), wanted.len(), "sound packets");
    let frame = |name: &str| super::frame_times(&place.path(name))[0];
    let lead = |packets: &[f64], name: &str| frame(name) - packets[0];
    let (wanted, got) = (lead(&wanted, "cut.ts"), lead(&got, "out.mp4"));
    assert!((wanted - got).abs() < 0.002, "sound leads by {wanted} s, then by {got} s");
}
