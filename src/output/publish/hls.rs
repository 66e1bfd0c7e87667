//! HLS: MPEG-TS segments and a playlist in a folder, to be served by any web server.
//!
//! Unlike `hlssink2`, it continues the numbers of an earlier run, so that players stay connected, replaces the playlist
//! atomically, and bounds the disk space over errors and restarts.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;
use tempfile::NamedTempFile;

use crate::atomic_file;
use crate::gst::element;
use crate::output::file::target::location_of;
use crate::output::publish::HlsOptions;
use crate::output::publish::chain::Chain;
use crate::output::publish::recording::parser_of;
use crate::output::publish::sink_queue::{AbortFlag, Packet, Sink};
use crate::{Error, Result};

/// The playlist's name.
pub(crate) const PLAYLIST: &str = "live.m3u8";
/// Segments kept after they left the playlist, for clients about to request them.
const GRACE: usize = 2;
const SECOND: u64 = 1_000_000_000;

/// A finished segment.
struct Listed {
    number: u64,
    /// Nanoseconds.
    length: u64,
    /// Its times do not continue those of the segment before.
    breaks: bool,
    /// RFC 3339, of its first picture.
    date: String,
}

/// The segment being written.
struct Open {
    chain: Chain,
    file: NamedTempFile,
    /// Running times of its first and last picture, in nanoseconds.
    start: u64,
    last: u64,
    breaks: bool,
    date: String,
}

pub(crate) struct Hls {
    folder: PathBuf,
    options: HlsOptions,
    abort: Arc<AbortFlag>,
    next: u64,
    open: Option<Open>,
    listed: VecDeque<Listed>,
    /// Discontinuities that left the playlist.
    breaks_gone: u64,
    /// The playlist's target duration: the longest segment so far, in whole seconds.
    longest: u64,
    ended: bool,
}

impl Hls {
    /// Creates the folder and removes the segments and the playlist of an earlier run.
    ///
    /// # Errors
    /// The folder cannot be created or written.
    pub fn open(folder: &Path, options: &HlsOptions, abort: &Arc<AbortFlag>) -> Result<Self> {
        if options.segment_s == 0 || options.segments < 2 {
            return Err(Error::usage("hls: segment_s is at least 1 and segments at least 2"));
        }
        let failed = |e: std::io::Error| {
            Error::failed(format!("hls: the folder {} cannot be written: {e}", folder.display()))
                .hint("give a folder with write permission")
        };
        fs::create_dir_all(folder).map_err(failed)?;
        drop(atomic_file::create(&folder.join(PLAYLIST)).map_err(failed)?);
        let mut next = 0;
        for entry in fs::read_dir(folder).map_err(failed)?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = number_of(unfinished(name).unwrap_or(name));
            if let Some(number) = number {
                next = next.max(number + 1);
            }
            if number.is_some() || name == PLAYLIST || unfinished(name) == Some(PLAYLIST) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            options: options.clone(),
            abort: Arc::clone(abort),
            next,
            open: None,
            listed: VecDeque::new(),
            breaks_gone: 0,
            longest: u64::from(options.segment_s),
            ended: false,
        })
    }

    fn begin(&mut self, first: &Packet, breaks: bool) -> Result<()> {
        // The folder may have been removed by the user; the stream continues.
        fs::create_dir_all(&self.folder).map_err(|e| self.failed(&e))?;
        let parser = element(parser_of(&first.caps))?;
        let muxer = element("mpegtsmux")?;
        let sink = element("filesink")?;
        let file = atomic_file::create(&self.folder.join(name_of(self.next))).map_err(|e| self.failed(&e))?;
        sink.set_property("location", location_of(file.as_file(), file.path()));
        sink.set_property("async", false);
        let chain = Chain::new(&first.caps, false, &[parser, muxer, sink])?;
        chain.play()?;
        let date = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        self.open = Some(Open { chain, file, start: first.time, last: first.time, breaks, date });
        Ok(())
    }

    /// Ends the segment at running time `until` and adds it to the playlist.
    fn end(&mut self, until: u64) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.chain.end(&self.abort)?;
        let number = self.next;
        open.file.persist(self.folder.join(name_of(number))).map_err(|e| self.failed(&e.error))?;
        self.next += 1;
        let length = until.saturating_sub(open.start).max(1);
        self.longest = self.longest.max((length + SECOND / 2) / SECOND);
        self.list(Listed { number, length, breaks: open.breaks, date: open.date })
    }

    /// Adds a segment to the playlist, and deletes those that left it long ago.
    fn list(&mut self, segment: Listed) -> Result<()> {
        self.listed.push_back(segment);
        while self.listed.len() > self.options.segments as usize {
            let gone = self.listed.pop_front();
            self.breaks_gone += u64::from(gone.is_some_and(|segment| segment.breaks));
        }
        // Before the playlist is written: if that fails (full disk), the segment would stay for ever.
        let first = self.listed.front().map_or(0, |segment| segment.number);
        if let Some(old) = first.checked_sub(GRACE as u64 + 1) {
            // Missing after an error.
            let _ = fs::remove_file(self.folder.join(name_of(old)));
        }
        self.write_playlist()
    }

    fn write_playlist(&self) -> Result<()> {
        let path = self.folder.join(PLAYLIST);
        let mut part = atomic_file::create(&path).map_err(|e| self.failed(&e))?;
        part.write_all(self.playlist().as_bytes()).map_err(|e| self.failed(&e))?;
        part.persist(path).map(drop).map_err(|e| self.failed(&e.error))
    }

    /// RFC 8216.
    fn playlist(&self) -> String {
        let first = self.listed.front().map_or(self.next, |segment| segment.number);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
            self.longest, self.breaks_gone
        );
        for segment in &self.listed {
            if segment.breaks {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let seconds = segment.length as f64 / SECOND as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", segment.date);
            let _ = writeln!(text, "#EXTINF:{seconds:.3},\n{}", name_of(segment.number));
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }

    fn failed(&self, e: &std::io::Error) -> Error {
        Error::failed(format!("the folder {} cannot be written: {e}", self.folder.display()))
    }
}

