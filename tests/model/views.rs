//! Resize rules, tiles, scales and mirror images: where pixels of the frame come to lie on the canvas, and the same through
//! the binary.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use ndarray::{Array3, ArrayView3};
use oodstream::compute::Maps;
use oodstream::frame::{Colour, I420, Matrix, Plane, Range};
use oodstream::model::prepare::{InputSpec, Prepare, Window};
use oodstream::model::runtime::Network;
use oodstream::model::views::inference::FrameInference;
use oodstream::model::views::layout::{Layout, MOST_VIEWS};
use oodstream::model::views::merge::{Merge, MergedMaps};
use oodstream::model::views::{Resize, Views};
use support::common::Place;
use support::onnx;

const SPEC: InputSpec = InputSpec { width: 64, height: 32, mean: [0.0; 3], std: [1.0; 3] };

/// A grey picture.
struct Scene {
    luma: Vec<u8>,
    chroma: Vec<u8>,
    width: usize,
    height: usize,
}

impl Scene {
    fn new(width: usize, height: usize, luma: impl Fn(usize, usize) -> u8) -> Self {
        let luma = (0..width * height).map(|i| luma(i % width, i / width)).collect();
        Self { luma, chroma: vec![128; width.div_ceil(2) * height.div_ceil(2)], width, height }
    }

    /// Noise, which shows any shift and any mixing of neighbours.
    fn noise(width: usize, height: usize) -> Self {
        Self::new(width, height, |x, y| ((x * 7919 + y * 104_729 + x * y * 31) % 251) as u8)
    }

    /// Rises to the right and downwards, evenly: linear interpolation keeps it as it is.
    fn slope(width: usize, height: usize) -> Self {
        Self::new(width, height, |x, y| (40 + x + y) as u8)
    }

    fn picture(&self) -> I420<'_> {
        let plane = |data, columns, rows| Plane { data, stride: columns, columns, rows };
        let (cw, ch) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Full };
        I420 {
            y: plane(&self.luma, self.width, self.height),
            u: plane(&self.chroma, cw, ch),
            v: plane(&self.chroma, cw, ch),
            colour,
        }
    }

    /// The whole of it at another size, as the network would see it: `[3, height, width]`.
    fn resized(&self, width: usize, height: usize) -> Array3<f32> {
        let mut prepare = Prepare::new(InputSpec { width, height, ..SPEC }).unwrap();
        let mut out = vec![0.0; prepare.input_len()];
        prepare.run(&self.picture(), Window { size: (width, height), x: 0, y: 0 }, &mut out).unwrap();
        Array3::from_shape_vec((3, height, width), out).unwrap()
    }
}

/// Means of `pool x pool`.
fn pooled(map: &Array3<f32>, pool: usize) -> Array3<f32> {
    let (channels, height, width) = map.dim();
    Array3::from_shape_fn((channels, height / pool, width / pool), |(c, y, x)| {
        let sum: f32 = (0..pool * pool).map(|i| map[[c, y * pool + i / pool, x * pool + i % pool]]).sum();
        sum / (pool * pool) as f32
    })
}

fn worst(a: ArrayView3<'_, f32>, b: ArrayView3<'_, f32>) -> f32 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(&b).fold(0.0, |worst, (a, b)| if (a - b).is_nan() { f32::INFINITY } else { worst.max((a - b).abs()) })
}

