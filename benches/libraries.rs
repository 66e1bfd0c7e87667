//! Own code beside the library that could take its place, in turn on the same work: `cargo bench --bench libraries`.
//!
//! Each line is a row of docs/performance.md: medians of five, their ratio, and the allocations of one call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use oodstream::frame::{Colour, I420, Matrix, Plane, Range};
use oodstream::model::prepare::{InputSpec, Prepare, Window};
use oodstream::{Error, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// What `compute/cpu` keeps to itself, compiled once more.
#[allow(dead_code, unused_imports, reason = "these files hold more than the rows need")]
#[path = "."]
mod compute {
    pub mod plan {
        pub const BLOCK: usize = 64;
    }
    #[path = "."]
    pub mod cpu {
        #[path = "../src/compute/cpu/assign.rs"]
        pub mod assign;
        #[path = "../src/compute/cpu/pool.rs"]
        pub mod pool;
    }
}

/// What `assign.rs` imports.
#[allow(dead_code, reason = "the rows need a part of it")]
#[path = "../src/simd.rs"]
mod simd;

use compute::cpu::assign::{Packed, nearest};
use compute::cpu::pool::{Parts, Pool};
use compute::plan::BLOCK;
use simd::{Level, is_roomy};

/// Counts what all threads allocate.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls `own` and `library` in turn, five times for a fifth of a second each, and prints the row.
fn row(what: &str, mut own: impl FnMut(), mut library: impl FnMut()) {
    let mut sides: [&mut dyn FnMut(); 2] = [&mut own, &mut library];
    let mut times = [Vec::new(), Vec::new()];
    let mut allocations = [0.0; 2];
    sides.iter_mut().for_each(|side| side());
    for _ in 0..5 {
        for ((side, times), allocations) in sides.iter_mut().zip(&mut times).zip(&mut allocations) {
            let (before, begin, mut calls) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now(), 0u32);
            while begin.elapsed() < Duration::from_millis(200) {
                side();
                calls += 1;
            }
            times.push(begin.elapsed().as_secs_f64() * 1e3 / f64::from(calls));
            *allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / f64::from(calls);
        }
    }
    let [own, library] = times.map(|mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let [a, b] = allocations;
    println!("| {what} | {own:.4} | {library:.4} | {:.2} | {a:.2} | {b:.2} |", own / library);
}

fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i.wrapping_mul(2_654_435_761) >> 13) & 255) as f32 / 255.0 - 0.5).collect()
}

/// Points and centroids of an assignment.
struct Points {
    dims: usize,
    /// Blocks of `[dims][BLOCK]`.
    points: Vec<f32>,
    centroids: Packed,
}

impl Points {
    fn new(blocks: usize, dims: usize, k: usize) -> Self {
        let mut centroids = Packed::default();
        centroids.pack(&noise(k * dims), k, dims, dims);
        Self { dims, points: noise(blocks * dims * BLOCK), centroids }
    }

    fn block(&self, at: usize) -> &[f32] {
        &self.points[at * self.dims * BLOCK..][..self.dims * BLOCK]
    }
}

/// One block through the kernel of `compute/cpu/assign.rs`.
struct Block<'a>(&'a [f32], &'a Packed);

impl WithSimd for Block<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let found =
            if is_roomy::<S>() { nearest::<S, 4>(simd, self.0, self.1) } else { nearest::<S, 2>(simd, self.0, self.1) };
        found.index[0]
    }
}

fn pools() -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut pool, level) = (Pool::new(threads)?, Level::best());
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let rayon = rayon.map_err(|error| Error::failed(error.to_string()))?;
    for (blocks, dims, k) in [(512, 64, 20), (58, 200, 20), (58, 16, 5)] {
        let work = Points::new(blocks, dims, k);
        let (mut first, mut second) = (vec![0.0; blocks], vec![0.0; blocks]);
        row(
            &format!("pool, {blocks} tasks (D={dims} K={k}): own, rayon"),
            || {
                let parts = Parts::new(&mut first);
                // SAFETY: each task has its own element.
                pool.run(blocks, &|i| unsafe {
                    parts.range(i, 1)[0] = level.run(Block(work.block(i), &work.centroids));
                });
            },
            || {
                rayon.install(|| {
                    let all = second.par_iter_mut().enumerate();
                    all.for_each(|(i, to)| *to = level.run(Block(work.block(i), &work.centroids)));
                });
            },
        );
        assert!(first == second);
    }
    Ok(())
}

fn resizing() -> Result<(), Box<dyn StdError>> {
    for (width, height) in [(1280, 720), (1920, 1080)] {
        let bytes = |count: usize| (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>();
        let sizes = [(width, height), (width / 2, height / 2), (width / 2, height / 2)];
        let planes = sizes.map(|(columns, rows)| bytes(columns * rows));
        let plane = |n: usize| {
            let (columns, rows) = sizes[n];
            Plane { data: &planes[n], stride: columns, columns, rows }
        };
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        let picture = I420 { y: plane(0), u: plane(1), v: plane(2), colour };
        let size = (640, 368);
        let mut prepare = Prepare::new(InputSpec { width: size.0, height: size.1, mean: [0.5; 3], std: [0.2; 3] })?;
        let mut input = vec![0.0; prepare.input_len()];
        let sources: Vec<_> = (0..3)
            .map(|n| ImageRef::new(sizes[n].0 as u32, sizes[n].1 as u32, &planes[n], PixelType::U8))
            .collect::<Result<_, _>>()?;
        let mut resized: Vec<_> = (0..3).map(|_| Image::new(size.0 as u32, size.1 as u32, PixelType::U8)).collect();
        let mut resizer = Resizer::new();
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        row(
            &format!(
                "prepare, {width}x{height} to {}x{}: own with colour conversion and normalisation, \
                 fast_image_resize of the three planes alone",
                size.0, size.1
            ),
            || prepare.run(&picture, Window { size, x: 0, y: 0 }, &mut input).expect("planes that fit"),
            || {
                for (from, to) in sources.iter().zip(&mut resized) {
                    resizer.resize(from, to, &options).expect("planes that fit");
                }
            },
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn StdError>> {
    println!("| what | own, ms | library, ms | ratio | own, allocations | library, allocations |");
    println!("|---|---|---|---|---|---|");
    pools()?;
    resizing()
}
