//! `oodstream export`: the regions of runs in the formats of annotation tools.
//!
//! The source are `regions:` files, line by line, so that the size of an archive does not matter.

mod coco;
mod csv;
mod cvat;
mod fiftyone;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use crate::{Error, Result, atomic_file};

/// A format of [`export`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// COCO instances: images, annotations with run lengths, tracks as `track_id`.
    Coco,
    /// CVAT for video 1.1: the boxes of the tracks of one video.
    Cvat,
    /// A row for each region of each frame.
    Csv,
    /// FiftyOne's video labels: a folder with a manifest, and the objects of each video.
    FiftyOne,
}

/// A line of a `regions:` file, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line {
    schema: u32,
    stream: String,
    frame: u64,
    time_s: f64,
    width: u64,
    height: u64,
    regions: Vec<Region>,
}

#[derive(Debug, Deserialize)]
struct Region {
    track_id: Option<u64>,
    standing: Option<String>,
    #[serde(rename = "box")]
    bounding_box: Rect,
    area: u64,
    peak_score: Option<f32>,
    mean_confidence: Option<f32>,
    segmentation: Segmentation,
}

/// Of 32 bits, so that its right and lower edges fit into 64.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Rect {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Rect {
    /// Left, top, right and lower edge.
    fn edges(self) -> [u64; 4] {
        let [x, y, width, height] = [self.x, self.y, self.width, self.height].map(u64::from);
        [x, y, x + width, y + height]
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Segmentation {
    size: [u64; 2],
    counts: String,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// `regions:` files that were read.
    pub files: usize,
    /// Frames with something marked.
    pub frames: u64,
    /// Regions.
    pub regions: u64,
}

/// Writes the regions of `inputs`, files or folders of `*.regions.jsonl`, to `output`; their videos are below `videos`.
///
/// # Errors
/// There are none, a line is damaged, the output exists and may not be replaced, or cannot be written; for
/// [`Format::Cvat`] also more than one video, for [`Format::FiftyOne`] a video that does not exist.
pub fn export(inputs: &[PathBuf], format: Format, output: &Path, videos: &Path, overwrite: bool) -> Result<Exported> {
    let files = files(inputs)?;
    if format == Format::FiftyOne {
        return fiftyone::write(&files, output, videos, overwrite);
    }
    if output.exists() && !overwrite {
        return Err(Error::usage(format!("{}: it exists already", output.display())).hint("--overwrite replaces it"));
    }
    let failed = |error: std::io::Error| Error::io(format!("{}: cannot be written", output.display()), error);
    let mut file = atomic_file::create(output).map_err(failed)?;
    let mut out = BufWriter::new(file.as_file_mut());
    let exported = match format {
        Format::Coco => coco::write(&files, &mut out),
        Format::Cvat => cvat::write(&files, &mut out),
        Format::Csv | Format::FiftyOne => csv::write(&files, &mut out),
    }?;
    out.flush().map_err(failed)?;
    drop(out);
    file.persist(output).map_err(|error| failed(error.error))?;
    Ok(exported)
}

fn files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            files.push(input.clone());
            continue;
        }
        let before = files.len();
        for entry in WalkDir::new(input).sort_by_file_name() {
            let entry = entry.map_err(|error| Error::failed(input.display().to_string()).caused_by(error))?;
            let name = entry.file_name().to_string_lossy();
            if name.ends_with(".regions.jsonl") && !name.starts_with('.') {
                files.push(entry.into_path());
            }
        }
        if files.len() == before {
            return Err(Error::failed(format!("{}: there are no `*.regions.jsonl` in this folder", input.display()))
                .hint("`oodstream run -r ... -o regions:FOLDER/` writes them"));
        }
    }
    Ok(files)
}

/// Calls `work` with every line of `files`.
fn each(files: &[PathBuf], mut work: impl FnMut(Line) -> Result<()>) -> Result<()> {
    for path in files {
        let file = File::open(path).map_err(|error| Error::io(path.display().to_string(), error))?;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let place = || format!("{}, line {}", path.display(), number + 1);
            let line = line.map_err(|error| Error::io(place(), error))?;
            let line: Line = serde_json::from_str(&line).map_err(|error| {
                Error::failed(format!("{}: not a line of a regions file", place())).caused_by(error)
            })?;
            if line.schema == 0 {
                return Err(Error::failed(format!("{}: schema 0 is not known", place())));
            }
            work(line)?;
        }
    }
    Ok(())
}

fn put(out: &mut impl Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(|error| Error::io("the export cannot be written", error))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::failed("the export cannot be written").caused_by(error))
}
