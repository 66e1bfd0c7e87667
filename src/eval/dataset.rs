//! Labelled image sets in their published layouts.
//!
//! | layout | images | masks |
//! |---|---|---|
//! | road-anomaly | `frames/NAME.jpg` | `frames/NAME.labels/labels_semantic.png`, 0 known, 2 anomaly |
//! | smiyc | `images/NAME.*` | `labels_masks/NAME_labels_semantic.png`, 0, 1, 255 |
//! | fishyscapes | `NAME_rgb.png`, or LostAndFound's `leftImg8bit` beside them | `NNNN_NAME_labels.png`, 0, 1, 255 |
//! | fishyscapes | LostAndFound itself: `leftImg8bit/SPLIT/SCENE/NAME_leftImg8bit.png` | `gtCoarse/.../NAME_gtCoarse_labelIds.png`, 0 void, 1 road, 2.. obstacle |
//! | ade-ood | `images/NAME.*` | `annotations/NAME_mask.png`, 0, 1, 255 |
//! | pairs | `images/NAME.*` | `masks/NAME.*`, `labels/NAME.*` or `annotations/NAME.*`, 0, 1, 255 |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::sample::{Coding, Sample};
use crate::{Error, Result};

/// The layout of a set on disk.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumMessage, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
pub enum SetLayout {
    /// RoadAnomaly (Lis et al. 2019).
    RoadAnomaly,
    /// SegmentMeIfYouCan: RoadAnomaly21 and RoadObstacle21.
    Smiyc,
    /// Fishyscapes Static and LostAndFound, or LostAndFound itself.
    Fishyscapes,
    /// ADE-OoD (Galesso et al. 2024).
    AdeOod,
    /// Images and masks in two folders, paired by file stem.
    Pairs,
}

impl SetLayout {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }

    fn expects(self) -> &'static str {
        match self {
            Self::RoadAnomaly => "frames/NAME.jpg with frames/NAME.labels/labels_semantic.png",
            Self::Smiyc => "images/NAME.jpg with labels_masks/NAME_labels_semantic.png",
            Self::Fishyscapes => {
                "NNNN_NAME_labels.png with NAME_leftImg8bit.png or NNNN_NAME_rgb.png, or LostAndFound's leftImg8bit and gtCoarse"
            }
            Self::AdeOod => "images/NAME.jpg with annotations/NAME_mask.png",
            Self::Pairs => "images/NAME.* with masks/NAME.* (or labels/, annotations/)",
        }
    }
}

/// A set found on disk; nothing is decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The folder's name.
    pub name: String,
    /// Labelled images by name.
    pub samples: Vec<Sample>,
    /// The meaning of their masks' values.
    pub coding: Coding,
    /// Pictures that the set ships without ground truth (SegmentMeIfYouCan's hidden test split).
    pub unlabelled: usize,
    /// Files without their counterpart, a sentence each.
    pub problems: Vec<String>,
}

