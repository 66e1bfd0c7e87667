//! Addresses of live inputs, and what must not be shown of them.

use std::fmt;
use std::path::PathBuf;

use crate::address::{Address, Remote, mask};
pub(crate) use crate::address::{Login, Server};
use crate::input::live::device::Device;
use crate::input::test_source::TestSpec;
use crate::{Error, Result};

/// Shorter ones would garble a message, and do not occur in any: they are removed from the address beforehand.
const SHORTEST_SECRET: usize = 3;

/// The address of a live input. Its displayed form never contains credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct LiveInput {
    pub(crate) source: LiveSource,
    pub(crate) login: Option<Login>,
    shown: String,
    secrets: Vec<String>,
}

/// The kind of a live input. Addresses have no credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum LiveSource {
    Rtsp(Server),
    Http(Server),
    Device(Device),
    Test(TestSpec),
    File(PathBuf),
}

impl LiveInput {
    /// Reads `address` as [`LiveInput::of`] does.
    ///
    /// # Errors
    /// Those of [`LiveInput::of`].
    pub fn parse(address: &str) -> Result<Option<Self>> {
        Self::of(&Address::from(address))
    }

    /// Parses `address` if it is that of a live input:
    ///
    /// - `rtsp://` and `rtsps://`, with `user:password@` where needed (`%40` for an `@` in them, and so on)
    /// - `http://` and `https://`: HLS or MJPEG
    /// - `v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpeg`, every key optional; formats: mjpeg,
    ///   h264, h265 and the raw ones (yuyv, nv12, ...)
    /// - `test://ball?live=1&width=640&height=360&fps=25`, endless without `frames=`
    ///
    /// # Errors
    /// The address is that of a live input, and malformed. The message never holds credentials.
    pub fn of(address: &Address) -> Result<Option<Self>> {
        let (Some((scheme, rest)), Some(address)) = (address.url(), address.text()) else { return Ok(None) };
        // GStreamer's strings end at a NUL.
        if address.contains('\0') {
            return Err(Error::usage("an address holds a NUL character"));
        }
        match scheme.as_str() {
            "rtsp" | "rtsps" | "http" | "https" => Self::server(&scheme, rest).map(Some),
            "v4l2" => Device::parse(address, rest).map(|device| Some(Self::plain(LiveSource::Device(device), address))),
            "test" => {
                let spec = TestSpec::parse(address)?;
                Ok(spec.live.then(|| Self::plain(LiveSource::Test(spec), address)))
            }
            _ => Ok(None),
        }
    }

    /// A file played in real time. It ends, and is never reconnected.
    pub fn realtime(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let shown = path.display().to_string();
        Self::plain(LiveSource::File(path), &shown)
    }

    /// A usable name for outputs: host and last part of the path, the device, or `test`.
    pub fn file_name(&self) -> PathBuf {
        let name = match &self.source {
            LiveSource::File(path) => return path.clone(),
            LiveSource::Test(_) => "test".to_string(),
            LiveSource::Device(device) => last_part(&device.path).to_string(),
            LiveSource::Rtsp(server) | LiveSource::Http(server) => {
                let path = self.shown.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
                let path = path.map_or("", |(_, path)| path.split('?').next().unwrap_or_default());
                let part = last_part(path);
                // `cam/live.m3u8` is `cam-live`.
                let part = part.rsplit_once('.').map_or(part, |(stem, _)| stem);
                if part.is_empty() { server.host.clone() } else { format!("{}-{part}", server.host) }
            }
        };
        let usable = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let name: String = name.chars().map(usable).collect();
        let name = name.trim_matches('-');
        PathBuf::from(if name.is_empty() { "live" } else { name })
    }

    /// `text` (such as a message of GStreamer) with the secrets of this address masked.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut text = match &self.source {
            LiveSource::Rtsp(server) | LiveSource::Http(server) => text.replace(&server.location, &self.shown),
            _ => text.to_string(),
        };
        for secret in self.secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
            text = text.replace(secret, "***");
        }
        mask(&text)
    }

    /// Sets credentials from elsewhere, unless the address has its own.
    pub(crate) fn log_in(&mut self, login: Login) {
        if self.login.is_none() {
            self.secrets.push(login.password.clone());
            self.login = Some(login);
        }
    }

    fn plain(source: LiveSource, shown: &str) -> Self {
        Self { source, login: None, shown: shown.to_string(), secrets: Vec::new() }
    }

    fn server(scheme: &str, rest: &str) -> Result<Self> {
        let port = if scheme == "rtsps" { 322 } else { 554 };
        let Remote { server, login, secrets } = Remote::parse(scheme, rest, port)?;
        let shown = server.to_string();
        let source = if scheme.starts_with("rtsp") { LiveSource::Rtsp(server) } else { LiveSource::Http(server) };
        Ok(Self { source, login, shown, secrets })
    }
}