/// A network that passes pixels through, as they are and as means of 4 x 4.
fn network(batch: u64) -> Network {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pass.onnx");
    onnx::pass_through(64, 32, 4, batch).save(&path);
    fs::write(path.with_extension("toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    Network::load(Some(&path), &crate::on_cpu()).unwrap()
}

/// The canvases of logits and features.
fn see(network: &mut Network, views: Views, scene: &Scene) -> (Array3<f32>, Array3<f32>) {
    let mut inference = FrameInference::new(network, views).unwrap();
    let take = |maps: &Maps<'_>| Ok((maps.logits.to_owned(), maps.features[0].to_owned()));
    // Twice: what the first frame left behind must not shine through.
    inference.run(network, &Scene::noise(scene.width, scene.height).picture(), take).unwrap();
    inference.run(network, &scene.picture(), take).unwrap()
}

fn by(resize: Resize) -> Views {
    Views { resize, ..Views::default() }
}

#[test]
fn the_letterbox_is_centred_and_keeps_the_aspect_ratio() {
    let spec = InputSpec { width: 640, height: 640, ..SPEC };
    let window = |frame| {
        let layout = Layout::new(&by(Resize::Letterbox), &spec, frame).unwrap();
        assert_eq!((layout.views().len(), layout.is_plain()), (1, frame.0 == frame.1));
        layout.window(layout.views()[0])
    };
    assert_eq!(window((1280, 720)), Window { size: (640, 360), x: 0, y: -140 });
    assert_eq!(window((300, 600)), Window { size: (320, 640), x: -160, y: 0 });
    // As thin as it gets, something is still seen of it.
    assert_eq!(window((4000, 1)), Window { size: (640, 1), x: 0, y: -319 });
    assert_eq!(window((200, 200)), Window { size: (640, 640), x: 0, y: 0 });
}

#[test]
fn a_stretched_frame_is_what_the_network_gives() {
    let scene = Scene::noise(160, 90);
    let (logits, features) = see(&mut network(1), Views::default(), &scene);
    assert_eq!(logits, scene.resized(64, 32));
    assert!(worst(features.view(), pooled(&logits, 4).view()) < 1e-5);
}

#[test]
fn a_letterboxed_frame_maps_back_without_a_shift() {
    // Wider and higher than the input's 2:1.
    for (frame, content) in
        [((160, 90), (57, 32)), ((200, 50), (64, 16)), ((90, 160), (18, 32)), ((320, 100), (64, 20))]
    {
        let scene = Scene::noise(frame.0, frame.1);
        let (logits, features) = see(&mut network(1), by(Resize::Letterbox), &scene);
        let expected = scene.resized(content.0, content.1);
        let differs = worst(logits.view(), expected.view());
        assert!(differs < 1e-5, "{frame:?}: {differs}");
        // Where the content begins on a cell of the features and ends on one, they are those of the content.
        if content == (64, 16) {
            assert!(worst(features.view(), pooled(&expected, 4).view()) < 1e-5);
        }
    }
}

#[test]
fn content_that_does_not_begin_on_a_cell_is_resampled() {
    // 57 x 32 pixels of content begin at column 3: cells of 4 x 4 lie across its edges.
    let scene = Scene::slope(114, 64);
    let (_, features) = see(&mut network(1), by(Resize::Letterbox), &scene);
    let (_, rows, columns) = features.dim();
    assert_eq!((rows, columns), (8, 14));
    for ((_, y, x), value) in features.indexed_iter() {
        let at = |cell: usize, cells: usize, length: f32| (cell as f32 + 0.5) * length / cells as f32 - 0.5;
        let expected = (40.0 + at(x, columns, 114.0) + at(y, rows, 64.0)) / 255.0;
        // In the outermost column the nearest cell without padding stands in.
        let tolerance = if x == 0 || x + 1 == columns { 4.0 } else { 0.1 };
        assert!((value - expected).abs() * 255.0 < tolerance, "{y} {x}: {} is not {}", value * 255.0, expected * 255.0);
    }
}

#[test]
fn tiles_give_the_frame_back_as_it_is() {
    for (frame, overlap) in [((160, 90), 0.25), ((160, 90), 0.0), ((161, 33), 0.5), ((64, 32), 0.25), ((300, 32), 0.1)]
    {
        let scene = Scene::noise(frame.0, frame.1);
        let views = Views { tile_overlap: overlap, ..by(Resize::Tile) };
        let (logits, features) = see(&mut network(1), views, &scene);
        let differs = worst(logits.view(), scene.resized(frame.0, frame.1).view());
        assert!(differs < 1e-5, "{frame:?}: {differs}");
        let size = |length: usize| (length as f64 / 4.0).round() as usize;
        assert_eq!(features.dim(), (3, size(frame.1), size(frame.0)));
    }
}

#[test]
fn tiles_blend_into_each_other() {
    // Each tile says something else: its number. Between them the canvas rises in small steps and never falls.
    let layout = Layout::new(&by(Resize::Tile), &SPEC, (200, 32)).unwrap();
    let count = layout.views().len();
    assert_eq!(count, 4);
    let (mut merge, mut canvas) = (Merge::default(), MergedMaps::default());
    for index in 0..count {
        let map = Array3::from_elem((1, 8, 16), index as f32);
        merge.add(&layout, index, &Maps { logits: map.view(), features: &[], picture: None }, &mut canvas).unwrap();
    }
    canvas
        .with_maps(|maps| {
            assert_eq!(maps.logits.dim(), (1, 8, 50));
            let row: Vec<f32> = (0..50).map(|x| maps.logits[[0, 4, x]]).collect();
            assert_eq!((row[0], row[49]), (0.0, 3.0));
            // 64 - 45 = 19 pixels or more in common are at least 4 cells: a step is at most a quarter and a bit.
            assert!(row.windows(2).all(|pair| (0.0..0.3).contains(&(pair[1] - pair[0]))), "{row:?}");
            assert!(row.windows(2).any(|pair| pair[1] > pair[0] && pair[1] < 1.0));
            Ok(())
        })
        .unwrap();
    // Without an overlap there is nothing to blend: the same is a staircase.
    let layout = Layout::new(&Views { tile_overlap: 0.0, ..by(Resize::Tile) }, &SPEC, (128, 32)).unwrap();
    for index in 0..2 {
        let map = Array3::from_elem((1, 8, 16), index as f32);
        merge.add(&layout, index, &Maps { logits: map.view(), features: &[], picture: None }, &mut canvas).unwrap();
    }
    canvas
        .with_maps(|maps| {
            assert_eq!((maps.logits[[0, 0, 15]], maps.logits[[0, 0, 16]]), (0.0, 1.0));
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_mirror_image_of_a_symmetric_network_changes_nothing() {
    for resize in [Resize::Stretch, Resize::Letterbox, Resize::Tile] {
        let scene = Scene::noise(161, 90);
        let mut network = network(0);
        let (logits, features) = see(&mut network, by(resize), &scene);
        let (mirrored_logits, mirrored_features) = see(&mut network, Views { flip: true, ..by(resize) }, &scene);
        assert!(worst(logits.view(), mirrored_logits.view()) < 1e-5, "{resize:?}");
        assert!(worst(features.view(), mirrored_features.view()) < 1e-5, "{resize:?}");
    }
}

#[test]
fn the_mirror_image_counts_half() {
    let layout = Layout::new(&Views { flip: true, ..Views::default() }, &SPEC, (160, 90)).unwrap();
    assert_eq!(layout.views().iter().map(|view| view.mirrored).collect::<Vec<_>>(), [false, true]);
    let (mut merge, mut canvas) = (Merge::default(), MergedMaps::default());
    for index in 0..2 {
        // Columns 0, 1, 2, ... both times: in the frame's terms the second is the other way round.
        let map = Array3::from_shape_fn((1, 2, 5), |(_, _, x)| x as f32);
        merge.add(&layout, index, &Maps { logits: map.view(), features: &[], picture: None }, &mut canvas).unwrap();
    }
    canvas
        .with_maps(|maps| {
            assert!(maps.logits.iter().all(|value| (value - 2.0).abs() < 1e-6), "{:?}", maps.logits);
            Ok(())
        })
        .unwrap();
}

#[test]
fn scales_are_averaged_on_the_finest_grid() {
    for resize in [Resize::Stretch, Resize::Letterbox] {
        let scene = Scene::slope(128, 64);
        let views = Views { scales: vec![1.0, 1.5, 0.5], ..by(resize) };
        let (logits, features) = see(&mut network(1), views, &scene);
        assert_eq!((logits.dim(), features.dim()), ((3, 48, 96), (3, 12, 24)));
        let expected = scene.resized(96, 48);
        for ((c, y, x), value) in logits.indexed_iter() {
            // A coarser level has nothing beyond its outermost cells' centres.
            let edge = x < 5 || y < 5 || x >= 91 || y >= 43;
            let differs = (value - expected[[c, y, x]]).abs() * 255.0;
            assert!(differs < if edge { 2.0 } else { 0.1 }, "{resize:?} {y} {x}: {differs}");
        }
    }
}

#[test]
fn one_by_one_is_the_same_as_all_at_once() {
    let scene = Scene::noise(120, 60);
    let views = Views { flip: true, scales: vec![1.0, 1.5], ..by(Resize::Tile) };
    let (mut single, mut free) = (network(1), network(0));
    assert_eq!((single.max_batch(), free.max_batch()), (Some(1), None));
    let alone = see(&mut single, views.clone(), &scene);
    assert_eq!(alone, see(&mut free, views, &scene));
}

#[test]
fn what_cannot_be_laid_out_is_a_usage_error() {
    let tile = by(Resize::Tile);
    for (views, frame, words) in [
        (tile.clone(), (63, 90), &["63x90", "64x32", "letterbox"][..]),
        (Views { scales: vec![0.5], ..tile.clone() }, (100, 50), &["50x25", "64x32"]),
        (Views { scales: vec![4.0], ..tile.clone() }, (1920, 1080), &["1920x1080", &MOST_VIEWS.to_string(), "runs"]),
        (Views { tile_overlap: 0.6, ..tile.clone() }, (100, 50), &["tile_overlap is 0.6", "0.5"]),
        (Views { tile_overlap: f32::NAN, ..tile.clone() }, (100, 50), &["tile_overlap"]),
        (Views { scales: vec![], ..tile.clone() }, (100, 50), &["scales is empty"]),
        (Views { scales: vec![1.0, 5.0], ..tile.clone() }, (100, 50), &["scales has 5", "0.5 to 4"]),
        (Views { scales: vec![f32::NAN], ..tile.clone() }, (100, 50), &["scales has NaN"]),
    ] {
        let error = Layout::new(&views, &SPEC, frame).unwrap_err();
        assert_eq!(error.kind(), oodstream::ErrorKind::Usage);
        for word in words {
            assert!(error.to_string().contains(word), "no `{word}` in: {error}");
        }
    }
    // The message has the number of runs: 4 x 8 tiles in 160 x 180, twice.
    let views = Views { scales: vec![2.0], flip: true, tile_overlap: 0.0, ..tile };
    let layout = Layout::new(&views, &SPEC, (96, 64)).unwrap();
    assert_eq!(layout.views().len(), 3 * 4 * 2);
    let error = Layout::new(&views, &SPEC, (192, 128)).unwrap_err().to_string();
    assert!(error.contains("96 runs"), "{error}");
}

/// A white box on black in a picture of 160 x 90: columns 100 to 130, rows 20 to 60.
const BOX: (u32, u32, u32, u32) = (100, 20, 30, 40);
/// Options of `run` and `eval`, and the tolerance of an edge in pixels of the frame.
const RULES: [(&str, u32); 6] = [
    ("", 3),
    ("--resize letterbox", 3),
    ("--resize tile", 1),
    ("--resize tile --tile-overlap 0.5 --flip", 1),
    ("--resize letterbox --flip", 3),
    ("--resize stretch --scales 1,2", 3),
];

fn inside(x: u32, y: u32, slack: i64) -> bool {
    let (x, y) = (i64::from(x), i64::from(y));
    let (left, top, width, height) = (i64::from(BOX.0), i64::from(BOX.1), i64::from(BOX.2), i64::from(BOX.3));
    (left - slack..left + width + slack).contains(&x) && (top - slack..top + height + slack).contains(&y)
}

/// A folder with a network of 64 x 32 to which white is unknown.
fn place() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    let manifest = "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n";
    fs::write(place.path("model.toml"), manifest).unwrap();
    place
}

#[test]
fn run_marks_the_same_place_by_every_rule() {
    let place = place();
    let (x, y, w, h) = BOX;
    place.clip(
        "box.mp4",
        &format!(
            "-f lavfi -i color=black:size=160x90:rate=5:duration=1 -vf drawbox=x={x}:y={y}:w={w}:h={h}:color=white:t=fill \
             -c:v libx264 -qp 0 -pix_fmt yuv420p"
        ),
    );
    for (index, (rule, slack)) in RULES.into_iter().enumerate() {
        let arguments = format!(
            "run box.mp4 -o out{index}.mp4 -o masks:masks{index} --method max-logit --threshold 1.5 --json - {rule}"
        );
        let report = place.run(&arguments).code(0).json();
        assert_eq!(report["inputs"][0]["frames_out"], 5);
        // One frame is one frame, however often the network has run on it.
        assert_eq!(report["stages"]["infer"]["frames"], 5, "{rule}");
        let mask = image::open(place.path(&format!("masks{index}/box_000003.png"))).unwrap().to_luma8();
        assert_eq!(mask.dimensions(), (160, 90));
        for (x, y, pixel) in mask.enumerate_pixels() {
            let marked = pixel.0[0] > 0;
            let slack = i64::from(slack);
            assert!(!marked || inside(x, y, slack), "{rule}: {x} {y} is marked");
            assert!(marked || !inside(x, y, -slack), "{rule}: {x} {y} is not marked");
        }
    }
}

/// Three images with a white box each, and their masks.
fn set(root: &Path) {
    for folder in ["images", "masks"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for index in 0..3_u32 {
        let of_box = |x: u32, y: u32| x >= index && inside(x - index, y, 0);
        RgbImage::from_fn(160, 90, |x, y| Rgb([if of_box(x, y) { 255 } else { (x / 4) as u8 }; 3]))
            .save(root.join(format!("images/{index}.png")))
            .unwrap();
        GrayImage::from_fn(160, 90, |x, y| Luma([u8::from(of_box(x, y))]))
            .save(root.join(format!("masks/{index}.png")))
            .unwrap();
    }
}

#[test]
fn eval_finds_the_same_by_every_rule() {
    let place = place();
    set(&place.path("set"));
    for (rule, slack) in RULES {
        let report = place.run(&format!("eval set --layout pairs --methods max-logit --json - {rule}")).code(0).json();
        let ap = report["methods"]["max-logit"]["ap"].as_f64().unwrap();
        assert!(ap > if slack > 1 { 0.97 } else { 0.9999 }, "{rule}: {ap}");
    }
}

#[test]
fn impossible_views_are_usage_errors() {
    let place = place();
    place.moving("a.mp4", 3);
    place.clip("small.mp4", "-f lavfi -i color=gray:size=48x90:rate=5:duration=1 -pix_fmt yuv420p");
    fs::write(place.path("p.toml"), "[model]\nscales = [1.0, 9.0]\n").unwrap();
    for (arguments, words) in [
        ("small.mp4 --resize tile", &["48x90", "64x32", "stretch"][..]),
        ("a.mp4 --resize squeeze", &["squeeze", "letterbox", "tile"]),
        ("a.mp4 --resize tile --tile-overlap 0.9", &["tile_overlap is 0.9", "0.5"]),
        ("a.mp4 --scales 1,7", &["scales has 7", "0.5 to 4"]),
        ("a.mp4 --scales 4 --flip --tile-overlap 0.5", &["98 runs of the network", "64"]),
        ("a.mp4 --set model.tile_overlap=2", &["--set", "tile_overlap is 2"]),
        ("a.mp4 -c p.toml", &["p.toml", "scales has 9"]),
    ] {
        place.run(&format!("run {arguments} -o out.mp4 --method max-logit")).code(2).says(words);
    }
    assert!(!place.path("out.mp4").exists());
}

#[test]
fn the_manifest_says_the_rule_and_inspect_repeats_it() {
    let place = place();
    let text = fs::read_to_string(place.path("model.toml")).unwrap() + "resize = \"tile\"\n";
    fs::write(place.path("model.toml"), text).unwrap();
    let ended = place.run("model inspect model.onnx").code(0);
    assert!(ended.stdout.contains("64x32") && ended.stdout.contains("resize = tile"), "{}", ended.stdout);
    assert_eq!(place.run("model inspect model.onnx --json -").code(0).json()["resize"], "tile");
    place.clip("small.mp4", "-f lavfi -i color=gray:size=48x90:rate=5:duration=1 -pix_fmt yuv420p");
    place.run("run small.mp4 -o out.mp4 --method max-logit").code(2).says(&["resize = tile", "48x90"]);
    // The command line wins.
    place.run("run small.mp4 -o out.mp4 --method max-logit --resize letterbox").code(0);
}