impl Dataset {
    /// Searches `root` for a set of this layout; `ood_value` replaces the value of anomalous pixels.
    ///
    /// # Errors
    /// The folder is missing or has no image of that layout.
    pub fn open(root: &Path, layout: SetLayout, ood_value: Option<u8>) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::usage(format!("data set {}: no such folder", root.display())));
        }
        let mut set = Self {
            name: root
                .file_name()
                .map_or_else(|| root.display().to_string(), |name| name.to_string_lossy().into_owned()),
            samples: Vec::new(),
            coding: Coding::Values { anomaly: ood_value.unwrap_or(1) },
            unlabelled: 0,
            problems: Vec::new(),
        };
        match layout {
            SetLayout::RoadAnomaly => {
                set.coding = Coding::Values { anomaly: ood_value.unwrap_or(2) };
                set.road_anomaly(root)?;
            }
            SetLayout::Smiyc => set.smiyc(root)?,
            SetLayout::Fishyscapes => set.fishyscapes(root, ood_value)?,
            SetLayout::AdeOod => set.folders(root, &["annotations"], "_mask")?,
            SetLayout::Pairs => set.folders(root, &["masks", "labels", "annotations"], "")?,
        }
        if set.samples.is_empty() && set.problems.is_empty() {
            return Err(Error::usage(format!(
                "data set {}: no labelled image of layout {}",
                root.display(),
                layout.name()
            ))
            .hint(format!("expected {}", layout.expects())));
        }
        set.samples.sort_by_cached_key(|sample| natural(&sample.name));
        Ok(set)
    }

    /// Fails with the first few problems unless there are none.
    ///
    /// # Errors
    /// Files without their counterpart.
    pub fn check(&self) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let shown = self.problems.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        let more = self.problems.len().saturating_sub(5);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(Error::failed(format!("data set {}: {} bad: {shown}{more}", self.name, self.problems.len()))
            .hint("--skip-bad evaluates the others and counts these"))
    }

    fn road_anomaly(&mut self, root: &Path) -> Result<()> {
        let frames = [root.join("frames"), root.join("RoadAnomaly_jpg/frames"), root.to_path_buf()]
            .into_iter()
            .find(|folder| folder.is_dir())
            .unwrap_or_default();
        for (name, image) in images_in(&frames)? {
            let mask = frames.join(format!("{name}.labels")).join("labels_semantic.png");
            self.pair(name, image, Some(mask).filter(|mask| mask.is_file()));
        }
        Ok(())
    }

    fn smiyc(&mut self, root: &Path) -> Result<()> {
        let images = images_in(&root.join("images"))?;
        let mut masks = files_with(&root.join("labels_masks"), "_labels_semantic")?;
        // The set ships the pictures of its hidden test split too; the labelled ones are called `validation...`.
        let split = images.keys().any(|name| name.starts_with("validation"));
        for (name, image) in images {
            match masks.remove(&name) {
                None if split && !name.starts_with("validation") => self.unlabelled += 1,
                mask => self.pair(name, image, mask),
            }
        }
        self.orphans(masks);
        Ok(())
    }

    fn fishyscapes(&mut self, root: &Path, ood_value: Option<u8>) -> Result<()> {
        if root.join("gtCoarse").is_dir() && root.join("leftImg8bit").is_dir() {
            if ood_value.is_none() {
                self.coding = Coding::LostAndFound;
            }
            let mut masks = BTreeMap::new();
            walk(&root.join("gtCoarse"), &mut |path| insert_by_suffix(&mut masks, path, "_gtCoarse_labelIds"))?;
            let mut images = BTreeMap::new();
            walk(&root.join("leftImg8bit"), &mut |path| insert_by_suffix(&mut images, path, "_leftImg8bit"))?;
            for (name, image) in images {
                let mask = masks.remove(&name);
                self.pair(name, image, mask);
            }
            self.orphans(masks);
            return Ok(());
        }
        for (images, masks) in [("original", "labels"), ("images", "labels"), ("images", "masks")] {
            if root.join(images).is_dir() && root.join(masks).is_dir() {
                return self.two_folders(&root.join(images), &root.join(masks), "");
            }
        }
        let (mut masks, mut pictures) = (BTreeMap::new(), BTreeMap::new());
        walk(root, &mut |path| {
            insert_by_suffix(&mut masks, path, "_labels");
            for suffix in ["_leftImg8bit", "_rgb", "_image"] {
                insert_by_suffix(&mut pictures, path, suffix);
            }
        })?;
        for (name, mask) in masks {
            // Fishyscapes numbers its files: `0007_SCENE_labels.png` belongs to LostAndFound's `SCENE_leftImg8bit.png`.
            let unnumbered = name.split_once('_').filter(|(number, _)| number.bytes().all(|c| c.is_ascii_digit()));
            let picture = pictures.get(&name).or_else(|| unnumbered.and_then(|(_, base)| pictures.get(base)));
            match picture {
                Some(image) => self.pair(name, image.clone(), Some(mask)),
                None => self.problems.push(format!("{}: its picture is missing", mask.display())),
            }
        }
        Ok(())
    }

    fn folders(&mut self, root: &Path, masks: &[&str], suffix: &str) -> Result<()> {
        let folder = masks.iter().map(|name| root.join(name)).find(|folder| folder.is_dir()).ok_or_else(|| {
            Error::usage(format!("data set {}: it has no folder {}/", root.display(), masks.join("/, ")))
        })?;
        self.two_folders(&root.join("images"), &folder, suffix)
    }

    fn two_folders(&mut self, images: &Path, masks: &Path, suffix: &str) -> Result<()> {
        let mut masks = files_with(masks, suffix)?;
        for (name, image) in images_in(images)? {
            let mask = masks.remove(&name);
            self.pair(name, image, mask);
        }
        self.orphans(masks);
        Ok(())
    }

    fn pair(&mut self, name: String, image: PathBuf, mask: Option<PathBuf>) {
        match mask {
            Some(mask) => self.samples.push(Sample { name, image, mask }),
            None => self.problems.push(format!("{}: its mask is missing", image.display())),
        }
    }

    fn orphans(&mut self, masks: BTreeMap<String, PathBuf>) {
        self.problems.extend(masks.into_values().map(|mask| format!("{}: its picture is missing", mask.display())));
    }
}

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::failed(format!("{}: {error}", folder.display()));
    let mut paths = std::fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn images_in(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    files_with(folder, "")
}

/// The images of a folder whose stem ends in `suffix`, by the stem without it.
fn files_with(folder: &Path, suffix: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for path in files_in(folder)? {
        if path.is_file() {
            insert_by_suffix(&mut found, &path, suffix);
        }
    }
    Ok(found)
}

fn insert_by_suffix(found: &mut BTreeMap<String, PathBuf>, path: &Path, suffix: &str) {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(name) = stem.strip_suffix(suffix).filter(|_| is_image(path)) {
        found.insert(name.to_owned(), path.to_path_buf());
    }
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) -> Result<()> {
    for path in files_in(folder)? {
        // Links to folders are not followed: they may lead in a circle.
        if path.is_dir() && !path.is_symlink() {
            walk(&path, visit)?;
        } else if path.is_file() {
            visit(&path);
        }
    }
    Ok(())
}

/// Splits digits from text, so that `10` comes after `9`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[text..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| text + length);
        parts.push((rest[..text].to_owned(), rest[text..digits].parse().unwrap_or(u64::MAX)));
        rest = &rest[digits..];
    }
    parts
}
