//! Whether a file is as long as its own structure says: boxes (MP4, MOV), chunks (AVI), EBML elements (Matroska).

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

/// What is missing at the end of an AVI or Matroska file, in words; none if nothing is, or it is no such file. For MP4 and
/// MOV see [`Index::cut`](crate::gst::mp4_index::Index).
pub(super) fn cut(file: &mut File) -> Option<String> {
    let length = file.metadata().ok()?.len();
    let mut head = [0; 12];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut head).ok()?;
    let missing = if head.starts_with(b"RIFF") {
        riff(file, length)
    } else if head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
        matroska(file, length)
    } else {
        return None;
    };
    let (what, missing) = missing.ok().flatten()?;
    Some(format!("the last {missing} bytes of its {what} are missing"))
}

/// The part that is not complete, and how many of its bytes are missing.
type Missing = Option<(String, u64)>;

/// An AVI file: one RIFF chunk, or several one after the other (OpenDML).
fn riff(file: &mut File, length: u64) -> Result<Missing> {
    let mut at = 0;
    while at + 12 <= length {
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        if &head[..4] != b"RIFF" {
            break;
        }
        let size = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        // A recorder that was stopped leaves 0.
        let end = at + 8 + size;
        if end > length {
            return Ok(Some(("`RIFF` chunk".to_owned(), end - length)));
        }
        at = end + end % 2;
    }
    Ok(None)
}

const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;

/// A Matroska file: the segment, and where its length is not known the elements in it.
fn matroska(file: &mut File, length: u64) -> Result<Missing> {
    let mut at = 0;
    while at < length {
        let Some((id, size, head)) = element(file, at)? else { break };
        let start = at + head;
        match size {
            Some(size) if start.saturating_add(size) > length => {
                let what = match id {
                    SEGMENT => "`Segment` element",
                    CLUSTER => "last `Cluster` element",
                    _ => "last element",
                };
                return Ok(Some((what.to_owned(), start.saturating_add(size) - length)));
            }
            // Into a segment or cluster of unknown length; past everything else.
            None if matches!(id, SEGMENT | CLUSTER) => at = start,
            None => break,
            Some(size) => at = start + size,
        }
    }
    Ok(None)
}

/// Identifier, length (none: unknown) and length of the header of the element at `at`; none at the end of the file or
/// where there is no element.
fn element(file: &mut File, at: u64) -> Result<Option<(u32, Option<u64>, u64)>> {
    let mut head = [0; 12];
    file.seek(SeekFrom::Start(at))?;
    let mut got = 0;
    while got < head.len() {
        match file.read(&mut head[got..])? {
            0 => break,
            more => got += more,
        }
    }
    let head = &head[..got];
    let id_length = head.first().map_or(9, |byte| byte.leading_zeros() as usize + 1);
    let Some(id) = head.get(..id_length).filter(|_| id_length <= 4) else { return Ok(None) };
    let id = id.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
    let size_length = head.get(id_length).map_or(9, |byte| byte.leading_zeros() as usize + 1);
    let Some(size) = head.get(id_length..id_length + size_length).filter(|_| size_length <= 8) else { return Ok(None) };
    let bits = 7 * size_length as u32;
    let size = size.iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte)) & ((1 << bits) - 1);
    let unknown = size == (1 << bits) - 1;
    Ok(Some((id, (!unknown).then_some(size), (id_length + size_length) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn of(bytes: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        cut(&mut file)
    }

    #[test]
    fn chunks_and_elements_that_reach_past_the_end() {
        let whole = [b"RIFF\x08\0\0\0AVI ".as_slice(), &[0; 4]].concat();
        assert_eq!(of(&whole), None);
        assert!(of(&whole[..14]).unwrap().contains("2 bytes"));
        // A header element, then a segment of four bytes.
        let sized = [0x1a, 0x45, 0xdf, 0xa3, 0x81, 0, 0x18, 0x53, 0x80, 0x67, 0x84, 1, 2, 3, 4];
        assert_eq!(of(&sized), None);
        assert!(of(&sized[..13]).unwrap().contains("2 bytes of its `Segment`"));
        // A segment of unknown length with a cluster of five bytes.
        let open = [
            0x1a, 0x45, 0xdf, 0xa3, 0x81, 0, 0x18, 0x53, 0x80, 0x67, 0xff, 0x1f, 0x43, 0xb6, 0x75, 0x85, 1, 2, 3, 4, 5,
        ];
        assert_eq!(of(&open), None);
        assert!(of(&open[..20]).unwrap().contains("1 bytes of its last `Cluster`"));
        assert_eq!(of(b"neither of them"), None);
    }
}
