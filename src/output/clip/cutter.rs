//! From packets in order to the files of the windows that they fall into.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::packets::{Content, Packet};
use super::windows::Window;
use super::write::{Writer, takes};
use crate::Result;
use crate::gst::mp4::matrix::Matrix;
use crate::output::Encoding;
use crate::output::file::target::{Container, Target};

/// How far the packets of a file may be out of order, in nanoseconds.
pub(super) const SKEW: i64 = 1_000_000_000;

/// A window and its file.
struct Part {
    window: Window,
    state: State,
}

enum State {
    Ahead,
    Open(Open),
    Done,
}

/// A file that is being written.
struct Open {
    writer: Box<Writer>,
    /// The time at which its sound begins.
    sound: i64,
    /// The latest time of a picture in it.
    latest: i64,
    /// It has all its pictures.
    pictured: bool,
}

impl Open {
    fn push(&mut self, packet: &Packet) -> Result<()> {
        if packet.content == Content::Video {
            self.latest = self.latest.max(packet.shown().unwrap_or(i64::MIN));
        }
        self.writer.push(packet)
    }
}

/// Writes windows out of packets.
pub(super) struct Cutter {
    overwrite: bool,
    /// The video that is cut, which no clip may replace.
    input: Option<PathBuf>,
    /// Which way up its pictures are shown; none for as they are.
    matrix: Option<Matrix>,
    /// What is kept for windows that are not known yet: nanoseconds, and bytes at most.
    keep: i64,
    room: usize,
    /// Added to the times of windows, in nanoseconds.
    offset: i64,
    parts: Vec<Part>,
    /// From a key frame on.
    recent: VecDeque<Packet>,
    bytes: usize,
    /// The first packet of each stream.
    streams: BTreeMap<usize, Packet>,
    /// Files that were begun, and the times of their first packets.
    begun: Vec<(PathBuf, i64)>,
}

impl Cutter {
    pub fn new(input: Option<&Path>, overwrite: bool, keep: i64, room: usize) -> Self {
        Self {
            overwrite,
            input: input.map(Path::to_path_buf),
            matrix: None,
            keep: keep.max(SKEW),
            room,
            offset: 0,
            parts: Vec::new(),
            recent: VecDeque::new(),
            bytes: 0,
            streams: BTreeMap::new(),
            begun: Vec::new(),
        }
    }

