//! I420 to the network's input against a naive f64 reference and against values that Pillow gives.

use oodstream::frame::{Colour, I420, Matrix, Plane, Range};
use oodstream::model::prepare::{InputSpec, Prepare, Window};
use proptest::prelude::*;

/// A picture that owns its planes, padding filled with a value that must never be read.
struct Picture {
    planes: [Vec<u8>; 3],
    width: usize,
    height: usize,
    padding: usize,
    colour: Colour,
}

impl Picture {
    fn random(width: usize, height: usize, padding: usize, colour: Colour, seed: u64) -> Self {
        let mut state = seed | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        let mut plane = |columns: usize, rows: usize| {
            let stride = columns + padding;
            (0..stride * rows).map(|i| if i % stride < columns { byte() } else { 0xaa }).collect()
        };
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        Self { planes: [plane(width, height), plane(cw, ch), plane(cw, ch)], width, height, padding, colour }
    }

    fn view(&self) -> I420<'_> {
        let plane = |index: usize, columns: usize, rows: usize| Plane {
            data: &self.planes[index],
            stride: columns + self.padding,
            columns,
            rows,
        };
        let (cw, ch) = (self.width.div_ceil(2), self.height.div_ceil(2));
        I420 { y: plane(0, self.width, self.height), u: plane(1, cw, ch), v: plane(2, cw, ch), colour: self.colour }
    }
}

/// Two-dimensional triangle filter at output pixel (x, y), weights evaluated over the whole plane.
fn sample(plane: &Plane<'_>, span: (f64, f64), out: (usize, usize), x: usize, y: usize) -> f64 {
    let weights = |span: f64, out: usize, at: usize, samples: usize| -> Vec<f64> {
        let scale = span / out as f64;
        let support = scale.max(1.0);
        let centre = (at as f64 + 0.5) * scale;
        let mut w: Vec<f64> =
            (0..samples).map(|i| (1.0 - ((i as f64 + 0.5 - centre) / support).abs()).max(0.0)).collect();
        let sum: f64 = w.iter().sum();
        w.iter_mut().for_each(|w| *w /= sum);
        w
    };
    let across = weights(span.0, out.0, x, plane.columns);
    let down = weights(span.1, out.1, y, plane.rows);
    let mut sum = 0.0;
    for (row, wy) in down.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        for (column, wx) in across.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            sum += wy * wx * f64::from(plane.row(row)[column]);
        }
    }
    sum
}

/// R'G'B' in 0..1 by the equations of BT.601/709, written out rather than as a matrix.
fn rgb(y: f64, u: f64, v: f64, colour: Colour) -> [f64; 3] {
    let (kr, kb) = match colour.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let (y, pb, pr) = match colour.range {
        Range::Limited => ((y - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0),
        Range::Full => (y / 255.0, (u - 128.0) / 255.0, (v - 128.0) / 255.0),
    };
    let r = y + 2.0 * (1.0 - kr) * pr;
    let b = y + 2.0 * (1.0 - kb) * pb;
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|c| c.clamp(0.0, 1.0))
}

