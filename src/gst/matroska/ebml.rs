//! The EBML elements of Matroska files (RFC 8794).

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

pub(crate) const EBML: u32 = 0x1a45_dfa3;
pub(crate) const SEGMENT: u32 = 0x1853_8067;
pub(crate) const SEEK_HEAD: u32 = 0x114d_9b74;
pub(crate) const INFO: u32 = 0x1549_a966;
pub(crate) const TRACKS: u32 = 0x1654_ae6b;
pub(crate) const CLUSTER: u32 = 0x1f43_b675;
pub(crate) const CUES: u32 = 0x1c53_bb6b;
pub(crate) const TAGS: u32 = 0x1254_c367;
pub(crate) const CHAPTERS: u32 = 0x1043_a770;
pub(crate) const ATTACHMENTS: u32 = 0x1941_a469;
pub(crate) const VOID: u32 = 0xec;
pub(crate) const CRC: u32 = 0xbf;

/// The header of an element in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub id: u32,
    /// Size of the payload; none: unknown.
    pub size: Option<u64>,
    /// Length of the header.
    pub length: u64,
}

/// The header of the element at `at`; none at the end of the file or without a valid element.
pub(crate) fn header(file: &mut File, at: u64) -> Result<Option<Header>> {
    let mut bytes = [0; 12];
    file.seek(SeekFrom::Start(at))?;
    let mut got = 0;
    while got < bytes.len() {
        match file.read(&mut bytes[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(parse_header(&bytes[..got]))
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let width = |at: usize| bytes.get(at).map(|byte| byte.leading_zeros() as usize + 1);
    let number = |at: usize, width: usize| {
        Some(bytes.get(at..at + width)?.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let id_width = width(0).filter(|width| *width <= 4)?;
    let id = u32::try_from(number(0, id_width)?).ok()?;
    let size_width = width(id_width).filter(|width| *width <= 8)?;
    let mask = (1 << (7 * size_width)) - 1;
    let size = number(id_width, size_width)? & mask;
    Some(Header { id, size: (size != mask).then_some(size), length: (id_width + size_width) as u64 })
}

/// An element in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub id: u32,
    /// The element including its header.
    pub whole: &'a [u8],
    pub payload: &'a [u8],
}

impl Element<'_> {
    pub fn uint(&self) -> u64 {
        self.payload.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.payload).trim_end_matches('\0').to_owned()
    }
}

/// The elements in `data`, up to the first invalid one.
pub(crate) fn elements(data: &[u8]) -> Vec<Element<'_>> {
    let mut found = Vec::new();
    let mut rest = data;
    while let Some(header) = parse_header(rest) {
        let start = header.length as usize;
        let end = header.size.and_then(|size| usize::try_from(size).ok()).and_then(|size| start.checked_add(size));
        let Some(whole) = end.and_then(|end| rest.get(..end)) else { break };
        found.push(Element { id: header.id, whole, payload: &whole[start..] });
        rest = &rest[whole.len()..];
    }
    found
}

/// The first direct child with this identifier.
pub(crate) fn child(data: &[u8], id: u32) -> Option<Element<'_>> {
    elements(data).into_iter().find(|element| element.id == id)
}

pub(crate) fn push(out: &mut Vec<u8>, id: u32, payload: &[u8]) {
    let bytes = id.to_be_bytes();
    out.extend(&bytes[id.leading_zeros() as usize / 8..]);
    out.extend((payload.len() as u64 | 1 << 56).to_be_bytes());
    out.extend(payload);
}

pub(crate) fn push_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    push(out, id, &value.to_be_bytes());
}

pub(crate) fn push_text(out: &mut Vec<u8>, id: u32, text: &str) {
    push(out, id, text.as_bytes());
}

/// Appends a `Void` element of `length` bytes; at least 9.
pub(crate) fn push_void(out: &mut Vec<u8>, length: usize) {
    push(out, VOID, &vec![0; length.saturating_sub(9)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Vec::new();
        push_uint(&mut inner, 0xd7, 3);
        push_text(&mut inner, 0x536e, "name");
        let mut data = Vec::new();
        push(&mut data, 0xae, &inner);
        push_void(&mut data, 20);
        let found = elements(&data);
        assert_eq!(
            found.iter().map(|e| (e.id, e.whole.len())).collect::<Vec<_>>(),
            [(0xae, inner.len() + 9), (VOID, 20)]
        );
        assert_eq!(child(found[0].payload, 0xd7).unwrap().uint(), 3);
        assert_eq!(child(found[0].payload, 0x536e).unwrap().text(), "name");
        // Truncated anywhere, it yields the complete elements.
        for end in 0..data.len() {
            assert!(elements(&data[..end]).len() < 2);
        }
    }
}
