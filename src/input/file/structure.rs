//! Checks whether a file is as long as its structure announces: boxes (MP4, MOV), chunks (AVI), EBML elements
//! (Matroska).

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use crate::gst::matroska::ebml::{self, CLUSTER, Header, SEGMENT};

/// The missing part at the end of an AVI or Matroska file, as text; none for complete files and other formats. For MP4
/// and MOV see [`Index::cut`](crate::gst::mp4::index::Index).
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

/// Name of the incomplete part, and the number of missing bytes.
type Missing = Option<(String, u64)>;

/// An AVI file: one RIFF chunk, or several consecutive ones (OpenDML).
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
        // An interrupted recording has a size of 0.
        let end = at + 8 + size;
        if end > length {
            return Ok(Some(("`RIFF` chunk".to_owned(), end - length)));
        }
        at = end + end % 2;
    }
    Ok(None)
}

/// A Matroska file: its segment, or the elements in it if the segment's size is unknown.
fn matroska(file: &mut File, length: u64) -> Result<Missing> {
    let mut at = 0;
    while at < length {
        let Some(Header { id, size, length: head }) = ebml::header(file, at)? else { break };
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
            // Descend into a segment or cluster of unknown size; skip everything else.
            None if matches!(id, SEGMENT | CLUSTER) => at = start,
            None => break,
            Some(size) => at = start + size,
        }
    }
    Ok(None)
}

/// Limit of elements to walk over.
const MOST_ELEMENTS: usize = 2_000_000;
/// Identifiers of elements within a cluster (RFC 9559, 5.1.3), and those allowed everywhere.
const IN_CLUSTER: [u32; 9] = [0xe7, 0xa7, 0xab, 0xa3, 0xa0, 0xaf, 0x5854, 0xec, 0xbf];
/// Identifiers of elements within a segment: seek head, information, tracks, cues, tags, chapters, attachments,
/// cluster.
const IN_SEGMENT: [u32; 10] =
    [0x114d_9b74, 0x1549_a966, 0x1654_ae6b, 0x1c53_bb6b, 0x1254_c367, 0x1043_a770, 0x1941_a469, CLUSTER, 0xec, 0xbf];

/// The first offset in a Matroska file where a valid element is missing, as text. The data that a demuxer skips to
/// resynchronise are lost without a message.
pub(super) fn broken(file: &mut File) -> Option<String> {
    let length = file.metadata().ok()?.len();
    let mut at = 0;
    for _ in 0..MOST_ELEMENTS {
        if at >= length {
            return None;
        }
        let Header { id, size, length: head } = ebml::header(file, at).ok()??;
        let start = at + head;
        match id {
            SEGMENT => {
                return broken_in(file, start, size.map_or(length, |size| start.saturating_add(size)).min(length));
            }
            _ if at == 0 && id != 0x1a45_dfa3 => return None,
            _ => at = start.saturating_add(size?),
        }
    }
    None
}

fn broken_in(file: &mut File, start: u64, end: u64) -> Option<String> {
    let (mut at, mut cluster_end) = (start, None::<u64>);
    for _ in 0..MOST_ELEMENTS {
        if cluster_end.is_some_and(|cluster| at >= cluster) {
            cluster_end = None;
        }
        if at >= end {
            return None;
        }
        let Some(Header { id, size, length: head }) = ebml::header(file, at).ok()? else {
            // A header truncated by the end of the file is reported as missing bytes instead.
            return (at + 12 < end).then(|| format!("there is no element at byte {at}"));
        };
        let fits = if cluster_end.is_some() { IN_CLUSTER.contains(&id) } else { IN_SEGMENT.contains(&id) };
        let body = at + head;
        match size {
            // A cluster of unknown size ends at the next element of the segment.
            _ if !fits && cluster_end == Some(u64::MAX) && IN_SEGMENT.contains(&id) => cluster_end = None,
            _ if !fits => return Some(format!("there is no known element at byte {at}")),
            None if id == CLUSTER => (cluster_end, at) = (Some(u64::MAX), body),
            None => return Some(format!("the element at byte {at} has no length")),
            Some(size) => {
                let next = body.saturating_add(size);
                if cluster_end.is_some_and(|cluster| next > cluster) {
                    return Some(format!("the element at byte {at} reaches past the end of its cluster"));
                }
                if id == CLUSTER {
                    (cluster_end, at) = (Some(next), body);
                } else {
                    at = next;
                }
            }
        }
    }
    None
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
        // An EBML header, then a segment of four bytes.
        let sized = [0x1a, 0x45, 0xdf, 0xa3, 0x81, 0, 0x18, 0x53, 0x80, 0x67, 0x84, 1, 2, 3, 4];
        assert_eq!(of(&sized), None);
        assert!(of(&sized[..13]).unwrap().contains("2 bytes of its `Segment`"));
        // A segment of unknown size with a cluster of five bytes.
        let open = [
            0x1a, 0x45, 0xdf, 0xa3, 0x81, 0, 0x18, 0x53, 0x80, 0x67, 0xff, 0x1f, 0x43, 0xb6, 0x75, 0x85, 1, 2, 3, 4, 5,
        ];
        assert_eq!(of(&open), None);
        assert!(of(&open[..20]).unwrap().contains("1 bytes of its last `Cluster`"));
        assert_eq!(of(b"neither of them"), None);
    }

    #[test]
    fn elements_where_none_can_be() {
        let of = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            broken(&mut file)
        };
        // A segment with a cluster of a timestamp and a block.
        let mut file = vec![0x1a, 0x45, 0xdf, 0xa3, 0x80, 0x18, 0x53, 0x80, 0x67, 0xff, 0x1f, 0x43, 0xb6, 0x75, 0x8a];
        file.extend([0xe7, 0x81, 0, 0xa3, 0x85, 1, 2, 3, 4, 5]);
        assert_eq!(of(&file), None);
        let mut long = file.clone();
        long[19] = 0x86;
        assert!(of(&long).unwrap().contains("byte 18"));
        let mut unknown = file.clone();
        unknown[18] = 0xa5;
        assert!(of(&unknown).unwrap().contains("no known element at byte 18"));
        // The same with a cluster of unknown size, followed by another one.
        file[14] = 0xff;
        file.extend([0x1f, 0x43, 0xb6, 0x75, 0x80]);
        assert_eq!(of(&file), None);
    }
}