/// The largest difference to the reference in R'G'B' 0..1, and whether the padding is exactly the mean colour.
fn compare(picture: &Picture, spec: InputSpec, window: Window) -> (f64, bool) {
    let mut prepare = Prepare::new(spec).unwrap();
    let mut out = vec![f32::NAN; prepare.input_len()];
    let view = picture.view();
    prepare.run(&view, window, &mut out).unwrap();
    let (width, height) = (picture.width as f64, picture.height as f64);
    let size = window.size;
    let (mut worst, mut padded) = (0.0f64, true);
    for y in 0..spec.height {
        for x in 0..spec.width {
            let got: [f32; 3] = std::array::from_fn(|c| out[(c * spec.height + y) * spec.width + x]);
            let (cx, cy) = ((x as isize + window.x) as usize, (y as isize + window.y) as usize);
            if cx >= size.0 || cy >= size.1 {
                padded &= got == [0.0; 3];
                continue;
            }
            let half = (width / 2.0, height / 2.0);
            let want = rgb(
                sample(&view.y, (width, height), size, cx, cy),
                sample(&view.u, half, size, cx, cy),
                sample(&view.v, half, size, cx, cy),
                picture.colour,
            );
            for c in 0..3 {
                let value = f64::from(got[c]) * f64::from(spec.std[c]) + f64::from(spec.mean[c]);
                // NaN must not hide in `max`.
                worst = if value.is_nan() { f64::INFINITY } else { worst.max((value - want[c]).abs()) };
            }
        }
    }
    (worst, padded)
}

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The whole picture at this size.
fn all(width: usize, height: usize) -> Window {
    Window { size: (width, height), x: 0, y: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equals_the_reference(
        picture in (1usize..90, 1usize..70),
        padding in 0usize..9,
        input in (1usize..60, 1usize..50),
        size in (1usize..120, 1usize..100),
        start in (-70isize..130, -60isize..110),
        whole: bool, bt709: bool, full: bool, seed: u64,
    ) {
        let colour = Colour {
            matrix: if bt709 { Matrix::Bt709 } else { Matrix::Bt601 },
            range: if full { Range::Full } else { Range::Limited },
        };
        let picture = Picture::random(picture.0, picture.1, padding, colour, seed);
        let spec = InputSpec { width: input.0, height: input.1, mean: MEAN, std: STD };
        let window = if whole { all(input.0, input.1) } else { Window { size, x: start.0, y: start.1 } };
        let (worst, padded) = compare(&picture, spec, window);
        prop_assert!(worst <= 0.05 / 255.0, "differs by {} of 255", worst * 255.0);
        prop_assert!(padded);
    }
}

#[test]
fn equals_the_reference_on_a_road_camera_size() {
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    let picture = Picture::random(640, 360, 32, colour, 7);
    let spec = InputSpec { width: 320, height: 184, mean: MEAN, std: STD };
    let (worst, _) = compare(&picture, spec, all(320, 184));
    assert!(worst <= 0.05 / 255.0, "differs by {} of 255", worst * 255.0);
}

/// `Image.fromarray(row, mode="F").resize((n, 1), Image.BILINEAR)` of Pillow 13.0.0.
#[test]
fn filters_as_pillow_does() {
    let row = [0u8, 10, 40, 90, 160, 250, 120, 30, 200, 60, 255];
    let chroma = [128u8; 6];
    let plane = |data, columns| Plane { data, stride: columns, columns, rows: 1 };
    let colour = Colour { matrix: Matrix::Bt601, range: Range::Full };
    let picture = I420 { y: plane(&row, 11), u: plane(&chroma, 6), v: plane(&chroma, 6), colour };
    let pillow: [&[f32]; 3] = [
        &[21.851852, 134.16667, 131.33333, 145.09259],
        &[4.0, 40.0, 117.5, 203.6842, 80.0, 132.77777, 177.0],
        &[
            0.0, 4.7058825, 13.529411, 32.941177, 60.588234, 94.117645, 139.41176, 191.76471, 250.0, 165.88235,
            93.52941, 35.294117, 130.0, 167.05882, 76.47059, 163.23529, 255.0,
        ],
    ];
    for want in pillow {
        let spec = InputSpec { width: want.len(), height: 1, mean: [0.0; 3], std: [1.0; 3] };
        let mut prepare = Prepare::new(spec).unwrap();
        let mut out = vec![f32::NAN; prepare.input_len()];
        prepare.run(&picture, all(want.len(), 1), &mut out).unwrap();
        for (got, want) in out.iter().zip(want.iter().cycle()) {
            assert!((got * 255.0 - want).abs() < 0.01, "{} is not Pillow's {want}", got * 255.0);
        }
    }
}

#[test]
fn pictures_of_several_sizes_take_turns() {
    let colour = Colour { matrix: Matrix::Bt601, range: Range::Limited };
    let spec = InputSpec { width: 20, height: 12, mean: MEAN, std: STD };
    let window = Window { size: (20, 9), x: 0, y: -1 };
    let pictures: Vec<Picture> =
        (0..40).map(|i| Picture::random(16 + 7 * i, 50 - i, i % 3, colour, i as u64 + 1)).collect();
    let mut shared = Prepare::new(spec).unwrap();
    let (mut one, mut other) = (vec![f32::NAN; shared.input_len()], vec![f32::NAN; shared.input_len()]);
    for picture in pictures.iter().chain(&pictures) {
        shared.run(&picture.view(), window, &mut one).unwrap();
        Prepare::new(spec).unwrap().run(&picture.view(), window, &mut other).unwrap();
        assert_eq!(one, other);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let colour = Colour { matrix: Matrix::Bt601, range: Range::Limited };
    let spec = InputSpec { width: 8, height: 8, mean: MEAN, std: STD };
    let picture = Picture::random(16, 16, 0, colour, 3);
    let mut prepare = Prepare::new(spec).unwrap();
    let error = prepare.run(&picture.view(), all(8, 8), &mut [0.0; 10]).unwrap_err().to_string();
    assert!(error.contains("192") && error.contains("10"), "{error}");
    let mut out = vec![0.0; prepare.input_len()];
    let mut view = picture.view();
    view.u.columns = 7;
    let error = prepare.run(&view, all(8, 8), &mut out).unwrap_err().to_string();
    assert!(error.contains("16x16") && error.contains("U plane is 7x8"), "{error}");
    let mut view = picture.view();
    view.y.data = &view.y.data[..255];
    assert!(prepare.run(&view, all(8, 8), &mut out).is_err());
    let nothing = Window { size: (0, 8), x: 0, y: 0 };
    assert!(prepare.run(&picture.view(), nothing, &mut out).is_err());
    assert!(Prepare::new(InputSpec { std: [0.0, 1.0, 1.0], ..spec }).is_err());
    assert!(Prepare::new(InputSpec { width: 0, ..spec }).is_err());
}
