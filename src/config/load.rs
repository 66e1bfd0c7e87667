//! From a file and `--set` to a configuration.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::Config;
use super::layers::Layers;
use crate::address::hide_credentials;
use crate::{Error, Result};

impl Config {
    /// The file (if any) with `overrides` of the form `section.key=value` over it, checked.
    ///
    /// # Errors
    /// The file cannot be read or parsed, a key is unknown, a value has a wrong type or is out of range. The message
    /// names the file and the line, or the override.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let mut layers = Layers::default();
        if let Some(path) = file {
            let place = format!("pipeline file {}", path.display());
            let text = fs::read_to_string(path).map_err(|error| Error::usage(format!("{place}: {error}")))?;
            let parsed: Self = toml::from_str(&text)
                .map_err(|error: toml::de::Error| Error::usage(format!("{place}{}", place_in(&error, &text))))?;
            parsed.check().map_err(|error| error.at(&place))?;
            layers.file = text.parse().map_err(|error| Error::usage(format!("{place}: {error}")))?;
            layers.folder = path.parent().map(Path::to_path_buf);
        }
        for text in overrides {
            apply(&mut layers.overrides, text)?;
        }
        let config: Self = layers
            .read()
            .map_err(|error| Error::usage(format!("configuration: {}", without_values(error.message()))))?;
        config.check()?;
        Ok(config)
    }
}

/// `error` with its line and key.
fn place_in(error: &toml::de::Error, text: &str) -> String {
    let place = error.span().map(|span| {
        let line = text[..span.start].matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| Some(name_in(line.split_once('=')?.0))).unwrap_or_default();
        format!(", line {} {key}", line + 1)
    });
    format!("{}: {}", place.as_deref().unwrap_or_default().trim_end(), without_values(error.message()))
}

/// What `text` begins with as far as it can be the name of a key. What follows may be a secret, and is not shown.
fn name_in(text: &str) -> &str {
    let text = text.trim();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    &text[..text.find(|c| !is_of_name(c)).unwrap_or(text.len())]
}

/// `message` without the texts that it quotes as wrong: a password may be among them.
fn without_values(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(": string \"") {
        let (before, quoted) = rest.split_at(at + ": string".len());
        shown.push_str(before);
        // Its own quotation marks are escaped.
        let mut escaped = false;
        let end = quoted[2..].find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = end.map_or("", |end| &quoted[2 + end + 1..]);
    }
    hide_credentials(&(shown + rest))
}

