//! What touches every pixel of a frame: `cargo bench --bench pixels`.

use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array2;
use oodstream::compute::Detection;
use oodstream::draw::{Caption, Painter, ScoreScale, Style, View};
use oodstream::frame::{Colour, I420, I420Mut, Matrix, Plane, PlaneMut, Range};
use oodstream::model::prepare::{InputSpec, Prepare, Window};

fn planes(width: usize, height: usize) -> [Vec<u8>; 3] {
    let noise = |length: usize| (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    [noise(width * height), noise(chroma), noise(chroma)]
}

fn view(planes: &[Vec<u8>; 3], width: usize, height: usize) -> I420<'_> {
    let plane = |index: usize, columns, rows| Plane { data: &planes[index], stride: columns, columns, rows };
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    I420 { y: plane(0, width, height), u: plane(1, cw, ch), v: plane(2, cw, ch), colour }
}

fn prepare(c: &mut Criterion) {
    for (width, height) in [(960, 540), (1280, 720), (1920, 1080)] {
        let planes = planes(width, height);
        let picture = view(&planes, width, height);
        let mean = [0.485, 0.456, 0.406];
        let std = [0.229, 0.224, 0.225];
        let mut prepare = Prepare::new(InputSpec { width: 640, height: 368, mean, std }).expect("a valid input");
        let window = Window { size: (640, 368), x: 0, y: 0 };
        let mut out = vec![0.0; prepare.input_len()];
        c.bench_function(&format!("prepare {width}x{height} to 640x368"), |b| {
            b.iter(|| prepare.run(&picture, window, &mut out).expect("planes that fit"));
        });
    }
}

/// A tenth of the picture marked, in four ellipses.
fn detection(width: usize, height: usize) -> Detection {
    let centres = [(0.2, 0.3), (0.7, 0.25), (0.3, 0.75), (0.8, 0.7)];
    // Each covers 2.5 % of the unit square.
    let radius = (0.025f32 / std::f32::consts::PI).sqrt();
    let score = Array2::from_shape_fn((height, width), |(y, x)| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        let nearest = centres.iter().map(|(cx, cy)| (x - cx).hypot(y - cy)).fold(f32::MAX, f32::min);
        2.0 - nearest / radius
    });
    let mask = score.mapv(|s| u8::from(s >= 1.0));
    let ood_share = mask.iter().map(|m| f32::from(*m)).sum::<f32>() / mask.len() as f32;
    Detection { grid_score: Array2::from_elem((46, 80), 1.0), score, mask, ood_share, ..Detection::default() }
}

fn paint(c: &mut Criterion) {
    for (view, name) in [(View::Overlay, "overlay"), (View::Heatmap, "heatmap"), (View::Mask, "mask")] {
        for (width, height) in [(1280, 720), (1920, 1080)] {
            let mut detection = detection(width, height);
            let [mut y, mut u, mut v] = planes(width, height);
            let mut painter = Painter::new(Style { view, ..Style::default() }).expect("a valid style");
            let caption = Caption { lines: vec!["clip.mp4   00:00:12.48".into()] };
            let mut frame = 0u32;
            c.bench_function(&format!("{name} {width}x{height}, {:.0} % marked", 100.0 * detection.ood_share), |b| {
                b.iter(|| {
                    // As in a video, the share differs from frame to frame and the legend with it.
                    frame += 1;
                    detection.ood_share = 0.1 + 0.001 * (frame % 100) as f32;
                    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
                    let mut picture = I420Mut {
                        y: PlaneMut { data: &mut y, stride: width, columns: width, rows: height },
                        u: PlaneMut { data: &mut u, stride: cw, columns: cw, rows: ch },
                        v: PlaneMut { data: &mut v, stride: cw, columns: cw, rows: ch },
                        colour: Colour { matrix: Matrix::Bt709, range: Range::Limited },
                    };
                    let scale = ScoreScale { low: 0.0, high: 2.0 };
                    painter.paint(&mut picture, &detection, scale, 1.0, &caption).expect("sizes that fit");
                });
            });
        }
    }
}

criterion_group!(benches, prepare, paint);
criterion_main!(benches);
