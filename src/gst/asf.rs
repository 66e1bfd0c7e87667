//! The metadata in the header of an ASF file (WMV, WMA): GStreamer's demuxer reads only a few names of it.
//!
//! Advanced Systems Format 1.2: 3.1 header, 3.2 file properties, 3.10 content description, 3.11 extended content
//! description. Numbers are little-endian, texts UTF-16LE.

use std::io::{Read, Seek, SeekFrom};

use super::metadata::Metadata;

type Guid = [u8; 16];

const HEADER: Guid = guid([0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11], 0xA6D9_00AA_0062_CE6C);
const CONTENT: Guid = guid([0x33, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11], 0xA6D9_00AA_0062_CE6C);
const EXTENDED: Guid = guid([0x40, 0xA4, 0xD0, 0xD2, 0x07, 0xE3, 0xD2, 0x11], 0x97F0_00A0_C95E_A850);
const PROPERTIES: Guid = guid([0xA1, 0xDC, 0xAB, 0x8C, 0x47, 0xA9, 0xCF, 0x11], 0x8EE4_00C0_0C20_5365);

/// Bytes of a header that are read at most.
const LONGEST: u64 = 1 << 20;
/// Bytes in front of an object's data: its GUID and its size.
const FRONT: usize = 24;
/// Times are in units of 100 ns since 1601.
const UNITS_PER_SECOND: u64 = 10_000_000;
const FROM_1601_TO_1970: i64 = 11_644_473_600;

/// The names of the content description, in its order.
const DESCRIPTION: [&str; 5] = ["title", "artist", "copyright", "comment", "rating"];
/// Names of the format by the names that other formats use; those of its writer's settings have none.
const NAMES: [(&str, Option<&str>); 20] = [
    ("Title", Some("title")),
    ("Author", Some("artist")),
    ("Copyright", Some("copyright")),
    ("Description", Some("comment")),
    ("WM/AlbumArtist", Some("album_artist")),
    ("WM/AlbumTitle", Some("album")),
    ("WM/Composer", Some("composer")),
    ("WM/EncodedBy", Some("encoded_by")),
    ("WM/Genre", Some("genre")),
    ("WM/TrackNumber", Some("track")),
    ("WM/Year", Some("date")),
    ("WM/EncodingSettings", None),
    ("WM/EncodingTime", None),
    ("WMFSDKVersion", None),
    ("WMFSDKNeeded", None),
    ("IsVBR", None),
    ("VBR Peak", None),
    ("Buffer Average", None),
    ("ASFLeakyBucketPairs", None),
    ("DeviceConformanceTemplate", None),
];

const fn guid(front: [u8; 8], end: u64) -> Guid {
    let (mut all, end) = ([0; 16], end.to_be_bytes());
    let mut at = 0;
    while at < 8 {
        all[at] = front[at];
        all[at + 8] = end[at];
        at += 1;
    }
    all
}

/// The metadata of an ASF file; none for other files.
pub(crate) fn read(file: &mut (impl Read + Seek)) -> Option<Metadata> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut front = [0; FRONT + 6];
    file.read_exact(&mut front).ok()?;
    let mut rest = front.as_slice();
    let size = (take(&mut rest)? == HEADER).then(|| number::<8>(&mut rest)).flatten()?;
    let mut objects = Vec::new();
    file.take(size.checked_sub(front.len() as u64)?.min(LONGEST)).read_to_end(&mut objects).ok()?;
    let (mut rest, mut found) = (objects.as_slice(), Metadata::default());
    while let Some((kind, data)) = object(&mut rest) {
        // A damaged object ends the reading of itself alone.
        let _ = match kind {
            CONTENT => content(data, &mut found),
            EXTENDED => extended(data, &mut found),
            PROPERTIES => properties(data, &mut found),
            _ => None,
        };
    }
    Some(found)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes[..N].copy_from_slice(&take::<N>(rest)?);
    Some(u64::from_le_bytes(bytes))
}

fn part<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (first, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(first)
}

fn object<'a>(rest: &mut &'a [u8]) -> Option<(Guid, &'a [u8])> {
    let kind = take(rest)?;
    let size = number::<8>(rest)?.checked_sub(FRONT as u64)?;
    Some((kind, part(rest, size)?))
}

fn text(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
}

