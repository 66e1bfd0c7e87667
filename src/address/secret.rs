//! Addresses may hold secrets, and messages must not.

/// Words before an `=` in a path or a query behind which cameras expect a secret.
const SECRET_WORDS: &[&str] = &["password=", "passwd=", "pass=", "pwd=", "pw=", "token=", "secret=", "key=", "auth="];

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

/// `text` with all addresses in it as they are shown, wherever they came from.
pub(crate) fn mask(text: &str) -> String {
    let end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let mut shown = String::with_capacity(text.len());
    for word in hide_credentials(text).split_inclusive(end) {
        match word.split_once("://") {
            Some((scheme, rest)) => {
                let (address, separator) = rest.split_at(rest.trim_end_matches(end).len());
                shown.push_str(scheme);
                shown.push_str("://");
                shown.push_str(&mask_path(address, &mut Vec::new()));
                shown.push_str(separator);
            }
            None => shown.push_str(word),
        }
    }
    shown
}

/// A path with its query in which secrets are covered; they are added to `secrets`.
pub(super) fn mask_path(path: &str, secrets: &mut Vec<String>) -> String {
    let mut shown = String::with_capacity(path.len());
    for segment in path.split_inclusive(['/', '?', '&', ';']) {
        let (text, separator) = segment.split_at(segment.trim_end_matches(['/', '?', '&', ';']).len());
        let lower = text.to_ascii_lowercase();
        let value = SECRET_WORDS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min();
        match value.filter(|at| *at < text.len()) {
            Some(at) => {
                secrets.push(text[at..].to_string());
                shown.push_str(&text[..at]);
                shown.push_str("***");
            }
            None => shown.push_str(text),
        }
        shown.push_str(separator);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{hide_credentials, mask};

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

    #[test]
    fn secrets_in_paths_go_too() {
        for (text, shown) in [
            ("moved to http://u:pass@other/x?token=abc&a=1", "moved to http://other/x?token=***&a=1"),
            ("<rtsp://other/user=a_password=secret> it says", "<rtsp://other/user=a_password=***> it says"),
            ("no address", "no address"),
        ] {
            assert_eq!(mask(text), shown);
        }
    }
}
