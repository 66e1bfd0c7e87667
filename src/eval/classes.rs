//! The share of each known class that is marked, on images with class labels: what a user sees as false marks
//! (`docs/method.md`, M13).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use image::GrayImage;
use ndarray::ArrayView2;
use serde::Serialize;

use super::components::VOID;
use crate::{Error, Result};

/// Pixels of one class, and how many of them are marked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ClassCount {
    /// Labelled pixels.
    pub pixels: u64,
    /// Those at or above the threshold.
    pub marked: u64,
}

impl ClassCount {
    /// The share of the pixels that is marked, 0..1.
    pub fn share(&self) -> f64 {
        self.marked as f64 / self.pixels.max(1) as f64
    }
}

/// Counts over all images of a set.
#[derive(Debug, Clone, Default)]
pub struct ClassCounter {
    counts: BTreeMap<u8, ClassCount>,
    images: usize,
}

impl ClassCounter {
    /// Adds an image: its labels, 255 being void, and its mask of the same size, 1 where a pixel is marked.
    ///
    /// # Errors
    /// The sizes differ.
    pub fn add(&mut self, labels: &GrayImage, mask: ArrayView2<'_, u8>) -> Result<()> {
        let size = (labels.height() as usize, labels.width() as usize);
        if size != mask.dim() {
            let (height, width) = mask.dim();
            return Err(Error::failed(format!(
                "the labels are {}x{}, the picture is {width}x{height}",
                size.1, size.0
            )));
        }
        let mut counts = [(0_u64, 0_u64); 256];
        for (label, marked) in labels.as_raw().iter().zip(mask) {
            let (pixels, of_them) = &mut counts[usize::from(*label)];
            *pixels += 1;
            *of_them += u64::from(*marked);
        }
        for (label, (pixels, marked)) in (0_u8..VOID).zip(counts).filter(|(_, (pixels, _))| *pixels > 0) {
            let count = self.counts.entry(label).or_default();
            count.pixels += pixels;
            count.marked += marked;
        }
        self.images += 1;
        Ok(())
    }

    /// The figures, with names by label value; a value beyond them is named by its number.
    pub fn report(self, names: &[String]) -> ClassReport {
        let name = |label: u8| names.get(usize::from(label)).cloned().unwrap_or_else(|| label.to_string());
        let all = self.counts.values().fold(ClassCount::default(), |sum, count| ClassCount {
            pixels: sum.pixels + count.pixels,
            marked: sum.marked + count.marked,
        });
        let classes = self.counts.into_iter().map(|(label, count)| ClassShare {
            name: name(label),
            label,
            marked_share: count.share(),
            pixels: count.pixels,
        });
        ClassReport { images: self.images, marked_share: all.share(), pixels: all.pixels, classes: classes.collect() }
    }
}

/// One row of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassShare {
    /// The class.
    pub name: String,
    /// Its value in the labels.
    pub label: u8,
    /// The share of its pixels that is marked, 0..1.
    pub marked_share: f64,
    /// Labelled pixels.
    pub pixels: u64,
}

/// The marked share of each class of a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// Images.
    pub images: usize,
    /// The share of all labelled pixels that is marked, 0..1.
    pub marked_share: f64,
    /// Labelled pixels.
    pub pixels: u64,
    /// Class by class, by label value.
    pub classes: Vec<ClassShare>,
}

impl ClassReport {
    /// The column names of [`ClassReport::rows`].
    pub const COLUMNS: [&'static str; 3] = ["class", "marked %", "pixels %"];

    /// Class by class, all of them last: name, marked share of its pixels, share of all labelled pixels.
    pub fn rows(&self) -> impl Iterator<Item = [String; 3]> + '_ {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let of_all = move |pixels: u64| percent(pixels as f64 / self.pixels.max(1) as f64);
        self.classes
            .iter()
            .map(move |class| [class.name.clone(), percent(class.marked_share), of_all(class.pixels)])
            .chain([["all".to_owned(), percent(self.marked_share), of_all(self.pixels)]])
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let width = self.rows().map(|row| row[0].chars().count()).max().unwrap_or(0).max(5);
        let mut text = String::new();
        for row in std::iter::once(Self::COLUMNS.map(str::to_owned)).chain(self.rows()) {
            let _ = writeln!(text, "{:width$} {:>9} {:>9}", row[0], row[1], row[2]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn marked_pixels_are_counted_by_class_and_void_is_left_out() {
        let labels = GrayImage::from_raw(3, 2, vec![0, 0, 7, 255, 7, 7]).unwrap();
        let mut counter = ClassCounter::default();
        counter.add(&labels, arr2(&[[1, 0, 0], [1, 1, 0]]).view()).unwrap();
        counter.add(&labels, arr2(&[[0, 0, 0], [1, 0, 0]]).view()).unwrap();
        let report = counter.report(&["road".to_owned()]);
        assert_eq!((report.images, report.pixels), (2, 10));
        let found: Vec<_> = report.classes.iter().map(|class| (class.name.as_str(), class.marked_share)).collect();
        assert_eq!(found, [("road", 0.25), ("7", 1.0 / 6.0)]);
        assert!((report.marked_share - 0.2).abs() < 1e-12);
        assert!(report.table().contains("road      25.00     40.00"), "{}", report.table());
    }

    #[test]
    fn labels_of_another_size_are_refused() {
        let labels = GrayImage::new(3, 2);
        let error = ClassCounter::default().add(&labels, arr2(&[[1, 0], [1, 1]]).view()).unwrap_err();
        assert!(error.to_string().contains("3x2"), "{error}");
    }
}
