//! COCO instances: a picture for each frame, run lengths, tracks as `track_id`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Exported, Rect, Segmentation, each, json, put};
use crate::Result;

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

pub(super) fn write(files: &[PathBuf], out: &mut impl Write) -> Result<Exported> {
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    put(out, "{\"info\":{\"description\":\"regions that a segmentation network does not know\"},\n")?;
    put(out, "\"categories\":[{\"id\":1,\"name\":\"unknown\",\"supercategory\":\"anomaly\"}],\n\"images\":[")?;
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
        put(out, &format!("{}\n{}", if exported.frames > 1 { "," } else { "" }, json(&image)?))
    })?;
    put(out, "],\n\"annotations\":[")?;
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
            put(out, &format!("{}\n{}", if exported.regions > 1 { "," } else { "" }, json(&annotation)?))?;
        }
        Ok(())
    })?;
    put(out, "]}\n")?;
    Ok(exported)
}
