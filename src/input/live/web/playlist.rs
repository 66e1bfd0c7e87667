//! HLS playlists (RFC 8216), with every address replaced by one that the program fetches itself.

use url::Url;

/// `text`, found at `base`, with all addresses replaced by `name` of them.
///
/// # Errors
/// An address is malformed, or is not HTTP; as text.
pub(super) fn rewrite(text: &str, base: &Url, name: &dyn Fn(&Url) -> String) -> Result<String, String> {
    let address = |text: &str| {
        let url = base.join(text).map_err(|e| format!("the playlist holds a malformed address ({e})"))?;
        if !matches!(url.scheme(), "http" | "https") {
            let scheme: String = url.scheme().chars().take(20).collect();
            return Err(format!("the playlist names something that is not HTTP (`{scheme}:`), which is not read"));
        }
        Ok(name(&url))
    };
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            match uri_of(line) {
                Some((before, uri, after)) => out.extend([before, &address(uri)?, after]),
                None => out.push_str(line),
            }
        } else if !line.is_empty() {
            out.push_str(&address(line)?);
        }
        out.push('\n');
    }
    Ok(out)
}

/// The value of the attribute `URI` of a tag, with what stands before and after it.
fn uri_of(line: &str) -> Option<(&str, &str, &str)> {
    const ATTRIBUTE: &str = "URI=\"";
    if !line.starts_with("#EXT") {
        return None;
    }
    let at = line.match_indices(ATTRIBUTE).find(|(at, _)| line[..*at].ends_with([':', ',', ' ']))?.0 + ATTRIBUTE.len();
    let end = at + line[at..].find('"')?;
    Some((&line[..at], &line[at..end], &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Result<String, String> {
        rewrite(text, &Url::parse("https://cam/live/list.m3u8?t=1").unwrap(), &|url| format!("<{url}>"))
    }

    #[test]
    fn every_address_is_replaced() {
        let text = "#EXTM3U\r\n#EXT-X-KEY:METHOD=AES-128,URI=\"k?a=1\",IV=0x1\n#EXT-X-MAP:URI=\"/init.mp4\"\n\
                    #EXTINF:2,a title with URI=\"x\"\n# URI=\"y\"\ns1.ts\nhttp://other:81/s2.ts\n//third/s3.ts\n\n\
                    #EXT-X-MEDIA:TYPE=AUDIO,X-URI=\"no\",URI=\"a.m3u8\"";
        assert_eq!(
            rewritten(text).unwrap(),
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"<https://cam/live/k?a=1>\",IV=0x1\n\
             #EXT-X-MAP:URI=\"<https://cam/init.mp4>\"\n#EXTINF:2,a title with URI=\"<https://cam/live/x>\"\n\
             # URI=\"y\"\n<https://cam/live/s1.ts>\n<http://other:81/s2.ts>\n<https://third/s3.ts>\n\n\
             #EXT-X-MEDIA:TYPE=AUDIO,X-URI=\"no\",URI=\"<https://cam/live/a.m3u8>\"\n"
        );
    }

    #[test]
    fn only_http_is_read() {
        for text in ["file:///etc/passwd", "#EXT-X-KEY:METHOD=AES-128,URI=\"file:///k\"", "data:,x", "rtsp://a/b"] {
            assert!(rewritten(text).unwrap_err().contains("not HTTP"), "{text}");
        }
        assert!(rewritten("http://[").unwrap_err().contains("malformed"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,80}") {
            let _ = rewritten(&text);
            let _ = rewritten(&format!("#EXT-X-MAP:URI=\"{text}"));
        }
    }
}
