//! Static metadata of HDR video: the mastering display (SMPTE ST 2086) and the light levels of the content (CTA-861.3).

use std::fmt::Write;

use gstreamer as gst;

/// Field of caps with the mastering display: chromaticities of red, green, blue and white, largest and least luminance.
const DISPLAY: &str = "mastering-display-info";
/// Field of caps with the light levels.
const LEVELS: &str = "content-light-level";
/// The order of the numbers in the payload of a message, as indices of those in caps: green, blue, red, white,
/// luminances.
const ORDER: [usize; 10] = [2, 3, 4, 5, 0, 1, 6, 7, 8, 9];

/// Static HDR metadata, as the payloads that SEI messages (ITU-T H.264, D.1.29 and D.1.31) and MP4 boxes (`mdcv`,
/// `clli`) share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Light {
    display: Option<[u8; 24]>,
    levels: Option<[u8; 4]>,
}

impl Light {
    /// The metadata in the caps of a video stream.
    pub fn of_caps(caps: &gst::CapsRef) -> Self {
        let structure = caps.structure(0);
        let numbers = |field: &str| -> Option<Vec<u32>> {
            structure?.get::<&str>(field).ok()?.split(':').map(|number| number.parse().ok()).collect()
        };
        let display = numbers(DISPLAY).and_then(|numbers| {
            let mut bytes = Vec::with_capacity(24);
            for index in ORDER {
                let number = *numbers.get(index)?;
                match u16::try_from(number) {
                    _ if index >= 8 => bytes.extend(number.to_be_bytes()),
                    Ok(short) => bytes.extend(short.to_be_bytes()),
                    Err(_) => return None,
                }
            }
            bytes.try_into().ok()
        });
        let levels = numbers(LEVELS).and_then(|numbers| {
            let [most, average] = [0, 1].map(|index| numbers.get(index).and_then(|n| u16::try_from(*n).ok()));
            [most?.to_be_bytes(), average?.to_be_bytes()].concat().try_into().ok()
        });
        Self { display, levels }
    }

    /// The metadata in the payloads of `mdcv` and `clli` boxes.
    pub fn of_boxes(mdcv: Option<&[u8]>, clli: Option<&[u8]>) -> Self {
        let display = mdcv.and_then(|payload| payload.get(..24)?.try_into().ok());
        Self { display, levels: clli.and_then(|payload| payload.get(..4)?.try_into().ok()) }
    }

    /// These metadata, completed by `other`.
    pub fn or(self, other: Self) -> Self {
        Self { display: self.display.or(other.display), levels: self.levels.or(other.levels) }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The luminance of the brightest pixel in cd/m2: that of the content, else that of the mastering display.
    pub fn peak(&self) -> Option<f64> {
        let content = self.levels.map(|levels| f64::from(u16::from_be_bytes([levels[0], levels[1]])));
        let display = self.luminances().map(|luminances| luminances[0]);
        content.filter(|peak| *peak > 0.0).or(display.filter(|peak| *peak > 0.0))
    }

    /// The largest and the least luminance of the mastering display, in cd/m2.
    pub fn luminances(&self) -> Option<[f64; 2]> {
        self.numbers().map(|numbers| [8, 9].map(|index: usize| f64::from(numbers[index]) / 10_000.0))
    }

    /// The numbers of the mastering display, in the order of caps.
    fn numbers(&self) -> Option<[u32; 10]> {
        let bytes = self.display?;
        let mut numbers = [0; 10];
        let mut rest = bytes.as_slice();
        for index in ORDER {
            let (head, tail) = rest.split_at_checked(if index >= 8 { 4 } else { 2 })?;
            numbers[index] = head.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
            rest = tail;
        }
        Some(numbers)
    }

    /// Adds the metadata to the caps of a video stream.
    pub fn add_to(&self, caps: &mut gst::CapsRef) {
        if let Some(numbers) = self.numbers() {
            caps.set(DISPLAY, numbers.map(|number| number.to_string()).join(":"));
        }
        if let Some([a, b, c, d]) = self.levels {
            let mut text = String::new();
            let _ = write!(text, "{}:{}", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            caps.set(LEVELS, text);
        }
    }

    /// Type and payload of each SEI message.
    pub fn messages(&self) -> Vec<(u8, Vec<u8>)> {
        let display = self.display.map(|payload| (137, payload.to_vec()));
        display.into_iter().chain(self.levels.map(|payload| (144, payload.to_vec()))).collect()
    }

    /// Type and payload of each MP4 box.
    pub fn boxes(&self) -> Vec<([u8; 4], Vec<u8>)> {
        let display = self.display.map(|payload| (*b"mdcv", payload.to_vec()));
        display.into_iter().chain(self.levels.map(|payload| (*b"clli", payload.to_vec()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_messages_and_boxes_hold_the_same() {
        gst::init().unwrap();
        let text = "34000:16000:13250:34500:7500:3000:15635:16450:10000000:50";
        let caps = gst::Caps::builder("video/x-raw").field(DISPLAY, text).field(LEVELS, "1000:400").build();
        let light = Light::of_caps(&caps);
        assert_eq!((light.peak(), light.luminances()), (Some(1000.0), Some([1000.0, 0.005])));
        let payload = &light.messages()[0].1;
        // Green comes first, red third.
        assert_eq!((payload.len(), &payload[..4]), (24, [0x33, 0xc2, 0x86, 0xc4].as_slice()));
        assert_eq!(&payload[8..12], [0x84, 0xd0, 0x3e, 0x80]);
        let boxes = light.boxes();
        assert_eq!(Light::of_boxes(Some(&boxes[0].1), Some(&boxes[1].1)), light);
        let mut again = gst::Caps::builder("video/x-raw").build();
        light.add_to(again.make_mut());
        assert_eq!(Light::of_caps(&again), light);
        let only_display = Light { levels: None, ..light };
        assert_eq!(only_display.peak(), Some(1000.0));
        assert_eq!(only_display.or(light), light);
        let wrong = gst::Caps::builder("video/x-raw").field(DISPLAY, "1:2:3").field(LEVELS, "x").build();
        assert!(Light::of_caps(&wrong).is_empty());
    }
}
