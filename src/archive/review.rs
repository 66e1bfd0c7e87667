//! `oodstream report`: one page to look through the events of an archive.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use image::ImageReader;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use serde::{Deserialize, Serialize};

use super::record::{Record, State};
use super::status::Records;
use crate::{Error, Result, atomic_file};

/// Columns and quality of a thumbnail.
const THUMBNAIL: (u32, u8) = (160, 70);

/// A line of an events file, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EventLine {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    alarm: bool,
    label: String,
    start_s: f64,
    end_s: f64,
    start_wall: Option<String>,
    peak_score: f32,
    severity: f32,
    nearest_class: Option<String>,
    #[serde(default)]
    classes_guessed: bool,
    clip: Option<String>,
}

#[derive(Serialize)]
struct PageFile<'a> {
    name: &'a str,
    camera: &'a str,
    status: State,
    reason: Option<&'a str>,
    /// Seconds, to the end of its last event where nothing else is known.
    length: f64,
    video: Option<String>,
}

#[derive(Serialize)]
struct PageEvent {
    id: String,
    file: usize,
    alarm: bool,
    label: String,
    class: Option<String>,
    start: f64,
    end: f64,
    wall: Option<String>,
    day: Option<String>,
    severity: f32,
    score: f32,
    thumb: Option<String>,
    picture: Option<String>,
    clip: Option<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    files: Vec<PageFile<'a>>,
    events: Vec<PageEvent>,
}

/// What a report shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// Files with a record.
    pub files: usize,
    /// Events.
    pub events: usize,
    /// Events with a thumbnail within the page.
    pub embedded: usize,
}

/// Writes a page on the records of `folders` to `output`; the `embed` most severe events get their thumbnails within the
/// page, the others a link.
///
/// # Errors
/// There are no records, an events file is damaged, or the page cannot be written.
pub fn report(folders: &[PathBuf], output: &Path, embed: usize, overwrite: bool) -> Result<Reported> {
    if output.exists() && !overwrite {
        return Err(Error::usage(format!("{}: it exists already", output.display())).hint("--overwrite replaces it"));
    }
    let records = all(folders)?;
    let mut page = Page { files: Vec::with_capacity(records.len()), events: Vec::new() };
    for (path, record) in &records {
        let outputs = record.outputs_from(path);
        let lines = outputs.get("events").map_or_else(|| Ok(Vec::new()), |events| read_events(events))?;
        let index = page.files.len();
        let mut length = 0.0f64;
        for (line, _) in lines.into_iter().filter(|(line, _)| line.kind == "end") {
            length = length.max(line.end_s);
            // `NAME_*.jpg` with the identity of the event.
            let of_event = |kind: &str| {
                let pattern = outputs.get(kind)?;
                let name = pattern.file_name()?.to_string_lossy().replace('*', &line.id);
                let path = pattern.with_file_name(name);
                path.exists().then(|| link(output, &path))
            };
            // Events that overlap share a clip.
            let clip = line.clip.as_ref().and_then(|clip| Some((Path::new(clip).file_name()?, outputs.get("clips")?)));
            let clip = clip.map(|(name, pattern)| pattern.with_file_name(name)).filter(|clip| clip.exists());
            page.events.push(PageEvent {
                file: index,
                picture: of_event("snapshots"),
                clip: clip.map(|clip| link(output, &clip)),
                thumb: None,
                day: line.start_wall.as_ref().and_then(|wall| wall.get(..10)).map(ToOwned::to_owned),
                id: line.id,
                alarm: line.alarm,
                label: line.label,
                class: line.nearest_class.map(|class| match line.classes_guessed {
                    true => format!("{class} (a guess)"),
                    false => class,
                }),
                start: line.start_s,
                end: line.end_s,
                wall: line.start_wall,
                severity: line.severity,
                score: line.peak_score,
            });
        }
        page.files.push(PageFile {
            name: &record.input,
            camera: record.input.rsplit_once('/').map_or("", |(folder, _)| folder),
            status: record.status,
            reason: record.reason.as_deref(),
            length: record.duration_s.unwrap_or(length).max(length),
            video: outputs.get("video").filter(|video| video.exists()).map(|video| link(output, video)),
        });
    }
    page.events.sort_by(|a, b| b.severity.total_cmp(&a.severity).then(a.file.cmp(&b.file)));
    let mut reported = Reported { files: page.files.len(), events: page.events.len(), embedded: 0 };
    for (rank, event) in page.events.iter_mut().enumerate() {
        event.thumb = event.picture.clone();
        if rank < embed
            && let Some(picture) = &event.picture
            && let Some(thumbnail) = thumbnail(&output.with_file_name("").join(unescaped(picture)))
        {
            event.thumb = Some(thumbnail);
            reported.embedded += 1;
        }
    }
    let json = serde_json::to_string(&page).map_err(|error| Error::failed("the report").caused_by(error))?;
    // Within a script element only `</` could end it.
    let html = include_str!("review.html").replace("/*DATA*/", &json.replace("</", "<\\/"));
    write_whole(output, |out| out.write_all(html.as_bytes()))?;
    Ok(reported)
}

/// The records of all folders, in the order of their inputs.
fn all(folders: &[PathBuf]) -> Result<Vec<(PathBuf, Record)>> {
    let mut records = Vec::new();
    for folder in folders {
        let found = Records::read(folder)?;
        warn_of_broken(&found);
        records.extend(found.records);
    }
    records.sort_by(|(_, a), (_, b)| a.input.cmp(&b.input));
    Ok(records)
}

pub(super) fn warn_of_broken(found: &Records) {
    for (path, why) in &found.broken {
        tracing::warn!("{}: left out: {why}", path.display());
    }
}

pub(super) fn read_events(path: &Path) -> Result<Vec<(EventLine, String)>> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(path.display().to_string(), error))?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str::<EventLine>(line).map(|event| (event, line.to_owned())).map_err(|error| {
            Error::failed(format!("{}, line {}: not an event", path.display(), number + 1)).caused_by(error)
        })
    };
    text.lines().enumerate().map(parse).collect()
}

/// `path` as it is reached from the page.
fn link(page: &Path, path: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = absolute(page);
    let folder = folder.parent().unwrap_or(Path::new("/"));
    let path = pathdiff::diff_paths(absolute(path), folder).unwrap_or_else(|| absolute(path));
    let mut link = String::new();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => link.push(char::from(byte)),
            other => link += &format!("%{other:02X}"),
        }
    }
    link
}

fn unescaped(link: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(link.len());
    let mut rest = link.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// A small copy of the picture at `path`, as a link that holds it.
fn thumbnail(path: &Path) -> Option<String> {
    let picture = ImageReader::open(path).ok()?.decode().ok()?;
    let small = picture.resize(THUMBNAIL.0, u32::MAX, FilterType::Triangle).into_rgb8();
    let mut bytes = Vec::new();
    small.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, THUMBNAIL.1)).ok()?;
    Some(format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(&bytes)))
}

pub(super) fn write_whole(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format!("{}: cannot be written", path.display()), error);
    let mut file = atomic_file::create(path).map_err(failed)?;
    let mut out = BufWriter::new(file.as_file_mut());
    fill(&mut out).and_then(|()| out.flush()).map_err(failed)?;
    drop(out);
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_from_the_page_to_the_file() {
        assert_eq!(link(Path::new("out/r.html"), Path::new("marked/a b/ü.jpg")), "../marked/a%20b/%C3%BC.jpg");
        assert_eq!(unescaped("../marked/a%20b/%C3%BC.jpg"), Path::new("../marked/a b/ü.jpg"));
    }
}
