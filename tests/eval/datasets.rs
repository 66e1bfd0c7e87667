//! Data set layouts as unpacked, and the errors of damaged ones.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use oodstream::eval::components::{ANOMALY, KNOWN, VOID};
use oodstream::eval::dataset::{Dataset, SetLayout};
use oodstream::eval::sample::{Coding, read_image, read_mask, read_sample};

fn picture(path: impl AsRef<Path>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    RgbImage::from_pixel(4, 2, Rgb([10, 20, 30])).save(path).unwrap();
}

fn mask(path: impl AsRef<Path>, values: &[u8]) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    GrayImage::from_fn(4, 2, |x, y| Luma([values[(y * 4 + x) as usize % values.len()]])).save(path).unwrap();
}

fn names(dataset: &Dataset) -> Vec<&str> {
    dataset.samples.iter().map(|sample| sample.name.as_str()).collect()
}

#[track_caller]
fn assert_decodes(dataset: &Dataset, expected: &[u8]) {
    let mask = read_mask(&dataset.samples[0], dataset.coding).unwrap();
    assert_eq!(mask.as_raw()[..expected.len()], *expected);
}

#[test]
fn road_anomaly() {
    let root = tempfile::tempdir().unwrap();
    for name in ["animals10", "animals9"] {
        picture(root.path().join(format!("frames/{name}.jpg")));
        mask(root.path().join(format!("frames/{name}.labels/labels_semantic.png")), &[0, 2, 255]);
    }
    let dataset = Dataset::open(root.path(), SetLayout::RoadAnomaly, None).unwrap();
    assert_eq!(names(&dataset), ["animals9", "animals10"]);
    assert_decodes(&dataset, &[KNOWN, ANOMALY, VOID]);
}

#[test]
fn smiyc_leaves_its_hidden_test_pictures_out() {
    let root = tempfile::tempdir().unwrap();
    for name in ["validation0000.jpg", "airplane0001.jpg", "validation0001.webp.png"] {
        picture(root.path().join("images").join(name));
    }
    mask(root.path().join("labels_masks/validation0000_labels_semantic.png"), &[0, 1, 255]);
    mask(root.path().join("labels_masks/validation0000_labels_semantic_color.png"), &[9]);
    let dataset = Dataset::open(root.path(), SetLayout::Smiyc, None).unwrap();
    assert_eq!(names(&dataset), ["validation0000"]);
    assert_eq!(dataset.unlabelled, 1);
    assert_decodes(&dataset, &[KNOWN, ANOMALY, VOID]);
    // A picture of the validation split without its mask is not hidden but missing.
    let error = dataset.check().unwrap_err().to_string();
    assert!(error.contains("validation0001") && error.contains("mask"), "{error}");
}

#[test]
fn fishyscapes_with_lost_and_found_pictures() {
    let root = tempfile::tempdir().unwrap();
    let scene = "04_Maurener_Weg_8";
    picture(root.path().join(format!("leftImg8bit/test/{scene}/{scene}_000000_000030_leftImg8bit.png")));
    picture(root.path().join(format!("leftImg8bit/test/{scene}/{scene}_000000_000040_leftImg8bit.png")));
    mask(root.path().join(format!("fishyscapes/0007_{scene}_000000_000030_labels.png")), &[0, 1, 255]);
    let dataset = Dataset::open(root.path(), SetLayout::Fishyscapes, None).unwrap();
    assert_eq!(names(&dataset), [format!("0007_{scene}_000000_000030")]);
    assert!(dataset.check().is_ok());
    assert_decodes(&dataset, &[KNOWN, ANOMALY, VOID]);
}

