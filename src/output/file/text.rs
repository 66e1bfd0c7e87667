//! Subtitles as plain text, for muxers that accept nothing else.

use gstreamer as gst;

use crate::output::file::target::Container;

/// The conversion of a subtitle cue for the muxer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// Unescape: the demuxer escaped plain text to make it Pango markup.
    Escaped,
    /// Unescape and remove tags such as `<i>`, which the output does not support.
    Tagged,
    /// Extract the text of SubStation Alpha.
    Ass,
}

impl Text {
    /// None where packets stay unchanged.
    pub fn of(caps: &gst::Caps, container: Container) -> Option<Self> {
        let structure = caps.structure(0)?;
        match structure.name().as_str() {
            "application/x-ssa" | "application/x-ass" if container != Container::Matroska => Some(Self::Ass),
            _ if structure.get::<&str>("format") != Ok("pango-markup") => None,
            _ if container == Container::Matroska => Some(Self::Escaped),
            _ => Some(Self::Tagged),
        }
    }
}

/// The packet with its text converted, its times unchanged.
pub(crate) fn plain(form: Text, packet: &gst::Buffer) -> gst::Buffer {
    let text = packet.map_readable().map(|map| String::from_utf8_lossy(&map).into_owned()).unwrap_or_default();
    let words = match form {
        Text::Escaped => unescaped(&text),
        Text::Tagged => unescaped(&between(&text, '<', '>')),
        Text::Ass => {
            // Eight fields precede the text, which may contain commas.
            let words = text.splitn(9, ',').nth(8).unwrap_or(&text);
            between(words, '{', '}').replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
        }
    };
    let mut new = gst::Buffer::from_slice(words.into_bytes());
    // Times and flags are kept.
    let _ = packet.copy_into(new.make_mut(), gst::BufferCopyFlags::META | gst::BufferCopyFlags::TIMESTAMPS, ..);
    new
}

/// Reverses the escaping by which demuxers turn subtitle text into markup.
fn unescaped(text: &str) -> String {
    const ESCAPES: [(&str, &str); 5] = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    ESCAPES.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// `text` without the parts between brackets.
fn between(text: &str, open: char, close: char) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(open) {
        let Some(length) = rest[start..].find(close) else { break };
        out += &rest[..start];
        rest = &rest[start + length + close.len_utf8()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_form() {
        gst::init().unwrap();
        let of = |form, text: &str| {
            let buffer = plain(form, &gst::Buffer::from_slice(text.to_owned().into_bytes()));
            String::from_utf8(buffer.map_readable().unwrap().to_vec()).unwrap()
        };
        assert_eq!(of(Text::Escaped, "<i>a</i> &amp; b &lt; c"), "<i>a</i> & b < c");
        assert_eq!(of(Text::Tagged, "<i>a</i> &amp; b &lt; c"), "a & b < c");
        assert_eq!(of(Text::Ass, "0,0,Default,,0,0,0,,{\\i1}one{\\i0}, two\\Nthree"), "one, two\nthree");
    }
}
