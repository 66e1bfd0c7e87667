//! Regions and tracks allocate nothing once their buffers have grown.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use ndarray::{Array2, Array3};
use oodstream::compute::Detection;
use oodstream::ood::region::RegionFinder;
use oodstream::ood::track::{Moment, TrackSettings, Tracker};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system allocator unchanged; the counter is a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A mask with two boxes that move with `step` and come back after 20.
fn draw(detection: &mut Detection, step: usize) {
    detection.mask.fill(0);
    detection.score.fill(0.0);
    let shift = if step % 20 < 10 { step % 20 } else { 20 - step % 20 };
    for (x, y) in [(10 + shift, 20), (200 - 2 * shift, 60)] {
        for row in y..y + 30 {
            for column in x..x + 40 {
                detection.mask[(row, column)] = 1;
                detection.score[(row, column)] = (row + column) as f32;
            }
        }
    }
}

#[test]
fn nothing_is_allocated_per_frame() {
    let logits = Array3::from_shape_fn((11, 23, 40), |(c, y, x)| ((c * 7 + y + x) % 13) as f32);
    let mut detection =
        Detection { score: Array2::zeros((180, 320)), mask: Array2::zeros((180, 320)), ..Detection::default() };
    let mut finder = RegionFinder::new(0.001);
    let mut tracker = Tracker::new("s", Vec::new(), TrackSettings::default());
    let mut before = 0;
    for step in 0..200 {
        if step == 40 {
            before = ALLOCATIONS.get();
        }
        draw(&mut detection, step);
        let regions = finder.find(&detection, logits.view()).unwrap();
        assert_eq!(regions.len(), 2);
        let moment = Moment { running: Duration::from_millis(40 * step as u64), wall: None };
        assert_eq!(tracker.update(moment, regions).len(), 2);
        // What starts is told once; here that is within the first frames.
        let changes = tracker.drain_changes().count();
        assert!(step < 40 || changes == 0);
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
