//! The stages that touch every pixel allocate nothing once they are warm.

use ndarray::{Array2, Array3};
use oodstream::compute::{Detection, Maps};
use oodstream::draw::{Caption, Painter, ScoreScale, Style, View, beside_width};
use oodstream::frame::{Colour, I420, I420Mut, Matrix, Plane, PlaneMut, Range};
use oodstream::model::prepare::{InputSpec, Prepare, Window};
use oodstream::model::views::layout as views;
use oodstream::model::views::merge::{Merge, MergedMaps};
use oodstream::model::views::{Resize, Views};
use support::counting::{self, of_this_thread as count};

const COLOUR: Colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };

fn view<'a>([y, u, v]: [&'a mut [u8]; 3], width: usize, height: usize) -> I420Mut<'a> {
    let plane = |data, columns, rows| PlaneMut { data, stride: columns, columns, rows };
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    I420Mut { y: plane(y, width, height), u: plane(u, cw, ch), v: plane(v, cw, ch), colour: COLOUR }
}

#[test]
fn prepare_allocates_only_for_a_new_picture_size() {
    let _alone = counting::alone();
    let spec = InputSpec { width: 160, height: 96, mean: [0.5; 3], std: [0.2; 3] };
    let mut prepare = Prepare::new(spec).unwrap();
    let mut out = vec![0.0; prepare.input_len()];
    let data = vec![77u8; 320 * 240];
    let mut run = |width: usize, height: usize| {
        let plane = |columns: usize, rows: usize| Plane { data: &data, stride: columns, columns, rows };
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        let picture = I420 { y: plane(width, height), u: plane(cw, ch), v: plane(cw, ch), colour: COLOUR };
        prepare.run(&picture, Window { size: (160, 90), x: 0, y: -3 }, &mut out).unwrap();
    };
    assert!(count(|| run(320, 240)) > 0, "the counter counts");
    run(201, 99);
    let warm = count(|| {
        for _ in 0..10 {
            run(320, 240);
            run(201, 99);
        }
    });
    assert_eq!(warm, 0);
}

#[test]
fn painting_allocates_nothing_once_it_knows_the_digits() {
    let _alone = counting::alone();
    let (width, height) = (640, 360);
    let score = Array2::from_shape_fn((height, width), |(y, x)| ((x / 50 + y / 40) % 5) as f32 / 4.0);
    let mask = score.mapv(|s| u8::from(s > 0.7));
    let mut found = Detection { grid_score: Array2::ones((4, 4)), score, mask, ..Detection::default() };
    let caption = Caption { lines: vec!["clip.mp4".into()] };
    let scale = ScoreScale { low: 0.0, high: 1.0 };
    for style in [View::Overlay, View::Heatmap, View::Mask, View::SideBySide] {
        let mut painter = Painter::new(Style { view: style, ..Style::default() }).unwrap();
        let wide = beside_width(width);
        let source = [vec![90u8; width * height], vec![120; width * height / 4], vec![140; width * height / 4]];
        let [mut y, mut u, mut v] = [vec![0u8; wide * height], vec![0; wide * height / 4], vec![0; wide * height / 4]];
        let mut draw = |share: f32| {
            found.ood_share = share;
            if style == View::SideBySide {
                let plane = |i: usize, columns, rows| Plane { data: &source[i][..], stride: columns, columns, rows };
                let (cw, ch) = (width / 2, height / 2);
                let from =
                    I420 { y: plane(0, width, height), u: plane(1, cw, ch), v: plane(2, cw, ch), colour: COLOUR };
                let mut to = view([&mut y, &mut u, &mut v], wide, height);
                painter.paint_beside(&from, &mut to, &found, scale, 0.7, &caption).unwrap();
            } else {
                let mut picture = view([&mut y, &mut u, &mut v], width, height);
                painter.paint(&mut picture, &found, scale, 0.7, &caption).unwrap();
            }
        };
        assert!(count(|| draw(0.0)) > 0, "the counter counts");
        // The second round meets no glyph at a place where it has not been.
        let mut round = || (0..=1000).step_by(37).for_each(|share| draw(share as f32 / 1000.0));
        round();
        let allocations = count(round);
        assert_eq!(allocations, 0, "{style:?}");
    }
}

#[test]
fn merging_allocates_only_for_a_new_size() {
    let _alone = counting::alone();
    let spec = InputSpec { width: 64, height: 32, mean: [0.5; 3], std: [0.2; 3] };
    let looks = Views { resize: Resize::Tile, flip: true, scales: vec![1.0, 1.5], ..Views::default() };
    let layouts = [(100, 50), (120, 60)].map(|frame| views::Layout::new(&looks, &spec, frame).unwrap());
    let (logits, features) = (Array3::ones((4, 16, 32)), Array3::ones((8, 8, 16)));
    let mut merge = Merge::default();
    let mut canvases = [MergedMaps::default(), MergedMaps::default()];
    let mut round = || {
        for (layout, canvas) in layouts.iter().zip(&mut canvases) {
            let maps = Maps { logits: logits.view(), features: &[features.view()], picture: None };
            for view in 0..layout.views().len() {
                merge.add(layout, view, &maps, canvas).unwrap();
            }
            canvas
                .with_maps(|maps| {
                    assert!(maps.logits.iter().chain(maps.features[0].iter()).all(|value| (value - 1.0).abs() < 1e-5));
                    Ok(())
                })
                .unwrap();
        }
    };
    assert!(count(&mut round) > 0, "the counter counts");
    assert_eq!(count(&mut round), 0);
}