#[test]
fn lost_and_found_itself() {
    let root = tempfile::tempdir().unwrap();
    let stem = "15_Rechbergstr_Deckenpfronn_000001_000020";
    picture(root.path().join(format!("leftImg8bit/test/15_Rechbergstr/{stem}_leftImg8bit.png")));
    mask(root.path().join(format!("gtCoarse/test/15_Rechbergstr/{stem}_gtCoarse_labelIds.png")), &[0, 1, 33]);
    mask(root.path().join(format!("gtCoarse/test/15_Rechbergstr/{stem}_gtCoarse_labelTrainIds.png")), &[7]);
    let dataset = Dataset::open(root.path(), SetLayout::Fishyscapes, None).unwrap();
    assert_eq!(dataset.coding, Coding::LostAndFound);
    assert_decodes(&dataset, &[VOID, KNOWN, ANOMALY]);
}

#[test]
fn ade_ood() {
    let root = tempfile::tempdir().unwrap();
    picture(root.path().join("images/ADE_val_00000001.jpg"));
    mask(root.path().join("annotations/ADE_val_00000001_mask.png"), &[0, 1, 255]);
    let dataset = Dataset::open(root.path(), SetLayout::AdeOod, None).unwrap();
    assert_eq!(names(&dataset), ["ADE_val_00000001"]);
    assert_decodes(&dataset, &[KNOWN, ANOMALY, VOID]);
}

#[test]
fn pairs_with_their_own_anomaly_value() {
    let root = tempfile::tempdir().unwrap();
    picture(root.path().join("images/a.png"));
    mask(root.path().join("labels/a.png"), &[0, 7, 255]);
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, Some(7)).unwrap();
    assert_decodes(&dataset, &[KNOWN, ANOMALY, VOID]);
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, None).unwrap();
    let error = read_mask(&dataset.samples[0], dataset.coding).unwrap_err().to_string();
    assert!(error.contains("a.png") && error.contains("7 (3 pixels)") && error.contains("--ood-value"), "{error}");
}

#[test]
fn missing_counterparts_are_named_on_both_sides() {
    let root = tempfile::tempdir().unwrap();
    picture(root.path().join("images/a.png"));
    picture(root.path().join("images/b.png"));
    mask(root.path().join("masks/b.png"), &[0]);
    mask(root.path().join("masks/c.png"), &[0]);
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, None).unwrap();
    assert_eq!(names(&dataset), ["b"]);
    let error = dataset.check().unwrap_err().to_string();
    assert!(error.contains("2 bad") && error.contains("images/a.png") && error.contains("masks/c.png"), "{error}");
}

#[test]
fn sizes_that_differ_and_damage_are_named() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("images")).unwrap();
    RgbImage::new(5, 2).save(root.path().join("images/a.png")).unwrap();
    mask(root.path().join("masks/a.png"), &[0]);
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, None).unwrap();
    let error = read_sample(&dataset.samples[0], dataset.coding).unwrap_err().to_string();
    assert!(error.contains("5x2") && error.contains("4x2") && error.contains("masks/a.png"), "{error}");
    fs::write(root.path().join("images/a.png"), b"not a picture").unwrap();
    let error = read_image(&dataset.samples[0]).unwrap_err().to_string();
    assert!(error.contains("images/a.png"), "{error}");
}

#[test]
fn a_colour_mask_is_refused() {
    let root = tempfile::tempdir().unwrap();
    picture(root.path().join("images/a.png"));
    picture(root.path().join("masks/a.png"));
    let dataset = Dataset::open(root.path(), SetLayout::Pairs, None).unwrap();
    let error = read_mask(&dataset.samples[0], dataset.coding).unwrap_err().to_string();
    assert!(error.contains("colour"), "{error}");
}

#[test]
fn a_folder_of_another_layout_says_what_is_expected() {
    let root = tempfile::tempdir().unwrap();
    let error = Dataset::open(root.path(), SetLayout::RoadAnomaly, None).unwrap_err().to_string();
    assert!(error.contains("labels_semantic.png"), "{error}");
    let error = Dataset::open(&root.path().join("nowhere"), SetLayout::Pairs, None).unwrap_err();
    assert_eq!(error.kind(), oodstream::ErrorKind::Usage);
}
