//! Events: the records of a track while it lasts and when it ends.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::region::Rect;
use crate::ood::region::BoundingBox;

/// Version of the event lines. A reader of version n reads n + 1 by ignoring what it does not know.
pub const SCHEMA: u32 = 1;

/// The moment of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Running time since the start of the stream.
    pub running: Duration,
    /// Wall clock, where the stream is live.
    pub wall: Option<SystemTime>,
}

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventType {
    /// It has begun.
    Start,
    /// It goes on; the values are those so far.
    Update,
    /// It is over; the values are final.
    End,
}

/// The source of an event's wall times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSource {
    /// None: only running times are known.
    Running,
    /// The clock of this machine when the frame arrived.
    Arrival,
    /// The name of the file, and running times from there.
    FileName,
    /// The date in the container of the file, and running times from there.
    Container,
}

/// Where a position is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionSource {
    /// A `gpmd` track, as GoPro writes it.
    Gpmd,
    /// A `camm` track: Camera Motion Metadata.
    Camm,
    /// The blocks of Novatek chips.
    Novatek,
    /// NMEA lines as subtitles.
    Nmea,
}

/// A place on the earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Position {
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Where it is from.
    pub source: PositionSource,
}

/// The pixels of a `width` x `height` frame that `rect` covers.
pub fn pixels(rect: &Rect, width: u32, height: u32) -> BoundingBox {
    let at = |share: f32, size: u32| ((share.clamp(0.0, 1.0) * size as f32).round() as u32).min(size);
    let x = at(rect.left, width).min(width.saturating_sub(1));
    let y = at(rect.top, height).min(height.saturating_sub(1));
    BoundingBox {
        x,
        y,
        width: at(rect.right, width).saturating_sub(x).max(1),
        height: at(rect.bottom, height).saturating_sub(y).max(1),
    }
}

/// A line of the events file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The same for the same event of the same input with the same settings.
    pub id: String,
    /// The kind of the line.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Name of the stream.
    pub stream: String,
    /// Number of the track, from 1, unique within the stream.
    pub track_id: u64,
    /// False for what `events.known` names: it is drawn and logged, and raises no alarm.
    pub alarm: bool,
    /// `unknown`, or `unusual CLASS`.
    pub label: String,
    /// Running time of its first frame, in seconds.
    pub start_s: f64,
    /// Running time at which it was raised, in seconds.
    pub raised_s: f64,
    /// Running time of its last frame so far, in seconds.
    pub end_s: f64,
    /// Wall time of its first frame, RFC 3339 in UTC.
    pub start_wall: Option<String>,
    /// Wall time of its last frame so far, RFC 3339 in UTC.
    pub end_wall: Option<String>,
    /// Where the wall times come from.
    pub time_source: TimeSource,
    /// Position of the camera at its first frame, where the file has it.
    pub position: Option<Position>,
    /// Its box at its highest level, in pixels of the frame.
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// Its largest share of the picture, 0..1.
    pub area_share: f32,
    /// Its highest score.
    pub peak_score: f32,
    /// Its severity, 0..1; see [`severity`].
    pub severity: f32,
    /// Mean over its frames of the mean confidence, the raw maximum logit; none where the network has no classes.
    pub mean_confidence: Option<f32>,
    /// The known class that it was nearest to in most frames.
    pub nearest_class: Option<String>,
    /// Whether the names of classes, here and in `label`, are a guess by their number.
    pub classes_guessed: bool,
    /// A picture of it, where one was written.
    pub snapshot: Option<String>,
    /// A video of it, where one was written.
    pub clip: Option<String>,
    /// The same as `snapshot`, under its older name.
    pub thumbnail: Option<String>,
}

/// A stable identity: the first 16 digits of the SHA-256 of the stream, the track and its start.
pub fn event_id(stream: &str, track_id: u64, start: &Moment) -> String {
    let mut hash = Sha256::new();
    hash.update(stream.as_bytes());
    hash.update(track_id.to_le_bytes());
    hash.update(start.running.as_nanos().to_le_bytes());
    if let Some(since) = start.wall.and_then(|wall| wall.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        hash.update(since.as_nanos().to_le_bytes());
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The inputs of a severity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gravity {
    /// Highest level of the region (0 is the threshold).
    pub level: f32,
    /// Largest share of the picture, 0..1.
    pub area_share: f32,
    /// Highest nearness to the car's path, 0..1; see [`nearness`].
    pub nearness: f32,
    /// Seconds for which it was seen.
    pub seconds: f64,
}

/// The severity of an event, 0..1: a weighted mean of its level (0.3; full at 1), its size (0.25; the square root of
/// the area, full at 5 % of the picture), its nearness to the car's path (0.3) and its duration (0.15; full at 3 s).
pub fn severity(gravity: &Gravity) -> f32 {
    let size = (gravity.area_share.max(0.0) / 0.05).sqrt().min(1.0);
    let duration = (gravity.seconds / 3.0).clamp(0.0, 1.0) as f32;
    0.3 * gravity.level.clamp(0.0, 1.0) + 0.25 * size + 0.3 * gravity.nearness.clamp(0.0, 1.0) + 0.15 * duration
}

/// Nearness of the foot of a box to the car's path, 0..1: 1 within the middle sixth of the picture at its lower edge,
/// falling to the sides and with the distance ahead, which the foot's height in the picture stands for.
pub fn nearness(rect: &Rect) -> f32 {
    let ahead = ((rect.bottom - 0.4) / 0.6).clamp(0.0, 1.0);
    // The path narrows towards the horizon.
    let half = 1.0 / 12.0 + 0.1 * ahead;
    let aside = (rect.left - 0.5).max(0.5 - rect.right).max(0.0);
    let beside = 1.0 - ((aside - half).max(0.0) / 0.35).min(1.0);
    beside * (0.3 + 0.7 * ahead)
}

/// A wall time as RFC 3339 in UTC with milliseconds; times before 1970 are given as its start.
pub fn rfc3339(time: SystemTime) -> String {
    let time = time.max(SystemTime::UNIX_EPOCH);
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
