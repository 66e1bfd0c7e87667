//! NumPy's `.npy` files of floats, as far as score maps and codebooks need them; the format itself is the `npyz` crate's.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;
use ndarray::{Array2, ArrayD, ArrayView2, IxDyn, ShapeBuilder};
use npyz::{AutoSerialize, NpyFile, Order, WriteOptions, WriterBuilder};

use crate::{Error, Result};

/// Element type of a written file.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
pub enum FloatType {
    /// 16 bits: half the size, about three decimal digits.
    F16,
    /// 32 bits.
    #[default]
    F32,
}

/// Longest header that is read; that of a rank 2 array has 118 bytes. Bounds the depth of nesting in a hostile one.
const MAX_HEADER: u32 = 512;

/// Writes a `[rows, columns]` array to a file.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, array: ArrayView2<'_, f32>, float: FloatType) -> Result<()> {
    let failed = |error: io::Error| Error::failed(format!("{}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    write_to(&mut file, array, float).and_then(|()| file.flush()).map_err(failed)
}

/// Writes a `[rows, columns]` array of identities to a file, as i32.
///
/// # Errors
/// The file cannot be written.
pub fn write_ids(path: &Path, array: ArrayView2<'_, i32>) -> Result<()> {
    let failed = |error: io::Error| Error::failed(format!("{}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    put(&mut file, array, array.iter().copied()).and_then(|()| file.flush()).map_err(failed)
}

/// Writes a `[rows, columns]` array, in C order and little-endian.
///
/// # Errors
/// `to` cannot be written to.
pub(crate) fn write_to(to: &mut dyn Write, array: ArrayView2<'_, f32>, float: FloatType) -> io::Result<()> {
    match float {
        FloatType::F16 => put(to, array, array.iter().copied().map(f16::from_f32)),
        FloatType::F32 => put(to, array, array.iter().copied()),
    }
}

/// Writes `values` in the shape of `array`.
fn put<T: AutoSerialize, A>(
    to: &mut dyn Write,
    array: ArrayView2<'_, A>,
    values: impl Iterator<Item = T>,
) -> io::Result<()> {
    let shape = [array.nrows() as u64, array.ncols() as u64];
    let mut writer = WriteOptions::new().default_dtype().shape(&shape).writer(to).begin_nd()?;
    writer.extend(values)?;
    writer.finish()
}

/// Bytes of [`growing_header`].
pub(crate) const GROWING_HEADER: u64 = 128;

/// The header of a file of `rows` x `columns` f32, of the same length whatever their number is.
///
/// # Errors
/// The numbers are too large for it.
pub(crate) fn growing_header(rows: u64, columns: u64) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    let shape = [rows, columns];
    // The header is written first; the elements are the caller's.
    drop(WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(&mut header).begin_nd()?);
    if header.len() as u64 == GROWING_HEADER { Ok(header) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Reads an array of rank 2, or of higher rank whose other axes are 1, of f16, f32 or f64.
///
/// # Errors
/// The file is missing, is no such array, or is cut short; the message has its path.
pub fn read(path: &Path) -> Result<Array2<f32>> {
    parse(path).and_then(flat).map_err(|message| Error::failed(format!("{}: {message}", path.display())))
}

/// Reads an array of any rank, of f16, f32 or f64.
///
/// # Errors
/// As [`read`].
pub fn read_array(path: &Path) -> Result<ArrayD<f32>> {
    parse(path).map_err(|message| Error::failed(format!("{}: {message}", path.display())))
}

/// The array without the axes of size 1 beyond rank 2.
fn flat(array: ArrayD<f32>) -> Result<Array2<f32>, String> {
    let sizes = array.shape().to_vec();
    let wide: Vec<usize> =
        if sizes.len() > 2 { sizes.iter().copied().filter(|&size| size != 1).collect() } else { sizes.clone() };
    match wide[..] {
        [rows, columns] => array
            .as_standard_layout()
            .into_owned()
            .into_shape_with_order((rows, columns))
            .map_err(|error| error.to_string()),
        _ => Err(format!("its shape is {sizes:?}, expected [rows, columns]")),
    }
}

fn parse(path: &Path) -> Result<ArrayD<f32>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let length = match bytes[..] {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => u32::from(u16::from_le_bytes([a, b])),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]),
        [0x93, b'N', b'U', b'M', b'P', b'Y', version, ..] => {
            return Err(format!(".npy version {version} is not supported"));
        }
        _ => return Err("not a .npy file".to_owned()),
    };
    if length > MAX_HEADER {
        return Err(format!("its header claims {length} bytes"));
    }
    let mut data = bytes.as_slice();
    let header = npyz::NpyHeader::from_reader(&mut data).map_err(|error| format!("its header is damaged: {error}"))?;
    let descr = header.dtype().descr();
    let width = match descr.get(2..4) {
        Some("f2") => 2,
        Some("f4") => 4,
        Some("f8") => 8,
        _ => return Err(format!("its element type is {descr}, expected f16, f32 or f64")),
    };
    let sizes = header.shape().iter().map(|&size| usize::try_from(size)).collect::<Result<Vec<_>, _>>();
    let sizes = sizes.map_err(|_| "its shape is too large".to_owned())?;
    let needed =
        sizes.iter().try_fold(width, |bytes: usize, &size| bytes.checked_mul(size)).ok_or("its shape is too large")?;
    if data.len() != needed {
        return Err(format!("it has {} bytes of data, its shape {sizes:?} needs {needed}", data.len()));
    }
    let fortran = header.order() == Order::Fortran;
    let file = NpyFile::with_header(header, data);
    let values = match width {
        2 => file.into_vec().map(|values: Vec<f16>| values.into_iter().map(f16::to_f32).collect()),
        4 => file.into_vec(),
        _ => file.into_vec().map(|values: Vec<f64>| values.into_iter().map(|value| value as f32).collect()),
    };
    let values: Vec<f32> = values.map_err(|error| error.to_string())?;
    ArrayD::from_shape_vec(IxDyn(&sizes).set_f(fortran), values).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let array = Array2::from_shape_fn((3, 5), |(y, x)| y as f32 * 0.5 - x as f32);
        for float in [FloatType::F16, FloatType::F32] {
            let path = folder.path().join("a.npy");
            write(&path, array.view(), float).unwrap();
            assert_eq!(read(&path).unwrap(), array);
            // numpy.lib.format 1.0: the data start at a multiple of 64, behind a line feed.
            let header = std::fs::read(&path).unwrap();
            let length = usize::from(u16::from_le_bytes([header[8], header[9]]));
            assert_eq!((&header[6..8], (10 + length) % 64, header[9 + length]), (&[1, 0][..], 0, b'\n'));
        }
    }

    #[test]
    fn headers_of_files_that_grow_have_one_length() {
        for (rows, columns) in [(0, 0), (0, 64), (1, 1), (123_456_789_012, 4096)] {
            let header = growing_header(rows, columns).unwrap();
            assert!(String::from_utf8_lossy(&header).contains(&format!("({rows}, {columns}")), "{header:?}");
        }
    }

    #[test]
    fn damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write(&path, Array2::zeros((3, 5)).view(), FloatType::F32).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("a.npy") && error.contains("56 bytes") && error.contains("60"), "{error}");
        std::fs::write(&path, b"hello").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("not a .npy file"));
    }

    /// A file by its header's text, padded as the format wants, and its data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(((header.len() + 1) as u16).to_le_bytes());
        bytes.extend(header.bytes().chain([b'\n']));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_numpy_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let doubles: Vec<u8> = [1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let expected = ndarray::arr2(&[[1.0_f32, 3.0, 5.0], [2.0, 4.0, 6.0]]);
        let text = "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }";
        std::fs::write(&path, file(text, &doubles)).unwrap();
        assert_eq!(read(&path).unwrap(), expected);
        let big: Vec<u8> = [1.0_f32, 3.0, 5.0, 2.0, 4.0, 6.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let text = "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2, 3), }";
        std::fs::write(&path, file(text, &big)).unwrap();
        assert_eq!(read(&path).unwrap(), expected);
    }

    #[test]
    fn hostile_headers_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let huge = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", 1_u64 << 33, 1 << 30);
        for header in [
            "".to_owned(),
            "(".repeat(500),
            "(".repeat(60_000),
            huge,
            "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }".to_owned(),
            "{'descr': '<f4', 'shape': (2, 3), }".to_owned(),
        ] {
            std::fs::write(&path, file(&header, &[0; 24])).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("a.npy"), "{header}");
        }
    }
}
