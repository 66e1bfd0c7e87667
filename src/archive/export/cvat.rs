//! CVAT for video 1.1: the boxes of the tracks of one video.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use super::{Exported, each, put};
use crate::{Error, Result};

/// The boxes of a track: by frame, and none at the frame at which it is gone.
type Boxes = Vec<(u64, Option<[u64; 4]>)>;

pub(super) fn write(files: &[PathBuf], out: &mut impl Write) -> Result<Exported> {
    let mut exported = Exported { files: files.len(), ..Exported::default() };
    let mut video: Option<String> = None;
    let mut size = (0, 0);
    // A video has few tracks.
    let mut tracks: BTreeMap<u64, Boxes> = BTreeMap::new();
    each(files, |line| {
        if video.get_or_insert_with(|| line.stream.clone()) != &line.stream {
            return Err(Error::usage("--format cvat: a CVAT task is one video, and there are several")
                .hint("export one regions file at a time"));
        }
        size = (line.width, line.height);
        exported.frames += 1;
        let mut found: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
        for region in &line.regions {
            let Some(track) = region.track_id.filter(|_| region.standing.as_deref() != Some("candidate")) else {
                continue;
            };
            exported.regions += 1;
            let [left, top, right, bottom] = region.bounding_box.edges();
            found
                .entry(track)
                .and_modify(|[l, t, r, b]| {
                    (*l, *t, *r, *b) = ((*l).min(left), (*t).min(top), (*r).max(right), (*b).max(bottom));
                })
                .or_insert([left, top, right, bottom]);
        }
        // CVAT draws a track on until it is outside of the picture. Frames between two lines were not looked at.
        for (track, boxes) in &mut tracks {
            if !found.contains_key(track) && boxes.last().is_some_and(|(_, rect)| rect.is_some()) {
                boxes.push((line.frame, None));
            }
        }
        for (track, rect) in found {
            tracks.entry(track).or_default().push((line.frame, Some(rect)));
        }
        Ok(())
    })?;
    put(out, "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n")?;
    put(out, "  <meta><task><mode>interpolation</mode>")?;
    put(out, "<labels><label><name>unknown</name><attributes></attributes></label></labels>")?;
    put(
        out,
        &format!("<original_size><width>{}</width><height>{}</height></original_size></task></meta>\n", size.0, size.1),
    )?;
    for (track, boxes) in &tracks {
        put(out, &format!("  <track id=\"{track}\" label=\"unknown\" source=\"auto\">\n"))?;
        let mut last = [0; 4];
        for (frame, rect) in boxes {
            last = rect.unwrap_or(last);
            put(out, &cvat_box(*frame, rect.is_none(), last))?;
        }
        put(out, "  </track>\n")?;
    }
    put(out, "</annotations>\n")?;
    Ok(exported)
}

fn cvat_box(frame: u64, outside: bool, [left, top, right, bottom]: [u64; 4]) -> String {
    format!(
        "    <box frame=\"{frame}\" outside=\"{}\" occluded=\"0\" keyframe=\"1\" xtl=\"{left}.00\" ytl=\"{top}.00\" \
         xbr=\"{right}.00\" ybr=\"{bottom}.00\" z_order=\"0\"></box>\n",
        u8::from(outside)
    )
}
