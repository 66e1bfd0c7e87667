//! What is drawn where, and that everything else stays as it was.

use ndarray::Array2;
use oodstream::compute::Detection;
use oodstream::draw::{Caption, Painter, Palette, ScoreScale, Style, View, beside_width};
use oodstream::frame::{Colour, I420, I420Mut, Matrix, Plane, PlaneMut, Range};
use proptest::prelude::*;

const BT709: Colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
const SCALE: ScoreScale = ScoreScale { low: 0.0, high: 1.0 };
const VIEWS: [View; 4] = [View::Overlay, View::Heatmap, View::SideBySide, View::Mask];

/// A picture that owns its planes.
#[derive(Clone, PartialEq)]
struct Picture {
    planes: [Vec<u8>; 3],
    width: usize,
    height: usize,
    padding: usize,
    colour: Colour,
}

impl Picture {
    fn new(width: usize, height: usize, padding: usize, mut value: impl FnMut(usize, usize) -> u8) -> Self {
        let mut plane = |index: usize, columns: usize, rows: usize| {
            let stride = columns + padding;
            (0..stride * rows).map(|i| if i % stride < columns { value(index, i) } else { 0xaa }).collect()
        };
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        let planes = [plane(0, width, height), plane(1, cw, ch), plane(2, cw, ch)];
        Self { planes, width, height, padding, colour: BT709 }
    }

    fn noise(width: usize, height: usize, padding: usize, seed: u64) -> Self {
        let mut state = seed | 1;
        Self::new(width, height, padding, |_, _| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
    }

    /// One colour all over.
    fn flat(width: usize, height: usize, yuv: [u8; 3]) -> Self {
        Self::new(width, height, 0, |plane, _| yuv[plane])
    }

    fn sizes(&self) -> [(usize, usize); 3] {
        let chroma = (self.width.div_ceil(2), self.height.div_ceil(2));
        [(self.width, self.height), chroma, chroma]
    }

    fn view(&self) -> I420<'_> {
        let plane = |i: usize| {
            let (columns, rows) = self.sizes()[i];
            Plane { data: &self.planes[i], stride: columns + self.padding, columns, rows }
        };
        I420 { y: plane(0), u: plane(1), v: plane(2), colour: self.colour }
    }

    fn view_mut(&mut self) -> I420Mut<'_> {
        let (sizes, padding, colour) = (self.sizes(), self.padding, self.colour);
        let [y, u, v] = &mut self.planes;
        let plane = |i: usize, data| {
            let (columns, rows): (usize, usize) = sizes[i];
            PlaneMut { data, stride: columns + padding, columns, rows }
        };
        I420Mut { y: plane(0, y), u: plane(1, u), v: plane(2, v), colour }
    }

    /// Code values of the pixel at `(x, y)`.
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let view = self.view();
        [view.y.row(y)[x], view.u.row(y / 2)[x / 2], view.v.row(y / 2)[x / 2]]
    }
}

fn detection(width: usize, height: usize, score: impl Fn(usize, usize) -> f32) -> Detection {
    let score = Array2::from_shape_fn((height, width), |(y, x)| score(x, y));
    let mask = score.mapv(|s| u8::from(s >= 0.5));
    let ood_share = mask.iter().map(|m| f32::from(*m)).sum::<f32>() / mask.len() as f32;
    Detection { grid_score: Array2::from_elem((2, 2), 0.75), score, mask, ood_share, ..Detection::default() }
}

fn painter(view: View, opacity: f32, legend: bool) -> Painter {
    Painter::new(Style { view, opacity, legend, palette: Palette::Viridis }).unwrap()
}

fn paint(painter: &mut Painter, picture: &mut Picture, detection: &Detection) {
    painter.paint(&mut picture.view_mut(), detection, SCALE, 0.5, &Caption::default()).unwrap();
}

/// Entry `index` of viridis in code values, by the equations of BT.709.
fn viridis(index: u8) -> [f32; 3] {
    let [r, g, b] = Palette::Viridis.rgb(index).map(|c| f32::from(c) / 255.0);
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    [16.0 + 219.0 * y, 128.0 + 224.0 * (b - y) / 1.8556, 128.0 + 224.0 * (r - y) / 1.5748]
}