impl Sink for Hls {
    fn start(&mut self, first: &Packet) -> Result<()> {
        // A gap after the last segment is marked for players; the first start has none before it.
        let breaks = !self.listed.is_empty() || self.next > 0;
        self.begin(first, breaks)
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        if let Some(open) = &self.open
            && packet.key
        {
            let other = !open.chain.takes(&packet.caps);
            let long = packet.time.saturating_sub(open.start) >= u64::from(self.options.segment_s) * SECOND;
            if other || long {
                self.end(packet.time)?;
                self.begin(&packet, other)?;
            }
        }
        let Some(open) = &mut self.open else { return Err(Error::failed("no segment is open")) };
        open.last = packet.time;
        open.chain.push(packet.buffer, &self.abort)
    }

    fn check(&mut self) -> Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        open.chain.check(&mut |_| {})?;
        Ok(true)
    }

    fn finish(&mut self, _: &AbortFlag) -> Result<()> {
        self.ended = true;
        let last = self.open.as_ref().map_or(0, |open| open.last);
        self.end(last)
    }

    fn abandon(&mut self) {
        // Its file is deleted, and its number used again.
        self.open = None;
    }
}

fn name_of(number: u64) -> String {
    format!("live-{number:08}.ts")
}

/// The final name of a temporary file of an earlier run: `.NAME.part`, or `.NAME.RANDOM.part`.
fn unfinished(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?.strip_suffix(".part")?;
    let whole = |name: &str| name == PLAYLIST || number_of(name).is_some();
    if whole(name) { Some(name) } else { name.rsplit_once('.').map(|(name, _)| name).filter(|name| whole(name)) }
}

/// The number of a segment by its name.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("live-")?.strip_suffix(".ts")?;
    let number = digits.parse().ok()?;
    (name_of(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_files_of_ours_go_others_stay_and_the_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let keep = ["live-1.ts", "live-00000041x.ts", "other.ts", "index.html", "live-00000007.ts.bak"];
        let ours = [
            "live-00000041.ts",
            ".live-00000042.ts.part",
            ".live-00000043.ts.x8Yz.part",
            ".live.m3u8.Qq.part",
            "live-123456789.ts",
            PLAYLIST,
        ];
        for name in keep.iter().chain(&ours) {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let hls = Hls::open(folder.path(), &HlsOptions::default(), &Arc::default()).unwrap();
        assert_eq!(hls.next, 123_456_790);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut keep = keep.to_vec();
        keep.sort_unstable();
        assert_eq!(left, keep);
        assert!(Hls::open(&folder.path().join("index.html"), &HlsOptions::default(), &Arc::default()).is_err());
    }

    #[test]
    fn old_segments_go_though_the_playlist_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = HlsOptions { segment_s: 1, segments: 2 };
        let mut hls = Hls::open(folder.path(), &options, &Arc::default()).unwrap();
        let there = |number| folder.path().join(name_of(number)).exists();
        // In the way of the playlist.
        fs::create_dir(folder.path().join(PLAYLIST)).unwrap();
        for number in 0..20 {
            fs::write(folder.path().join(name_of(number)), b"x").unwrap();
            assert!(hls.list(Listed { number, length: SECOND, breaks: false, date: "D".into() }).is_err());
        }
        let left: Vec<u64> = (0..20).filter(|number| there(*number)).collect();
        assert_eq!(left, [16, 17, 18, 19]);
    }

    #[test]
    fn a_playlist() {
        let folder = tempfile::tempdir().unwrap();
        let mut hls = Hls::open(folder.path(), &HlsOptions::default(), &Arc::default()).unwrap();
        for (number, breaks) in [(3, false), (4, true)] {
            hls.listed.push_back(Listed { number, length: 2_040_000_000, breaks, date: "D".into() });
        }
        hls.breaks_gone = 1;
        let expected = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:3\n\
            #EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXT-X-PROGRAM-DATE-TIME:D\n#EXTINF:2.040,\nlive-00000003.ts\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:D\n#EXTINF:2.040,\nlive-00000004.ts\n";
        assert_eq!(hls.playlist(), expected);
        hls.ended = true;
        assert_eq!(hls.playlist(), format!("{expected}#EXT-X-ENDLIST\n"));
    }
}
