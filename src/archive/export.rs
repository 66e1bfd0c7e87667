//! `oodstream export`: the regions of runs in the formats of annotation tools.
//!
//! The source are `regions:` files, line by line, so that the size of an archive does not matter.

use std::collections::BTreeMap;
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

#[derive(Serialize)]
struct CocoImage<'a> {
    id: u64,
    file_name: String,
    width: u64,
    height: u64,
    video: &'a str,
    frame: u64,
    time_s: f64,
}

#[derive(Serialize)]
struct CocoAnnotation<'a> {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [u32; 4],
    area: u64,
    segmentation: &'a Segmentation,
    iscrowd: u8,
    track_id: Option<u64>,
    standing: Option<&'a str>,
    score: Option<f32>,
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

/// Writes the regions of `inputs`, files or folders of `*.regions.jsonl`, to `output`.
///
/// # Errors
/// There are none, a line is damaged, the output exists and may not be replaced, or cannot be written; for
/// [`Format::Cvat`] also more than one video.
pub fn export(inputs: &[PathBuf], format: Format, output: &Path, overwrite: bool) -> Result<Exported> {
    let files = files(inputs)?;
    if output.exists() && !overwrite {
        return Err(Error::usage(format!("{}: it exists already", output.display())).hint("--overwrite replaces it"));
    }
    let failed = |error: std::io::Error| Error::io(format!("{}: cannot be written", output.display()), error);
    let mut file = atomic_file::create(output).map_err(failed)?;
    let mut out = BufWriter::new(file.as_file_mut());
    let exported = match format {
        Format::Coco => coco(&files, &mut out),
        Format::Cvat => cvat(&files, &mut out),
        Format::Csv => csv(&files, &mut out),
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

fn write(out: &mut impl Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(|error| Error::io("the export cannot be written", error))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::failed("the export cannot be written").caused_by(error))
}

/// The name of a frame's mask, as `masks:` writes it.
fn frame_name(stream: &str, frame: u64) -> String {
    let path = Path::new(stream);
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let folder = path.parent().map(|folder| folder.to_string_lossy().into_owned()).filter(|folder| !folder.is_empty());
    folder.map_or_else(String::new, |folder| format!("{folder}/")) + &format!("{stem}_{frame:06}.png")
}

/// `track_id` counts from 1 within a video; COCO has one namespace.
#[derive(Default)]
struct Tracks(BTreeMap<(String, u64), u64>);

impl Tracks {
    fn of(&mut self, stream: &str, track: u64) -> u64 {
        let next = self.0.len() as u64 + 1;
        *self.0.entry((stream.to_owned(), track)).or_insert(next)
    }
}

fn coco(files: &[PathBuf], out: &mut impl Write) -> Result<Exported> {
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    write(out, "{\"info\":{\"description\":\"regions that a segmentation network does not know\"},\n")?;
    write(out, "\"categories\":[{\"id\":1,\"name\":\"unknown\",\"supercategory\":\"anomaly\"}],\n\"images\":[")?;
    each(files, |line| {
        exported.frames += 1;
        let image = CocoImage {
            id: exported.frames,
            file_name: frame_name(&line.stream, line.frame),
            width: line.width,
            height: line.height,
            video: &line.stream,
            frame: line.frame,
            time_s: line.time_s,
        };
        write(out, &format!("{}\n{}", if exported.frames > 1 { "," } else { "" }, json(&image)?))
    })?;
    write(out, "],\n\"annotations\":[")?;
    let (mut image_id, mut tracks) = (0, Tracks::default());
    each(files, |line| {
        image_id += 1;
        for region in &line.regions {
            exported.regions += 1;
            let Rect { x, y, width, height } = region.bounding_box;
            let annotation = CocoAnnotation {
                id: exported.regions,
                image_id,
                category_id: 1,
                bbox: [x, y, width, height],
                area: region.area,
                segmentation: &region.segmentation,
                iscrowd: 0,
                track_id: region.track_id.map(|track| tracks.of(&line.stream, track)),
                standing: region.standing.as_deref(),
                score: region.peak_score,
            };
            write(out, &format!("{}\n{}", if exported.regions > 1 { "," } else { "" }, json(&annotation)?))?;
        }
        Ok(())
    })?;
    write(out, "]}\n")?;
    Ok(exported)
}

fn csv(files: &[PathBuf], out: &mut impl Write) -> Result<Exported> {
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    write(out, "stream,frame,time_s,track_id,standing,x,y,width,height,area,peak_score,mean_confidence\n")?;
    each(files, |line| {
        exported.frames += 1;
        for region in &line.regions {
            exported.regions += 1;
            let optional = |value: Option<String>| value.unwrap_or_default();
            let Rect { x, y, width, height } = region.bounding_box;
            let row = [
                crate::record::table::field(&line.stream),
                line.frame.to_string(),
                line.time_s.to_string(),
                optional(region.track_id.map(|track| track.to_string())),
                optional(region.standing.clone()),
                x.to_string(),
                y.to_string(),
                width.to_string(),
                height.to_string(),
                region.area.to_string(),
                optional(region.peak_score.map(|score| score.to_string())),
                optional(region.mean_confidence.map(|confidence| confidence.to_string())),
            ];
            write(out, &(row.join(",") + "\n"))?;
        }
        Ok(())
    })?;
    Ok(exported)
}

fn cvat(files: &[PathBuf], out: &mut impl Write) -> Result<Exported> {
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    let mut video: Option<String> = None;
    // Of each track its boxes by frame; a video has few tracks.
    let mut tracks: BTreeMap<u64, BTreeMap<u64, [u64; 4]>> = BTreeMap::new();
    each(files, |line| {
        if video.get_or_insert_with(|| line.stream.clone()) != &line.stream {
            return Err(Error::usage("--format cvat: a CVAT task is one video, and there are several")
                .hint("export one regions file at a time"));
        }
        exported.frames += 1;
        for region in &line.regions {
            let Some(track) = region.track_id.filter(|_| region.standing.as_deref() != Some("candidate")) else {
                continue;
            };
            exported.regions += 1;
            let [left, top, right, bottom] = region.bounding_box.edges();
            tracks
                .entry(track)
                .or_default()
                .entry(line.frame)
                .and_modify(|[l, t, r, b]| {
                    (*l, *t, *r, *b) = ((*l).min(left), (*t).min(top), (*r).max(right), (*b).max(bottom));
                })
                .or_insert([left, top, right, bottom]);
        }
        Ok(())
    })?;
    write(out, "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n")?;
    for (track, boxes) in &tracks {
        write(out, &format!("  <track id=\"{track}\" label=\"unknown\" source=\"auto\">\n"))?;
        let mut before: Option<u64> = None;
        let mut last = [0; 4];
        for (frame, rect) in boxes {
            // Between sightings the track is outside of the picture; CVAT would draw it on.
            if let Some(gone) = before.map(|before| before.saturating_add(1)).filter(|gone| gone < frame) {
                write(out, &cvat_box(gone, true, last))?;
            }
            write(out, &cvat_box(*frame, false, *rect))?;
            (before, last) = (Some(*frame), *rect);
        }
        if let Some(before) = before {
            write(out, &cvat_box(before.saturating_add(1), true, last))?;
        }
        write(out, "  </track>\n")?;
    }
    write(out, "</annotations>\n")?;
    Ok(exported)
}

fn cvat_box(frame: u64, outside: bool, [left, top, right, bottom]: [u64; 4]) -> String {
    format!(
        "    <box frame=\"{frame}\" outside=\"{}\" occluded=\"0\" keyframe=\"1\" xtl=\"{left}.00\" ytl=\"{top}.00\" \
         xbr=\"{right}.00\" ybr=\"{bottom}.00\" z_order=\"0\"></box>\n",
        u8::from(outside)
    )
}