fn near(got: [u8; 3], want: [f32; 3]) -> bool {
    got.iter().zip(want).all(|(g, w)| (f32::from(*g) - w).abs() <= 2.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any size, stride and mask in any view: no panic, nothing outside the picture is written, and the overlay leaves
    /// alone what is not near the mask.
    #[test]
    fn stays_within_its_bounds(
        size in (1usize..100, 1usize..70), padding in 0usize..7, seed: u64, view in 0usize..4, legend: bool,
        spot in (0usize..100, 0usize..70, 0usize..20),
    ) {
        let (width, height) = size;
        let (view, reach) = (VIEWS[view], 16);
        let distance = |x: usize, y: usize| x.abs_diff(spot.0).max(y.abs_diff(spot.1));
        let found = detection(width, height, |x, y| if distance(x, y) < spot.2 { 0.9 } else { 0.1 });
        let before = Picture::noise(width, height, padding, seed);
        let mut after = before.clone();
        paint(&mut painter(view, 0.5, legend), &mut after, &found);
        for (plane, (columns, _)) in after.planes.iter().zip(after.sizes()) {
            let stride = columns + padding;
            prop_assert!(plane.iter().enumerate().all(|(i, v)| i % stride < columns || *v == 0xaa));
        }
        if view == View::Overlay {
            for y in 0..height {
                for x in 0..width {
                    if distance(x, y) >= spot.2 + reach {
                        prop_assert_eq!(after.at(x, y), before.at(x, y), "at {} {}", x, y);
                    }
                }
            }
        }
    }

    /// A picture with nothing found in it comes out of the overlay bit for bit.
    #[test]
    fn nothing_found_nothing_drawn(size in (1usize..200, 1usize..90), padding in 0usize..5, seed: u64) {
        let before = Picture::noise(size.0, size.1, padding, seed);
        let mut after = before.clone();
        paint(&mut painter(View::Overlay, 1.0, false), &mut after, &detection(size.0, size.1, |_, _| 0.2));
        prop_assert!(after == before);
    }
}

#[test]
fn the_heat_colour_is_mixed_in_by_opacity() {
    let scene = [100, 90, 150];
    for opacity in [0.0f32, 0.3, 1.0] {
        // Everything is marked, so there is no edge. Over the bare picture the colour map starts at entry 110.
        let mut picture = Picture::flat(96, 64, scene);
        paint(&mut painter(View::Overlay, opacity, false), &mut picture, &detection(96, 64, |_, _| 0.75));
        let heat = viridis((110.0f32 + 0.75 * 145.0).round() as u8);
        let want = [0, 1, 2].map(|i| f32::from(scene[i]) * (1.0 - opacity) + heat[i] * opacity);
        for at in [(0, 0), (95, 63), (40, 30)] {
            assert!(near(picture.at(at.0, at.1), want), "{:?} for {want:?}", picture.at(at.0, at.1));
        }
    }
}

#[test]
fn the_heat_map_covers_the_whole_picture() {
    let mut picture = Picture::flat(128, 32, [60, 40, 200]);
    // The lower threshold of 0.5 is passed nowhere: no outline.
    paint(&mut painter(View::Heatmap, 1.0, false), &mut picture, &detection(128, 32, |x, _| x as f32 / 260.0));
    for x in [1usize, 50, 126] {
        let want = viridis((x as f32 / 260.0 * 255.0).round() as u8);
        assert!(near(picture.at(x, 9), want), "{:?} for {want:?} at {x}", picture.at(x, 9));
    }
    // Scores outside of the scale and no score at all have a colour too.
    for (score, index) in [(-7.0, 0), (f32::NEG_INFINITY, 0), (f32::NAN, 0), (0.499, 127)] {
        let mut picture = Picture::flat(64, 16, [60, 40, 200]);
        paint(&mut painter(View::Heatmap, 1.0, false), &mut picture, &detection(64, 16, |_, _| score));
        assert!(near(picture.at(30, 9), viridis(index)), "{score}");
    }
}

#[test]
fn the_mask_view_at_full_opacity_is_black_and_white() {
    let mut picture = Picture::noise(200, 100, 0, 5);
    paint(&mut painter(View::Mask, 1.0, false), &mut picture, &detection(200, 100, |x, _| x as f32 / 200.0));
    for y in 0..100 {
        for x in 0..200 {
            let want = if x < 96 { 16 } else { 235 };
            if !(96..104).contains(&x) {
                assert_eq!(picture.at(x, y), [want, 128, 128], "{x} {y}");
            }
        }
    }
}

#[test]
fn the_outline_is_a_light_line_between_dark_ones_along_the_edge() {
    for (height, want) in [(720usize, 2.0f32), (1080, 3.0)] {
        let mut picture = Picture::flat(256, height, [110, 128, 128]);
        // Opacity 0 leaves the outline alone.
        paint(&mut painter(View::Overlay, 0.0, false), &mut picture, &detection(256, height, |x, _| x as f32 / 256.0));
        let line: Vec<f32> = picture.view().y.row(height / 2).iter().map(|y| f32::from(*y)).collect();
        // Covered area of the line in pixels: what is lighter than the picture, of the step to white.
        let light: f32 = line.iter().map(|y| (y - 110.0).max(0.0) / 125.0).sum();
        assert!((light - want).abs() < 0.7, "{light} wide at {height} rows");
        let brightest = (0..256).max_by(|a, b| line[*a].total_cmp(&line[*b])).unwrap();
        assert!((126..=129).contains(&brightest), "at {brightest}");
        assert!(line[..brightest].iter().any(|y| *y < 100.0) && line[brightest..].iter().any(|y| *y < 100.0));
        // The border of the picture is no edge of the mask.
        assert_eq!(picture.at(255, 3), [110, 128, 128]);
        assert_eq!(picture.at(0, 3), [110, 128, 128]);
    }
}

#[test]
fn side_by_side_keeps_the_source_on_the_left() {
    for (width, height) in [(128, 48), (61, 33), (1, 1)] {
        let source = Picture::noise(width, height, 3, 11);
        let found = detection(width, height, |x, y| ((x + y) % 40) as f32 / 40.0);
        let wide = beside_width(width);
        let mut target = Picture::noise(wide, height, 5, 12);
        painter(View::SideBySide, 0.6, false)
            .paint_beside(&source.view(), &mut target.view_mut(), &found, SCALE, 0.5, &Caption::default())
            .unwrap();
        let mut alone = source.clone();
        paint(&mut painter(View::Heatmap, 0.6, false), &mut alone, &found);
        for y in 0..height {
            for x in 0..width {
                assert_eq!(target.at(x, y), source.at(x, y), "left {x} {y} of {width}x{height}");
                assert_eq!(target.at(wide / 2 + x, y), alone.at(x, y), "right {x} {y} of {width}x{height}");
            }
        }
    }
}

/// Which pixels differ, as `(left, top, right, bottom)` of the luma; right and bottom exclusive.
fn changed(a: &Picture, b: &Picture) -> Option<(usize, usize, usize, usize)> {
    let mut bounds = None;
    for y in 0..a.height {
        for x in 0..a.width {
            if a.at(x, y) != b.at(x, y) {
                let (l, t, r, d) = bounds.unwrap_or((x, y, x + 1, y + 1));
                bounds = Some((l.min(x), t.min(y), r.max(x + 1), d.max(y + 1)));
            }
        }
    }
    bounds
}

#[test]
fn the_legend_stays_in_its_corner_and_scales_with_the_picture() {
    let mut last = 0;
    for (width, height) in [(640, 360), (1280, 720), (1920, 1080), (721, 1281)] {
        let before = Picture::flat(width, height, [140, 120, 130]);
        let mut after = before.clone();
        paint(&mut painter(View::Overlay, 0.5, true), &mut after, &detection(width, height, |_, _| 0.0));
        let (left, top, right, bottom) = changed(&before, &after).unwrap();
        assert!(left > 0 && top > 0, "a margin of {left}, {top}");
        assert!(right < width * 2 / 5 && bottom < height / 4, "{right}x{bottom} of {width}x{height}");
        if width > height {
            assert!(bottom - top > last, "no taller than in a smaller picture");
            last = bottom - top;
        }
    }
}

#[test]
fn the_legend_is_left_out_of_small_pictures() {
    for (width, height) in [(16, 16), (160, 120), (1280, 40), (60, 720)] {
        let before = Picture::flat(width, height, [140, 120, 130]);
        let mut after = before.clone();
        paint(&mut painter(View::Overlay, 0.5, true), &mut after, &detection(width, height, |_, _| 0.0));
        assert_eq!(changed(&before, &after), None, "{width}x{height}");
    }
}

#[test]
fn the_legend_says_what_changes() {
    let mut painter = painter(View::Overlay, 0.5, true);
    let before = Picture::flat(1280, 720, [140, 120, 130]);
    let mut draw = |share: f32, peak: f32, lines: &[&str]| {
        let mut found = detection(1280, 720, |_, _| 0.0);
        found.ood_share = share;
        found.grid_score.fill(peak);
        let mut picture = before.clone();
        let caption = Caption { lines: lines.iter().map(|l| l.to_string()).collect() };
        painter.paint(&mut picture.view_mut(), &found, SCALE, 0.5, &caption).unwrap();
        picture
    };
    let first = draw(0.032, 0.7, &[]);
    assert!(first == draw(0.0321, 0.7, &[]), "the same when rounded");
    assert!(first != draw(0.051, 0.7, &[]), "another share");
    assert!(first != draw(0.032, 0.8, &[]), "another peak");
    assert!(first == draw(0.032, 0.7, &[]), "back again");
    let named = draw(0.032, 0.7, &["clip.mp4"]);
    assert!(changed(&before, &named).unwrap().3 > changed(&before, &first).unwrap().3, "taller with a line");
    // Longer than any panel: cut off inside of it.
    let long = draw(0.032, 0.7, &["W".repeat(400).as_str(), "\u{1f697} not in the font"]);
    assert!(changed(&before, &long).unwrap().2 < 1280 * 3 / 5);
    // No score is finite: no peak, but a panel.
    assert!(changed(&before, &draw(0.0, f32::NAN, &[])).is_some());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut painter = painter(View::Overlay, 0.5, true);
    let mut picture = Picture::flat(64, 48, [100, 128, 128]);
    let caption = Caption::default();
    let found = detection(64, 47, |_, _| 0.0);
    let error = painter.paint(&mut picture.view_mut(), &found, SCALE, 0.5, &caption).unwrap_err().to_string();
    assert!(error.contains("64x47") && error.contains("64x48"), "{error}");
    let mut view = picture.view_mut();
    view.v.rows = 23;
    let found = detection(64, 48, |_, _| 0.0);
    let error = painter.paint(&mut view, &found, SCALE, 0.5, &caption).unwrap_err().to_string();
    assert!(error.contains("V plane is 32x23"), "{error}");
    let (source, mut target) = (picture.clone(), Picture::flat(64, 48, [0; 3]));
    let error = painter
        .paint_beside(&source.view(), &mut target.view_mut(), &found, SCALE, 0.5, &caption)
        .unwrap_err()
        .to_string();
    assert!(error.contains("128x48"), "{error}");
    assert!(Painter::new(Style { opacity: 1.5, ..Style::default() }).is_err());
    assert!(Painter::new(Style { opacity: f32::NAN, ..Style::default() }).is_err());
}

/// Published entries 0, 63, 128, 202 and 255.
#[test]
fn palettes_are_the_published_ones() {
    let published = [
        (Palette::Viridis, [[68, 1, 84], [59, 81, 139], [33, 145, 140], [117, 208, 84], [253, 231, 37]]),
        (Palette::Inferno, [[0, 0, 4], [85, 15, 109], [188, 55, 84], [252, 161, 8], [252, 255, 164]]),
        (Palette::Magma, [[0, 0, 4], [79, 18, 123], [183, 55, 121], [253, 155, 107], [252, 253, 191]]),
        (Palette::Plasma, [[13, 8, 135], [125, 3, 168], [204, 71, 120], [252, 163, 56], [240, 249, 33]]),
        (Palette::Turbo, [[48, 18, 59], [42, 185, 238], [164, 252, 60], [242, 96, 20], [122, 4, 3]]),
    ];
    for (palette, entries) in published {
        for (index, want) in [0, 63, 128, 202, 255].into_iter().zip(entries) {
            let got = palette.rgb(index);
            let off = got.iter().zip(want).map(|(g, w)| (i32::from(*g) - w).abs()).max().unwrap();
            assert!(off <= 2, "{palette:?} {index}: {got:?} for {want:?}");
        }
        if palette != Palette::Turbo {
            // CIE 1931 luminance of sRGB, as its cube root, which is lightness up to scale.
            let light: Vec<f32> = (0..=255)
                .map(|i| {
                    let [r, g, b] = palette.rgb(i).map(|c| (f32::from(c) / 255.0).powf(2.2));
                    (0.2126 * r + 0.7152 * g + 0.0722 * b).cbrt()
                })
                .collect();
            assert!(light.windows(2).all(|w| w[1] >= w[0] - 0.002), "{palette:?} is not monotone in lightness");
        }
    }
}
