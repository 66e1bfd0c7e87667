//! Masks and score maps as files.

use std::fs;

use ndarray::Array2;
use oodstream::record::maps::{MaskFolder, Precision, ScoreFolder};

fn names(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_mask_comes_back_as_black_and_white() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("new/masks");
    let mask = Array2::from_shape_fn((37, 53), |(y, x)| u8::from((x * 7 + y * 3) % 11 < 4));
    let path = MaskFolder::new(&directory, "drive", false).unwrap().write(123, mask.view()).unwrap();
    assert_eq!(path, directory.join("drive_000123.png"));
    assert_eq!(names(&directory), ["drive_000123.png"]);
    let image = image::open(&path).unwrap();
    assert_eq!(image.color(), image::ColorType::L8);
    let image = image.into_luma8();
    assert_eq!(image.dimensions(), (53, 37));
    for ((y, x), m) in mask.indexed_iter() {
        assert_eq!(image.get_pixel(x as u32, y as u32).0, [m * 255]);
    }
}

#[test]
fn score_maps_are_numpy_files() {
    let folder = tempfile::tempdir().unwrap();
    let score = Array2::from_shape_fn((3, 5), |(y, x)| (y as f32 - 1.0) * 10.0 + x as f32 * 0.125);
    for (precision, kind, size) in [(Precision::F32, "<f4", 4), (Precision::F16, "<f2", 2)] {
        let mut writer = ScoreFolder::new(folder.path(), "s", precision, true).unwrap();
        let bytes = fs::read(writer.write(7, score.view()).unwrap()).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert_eq!(
            header.trim_end_matches([' ', '\n']),
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (3, 5), }}")
        );
        assert!(header.ends_with('\n'));
        let data = &bytes[10 + length..];
        assert_eq!(data.len(), 15 * size);
        if precision == Precision::F32 {
            let back: Vec<f32> = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            assert_eq!(back, score.as_slice().unwrap());
        }
    }
    assert_eq!(names(folder.path()), ["s_000007.npy"]);
}

#[test]
fn what_is_there_stays_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mask = Array2::<u8>::zeros((4, 4));
    let mut careful = MaskFolder::new(folder.path(), "a", false).unwrap();
    let path = careful.write(0, mask.view()).unwrap();
    fs::write(&path, "mine").unwrap();
    let error = careful.write(0, mask.view()).unwrap_err().to_string();
    assert!(error.contains("a_000000.png") && error.contains("--overwrite"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(names(folder.path()), ["a_000000.png"], "nothing half-written is left");
    MaskFolder::new(folder.path(), "a", true).unwrap().write(0, mask.view()).unwrap();
    assert_ne!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_file_in_the_place_of_the_folder_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = MaskFolder::new(file.path(), "a", false).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}
