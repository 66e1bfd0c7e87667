//! The matrix of a video track: which way up its pictures are shown (ISO/IEC 14496-12, 8.3.2).

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::path::Path;

use super::boxes::{Child, TopBox, bad, boxes, child, descend, top_boxes};

/// Nine numbers of four bytes.
pub(crate) type Matrix = [u8; 36];

/// Pictures are shown as they are.
const IDENTITY: Matrix = {
    let mut matrix = [0; 36];
    (matrix[1], matrix[17], matrix[32]) = (1, 1, 0x40);
    matrix
};

/// The matrix of the video track with `number`, from 0; none where it leaves the pictures as they are, and for files of
/// other kinds.
pub(crate) fn read(path: &Path, number: u64) -> Option<Matrix> {
    let mut file = File::open(path).ok()?;
    let place = top_boxes(&mut file).ok()?.into_iter().find(|top| &top.kind == b"moov")?;
    let index = payload(&mut file, &place).ok()?;
    let at = usize::try_from(number).ok().and_then(|number| places(&index).ok()?.get(number).copied())?;
    let matrix: Matrix = index.get(at..at + 36)?.try_into().ok()?;
    (matrix != IDENTITY).then_some(matrix)
}

/// Sets the matrix of the video track of a finished file.
///
/// # Errors
/// The file cannot be read or written, or has no video track.
pub(crate) fn write(path: &Path, matrix: &Matrix) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut found = false;
    for place in top_boxes(&mut file)?.into_iter().filter(|top| &top.kind == b"moov") {
        let index = payload(&mut file, &place)?;
        for at in places(&index)? {
            file.seek(SeekFrom::Start(place.at + place.head + at as u64))?;
            file.write_all(matrix)?;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(bad("no video track")) }
}

fn payload(file: &mut File, place: &TopBox) -> Result<Vec<u8>> {
    if place.at + place.size > file.metadata()?.len() {
        return Err(bad("an index that is cut off"));
    }
    let mut payload = vec![0; usize::try_from(place.size - place.head).map_err(|_| bad("too large"))?];
    file.seek(SeekFrom::Start(place.at + place.head))?;
    file.read_exact(&mut payload)?;
    Ok(payload)
}

/// Where the matrices of the video tracks are in the payload of an index.
fn places(index: &[u8]) -> Result<Vec<usize>> {
    let is_video = |trak: &Child<'_>| {
        let handler = child(trak.payload, b"mdia").and_then(|mdia| child(mdia, b"hdlr"));
        handler.is_some_and(|handler| handler.get(8..12) == Some(b"vide"))
    };
    let traks = boxes(index)?.into_iter().filter(|child| &child.kind == b"trak" && is_video(child));
    traks
        .map(|trak| {
            let header = descend(trak.payload, &[b"tkhd"]).ok_or_else(|| bad("no tkhd"))?;
            let at = if header.payload[0] == 1 { 52 } else { 40 };
            if header.payload.len() < at + 36 {
                return Err(bad("a short box"));
            }
            Ok(trak.at + header.at + at)
        })
        .collect()
}
