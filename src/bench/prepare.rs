//! The network's input from a 1280x720 picture.

use std::time::Instant;

use super::median;
use crate::Result;
use crate::frame::{Colour, I420, Matrix, Plane, Range};
use crate::model::prepare::{InputSpec, Prepare, Window};

/// The median in milliseconds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PrepareReport {
    /// Columns and rows of the picture.
    pub picture: (usize, usize),
    /// Columns and rows of the network's input.
    pub input: (usize, usize),
    /// One thread of the CPU.
    pub cpu_ms: f64,
}

/// Times `repeats` pictures; one more warms up.
///
/// # Errors
/// As [`Prepare::new`].
pub fn prepare(spec: InputSpec, repeats: usize) -> Result<PrepareReport> {
    const PICTURE: (usize, usize) = (1280, 720);
    let (width, height) = PICTURE;
    let samples: Vec<u8> = (0..width * height * 3 / 2).map(|i| (i * 7 + i / width * 3) as u8).collect();
    let plane = |first: usize, columns: usize, rows: usize| Plane {
        data: &samples[first..first + columns * rows],
        stride: columns,
        columns,
        rows,
    };
    let picture = I420 {
        y: plane(0, width, height),
        u: plane(width * height, width / 2, height / 2),
        v: plane(width * height * 5 / 4, width / 2, height / 2),
        colour: Colour { matrix: Matrix::Bt709, range: Range::Limited },
    };
    let mut on_cpu = Prepare::new(spec)?;
    let mut input = vec![0.0; on_cpu.input_len()];
    let window = Window { size: (spec.width, spec.height), x: 0, y: 0 };
    let cpu_ms = time(repeats, || on_cpu.run(&picture, window, &mut input))?;
    Ok(PrepareReport { picture: PICTURE, input: (spec.width, spec.height), cpu_ms })
}

fn time(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let begin = Instant::now();
        work()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&mut times))
}
