//! A table of regions.

use std::io::Write;
use std::path::PathBuf;

use super::{Exported, Rect, each, put};
use crate::Result;
use crate::record::table::field;

pub(super) fn write(files: &[PathBuf], out: &mut impl Write) -> Result<Exported> {
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    put(out, "stream,frame,time_s,track_id,standing,x,y,width,height,area,peak_score,mean_confidence\n")?;
    each(files, |line| {
        exported.frames += 1;
        for region in &line.regions {
            exported.regions += 1;
            let optional = |value: Option<String>| value.unwrap_or_default();
            let Rect { x, y, width, height } = region.bounding_box;
            let row = [
                field(&line.stream),
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
            put(out, &(row.join(",") + "\n"))?;
        }
        Ok(())
    })?;
    Ok(exported)
}
