//! The chroma sampling of JPEG pictures, which GStreamer's decoder reduces to 4:2:0 by itself.

/// The sampling where it is finer than 4:2:0; none for grey, and for bytes that are no JPEG picture.
pub(super) fn sampling(picture: &[u8]) -> Option<&'static str> {
    // After the start of the image: segments of a marker, a length and a body (ITU-T T.81, B.1.1.4).
    let mut at = 2;
    loop {
        let [0xff, marker, high, low] = *picture.get(at..at + 4)? else { return None };
        let body = picture.get(at + 4..)?;
        match marker {
            // The start of a frame: precision, size, then number, factors and table of each component.
            0xc0..=0xc2 => {
                if *body.get(5)? != 3 {
                    return None;
                }
                let [luma, chroma] = [*body.get(7)?, *body.get(10)?].map(|factors| (factors >> 4, factors & 15));
                return match (luma.0.checked_div(chroma.0)?, luma.1.checked_div(chroma.1)?) {
                    (1, 1) => Some("4:4:4"),
                    (1, _) => Some("4:4:0"),
                    (2, 1) => Some("4:2:2"),
                    (4, 1) => Some("4:1:1"),
                    _ => None,
                };
            }
            0xda => return None,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_of_the_components() {
        let with = |luma: u8| {
            let mut picture = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc0, 0, 17, 8, 0, 16, 0, 16, 3];
            picture.extend([1, luma, 0, 2, 0x11, 1, 3, 0x11, 1]);
            picture
        };
        assert_eq!(
            [0x11, 0x12, 0x21, 0x41, 0x22].map(|luma| sampling(&with(luma))),
            [Some("4:4:4"), Some("4:4:0"), Some("4:2:2"), Some("4:1:1"), None]
        );
        let picture = with(0x21);
        for end in 0..picture.len() - 6 {
            assert_eq!(sampling(&picture[..end]), None);
        }
    }
}
