//! The settings that matter to the results, as one hash.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::config::{Config, DetectConfig, EncodeConfig, ModelConfig};
use crate::draw::Style;
use crate::model::manifest::sha256_hex;
use crate::ood::alarm::{EventsConfig, Ignored};
use crate::record::ArchiveConfig;
use crate::{Error, Result};

/// Sections and keys that change how a result is come by, and not the result.
const WITHOUT: &[(&str, &[&str])] =
    &[("model", &["provider", "threads", "device"]), ("detect", &["compute"]), ("encode", &["overwrite"])];

/// The sections that change results.
#[derive(Serialize)]
struct Results<'a> {
    model: &'a ModelConfig,
    detect: &'a DetectConfig,
    encode: &'a EncodeConfig,
    draw: &'a Style,
    events: &'a EventsConfig,
    archive: &'a ArchiveConfig,
}

/// A hash of everything in `config` that changes results, of the files that it names, and of `outputs`, the kinds of
/// output that are written. Keys at their defaults do not count, so that keys of later versions change no hash.
///
/// # Errors
/// A file that `config` names cannot be read.
pub fn fingerprint(config: &Config, model: &Path, outputs: &[&str]) -> Result<String> {
    // The other sections are of live runs. Paths are left out: the files that they name are hashed below.
    let value = |config: &Config| {
        serde_json::to_value(Results {
            model: &config.model,
            detect: &config.detect,
            encode: &config.encode,
            draw: &config.draw,
            events: &config.events,
            archive: &config.archive,
        })
        .map_err(|error| Error::failed("the configuration cannot be hashed").caused_by(error))
    };
    let mut settings = differences(value(config)?, value(&Config::default())?).unwrap_or_default();
    if let Value::Object(sections) = &mut settings {
        if !outputs.contains(&"video") {
            sections.remove("encode");
            if !outputs.contains(&"snapshots") {
                sections.remove("draw");
            }
        }
        if let (false, Some(Value::Object(archive))) = (outputs.contains(&"clips"), sections.get_mut("archive")) {
            archive.retain(|key, _| !key.contains("clip"));
        }
        for (section, keys) in WITHOUT {
            if let Some(Value::Object(section)) = sections.get_mut(*section) {
                section.retain(|key, _| !keys.contains(&key.as_str()));
            }
        }
        sections.retain(|_, section| section.as_object().is_none_or(|section| !section.is_empty()));
        // As where nothing differs at all.
        if sections.is_empty() {
            settings = Value::Null;
        }
    }
    let mut text = format!("{settings}\n{outputs:?}\n");
    let contents = |what: &str, path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path.display().to_string(), error))?;
        Ok::<_, Error>(format!("{what} {}\n", sha256_hex(&bytes)))
    };
    if let Some(path) = &config.detect.calibration {
        text += &contents("calibration", path)?;
    }
    let manifest = model.with_extension("toml");
    if manifest.is_file() {
        text += &contents("manifest", &manifest)?;
    }
    for part in &config.events.ignore {
        match part {
            Ignored::Mask(path) => text += &contents("ignore", path)?,
            Ignored::Polygon(corners) => text += &format!("ignore {corners:?}\n"),
        }
    }
    Ok(sha256_hex(text.as_bytes()))
}

/// What of `value` is not as in `usual`.
fn differences(value: Value, usual: Value) -> Option<Value> {
    match (value, usual) {
        (value, usual) if value == usual => None,
        (Value::Object(value), Value::Object(mut usual)) => Some(Value::Object(
            value
                .into_iter()
                .filter_map(|(key, value)| {
                    let usual = usual.remove(&key).unwrap_or_default();
                    Some((key, differences(value, usual)?))
                })
                .collect(),
        )),
        (value, _) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_results_changes_the_hash_and_nothing_else_does() {
        let hash = |sets: &[&str], outputs: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            fingerprint(&Config::load(None, &sets).unwrap(), Path::new("absent.onnx"), outputs).unwrap()
        };
        let usual = hash(&[], &["events"]);
        for same in
            ["model.threads=3", "detect.compute=cpu", "encode.overwrite=true", "draw.opacity=0.1", "live.queue=9"]
        {
            assert_eq!(hash(&[same], &["events"]), usual, "{same}");
        }
        for other in ["detect.threshold=0.5", "events.min_area=0.1", "model.flip=true"] {
            assert_ne!(hash(&[other], &["events"]), usual, "{other}");
        }
        assert_ne!(hash(&[], &["events", "video"]), usual);
        assert_ne!(hash(&["draw.opacity=0.1"], &["video"]), hash(&[], &["video"]));
    }
}
