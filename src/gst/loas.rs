//! AAC in LOAS, as in broadcasts (ISO/IEC 14496-3, 1.7): splits the packets of a transport stream into frames.
//!
//! GStreamer 1.22's parser loses a frame at every packet boundary.

use gstreamer as gst;

/// Samples per frame.
const SAMPLES: i64 = 1024;
/// Sample rates by the index in an `AudioSpecificConfig`, in Hz.
const RATES: [i64; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

/// Whether these are the caps of a LOAS stream.
pub(crate) fn is_loas(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|structure| {
        structure.name() == "audio/mpeg" && structure.get::<&str>("stream-format") == Ok("loas")
    })
}

/// The caps of the frames.
pub(crate) fn framed() -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4)
        .field("stream-format", "loas")
        .field("framed", true)
        .build()
}

/// Splits packets into frames.
#[derive(Default)]
pub(crate) struct Frames {
    rest: Vec<u8>,
    /// Duration of a frame in nanoseconds, known after the first configuration.
    step: Option<i64>,
    /// Time of the next frame.
    next: Option<i64>,
}

impl Frames {
    /// The frames that end in `packet`, each with its time and duration in nanoseconds. The timestamp of a packet is
    /// that of the first frame that starts in it.
    pub fn push(&mut self, packet: &[u8], time: Option<i64>) -> Vec<(Option<i64>, Option<i64>, Vec<u8>)> {
        let border = self.rest.len();
        self.rest.extend(packet);
        let (mut found, mut at, mut time) = (Vec::new(), 0, time);
        while let Some(head) = self.rest.get(at..at + 3) {
            if head[0] != 0x56 || head[1] & 0xe0 != 0xe0 {
                at += 1;
                continue;
            }
            let end = at + 3 + (usize::from(head[1] & 0x1f) << 8 | usize::from(head[2]));
            if at >= border {
                self.next = time.take().or(self.next);
            }
            let Some(frame) = self.rest.get(at..end) else {
                // The rest comes with the next packet; the timestamp is still that of this frame.
                break;
            };
            self.step = step(&frame[3..]).or(self.step);
            found.push((self.next, self.step, frame.to_vec()));
            self.next = self.next.zip(self.step).map(|(next, step)| next + step);
            at = end;
        }
        // The first bytes of a head whose rest comes with the next packet: the frame starts here, too.
        if at >= border && self.rest.get(at) == Some(&0x56) {
            self.next = time.take().or(self.next);
        }
        self.rest.drain(..at.min(self.rest.len()));
        found
    }
}

/// Duration of a frame by its own `StreamMuxConfig`, in nanoseconds; none if it reuses the previous one.
fn step(element: &[u8]) -> Option<i64> {
    let bits = |at: usize, count: usize| {
        (at..at + count)
            .try_fold(0usize, |value, at| Some(value << 1 | usize::from(element.get(at / 8)? >> (7 - at % 8) & 1)))
    };
    // useSameStreamMux, version, framing, subframes, programs, layers; then object type and sample rate index.
    if bits(0, 1)? == 1 || bits(1, 1)? == 1 {
        return None;
    }
    RATES.get(bits(16 + 5, 4)?).map(|rate| SAMPLES * 1_000_000_000 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_over_the_borders_of_packets() {
        // Configured for 48 kHz: type 2 (00010), index 3 (0011) after 16 bits.
        let configured = [0x56, 0xe0, 4, 0, 0, 0x11, 0x80];
        let again = [0x56, 0xe0, 2, 0x80, 7];
        let stream: Vec<u8> = [&configured[..], &again, &again].concat();
        for border in 0..stream.len() {
            let mut frames = Frames::default();
            let mut found = frames.push(&stream[..border], Some(0));
            found.extend(frames.push(&stream[border..], None));
            assert_eq!(found.len(), 3, "{border}");
            assert_eq!(found.iter().map(|(_, _, frame)| frame.len()).sum::<usize>(), stream.len());
            let times: Vec<_> = found.iter().map(|(time, ..)| *time).collect();
            let wanted = [Some(0), Some(21_333_333), Some(42_666_666)];
            assert!(border == 0 || times == wanted, "{border}: {times:?}");
        }
    }
}