    /// Sets what is added to the times of windows, in nanoseconds.
    pub fn set_offset(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// Sets which way up the pictures are shown.
    pub fn set_matrix(&mut self, matrix: Option<Matrix>) {
        self.matrix = matrix;
    }

    /// Sets the first packet of each stream, by its number: what is not known when a file begins is not in it.
    pub fn set_streams(&mut self, streams: BTreeMap<usize, Packet>) {
        self.streams = streams;
    }

    /// Takes over what is known of the windows.
    pub fn update(&mut self, windows: &[Window]) {
        for window in windows {
            match self.parts.iter_mut().find(|part| part.window.path == window.path) {
                Some(part) => part.window.clone_from(window),
                None => self.parts.push(Part { window: window.clone(), state: State::Ahead }),
            }
        }
    }

    /// The files that were begun since the last call, and the times of their first packets, in nanoseconds.
    pub fn begun(&mut self) -> Vec<(PathBuf, i64)> {
        std::mem::take(&mut self.begun)
    }

    /// Whether all windows are written.
    pub fn is_done(&self) -> bool {
        self.parts.iter().all(|part| matches!(part.state, State::Done))
    }

    /// Forgets the windows that are written.
    pub fn forget(&mut self) {
        self.parts.retain(|part| !matches!(part.state, State::Done));
    }

    /// Gives up what is not finished.
    pub fn clear(&mut self) {
        self.parts.iter_mut().for_each(|part| part.state = State::Done);
        self.recent.clear();
        self.bytes = 0;
    }

    /// Adds a packet to every window that it belongs to.
    ///
    /// # Errors
    /// A file cannot be written; its window counts as written.
    pub fn take(&mut self, packet: Packet) -> Result<()> {
        self.streams.entry(packet.stream).or_insert_with(|| packet.clone());
        let Some(time) = packet.time() else { return Ok(()) };
        let is_video = packet.content == Content::Video;
        for index in 0..self.parts.len() {
            let (_, end) = self.times(index);
            let part = &mut self.parts[index];
            let State::Open(open) = &mut part.state else { continue };
            let past = part.window.is_over() && time > end;
            // Pictures come in the order of decoding: those between two that are there are not left out, and where that
            // order has no times, only a key frame is an end.
            let later = packet.dts.is_some() && packet.shown().is_some_and(|shown| shown > open.latest);
            open.pictured |= past && is_video && (later || packet.is_key());
            let wanted = match packet.content {
                Content::Video => !open.pictured,
                Content::Audio => !(past && open.pictured) && packet.shown().is_some_and(|shown| shown >= open.sound),
            };
            let written = if wanted {
                open.push(&packet)
            } else if open.pictured && is_video && time > end + SKEW {
                finish(&mut part.state)
            } else {
                Ok(())
            };
            if written.is_err() {
                part.state = State::Done;
            }
            written?;
        }
        self.keep(packet);
        for index in 0..self.parts.len() {
            if is_video && matches!(self.parts[index].state, State::Ahead) && time >= self.times(index).0 {
                self.begin(index)?;
            }
        }
        Ok(())
    }

    /// There are no more packets. The windows for which there was no key frame are returned.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(&mut self) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for index in 0..self.parts.len() {
            if matches!(self.parts[index].state, State::Ahead) {
                self.begin(index)?;
            }
            let part = &mut self.parts[index];
            match part.state {
                State::Ahead => missing.push(part.window.path.clone()),
                _ => finish(&mut part.state)?,
            }
        }
        Ok(missing)
    }

    /// The streams that `container` cannot hold.
    pub fn left_out(&self, container: Container) -> impl Iterator<Item = &Packet> {
        self.streams.values().filter(move |packet| !takes(container, packet))
    }

    /// Start and end of a window in the times of the packets, in nanoseconds.
    fn times(&self, index: usize) -> (i64, i64) {
        let window = &self.parts[index].window;
        let at = |seconds: f64| (seconds * 1e9) as i64 + self.offset;
        (at(window.start_s), at(window.end_s))
    }

    /// Keeps the packet for windows that begin later.
    fn keep(&mut self, packet: Packet) {
        if is_key(&packet) {
            let old = packet.time().unwrap_or(0) - self.keep;
            let is_unneeded = |packet: &Packet| is_key(packet) && packet.time().is_some_and(|time| time <= old);
            if let Some(first) = self.recent.iter().rposition(is_unneeded) {
                self.bytes -= self.recent.drain(..first).map(|packet| packet.buffer.size()).sum::<usize>();
            }
        }
        self.bytes += packet.buffer.size();
        self.recent.push_back(packet);
        while self.bytes > self.room {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.bytes -= oldest.buffer.size();
        }
    }

    /// Opens the file of a window and writes what it has missed.
    fn begin(&mut self, index: usize) -> Result<()> {
        let (start, _) = self.times(index);
        let keys = || self.recent.iter().filter(|packet| is_key(packet));
        let before = keys().rfind(|packet| packet.shown().is_some_and(|shown| shown <= start));
        // Where no earlier key frame is kept, the first one will do.
        let Some(first) = before.or_else(|| keys().next()) else { return Ok(()) };
        let part = &mut self.parts[index];
        // Should it fail, it is not tried again.
        part.state = State::Done;
        let (sound, zero) = (first.shown().unwrap_or(0), first.time().unwrap_or(0));
        let encoding = Encoding { overwrite: self.overwrite, ..Encoding::default() };
        let target = Target::check(&part.window.path, self.input.as_deref(), &encoding)?;
        let container = target.container;
        let streams: Vec<&Packet> = self.streams.values().filter(|packet| takes(container, packet)).collect();
        let writer = Box::new(Writer::open(target, &streams, zero, self.matrix)?);
        let mut open = Open { writer, sound, latest: i64::MIN, pictured: false };
        let mut begun = false;
        for packet in &self.recent {
            let is_video = packet.content == Content::Video;
            begun |= is_key(packet) && packet.shown() == Some(sound);
            if if is_video { begun } else { packet.shown().is_some_and(|shown| shown >= sound) } {
                open.push(packet)?;
            }
        }
        part.state = State::Open(open);
        self.begun.push((part.window.path.clone(), zero));
        Ok(())
    }
}

fn is_key(packet: &Packet) -> bool {
    packet.content == Content::Video && packet.is_key()
}

fn finish(state: &mut State) -> Result<()> {
    match std::mem::replace(state, State::Done) {
        State::Open(open) => open.writer.finish(),
        _ => Ok(()),
    }
}
