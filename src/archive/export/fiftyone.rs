//! FiftyOne's video labels (`FiftyOneVideoLabelsDataset`, ETA's `VideoLabels`): `manifest.json`, and in `labels/` the
//! objects of each video by frames, which count from 1.

use std::collections::HashSet;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::NamedTempFile;

use super::{Exported, Line, Region, each, put};
use crate::{Error, Result, atomic_file};

/// The labels of one video, frame by frame.
struct Labels {
    stream: String,
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
    frames: u64,
}

impl Labels {
    fn begin(stream: String, folder: &Path) -> Result<Self> {
        let path = folder.join("labels").join(format!("{stream}.json"));
        let failed = |error| Error::io(path.display().to_string(), error);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        let mut out = BufWriter::new(atomic_file::create(&path).map_err(failed)?);
        put(&mut out, "{\"frames\":{")?;
        Ok(Self { stream, path, out, frames: 0 })
    }

    fn add(&mut self, line: &Line) -> Result<()> {
        let number = line.frame.saturating_add(1);
        let objects: Vec<_> = line.regions.iter().map(|region| object(line, region)).collect();
        let frame = json!({ "frame_number": number, "objects": { "objects": objects } });
        put(&mut self.out, &format!("{}\n\"{number}\":{frame}", if self.frames > 0 { "," } else { "" }))?;
        self.frames += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        put(&mut self.out, "}}\n")?;
        let failed = |error: std::io::Error| Error::io(self.path.display().to_string(), error);
        let file = self.out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.persist(&self.path).map(|_| ()).map_err(|error| failed(error.error))
    }
}

/// A region as a `DetectedObject`, whose box is in shares of the picture.
fn object(line: &Line, region: &Region) -> serde_json::Value {
    let share = |value: u64, of: u64| value as f64 / of.max(1) as f64;
    let corner = |x: u64, y: u64| json!({ "x": share(x, line.width), "y": share(y, line.height) });
    let [left, top, right, bottom] = region.bounding_box.edges();
    let number =
        |name: &str, value: f64| json!({ "type": "eta.core.data.NumericAttribute", "name": name, "value": value });
    let mut attributes = vec![number("time_s", line.time_s), number("area", region.area as f64)];
    attributes.extend(region.peak_score.map(|score| number("peak_score", f64::from(score))));
    attributes.extend(region.mean_confidence.map(|value| number("mean_confidence", f64::from(value))));
    if let Some(standing) = &region.standing {
        attributes.push(json!({ "type": "eta.core.data.CategoricalAttribute", "name": "standing", "value": standing }));
    }
    json!({
        "type": "eta.core.objects.DetectedObject",
        "label": "unknown",
        "name": "regions",
        "index": region.track_id,
        "bounding_box": {
            "top_left": corner(left, top),
            "bottom_right": corner(right, bottom),
        },
        "attrs": { "attrs": attributes },
    })
}

/// Writes the folder `output`, the manifest last. `videos` is the folder below which the streams are files.
pub(super) fn write(files: &[PathBuf], output: &Path, videos: &Path, overwrite: bool) -> Result<Exported> {
    let manifest = output.join("manifest.json");
    if manifest.exists() && !overwrite {
        return Err(Error::usage(format!("{}: it exists already", manifest.display())).hint("--overwrite replaces it"));
    }
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    let mut open: Option<Labels> = None;
    let mut index = Vec::new();
    let mut seen = HashSet::new();
    each(files, |line| {
        if open.as_ref().is_none_or(|labels| labels.stream != line.stream) {
            if let Some(done) = open.take() {
                done.finish()?;
            }
            if !seen.insert(line.stream.clone()) {
                return Err(Error::failed(format!("{}: its lines are in two places", line.stream))
                    .hint("each video once: a file of several live streams cannot be exported so"));
            }
            let video = videos.join(&line.stream);
            if !video.is_file() {
                return Err(Error::usage(format!("{}: there is no such video", video.display()))
                    .hint("--videos names the folder in which the videos are, the INPUT of `run -r`"));
            }
            index.push(json!({ "data": link(output, &video), "labels": format!("labels/{}.json", line.stream) }));
            open = Some(Labels::begin(line.stream.clone(), output)?);
        }
        exported.frames += 1;
        exported.regions += line.regions.len() as u64;
        open.as_mut().map_or(Ok(()), |labels| labels.add(&line))
    })?;
    if let Some(done) = open.take() {
        done.finish()?;
    }
    fs::create_dir_all(output).map_err(|error| Error::io(output.display().to_string(), error))?;
    let text = json!({
        "type": "eta.core.datasets.labeled_datasets.LabeledVideoDataset",
        "description": "regions that a segmentation network does not know",
        "index": index,
    });
    crate::archive::record::write_json(&text, &manifest)?;
    Ok(exported)
}

/// The video as it is reached from the folder.
fn link(folder: &Path, video: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let path = pathdiff::diff_paths(absolute(video), absolute(folder)).unwrap_or_else(|| absolute(video));
    path.to_string_lossy().into_owned()
}
