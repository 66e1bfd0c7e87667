//! Addresses may hold credentials, and messages must not.

/// `text` without what stands before the `@` of the addresses in it: `rtsp://user:password@host/x` becomes `rtsp://host/x`.
///
/// An address goes on to the next blank or quotation mark, and the last `@` in it counts: in a malformed one a password may
/// hold anything.
pub fn hide_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("://").map(|at| at + 3) {
        let end = rest[begin..].find([' ', '\t', '\n', '"', '\'', '`']).map_or(rest.len(), |length| begin + length);
        let address = &rest[begin..end];
        shown.push_str(&rest[..begin]);
        shown.push_str(address.rsplit_once('@').map_or(address, |(_, place)| place));
        rest = &rest[end..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::hide_credentials;

    #[test]
    fn only_credentials_go() {
        for (text, shown) in [
            ("x.mp4", "x.mp4"),
            ("me@work.mp4", "me@work.mp4"),
            ("rtsp://host/a", "rtsp://host/a"),
            ("rtsp+push://us@er:p/w:d@host:1/a", "rtsp+push://host:1/a"),
            ("a `rtsp://u:p@h/x` and \"http://v:q@i\" @ home", "a `rtsp://h/x` and \"http://i\" @ home"),
        ] {
            assert_eq!(hide_credentials(text), shown);
        }
    }
}