/// Puts one `section.key=value` into `table`. A value that is not TOML is taken as text, so that no shell quoting is
/// needed.
fn apply(table: &mut Table, text: &str) -> Result<()> {
    let place = || format!("--set {}", name_in(text));
    let (path, value) =
        text.split_once('=').ok_or_else(|| Error::usage(format!("{}: expected section.key=value", place())))?;
    let (section, key) =
        path.trim().split_once('.').ok_or_else(|| Error::usage(format!("{}: expected section.key=value", place())))?;
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let alone =
        Table::from_iter([(section.to_owned(), Value::Table(Table::from_iter([(key.to_owned(), value.clone())])))]);
    // By itself first, so that the error speaks of this override and nothing else.
    let checked: Config = alone
        .try_into()
        .map_err(|error: toml::de::Error| Error::usage(format!("{}: {}", place(), without_values(error.message()))))?;
    checked.check().map_err(|error| error.at(place()))?;
    let entry = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = entry {
        section.insert(key.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::draw::Palette;
    use crate::ood::alarm::Ignored;

    fn load(text: &str, overrides: &[&str]) -> Result<Config> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), &overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn overrides_win_over_the_file_and_need_no_quotes() {
        let config = load(
            "[draw]\nopacity = 0.2\npalette = \"magma\"\n",
            &["draw.opacity=0.7", "detect.method=msp", "detect.k=[3, 4]"],
        )
        .unwrap();
        assert_eq!((config.draw.opacity, config.draw.palette), (0.7, Palette::Magma));
        assert_eq!((config.detect.method.as_str(), config.detect.k), ("msp", Some(vec![3, 4])));
    }

    /// The paths of `config` in the order of the files below.
    fn paths(config: &Config) -> Vec<&Path> {
        let Config { model, detect, source, serve, http, .. } = config;
        let located = [
            &detect.calibration,
            &source.credentials,
            &source.tls_ca,
            &serve.users,
            &serve.certificate,
            &serve.key,
            &serve.push_credentials,
            &serve.push_tls_ca,
            &http.token,
            &http.certificate,
            &http.key,
        ];
        let model = model.path.as_deref();
        model.into_iter().chain(located.into_iter().map(|path| path.as_deref().unwrap())).collect()
    }

    #[test]
    fn paths_of_a_file_start_at_its_folder_wherever_they_are() {
        for name in [OsStr::new("plain"), OsStr::from_bytes(b"\xff")] {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            let file = folder.join("p.toml");
            let text = "[model]\npath = 'a'\n[detect]\ncalibration = 'a'\n[source]\ncredentials = 'a'\ntls_ca = 'a'\n[serve]\n\
                        users = 'a'\ncertificate = 'a'\nkey = 'a'\npush_credentials = 'a'\npush_tls_ca = 'a'\n\
                        [http]\ntoken = 'a'\ncertificate = 'a'\nkey = 'a'\n[events]\n\
                        ignore = ['a', '/b', 'poly:0,0 1,0 1,1']\n[[stream]]\ninput = 'a'\noutput = ['a.mp4']\n\
                        [[stream]]\ninput = 'test://ball?live=1'\n";
            fs::write(&file, text).unwrap();
            let config = Config::load(Some(&file), &["model.path=free".to_owned()]).unwrap();
            assert_eq!(
                config.model.path.as_deref(),
                Some(Path::new("free")),
                "a bundled model is no file of the folder"
            );
            let config = Config::load(Some(&file), &["serve.key=here".to_owned()]).unwrap();
            let (there, here) = (folder.join("a"), Path::new("here"));
            let mut expected = [there.as_path(); 12];
            expected[6] = here;
            assert_eq!(paths(&config), expected);
            assert_eq!(config.events.ignore[..2], [Ignored::Mask(there.clone()), Ignored::Mask("/b".into())]);
            assert_eq!(config.stream[0].input, there.into());
            assert_eq!(
                (&config.stream[0].output[0], &config.stream[1].input),
                (&"a.mp4".into(), &"test://ball?live=1".into())
            );
        }
    }

    #[test]
    fn times_have_units() {
        let config = load(
            "[live]\nmax_latency_s = '2m'\n[record]\nsegment_s = '1h'\n[source]\njitter_ms = '1s'\n",
            &["hls.segment_s=4s", "source.stall_s=1.5", "events.window_s=500ms"],
        )
        .unwrap();
        assert_eq!(
            (config.live.max_latency_s, config.record.segment_s, config.source.jitter_ms),
            (Some(120.0), 3600, 1000)
        );
        assert_eq!((config.hls.segment_s, config.source.stall_s, config.events.window_s), (4, 1.5, 0.5));
        let wrong = load("[record]\nsegment_s = 'long'\n", &[]).unwrap_err().to_string();
        assert!(wrong.contains("line 2") && wrong.contains("segment_s") && wrong.contains("1.5s"), "{wrong}");
    }

    #[test]
    fn errors_name_the_key_the_file_and_the_line() {
        let unknown = load("[draw]\nopacity = 0.2\n[detect]\nmetod = \"msp\"\n", &[]).unwrap_err().to_string();
        assert!(unknown.contains("metod") && unknown.contains("line 4") && unknown.contains(".toml"), "{unknown}");
        let wrong = load("[draw]\nopacity = \"much\"\n", &[]).unwrap_err().to_string();
        assert!(wrong.contains("line 2") && wrong.contains("opacity"), "{wrong}");
        let range = load("[draw]\nopacity = 3.0\n", &[]).unwrap_err().to_string();
        assert!(range.contains("draw.opacity is 3"), "{range}");
    }

    #[test]
    fn errors_show_no_values() {
        let file = |text: &str| load(text, &[]);
        let set = |text: &str| load("", &[text]);
        for result in [
            set("http.password_hash=$argon2id$sesame\" = 1"),
            set("http.password_hash='sesame' 'sesame'"),
            set("http.pasword_hash=sesame"),
            set("http.password_hash:sesame"),
            set("http.password_hash sesame"),
            set("password_hash=sesame"),
            set("http.video_fps=\"sesame\""),
            set("webhook.headers=Authorization: Bearer sesame"),
            set("webhook.headers=['Bearer sesame']"),
            set("webhook.headers=\"\"\"a \"b\" sesame\"\"\""),
            load("[webhook]\nheaders = ['A: b']\n", &["webhook.timeout_s='sesame'"]),
            file("[webhook]\nheaders = \"Authorization: Bearer sesame\"\n"),
            file("[webhook]\nheaders = [\n  'A: b',\n  \"Basic sesame==\",\n]\n"),
            file("[http]\npassword_hash = 'sesame\n"),
            file("[http]\npasswordhash = 'sesame'\n"),
            file("[http]\nvideo_fps = \"a\\\"sesame\"\n"),
        ] {
            if let Err(error) = result {
                assert!(!error.to_string().contains("sesame"), "{error}");
            }
        }
        let error = set("draw.opacity=big").unwrap_err().to_string();
        assert!(error.contains("--set draw.opacity: invalid type: string, expected"), "{error}");
    }

    #[test]
    fn a_wrong_override_is_named() {
        for (text, word) in [
            ("draw.opacity=big", "opacity"),
            ("draw.opcity=1", "opcity"),
            ("nonsense", "section.key"),
            ("detect.k=[0]", "detect.k"),
        ] {
            let error = load("", &[text]).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(error.to_string().contains("--set") && error.to_string().contains(word), "{error}");
        }
    }
}
