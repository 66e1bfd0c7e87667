//! Positions in the samples of metadata tracks: GoPro's `gpmd`, `camm`, NMEA lines, blocks of Novatek chips.

use std::ops::Range;

/// A place on the earth, degrees in WGS 84.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub latitude: f64,
    pub longitude: f64,
}

impl Place {
    /// None for what is no place, and for 0, 0, which receivers give before they have a fix.
    fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let within = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        (within && (latitude, longitude) != (0.0, 0.0)).then_some(Self { latitude, longitude })
    }
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The places of a GPMF payload in their order, spread evenly over the sample; `GPS5` and `GPS9` (GoPro's
/// gpmf-parser, README, "GPMF Deeper Dive").
pub(super) fn gpmf(data: &[u8]) -> Vec<Place> {
    let mut found = Vec::new();
    let mut stream = Stream { scale: Vec::new(), fixed: true };
    gpmf_level(data, 0, &mut stream, &mut found);
    found
}

/// What holds for the values of a stream.
struct Stream {
    scale: Vec<f64>,
    fixed: bool,
}

fn gpmf_level(data: &[u8], depth: usize, stream: &mut Stream, found: &mut Vec<Place>) {
    let mut at = 0;
    while let Some([a, b, c, d, kind, size, high, low]) = bytes::<8>(data, at) {
        let (size, repeat) = (usize::from(size), usize::from(u16::from_be_bytes([high, low])));
        let length = size * repeat;
        let Some(payload) = data.get(at + 8..at + 8 + length) else { return };
        let number = |at: usize, width: usize| match width {
            2 => bytes::<2>(payload, at).map(|value| f64::from(i16::from_be_bytes(value))),
            _ => bytes::<4>(payload, at).map(|value| f64::from(i32::from_be_bytes(value))),
        };
        match &[a, b, c, d] {
            _ if kind == 0 && depth < 4 => {
                let mut inner = Stream { scale: Vec::new(), fixed: true };
                gpmf_level(payload, depth + 1, &mut inner, found);
            }
            b"SCAL" => stream.scale = (0..repeat).filter_map(|n| number(n * size, size)).collect(),
            // 0 without a lock, 2 or 3 by its dimensions.
            b"GPSF" => stream.fixed = bytes::<4>(payload, 0).is_some_and(|value| u32::from_be_bytes(value) >= 2),
            b"GPS5" | b"GPS9" if size >= 20 => {
                let scale = |n: usize| stream.scale.get(n).copied().filter(|scale| *scale != 0.0).unwrap_or(1.0);
                for row in 0..repeat {
                    let value = |n: usize| number(row * size + 4 * n, 4).map(|value| value / scale(n));
                    // The last two bytes of a `GPS9` are its fix.
                    let fixed = match size {
                        32 => number(row * size + 30, 2).is_some_and(|fix| fix >= 2.0),
                        _ => stream.fixed,
                    };
                    let place =
                        value(0).zip(value(1)).and_then(|(latitude, longitude)| Place::new(latitude, longitude));
                    found.extend(place.filter(|_| fixed));
                }
            }
            _ => {}
        }
        at += 8 + length.next_multiple_of(4);
    }
}

/// The place of a `camm` sample of type 5 or 6 (Camera Motion Metadata Spec).
pub(super) fn camm(data: &[u8]) -> Option<Place> {
    let double = |at: usize| bytes::<8>(data, at).map(f64::from_le_bytes);
    match u16::from_le_bytes(bytes(data, 2)?) {
        5 => Place::new(double(4)?, double(12)?),
        // A time, and whether there is a fix, are before it.
        6 if i32::from_le_bytes(bytes(data, 12)?) > 0 => Place::new(double(16)?, double(24)?),
        _ => None,
    }
}

/// The first place of the NMEA 0183 sentences in a text: RMC that is valid, or GGA with a fix.
pub(super) fn nmea(text: &[u8]) -> Option<Place> {
    let text = String::from_utf8_lossy(text);
    text.split(['\r', '\n']).flat_map(|line| line.split('$').skip(1)).find_map(sentence)
}

fn sentence(text: &str) -> Option<Place> {
    let (body, sum) = text.split_once('*').map_or((text, None), |(body, sum)| (body, sum.get(..2)));
    let expected = sum.and_then(|sum| u8::from_str_radix(sum, 16).ok());
    if expected.is_some_and(|expected| body.bytes().fold(0, |sum, byte| sum ^ byte) != expected) {
        return None;
    }
    let fields: Vec<&str> = body.split(',').map(str::trim).collect();
    let kind = fields.first().and_then(|name| name.get(2..5))?;
    let first = match kind {
        "RMC" if fields.get(2) == Some(&"A") => 3,
        "GGA" if fields.get(6).is_some_and(|fix| !matches!(*fix, "" | "0")) => 2,
        _ => return None,
    };
    let angle = |at: usize, negative: &str| {
        let value = degrees(fields.get(at)?.parse().ok()?);
        Some(if *fields.get(at + 1)? == negative { -value } else { value })
    };
    Place::new(angle(first, "S")?, angle(first + 2, "W")?)
}

/// Degrees and minutes as one number (`DDDMM.MMMM`) to degrees.
fn degrees(value: f64) -> f64 {
    let whole = (value / 100.0).trunc();
    whole + (value - 100.0 * whole) / 60.0
}

/// The place of a `free` box with the GPS data of a Novatek chip; `data` is the whole box.
///
/// After the header, `GPS ` and a size: hour, minute, second, year, month and day at 48 as u32, then `A` for a fix, `N`
/// or `S`, `E` or `W`, and at 76 latitude and longitude as f32 of degrees and minutes, all little-endian.
pub(super) fn novatek(data: &[u8]) -> Option<Place> {
    if data.get(4..12)? != b"freeGPS " || data.get(72)? != &b'A' {
        return None;
    }
    let value = |at: usize| bytes::<4>(data, at).map(|value| degrees(f64::from(f32::from_le_bytes(value))));
    let signed = |at: usize, sign: usize, negative: u8| {
        Some(if *data.get(sign)? == negative { -value(at)? } else { value(at)? })
    };
    Place::new(signed(76, 73, b'S')?, signed(80, 74, b'W')?)
}

/// Where the blocks of the `gps ` box of a Novatek file are: two numbers, then offset and size of each, big-endian.
pub(super) fn novatek_blocks(data: &[u8]) -> Vec<Range<u64>> {
    let number = |at: usize| bytes::<4>(data, at).map(|value| u64::from(u32::from_be_bytes(value)));
    (8..data.len()).step_by(8).map_while(|at| Some(number(at)?..number(at)? + number(at + 4)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn klv(key: &[u8; 4], kind: u8, size: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = key.to_vec();
        out.extend([kind, size]);
        out.extend(((payload.len() / usize::from(size).max(1)) as u16).to_be_bytes());
        out.extend(payload);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn near(place: Option<&Place>, latitude: f64, longitude: f64) {
        let place = place.unwrap();
        let close = (place.latitude - latitude).abs() < 1e-4 && (place.longitude - longitude).abs() < 1e-4;
        assert!(close, "{place:?}");
    }

    #[test]
    fn gopro() {
        let ints = |values: &[i32]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
        let gps5 = |fix: i32| {
            let mut stream = klv(b"GPSF", b'L', 4, &ints(&[fix]));
            stream.extend(klv(b"SCAL", b'l', 4, &ints(&[10_000_000, 10_000_000, 1000, 1000, 100])));
            let rows = [481_173_000, 115_167_000, 5, 6, 7, 481_174_000, -115_168_000, 5, 6, 7];
            stream.extend(klv(b"GPS5", b'l', 20, &ints(&rows)));
            klv(b"DEVC", 0, 1, &klv(b"STRM", 0, 1, &stream))
        };
        let found = gpmf(&gps5(3));
        assert_eq!(found.len(), 2);
        near(found.first(), 48.1173, 11.5167);
        near(found.last(), 48.1174, -11.5168);
        assert!(gpmf(&gps5(0)).is_empty(), "there was no lock");
        let mut row = ints(&[481_173_000, 115_167_000, 0, 0, 0, 9000, 1000]);
        row.extend([0, 100, 0, 3]);
        let mut stream = klv(b"SCAL", b'l', 4, &ints(&[10_000_000, 10_000_000, 1, 1, 1, 1, 1, 100, 1]));
        stream.extend(klv(b"GPS9", b'?', 32, &row));
        near(gpmf(&klv(b"DEVC", 0, 1, &klv(b"STRM", 0, 1, &stream))).first(), 48.1173, 11.5167);
        // Whatever is cut off is left out.
        let whole = gps5(3);
        (0..whole.len()).for_each(|end| drop(gpmf(&whole[..end])));
    }

    #[test]
    fn camera_motion() {
        let sample = |kind: u16, head: &[u8]| {
            let mut data = vec![0, 0];
            data.extend(kind.to_le_bytes());
            data.extend(head);
            data.extend([48.5_f64, -11.25, 300.0].iter().flat_map(|value| value.to_le_bytes()));
            data
        };
        near(camm(&sample(5, &[])).as_ref(), 48.5, -11.25);
        let mut head = 1.0_f64.to_le_bytes().to_vec();
        head.extend(3_i32.to_le_bytes());
        near(camm(&sample(6, &head)).as_ref(), 48.5, -11.25);
        head[8] = 0;
        assert_eq!(camm(&sample(6, &head)), None);
        assert_eq!((camm(&sample(2, &[])), camm(&[0, 0, 5])), (None, None));
    }

    #[test]
    fn sentences() {
        near(
            nmea(b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n").as_ref(),
            48.1173,
            11.5167,
        );
        near(nmea(b"x $GPGGA,123519,4807.038,S,01131.000,W,1,08,0.9,545.4,M,46.9,M,,\n").as_ref(), -48.1173, -11.5167);
        for none in [
            "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6B",
            "$GPRMC,123519,V,4807.038,N,01131.000,E,,,,,",
            "$GPGGA,123519,,,,,0,,,,,,,,",
            "48.1 N, 11.5 E",
            "$",
        ] {
            assert_eq!(nmea(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn blocks_of_novatek_chips() {
        let mut block = vec![0, 0, 1, 0];
        block.extend(b"freeGPS ");
        block.resize(72, 0);
        block.extend(b"ANW\0");
        block.extend([4807.038_f32, 1131.0].iter().flat_map(|value| value.to_le_bytes()));
        near(novatek(&block).as_ref(), 48.1173, -11.5167);
        block[72] = b'V';
        assert_eq!((novatek(&block), novatek(&block[..40])), (None, None));
        let table: Vec<u8> = [0_u32, 2, 1000, 256, 9000, 256].iter().flat_map(|value| value.to_be_bytes()).collect();
        assert_eq!(novatek_blocks(&table), [1000..1256, 9000..9256]);
        assert!(novatek_blocks(&table[..7]).is_empty());
    }
}