fn add(found: &mut Metadata, name: &str, value: String) {
    if !value.is_empty() && found.tag(name).is_none() {
        found.tags.push((name.to_owned(), value));
    }
}

fn content(mut data: &[u8], found: &mut Metadata) -> Option<()> {
    let mut lengths = [0; DESCRIPTION.len()];
    for length in &mut lengths {
        *length = number::<2>(&mut data)?;
    }
    for (name, length) in DESCRIPTION.into_iter().zip(lengths) {
        add(found, name, text(part(&mut data, length)?));
    }
    Some(())
}

fn extended(mut data: &[u8], found: &mut Metadata) -> Option<()> {
    for _ in 0..number::<2>(&mut data)? {
        let length = number::<2>(&mut data)?;
        let name = text(part(&mut data, length)?);
        let (kind, length) = (number::<2>(&mut data)?, number::<2>(&mut data)?);
        let mut value = part(&mut data, length)?;
        let name = match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, None)) => continue,
            Some((_, Some(common))) => (*common).to_owned(),
            None if kind == 1 || kind > 5 => {
                found.left_out.push(name);
                continue;
            }
            None => name.trim_start_matches("WM/").to_lowercase(),
        };
        let value = match kind {
            0 => text(value),
            2 | 3 => number::<4>(&mut value)?.to_string(),
            4 => number::<8>(&mut value)?.to_string(),
            5 => number::<2>(&mut value)?.to_string(),
            _ => continue,
        };
        add(found, &name, value);
    }
    Some(())
}

fn properties(mut data: &[u8], found: &mut Metadata) -> Option<()> {
    part(&mut data, 24)?;
    let created = i64::try_from(number::<8>(&mut data)? / UNITS_PER_SECOND).ok()? - FROM_1601_TO_1970;
    // Writers that do not know the date put 1601 or 1970.
    found.created = Some(created).filter(|created| *created > 0);
    Some(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn object_of(kind: Guid, data: &[u8]) -> Vec<u8> {
        [&kind[..], &((FRONT + data.len()) as u64).to_le_bytes(), data].concat()
    }

    /// A header with one attribute of each kind.
    fn header() -> Vec<u8> {
        let attribute = |name: &str, kind: u16, value: &[u8]| {
            let (name, length) = (wide(name), u16::try_from(value.len()).unwrap());
            let front = u16::try_from(name.len()).unwrap().to_le_bytes();
            [&front[..], &name, &kind.to_le_bytes(), &length.to_le_bytes(), value].concat()
        };
        let attributes = [
            attribute("WM/AlbumTitle", 0, &wide("Drives")),
            attribute("WM/Picture", 1, &[0xff, 0xd8]),
            attribute("IsVBR", 2, &[1, 0, 0, 0]),
            attribute("Lane", 5, &[3, 0]),
        ];
        let count = u16::try_from(attributes.len()).unwrap().to_le_bytes();
        let created = (1_614_834_367 + FROM_1601_TO_1970) as u64 * UNITS_PER_SECOND;
        let objects = [
            object_of(PROPERTIES, &[&[0; 24][..], &created.to_le_bytes()].concat()),
            object_of(EXTENDED, &[&count[..], &attributes.concat()].concat()),
        ]
        .concat();
        [&HEADER[..], &((FRONT + 6 + objects.len()) as u64).to_le_bytes(), &[2, 0, 0, 0, 1, 2], &objects].concat()
    }

    #[test]
    fn attributes_are_tags_and_pictures_are_named_as_left_out() {
        let found = read(&mut Cursor::new(header())).unwrap();
        assert_eq!(found.tags, [("album", "Drives"), ("lane", "3")].map(|(name, value)| (name.into(), value.into())));
        assert_eq!(found.left_out, ["WM/Picture"]);
        assert_eq!(found.created, Some(1_614_834_367));
    }

    #[test]
    fn a_damaged_header_gives_what_can_be_read() {
        let whole = header();
        for length in 0..whole.len() {
            let _ = read(&mut Cursor::new(&whole[..length]));
            let mut damaged = whole.clone();
            damaged[length] ^= 0xff;
            let _ = read(&mut Cursor::new(damaged));
        }
        assert_eq!(read(&mut Cursor::new(b"RIFF")), None);
    }
}
