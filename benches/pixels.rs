//! What touches every pixel of a frame: `cargo bench --bench pixels`.

use criterion::{Criterion, criterion_group, criterion_main};
use oodstream::frame::{Colour, I420, Matrix, Plane, Range};
use oodstream::model::prepare::{InputSpec, Prepare, Resize};

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
        let mut prepare = Prepare::new(InputSpec { width: 640, height: 368, mean, std, resize: Resize::Stretch })
            .expect("a valid input");
        let mut out = vec![0.0; prepare.len()];
        c.bench_function(&format!("prepare {width}x{height} to 640x368"), |b| {
            b.iter(|| prepare.run(&picture, &mut out).expect("planes that fit"));
        });
    }
}

criterion_group!(benches, prepare);
criterion_main!(benches);
