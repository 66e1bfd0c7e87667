//! The shader that makes the network's input gives what the CPU gives.

use oodstream::frame::{Colour, I420, Matrix, Plane, Range};
use oodstream::model::prepare::{GpuPrepare, InputSpec, Prepare, Window};
use support::adapter::gpu;

/// A picture with `padding` bytes behind each row that must never be read; neighbouring samples are alike in half of it and
/// noise in the other, code values beyond the limited range included.
struct Picture {
    planes: [Vec<u8>; 3],
    size: (usize, usize),
    padding: usize,
    colour: Colour,
}

impl Picture {
    fn random(size: (usize, usize), padding: usize, colour: Colour, seed: u64) -> Self {
        let mut state = seed | 1;
        let mut plane = |columns: usize, rows: usize| {
            let stride = columns + padding;
            let byte = |i: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (x, y) = (i % stride, i / stride);
                match (x >= columns, x < columns / 2) {
                    (true, _) => 0xaa,
                    (_, true) => (255 * (x + y) / (columns + rows)) as u8,
                    _ => (state >> 40) as u8,
                }
            };
            (0..stride * rows).map(byte).collect()
        };
        let (cw, ch) = (size.0.div_ceil(2), size.1.div_ceil(2));
        Self { planes: [plane(size.0, size.1), plane(cw, ch), plane(cw, ch)], size, padding, colour }
    }

    fn view(&self) -> I420<'_> {
        let plane = |index: usize, columns: usize, rows: usize| Plane {
            data: &self.planes[index],
            stride: columns + self.padding,
            columns,
            rows,
        };
        let (width, height) = self.size;
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        I420 { y: plane(0, width, height), u: plane(1, cw, ch), v: plane(2, cw, ch), colour: self.colour }
    }
}

fn colours() -> [Colour; 4] {
    [
        (Matrix::Bt601, Range::Limited),
        (Matrix::Bt601, Range::Full),
        (Matrix::Bt709, Range::Limited),
        (Matrix::Bt709, Range::Full),
    ]
    .map(|(matrix, range)| Colour { matrix, range })
}

/// A whole picture brought to this size.
fn all(width: usize, height: usize) -> Window {
    Window { size: (width, height), x: 0, y: 0 }
}

/// Largest difference of the two, in units of normalised RGB.
#[track_caller]
fn difference(on_gpu: &mut GpuPrepare, on_cpu: &mut Prepare, picture: &Picture, window: Window) -> f32 {
    let (mut found, mut want) = (vec![f32::NAN; on_cpu.input_len()], vec![f32::NAN; on_cpu.input_len()]);
    on_cpu.run(&picture.view(), window, &mut want).unwrap();
    on_gpu.run(&picture.view(), window).unwrap();
    on_gpu.read(&mut found).unwrap();
    assert!(
        picture.size.0 * picture.size.1 < 10 || want.iter().any(|v| *v != want[0]),
        "a picture of one colour proves nothing"
    );
    found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

#[test]
fn pictures_of_all_kinds_are_equal_to_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let pictures = [(64, 48), (131, 75), (33, 21), (17, 90), (320, 180), (3, 2), (1, 1)];
    let mut worst = 0f32;
    for (width, height) in [(64, 40), (200, 111), (9, 7)] {
        // The whole picture, one with padding around it, and a part of an enlarged one.
        let windows = [
            all(width, height),
            Window { size: (width.div_ceil(2), height.div_ceil(2)), x: -2, y: -1 },
            Window { size: (2 * width, 2 * height), x: 3, y: 5 },
        ];
        for window in windows {
            let spec = InputSpec { width, height, mean: [0.0; 3], std: [1.0; 3] };
            let (mut on_gpu, mut on_cpu) = (GpuPrepare::new(&gpu, spec).unwrap().unwrap(), Prepare::new(spec).unwrap());
            for (n, size) in pictures.into_iter().enumerate() {
                let picture = Picture::random(size, n * 5 % 7, colours()[n % 4], n as u64 + 1);
                let differs = difference(&mut on_gpu, &mut on_cpu, &picture, window);
                assert!(differs <= 1.0 / 255.0, "{size:?} to {width} x {height}, {window:?}: {differs}");
                worst = worst.max(differs);
            }
        }
    }
    eprintln!("largest difference {worst:e}");
}

#[test]
fn every_matrix_and_range_with_normalisation_is_equal() {
    let Some(gpu) = gpu() else { return };
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let spec = InputSpec { width: 90, height: 50, mean, std };
    let (mut on_gpu, mut on_cpu) = (GpuPrepare::new(&gpu, spec).unwrap().unwrap(), Prepare::new(spec).unwrap());
    for (n, colour) in colours().into_iter().enumerate() {
        let picture = Picture::random((151, 83), 3, colour, 40 + n as u64);
        let differs = difference(&mut on_gpu, &mut on_cpu, &picture, all(90, 50));
        assert!(differs <= 1.0 / 255.0 / 0.229, "{colour:?}: {differs}");
    }
}

#[test]
fn a_second_picture_of_a_size_makes_no_buffers_and_a_bad_one_is_refused() {
    let Some(gpu) = gpu() else { return };
    let spec = InputSpec { width: 40, height: 30, mean: [0.5; 3], std: [0.25; 3] };
    let mut prepare = GpuPrepare::new(&gpu, spec).unwrap().unwrap();
    let picture = Picture::random((80, 60), 4, colours()[0], 9);
    prepare.run(&picture.view(), all(40, 30)).unwrap();
    let buffers = gpu.buffers_created();
    prepare.run(&picture.view(), all(40, 30)).unwrap();
    assert_eq!(gpu.buffers_created(), buffers);
    let mut short = picture.view();
    short.u.data = &short.u.data[..50];
    assert!(prepare.run(&short, all(40, 30)).unwrap_err().to_string().contains('U'));
    assert!(prepare.read(&mut [0.0; 7]).unwrap_err().to_string().contains("3600"));
}
