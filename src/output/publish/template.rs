//! Names of recordings in segments: templates with strftime fields in local time, and the files that match one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::format::{Item, StrftimeItems};
use chrono::{Local, NaiveDateTime, Timelike};

use crate::{Error, Result};

/// A template such as `FOLDER/x-%Y%m%d-%H%M%S.mp4`, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    folder: PathBuf,
    /// The name without the extension.
    stem: String,
    /// With its dot.
    extension: String,
}

/// A finished file of a template.
#[derive(Debug)]
pub(crate) struct Segment {
    pub path: PathBuf,
    pub bytes: u64,
    modified: SystemTime,
}

impl Template {
    /// Whether the file name has fields in it.
    pub fn has_fields(path: &Path) -> bool {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains('%'))
    }

    /// Parses a template.
    ///
    /// # Errors
    /// An unknown field, or fields that do not give date and time to the second, so that names would repeat.
    pub fn parse(path: &Path) -> Result<Self> {
        let shown = path.display();
        let stem = path.file_stem().and_then(|s| s.to_str());
        let extension = path.extension().and_then(|s| s.to_str());
        let (Some(stem), Some(extension)) = (stem, extension) else {
            return Err(Error::usage(format!("{shown}: the name is not valid UTF-8")));
        };
        let example = "for example x-%Y%m%d-%H%M%S.mp4; a literal percent sign is %%";
        if extension.contains('%') {
            return Err(Error::usage(format!("{shown}: the extension has a field in it")).hint(example));
        }
        if StrftimeItems::new(stem).any(|item| item == Item::Error) {
            return Err(Error::usage(format!("{shown}: one of its strftime fields is not known")).hint(example));
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let template = Self { folder, stem: stem.to_owned(), extension: format!(".{extension}") };
        let now = Local::now().naive_local().with_nanosecond(0).unwrap_or_default();
        if template.time_of(&template.stem_at(now).unwrap_or_default()) != Some(now) {
            return Err(
                Error::usage(format!("{shown}: its fields do not give date and time to the second")).hint(example)
            );
        }
        if template.stem_at(now).is_some_and(|stem| stem.contains('/')) {
            return Err(Error::usage(format!("{shown}: a field makes folders")).hint(example));
        }
        Ok(template)
    }

    /// The folder of the segments.
    pub fn folder(&self) -> &Path {
        if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder }
    }

    /// The name of a segment that starts now, numbered by `tries` where others of this second exist.
    pub fn name_now(&self, tries: u32) -> PathBuf {
        let stem = self.stem_at(Local::now().naive_local()).unwrap_or_default();
        let number = if tries == 0 { String::new() } else { format!("-{tries}") };
        self.folder.join(format!("{stem}{number}{}", self.extension))
    }

    /// Whether this is the name of a segment: it parses by the template, and formatting the parsed time gives it again.
    pub fn matches(&self, name: &str) -> bool {
        let Some(stem) = name.strip_suffix(&self.extension) else { return false };
        self.time_of(stem).is_some()
            || stem.rsplit_once('-').is_some_and(|(stem, number)| {
                let plain = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
                plain && number.parse::<u32>().is_ok() && self.time_of(stem).is_some()
            })
    }

    /// The finished segments, the oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        let Ok(entries) = fs::read_dir(self.folder()) else { return Vec::new() };
        let segment = |entry: fs::DirEntry| {
            let ours = entry.file_name().to_str().is_some_and(|name| self.matches(name));
            let meta = entry.metadata().ok().filter(|meta| ours && meta.is_file())?;
            Some(Segment { path: entry.path(), bytes: meta.len(), modified: meta.modified().ok()? })
        };
        let mut found: Vec<_> = entries.flatten().filter_map(segment).collect();
        // A time in the future comes from a wrong clock: the age is unknown, and the file would stay for ever.
        let now = SystemTime::now();
        let age = |segment: &Segment| if segment.modified > now { SystemTime::UNIX_EPOCH } else { segment.modified };
        found.sort_by(|a, b| (age(a), &a.path).cmp(&(age(b), &b.path)));
        found
    }

    /// Temporary files of earlier runs, each with its final name.
    pub fn unfinished(&self) -> Vec<(PathBuf, PathBuf)> {
        let Ok(entries) = fs::read_dir(self.folder()) else { return Vec::new() };
        let final_name = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_prefix('.')?.strip_suffix(".part")?;
            self.matches(name).then(|| (entry.path(), self.folder.join(name)))
        };
        entries.flatten().filter_map(final_name).collect()
    }

    fn stem_at(&self, time: NaiveDateTime) -> Option<String> {
        let mut text = String::new();
        // Fields such as the time zone cannot be formatted for a local time.
        write!(text, "{}", time.format(&self.stem)).ok()?;
        Some(text)
    }

    fn time_of(&self, stem: &str) -> Option<NaiveDateTime> {
        let time = NaiveDateTime::parse_from_str(stem, &self.stem).ok()?;
        (self.stem_at(time)? == stem).then_some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_template_match() {
        let template = Template::parse(Path::new("d/cam-%Y%m%d-%H%M%S.mp4")).unwrap();
        for name in ["cam-20260102-030405.mp4", "cam-20260102-030405-1.mp4", "cam-20260102-030405-12.mp4"] {
            assert!(template.matches(name), "{name}");
        }
        for name in [
            "cam-20260102-030405.mkv",
            "cam-20261302-030405.mp4",
            "cam-20260102-030405.mp4.bak",
            "cam-20260102-030405-x.mp4",
            "cam-20260102-030405-01.mp4",
            "cam-20260102-030405-.mp4",
            "my-cam-20260102-030405.mp4",
            "cam-2026012-030405.mp4",
            "cam-20260102-0304.mp4",
            "cam2-20260102-030405.mp4",
            ".cam-20260102-030405.mp4.part",
            "cam-%Y%m%d-%H%M%S.mp4",
        ] {
            assert!(!template.matches(name), "{name}");
        }
        let name = template.name_now(2);
        assert!(name.starts_with("d") && template.matches(name.file_name().unwrap().to_str().unwrap()));
    }

    #[test]
    fn files_from_the_future_are_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let template = Template::parse(&folder.path().join("x-%Y%m%d-%H%M%S.mp4")).unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let now = SystemTime::now();
        for (name, time) in [
            ("x-20260102-030405.mp4", now - hour),
            ("x-20360102-030405.mp4", now + hour * 9000),
            ("x-20260101-030405.mp4", now - hour * 2),
        ] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        let names: Vec<_> = template.segments().iter().map(|s| s.path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["x-20360102-030405.mp4", "x-20260101-030405.mp4", "x-20260102-030405.mp4"]);
    }

    #[test]
    fn templates_that_are_refused() {
        for name in ["x-%Q.mp4", "x-%Y.mp4", "%H%M%S.mp4", "100%.mp4", "x-%Y%m%d-%H%M%S%z.mp4", "%D-%T.mp4"] {
            assert!(Template::parse(Path::new(name)).is_err(), "{name}");
        }
        assert!(Template::parse(Path::new("%F_%H-%M-%S_100%%.mkv")).is_ok());
    }
}
