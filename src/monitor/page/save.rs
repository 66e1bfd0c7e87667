//! Settings into the pipeline file, which keeps its comments and everything else.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Value};

use super::controls::shortest;
use crate::config::Config;
use crate::draw::Style;
use crate::ood::alarm::Ignored;
use crate::pipeline::Tunable;
use crate::{Error, Result, atomic_file};

/// Writes `now` into the pipeline file at `path`; `first` is the threshold with which the run began.
///
/// # Errors
/// The file cannot be read, is wrong, or cannot be written; it stays as it is then.
pub(super) fn save(path: &Path, now: &Tunable, first: Option<f32>) -> Result<()> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::failed(format!("pipeline file {} cannot be {what}: {error}", path.display()))
    };
    // What a link points to is written, and the link stays.
    let file = fs::canonicalize(path).map_err(|error| failed("read", &error))?;
    let text = fs::read_to_string(&file).map_err(|error| failed("read", &error))?;
    let saved = edited(&text, now, first)?;
    let mut part = atomic_file::create(&file).map_err(|error| failed("written", &error))?;
    part.write_all(saved.as_bytes()).map_err(|error| failed("written", &error))?;
    let permissions = fs::metadata(&file).map_err(|error| failed("read", &error))?.permissions();
    part.as_file().set_permissions(permissions).map_err(|error| failed("written", &error))?;
    part.as_file().sync_all().map_err(|error| failed("written", &error))?;
    part.persist(&file).map(drop).map_err(|error| failed("written", &error.error))
}

/// `text` with the values of `now`.
fn edited(text: &str, now: &Tunable, first: Option<f32>) -> Result<String> {
    // Its errors may quote the file, which may hold passwords.
    let wrong = |when: &str| Error::failed(format!("the pipeline file {when}, so nothing is saved"));
    let mut file: DocumentMut = text.parse().map_err(|_| wrong("is not valid TOML now"))?;
    let Tunable { threshold, style, ignore, .. } = now;
    let usual = Style::default();
    if let Some(threshold) = threshold {
        put(&mut file, "detect", "threshold", shortest(*threshold).into(), Some(*threshold) != first)?;
    }
    put(&mut file, "draw", "view", <&str>::from(style.view).into(), style.view != usual.view)?;
    put(&mut file, "draw", "opacity", shortest(style.opacity).into(), style.opacity != usual.opacity)?;
    put(&mut file, "draw", "palette", <&str>::from(style.palette).into(), style.palette != usual.palette)?;
    put(&mut file, "draw", "legend", style.legend.into(), style.legend != usual.legend)?;
    let written = file.get("events").and_then(|events| events.get("ignore")).and_then(Item::as_array);
    // Masks stay as they are written.
    let masks =
        written.into_iter().flatten().filter(|part| part.as_str().is_some_and(|text| !text.starts_with("poly:")));
    let polygons = ignore.polygons().iter().map(|corners| Value::from(Ignored::Polygon(corners.clone()).to_string()));
    let parts: Array = masks.cloned().map(plain).chain(polygons).collect();
    let any = !parts.is_empty();
    put(&mut file, "events", "ignore", parts.into(), any)?;
    let saved = file.to_string();
    let config: Config = toml::from_str(&saved).map_err(|_| wrong("is not valid now"))?;
    config.check()?;
    Ok(saved)
}

/// A value of an array without the blanks and comments around it.
fn plain(mut value: Value) -> Value {
    value.decor_mut().clear();
    value
}

/// Sets a key, keeping the comments around it; one that is not there yet is added where it is `needed`.
fn put(file: &mut DocumentMut, section: &str, key: &str, mut value: Value, needed: bool) -> Result<()> {
    let Some(table) = file.entry(section).or_insert_with(|| Item::Table(toml_edit::Table::new())).as_table_like_mut()
    else {
        return Err(Error::failed(format!("`{section}` of the pipeline file is no table, so nothing is saved")));
    };
    match table.get_mut(key) {
        Some(there) => {
            if let Some(old) = there.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *there = Item::Value(value);
        }
        None if needed => {
            table.insert(key, Item::Value(value));
        }
        None => {}
    }
    if table.is_empty() && !needed {
        file.remove(section);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::draw::View;
    use crate::ood::alarm::IgnoreMap;

    fn now() -> Tunable {
        let polygon = vec![(0.0, 0.9), (1.0, 0.9), (1.0, 1.0)];
        Tunable {
            threshold: Some(1.3),
            style: Style { view: View::Mask, opacity: 0.4, ..Style::default() },
            ignore: Arc::new(IgnoreMap::default().with_polygons(vec![polygon])),
            ..Tunable::default()
        }
    }

    #[test]
    fn comments_order_and_other_keys_stay() {
        let text = "# The front camera.\n[detect]\nmethod = 'msp' # the simplest\n# found by calibrate\n\
                    threshold = 2 # high\n\n[events]\nignore = ['a.png', 'poly:0,0 1,0 1,1'] # bonnet\n\
                    min_area = 0.01\n\n[[stream]]\ninput = 'a'\n";
        let expected =
            text.replace("threshold = 2", "threshold = 1.3").replace("'poly:0,0 1,0 1,1'", "\"poly:0,0.9 1,0.9 1,1\"")
                + "\n[draw]\nview = \"mask\"\nopacity = 0.4\n";
        let saved = edited(text, &now(), None).unwrap();
        assert_eq!(saved, expected);
        assert_eq!(edited(&saved, &now(), None).unwrap(), saved);
    }

    #[test]
    fn what_is_as_usual_and_not_in_the_file_is_not_written() {
        let text = "[[stream]]\ninput = 'a'\n";
        let as_begun = Tunable { threshold: Some(2.0), ..Tunable::default() };
        assert_eq!(edited(text, &as_begun, Some(2.0)).unwrap(), text);
        let inline = "detect = { threshold = 2 }\ndraw.opacity = 0.1\n";
        let saved = edited(inline, &now(), None).unwrap();
        let config: Config = toml::from_str(&saved).unwrap();
        assert_eq!((config.detect.threshold, config.draw.opacity, config.draw.view), (Some(1.3), 0.4, View::Mask));
    }

    #[test]
    fn a_file_that_is_wrong_meanwhile_stays_as_it_is() {
        for text in ["[detect\n", "[detect]\nmetod = 'secret'\n", "detect = 'secret'\n"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("p.toml");
            fs::write(&path, text).unwrap();
            let error = save(&path, &now(), None).unwrap_err().to_string();
            assert!(error.contains("nothing is saved") && !error.contains("secret"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("p.toml"), folder.path().join("link.toml"));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        save(&link, &now(), None).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("threshold = 1.3"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
