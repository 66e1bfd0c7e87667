//! After warm-up no back end allocates anything for a frame.

mod compute_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use compute_support::{Frame, codebook, recipe, term};
use oodstream::compute::cpu::Cpu;
use oodstream::compute::{Backend, Detection, Size, Statistic, Unit};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static ON: AtomicBool = AtomicBool::new(false);

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ON.load(Ordering::Relaxed) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the frames after the second.
fn allocations(backend: &mut dyn Backend) -> usize {
    let mut recipe = recipe(
        vec![
            term(Statistic::Entropy, Unit::Cluster),
            term(Statistic::Bank, Unit::Cluster),
            term(Statistic::MaxLogit, Unit::Pixel),
        ],
        &[3, 5, 9],
    );
    recipe.warm_start = true;
    recipe.smoothing = Some(0.5);
    recipe.codebook = Some(codebook(1, 20, 27));
    let frames: Vec<Frame> = (0..4).map(|i| Frame::random(i, [6, 34, 46], &[[20, 17, 23], [7, 9, 12]])).collect();
    let mut out = Detection::default();
    COUNT.store(0, Ordering::SeqCst);
    for (n, frame) in frames.iter().cycle().take(12).enumerate() {
        frame.with(|maps| {
            ON.store(n >= 4, Ordering::SeqCst);
            backend.detect(7, maps, &recipe, Size { width: 160, height: 90 }, &mut out).unwrap();
            ON.store(false, Ordering::SeqCst);
        });
    }
    COUNT.load(Ordering::SeqCst)
}

#[test]
fn no_allocation_per_frame() {
    // The test runner's own thread may allocate in between; what is allocated per frame shows in every round.
    let least = (0..5).map(|_| allocations(&mut Cpu::new(Some(2)).unwrap())).min();
    assert_eq!(least, Some(0), "CPU");
}
