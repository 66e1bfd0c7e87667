//! NumPy's `.npy` files of little-endian floats, as far as score maps and codebooks need them.
//!
//! Format: numpy.lib.format, versions 1 and 2; C order only.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use half::f16;
use ndarray::{Array2, ArrayView2};

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

const MAGIC: &[u8] = b"\x93NUMPY";

/// Writes a `[rows, columns]` array.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, array: ArrayView2<'_, f32>, float: FloatType) -> Result<()> {
    let failed = |error: std::io::Error| Error::failed(format!("{}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let descr = match float {
        FloatType::F16 => "<f2",
        FloatType::F32 => "<f4",
    };
    let (rows, columns) = array.dim();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version, length and header together fill a multiple of 64 bytes and end in a newline.
    let padding = 64 - (MAGIC.len() + 4 + header.len() + 1) % 64;
    header.extend(std::iter::repeat_n(' ', padding % 64));
    header.push('\n');
    let mut bytes = Vec::with_capacity(array.len() * 4 + 128);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    for &value in array {
        match float {
            FloatType::F16 => bytes.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
            FloatType::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
        }
    }
    file.write_all(&bytes).and_then(|()| file.flush()).map_err(failed)
}

/// Reads an array of rank 2, or of higher rank whose other axes are 1, of f16, f32 or f64.
///
/// # Errors
/// The file is missing, is no such array, or is cut short; the message has its path.
pub fn read(path: &Path) -> Result<Array2<f32>> {
    parse(path).map_err(|message| Error::failed(format!("{}: {message}", path.display())))
}

fn parse(path: &Path) -> Result<Array2<f32>, String> {
    let mut file = BufReader::new(File::open(path).map_err(|error| error.to_string())?);
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| "not a .npy file".to_owned())?;
    if &start[..6] != MAGIC {
        return Err("not a .npy file".to_owned());
    }
    let length = match start[6] {
        1 => {
            let mut bytes = [0; 2];
            file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
            usize::from(u16::from_le_bytes(bytes))
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
            u32::from_le_bytes(bytes) as usize
        }
        version => return Err(format!(".npy version {version} is not supported")),
    };
    if length > 1 << 16 {
        return Err(format!("its header claims {length} bytes"));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(|_| "its header is cut short".to_owned())?;
    let header = String::from_utf8_lossy(&header).replace('"', "'");
    if value_of(&header, "fortran_order").is_some_and(|value| value.starts_with("True")) {
        return Err("it is in Fortran order; save it with numpy.ascontiguousarray".to_owned());
    }
    let descr = value_of(&header, "descr").unwrap_or_default();
    let descr = descr.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let width = match descr {
        "<f2" => 2,
        "<f4" => 4,
        "<f8" => 8,
        other => return Err(format!("its element type is `{other}`, expected f16, f32 or f64, little-endian")),
    };
    let (rows, columns) = shape(&header)?;
    let bytes = rows.checked_mul(columns).and_then(|count| count.checked_mul(width)).ok_or("its shape is too large")?;
    let mut data = Vec::new();
    file.read_to_end(&mut data).map_err(|error| error.to_string())?;
    if data.len() != bytes {
        return Err(format!("it has {} bytes of data, its shape [{rows}, {columns}] needs {bytes}", data.len()));
    }
    let values: Vec<f32> = match width {
        2 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        4 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        _ => data
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
            .collect(),
    };
    Array2::from_shape_vec((rows, columns), values).map_err(|error| error.to_string())
}

fn value_of<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let after = header.split_once(&format!("'{key}'"))?.1;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn shape(header: &str) -> Result<(usize, usize), String> {
    let text = value_of(header, "shape")
        .and_then(|value| value.strip_prefix('('))
        .and_then(|value| value.split(')').next())
        .ok_or("its header has no shape")?;
    let sizes = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse::<usize>().map_err(|_| format!("its shape is ({text})")))
        .collect::<Result<Vec<_>, _>>()?;
    let wide: Vec<usize> =
        if sizes.len() > 2 { sizes.iter().copied().filter(|&size| size != 1).collect() } else { sizes };
    match wide[..] {
        [rows, columns] => Ok((rows, columns)),
        _ => Err(format!("its shape is ({text}), expected (rows, columns)")),
    }
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
            let header = std::fs::read(&path).unwrap();
            let length = usize::from(u16::from_le_bytes([header[8], header[9]]));
            assert_eq!((10 + length) % 64, 0);
            assert_eq!(header[9 + length], b'\n');
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
}