impl fmt::Display for LiveInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for LiveInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gstreamer_video as gst_video;

    use super::*;
    use crate::input::live::device::Format;

    fn live(address: &str) -> LiveInput {
        LiveInput::parse(address).unwrap().unwrap()
    }

    #[test]
    fn credentials_are_taken_out() {
        let input = live("rtsp://ad%40min:s%3Aecret%2F1@cam:8554/1?x=y");
        assert_eq!(input.to_string(), "rtsp://cam:8554/1?x=y");
        assert_eq!(format!("{input:?}"), "rtsp://cam:8554/1?x=y");
        let login = input.login.clone().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("ad@min", "s:ecret/1"));
        let LiveSource::Rtsp(server) = &input.source else { panic!() };
        assert_eq!((server.location.as_str(), server.port), ("rtsp://cam:8554/1?x=y", 8554));
        assert_eq!(input.hide("got s:ecret/1 and s%3Aecret%2F1"), "got *** and ***");
        assert!(!format!("{login:?}").contains("min"));

        let at_sign = live("RTSPS://user:p@ss@[fe80::1]/a").login.unwrap();
        assert_eq!(at_sign.password, "p@ss");
        let input = live("rtsps://[fe80::1]:322/a");
        let LiveSource::Rtsp(server) = &input.source else { panic!() };
        assert_eq!((server.host.as_str(), server.port), ("fe80::1", 322));
        assert!(live("rtsp://cam").login.is_none());
        assert_eq!(live("http://only@cam/").login.unwrap().password, "");
    }

    #[test]
    fn secrets_in_paths_and_queries_are_covered() {
        let input = live("rtsp://cam/user=admin_password=tlJwpbo6_channel=1?token=abcd&size=2");
        assert_eq!(input.to_string(), "rtsp://cam/user=admin_password=***?token=***&size=2");
        let LiveSource::Rtsp(server) = &input.source else { panic!() };
        assert!(server.location.contains("tlJwpbo6") && server.location.contains("abcd"));
        assert_eq!(input.hide(&format!("no {}", server.location)), format!("no {input}"));
        assert_eq!(input.hide("abcd"), "***");
    }

    #[test]
    fn malformed_addresses_tell_nothing() {
        for wrong in [
            "rtsp://",
            "rtsp://user:secret@",
            "rtsp://user:secret@cam:99999/1",
            "rtsp://user:sec/secret@cam/1",
            "rtsp://user:%ffsecret@cam/1",
            "rtsp://user:secret@cam/\0",
            "v4l2:///dev/video0?format=m\0secret",
            "rtsp://user:12/secret@cam/1",
            "rtsp://user:12?secret@cam/1",
            "rtsp://user:12#secret@cam/1",
            "rtsp://user#secret@cam/1",
        ] {
            let error = LiveInput::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage, "{wrong}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_at_sign_behind_the_host_is_no_credential() {
        for address in ["rtsp://cam/a@b", "http://[::1]/a@b", "http://cam:80/x.m3u8?mail=a@b"] {
            assert!(live(address).login.is_none(), "{address}");
        }
    }

    #[test]
    fn devices_and_names() {
        let LiveSource::Device(device) = live("v4l2:///dev/video2?width=1280&fps=30&format=yuyv").source else {
            panic!()
        };
        assert_eq!((device.path.as_str(), device.width, device.height), ("/dev/video2", Some(1280), None));
        assert_eq!(device.format, Some(Format::Raw(gst_video::VideoFormat::Yuy2)));
        for wrong in [
            "v4l2://video0",
            "v4l2:///dev/video0?size=3",
            "v4l2:///dev/video0?format=best",
            "v4l2:///dev/video0?format=a420",
        ] {
            assert_eq!(LiveInput::parse(wrong).unwrap_err().kind(), crate::ErrorKind::Usage);
        }
        for (address, name) in [
            ("rtsp://a:b@192.168.1.5:8554/street/main", "192-168-1-5-main"),
            ("https://cam.local/live.m3u8?x=1", "cam-local-live"),
            ("rtsp://cam", "cam"),
            ("v4l2:///dev/video2", "video2"),
            ("test://ball?live=1", "test"),
        ] {
            assert_eq!(live(address).file_name(), Path::new(name), "{address}");
        }
        assert_eq!(LiveInput::realtime("a/b.mp4").file_name(), Path::new("a/b.mp4"));
        assert!(LiveInput::parse("test://ball").unwrap().is_none());
        assert!(LiveInput::parse("street.mp4").unwrap().is_none());
    }

    #[test]
    fn a_login_from_elsewhere_is_hidden_too() {
        let mut input = live("rtsp://cam/1");
        input.log_in(Login { user: "user".to_owned(), password: "se:cret".to_owned() });
        assert!(!format!("{input:?} {}", input.hide("no se:cret here")).contains("se:cret"));
    }

    #[test]
    fn addresses_of_others_are_masked_too() {
        let input = live("http://cam/x");
        for (text, shown) in [
            ("moved to http://u:pass@other/x?token=abc&a=1", "moved to http://other/x?token=***&a=1"),
            ("<rtsp://other/user=a_password=secret> it says", "<rtsp://other/user=a_password=***> it says"),
            ("no address", "no address"),
        ] {
            assert_eq!(input.hide(text), shown);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(scheme in "rtsps?|https?|v4l2|test", rest in "\\PC{0,40}") {
            let address = format!("{scheme}://{rest}");
            if let Ok(Some(input)) = LiveInput::parse(&address) {
                let name = input.file_name();
                proptest::prop_assert!(name.components().count() == 1, "{}", name.display());
            }
        }

        #[test]
        fn no_password_is_shown(user in "[a-z]{1,8}", password in "[0-9:@!*]{6,12}", path in "[a-z/?=&]{0,20}") {
            let address = format!("rtsp://{user}:{password}@cam/{path}");
            if let Some(input) = LiveInput::parse(&address).unwrap() {
                let login = input.login.clone().unwrap();
                proptest::prop_assert_eq!(&login.password, &password);
                let shown = format!("{input} {input:?} {} {}", input.file_name().display(), input.hide(&address));
                proptest::prop_assert!(!shown.contains(&password), "{}", shown);
            }
        }
    }
}
