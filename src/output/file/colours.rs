//! The colour description of the input in an H.264 stream, or none, and its static HDR metadata.
//!
//! GStreamer's caps always name a matrix, and encoders write it to the stream. Players differ in their default for an
//! unspecified matrix, so that any value written would change the colours in some: the output stays unspecified like
//! the input. And GStreamer has one name for the two codes of BT.601. Its x264 element writes no HDR metadata.

use gst::prelude::*;
use gstreamer as gst;

/// NAL unit types: a sequence parameter set, a slice of a key frame, supplemental enhancement information.
const SPS: u8 = 7;
const KEY_SLICE: u8 = 5;
const SEI: u8 = 6;
/// Profiles whose parameter sets include the chroma format (ITU-T H.264, 7.3.2.1.1).
const HIGH: [u32; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];

/// What to write to a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// Primaries, transfer and matrix (ITU-T H.273); none: those of the encoder.
    pub codes: Option<[u8; 3]>,
    /// Type and payload of SEI messages, for each key frame.
    pub messages: Vec<(u8, Vec<u8>)>,
}

impl Description {
    pub fn is_empty(&self) -> bool {
        self.codes.is_none() && self.messages.is_empty()
    }
}

/// Writes the description to the parameter sets, and in front of the key frames, of the byte stream at `pad`.
pub(crate) fn describe(pad: &gst::Pad, description: Description) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            let changed = buffer.map_readable().ok().and_then(|map| changed(&map, &description));
            if let Some(bytes) = changed {
                let mut new = gst::Buffer::from_slice(bytes);
                let all = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
                if buffer.copy_into(new.make_mut(), all, ..).is_ok() {
                    *buffer = new;
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// The stream with the description; none if nothing changes.
fn changed(stream: &[u8], description: &Description) -> Option<Vec<u8>> {
    let mut starts = Vec::new();
    for at in 0..stream.len().saturating_sub(3) {
        if stream[at..].starts_with(&[0, 0, 1]) {
            starts.push(at + 3);
            // Slices come last, and are long.
            if matches!(stream[at + 3] & 0x1f, 1 | 5) {
                break;
            }
        }
    }
    let (mut out, mut done) = (Vec::new(), 0);
    for (index, start) in starts.iter().enumerate() {
        match stream[*start] & 0x1f {
            SPS => {
                let mut end = starts.get(index + 1).map_or(stream.len(), |next| next - 3);
                while end > *start && stream[end - 1] == 0 {
                    end -= 1;
                }
                let Some(new) = description.codes.and_then(|codes| named(&stream[*start..end], codes)) else {
                    continue;
                };
                out.extend(&stream[done..*start]);
                out.extend(new);
                done = end;
            }
            KEY_SLICE if !description.messages.is_empty() => {
                out.extend(&stream[done..*start]);
                for (kind, payload) in &description.messages {
                    out.extend(message(*kind, payload));
                    out.extend([0, 0, 1]);
                }
                done = *start;
            }
            _ => {}
        }
    }
    (done > 0).then(|| {
        out.extend(&stream[done..]);
        out
    })
}

/// The unit of an SEI message, after its start code.
fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut unit = vec![SEI, kind, payload.len() as u8];
    unit.extend(payload);
    unit.push(0x80);
    escaped(&unit)
}

/// A unit with emulation prevention bytes.
fn escaped(plain: &[u8]) -> Vec<u8> {
    let (mut out, mut zeros) = (Vec::with_capacity(plain.len() + 4), 0);
    for byte in plain {
        if zeros == 2 && *byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

/// A sequence parameter set with another colour description.
fn named(sps: &[u8], codes: [u8; 3]) -> Option<Vec<u8>> {
    // Without the emulation prevention bytes.
    let (mut plain, mut zeros) = (Vec::with_capacity(sps.len()), 0);
    for byte in sps {
        if !(*byte == 3 && zeros >= 2) {
            plain.push(*byte);
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
    }
    let at = colours(&plain)?;
    for (index, code) in codes.iter().enumerate() {
        for bit in 0..8 {
            let place = at + index * 8 + bit;
            let (byte, mask) = (place / 8, 0x80 >> (place % 8));
            let slot = plain.get_mut(byte)?;
            *slot = if code & (0x80 >> bit) == 0 { *slot & !mask } else { *slot | mask };
        }
    }
    Some(escaped(&plain))
}

/// The bit offset of the colour description, if there is one.
fn colours(sps: &[u8]) -> Option<usize> {
    let mut bits = Bits { data: sps, at: 8 };
    let profile = bits.take(8)?;
    bits.take(16)?;
    bits.exp_golomb()?;
    if HIGH.contains(&profile) {
        if bits.exp_golomb()? == 3 {
            bits.take(1)?;
        }
        bits.exp_golomb()?;
        bits.exp_golomb()?;
        bits.take(1)?;
        if bits.take(1)? == 1 {
            // Scaling lists, which the supported encoders do not write.
            return None;
        }
    }
    bits.exp_golomb()?;
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?;
        }
        1 => {
            bits.take(1)?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            for _ in 0..bits.exp_golomb()? {
                bits.exp_golomb()?;
            }
        }
        _ => {}
    }
    bits.exp_golomb()?;
    bits.take(1)?;
    bits.exp_golomb()?;
    bits.exp_golomb()?;
    if bits.take(1)? == 0 {
        bits.take(1)?;
    }
    bits.take(1)?;
    if bits.take(1)? == 1 {
        for _ in 0..4 {
            bits.exp_golomb()?;
        }
    }
    if bits.take(1)? == 0 {
        return None;
    }
    if bits.take(1)? == 1 && bits.take(8)? == 255 {
        bits.take(32)?;
    }
    if bits.take(1)? == 1 {
        bits.take(1)?;
    }
    if bits.take(1)? == 0 {
        return None;
    }
    bits.take(4)?;
    (bits.take(1)? == 1).then_some(bits.at)
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            let bit = self.data.get(self.at / 8)? >> (7 - self.at % 8) & 1;
            value = value << 1 | u32::from(bit);
            self.at += 1;
        }
        Some(value)
    }

    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colours_of_a_parameter_set_become_others() {
        // x264's, for 320x240 in BT.601.
        let sps = [
            0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0xfb, 0x01, 0x6a, 0x0c, 0x0c, 0x0d, 0x4a, 0x00, 0x00, 0x03,
            0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x64, 0x1e, 0x28, 0x53, 0x2c,
        ];
        let mut stream = vec![0, 0, 0, 1];
        stream.extend(sps);
        stream.extend([0, 0, 0, 1, 0x68, 0xee, 0, 0, 1, 0x65, 1, 2, 3]);
        let codes = |codes| Description { codes: Some(codes), messages: Vec::new() };
        let new = changed(&stream, &codes([2, 2, 5])).unwrap();
        let at = colours(&sps).unwrap();
        let of = |data: &[u8]| Bits { data, at }.take(24).unwrap();
        assert_eq!((of(&sps), of(&new[4..])), (0x06_0606, 0x02_0205));
        assert!(new.ends_with(&[0, 0, 0, 1, 0x68, 0xee, 0, 0, 1, 0x65, 1, 2, 3]));
        assert_eq!(changed(&[0, 0, 1, 0x65, 9, 9], &codes([2; 3])), None);
        let messages = Description { codes: None, messages: vec![(144, vec![0, 0, 0, 1])] };
        let new = changed(&stream, &messages).unwrap();
        assert!(new.ends_with(&[0xee, 0, 0, 1, 6, 144, 4, 0, 0, 3, 0, 1, 0x80, 0, 0, 1, 0x65, 1, 2, 3]), "{new:?}");
        assert_eq!(changed(&[0, 0, 1, 0x41, 9, 9], &messages), None);
        for end in 0..stream.len() {
            // Must return, not panic.
            let _ = changed(&stream[..end], &codes([2; 3]));
        }
    }
}
