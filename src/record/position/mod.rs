//! Positions of events, where an MP4 or MOV file has them: a `gpmd` or `camm` track, the blocks of Novatek chips, or
//! NMEA lines as subtitles.

mod formats;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use self::formats::Place;
use crate::Result;
use crate::gst::mp4::boxes::child;
use crate::gst::mp4::samples::{Sample, of_first, read_index};
use crate::ood::alarm::event::{Event, EventType, Position, PositionSource};
use crate::record::{FrameResults, Recorder};

/// Most bytes of a sample that are read.
const LARGEST: u64 = 4 << 20;
/// A position at most this far away in time, in seconds, stands for a moment that has none.
const NEAR_S: f64 = 2.0;
/// Subtitles that are tried before a text track counts as one without positions.
const TRIED: usize = 10;

/// The positions of a file, read on first use.
#[derive(Debug)]
pub struct Positions {
    file: File,
    source: PositionSource,
    samples: Vec<Sample>,
}

impl Positions {
    /// Those of the file at `path`; none where it has none.
    pub fn of(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let moov = read_index(&mut file).ok()?;
        let track = of_first(&moov, |coding| matches!(coding, b"gpmd" | b"camm"));
        let blocks = child(&moov, b"gps ").map(formats::novatek_blocks).filter(|blocks| !blocks.is_empty());
        let (source, samples) = match (track, blocks) {
            (Some((coding, samples)), _) if &coding == b"gpmd" => (PositionSource::Gpmd, samples),
            (Some((_, samples)), _) => (PositionSource::Camm, samples),
            // A block a second.
            (None, Some(blocks)) => {
                let sample = |(second, place): (usize, std::ops::Range<u64>)| Sample {
                    offset: place.start,
                    size: place.end - place.start,
                    time_s: second as f64,
                    duration_s: 1.0,
                };
                (PositionSource::Novatek, blocks.into_iter().enumerate().map(sample).collect())
            }
            (None, None) => {
                let (_, samples) = of_first(&moov, |coding| matches!(coding, b"tx3g" | b"text"))?;
                let mut text = Self { file, source: PositionSource::Nmea, samples };
                let tried = TRIED.min(text.samples.len());
                return (0..tried).any(|n| !text.places(n).is_empty()).then_some(text);
            }
        };
        Some(Self { file, source, samples })
    }

    /// Where they are from, for people.
    pub fn note(&self) -> String {
        let source = match self.source {
            PositionSource::Gpmd => "its gpmd track (GoPro)",
            PositionSource::Camm => "its camm track",
            PositionSource::Novatek => "the GPS blocks of its camera's chip (Novatek)",
            PositionSource::Nmea => "NMEA lines in its subtitles",
        };
        format!("positions of events are from {source}")
    }

    /// The places of sample `number`.
    fn places(&mut self, number: usize) -> Vec<Place> {
        let Some(sample) = self.samples.get(number).filter(|sample| sample.size <= LARGEST) else { return Vec::new() };
        let mut data = Vec::new();
        let read = self.file.seek(SeekFrom::Start(sample.offset));
        if read.and_then(|_| (&self.file).take(sample.size).read_to_end(&mut data)).is_err() {
            return Vec::new();
        }
        match self.source {
            PositionSource::Gpmd => formats::gpmf(&data),
            PositionSource::Camm => formats::camm(&data).into_iter().collect(),
            PositionSource::Novatek => formats::novatek(&data).into_iter().collect(),
            PositionSource::Nmea => formats::nmea(&data).into_iter().collect(),
        }
    }

    /// The position at `seconds` of running time, or the one nearest to it within two seconds.
    pub fn at(&mut self, seconds: f64) -> Option<Position> {
        let after = self.samples.partition_point(|sample| sample.time_s <= seconds);
        // The sample of the moment, then those around it, nearest first; tracks have up to hundreds a second.
        let away = |number: usize| {
            let sample = &self.samples[number];
            let end = sample.time_s + sample.duration_s;
            if seconds < sample.time_s { sample.time_s - seconds } else { (seconds - end).max(0.0) }
        };
        let before = (0..after).rev().take_while(|number| away(*number) <= NEAR_S);
        let behind = (after..self.samples.len()).take_while(|number| away(*number) <= NEAR_S);
        let mut near: Vec<(usize, f64)> = before.chain(behind).map(|number| (number, away(number))).collect();
        near.sort_by(|a, b| a.1.total_cmp(&b.1));
        near.into_iter().find_map(|(number, _)| {
            let sample = self.samples[number];
            let places = self.places(number);
            let share = ((seconds - sample.time_s) / sample.duration_s.max(1e-9)).clamp(0.0, 1.0);
            let place = places.get(((share * places.len() as f64) as usize).min(places.len().saturating_sub(1)))?;
            let Place { latitude, longitude } = *place;
            Some(Position { latitude, longitude, source: self.source })
        })
    }
}

/// Writes the position of a file at the start of each event into it.
pub struct PositionRecorder {
    positions: Positions,
    found: HashMap<u64, Option<Position>>,
}

impl PositionRecorder {
    /// A recorder that reads from `positions`.
    pub fn new(positions: Positions) -> Self {
        Self { positions, found: HashMap::new() }
    }
}

impl Recorder for PositionRecorder {
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn amend(&mut self, events: &mut [Event]) -> Result<()> {
        for event in events {
            let found = self.found.entry(event.track_id).or_insert_with(|| self.positions.at(event.start_s));
            event.position = *found;
            if event.kind == EventType::End {
                self.found.remove(&event.track_id);
            }
        }
        Ok(())
    }
}
