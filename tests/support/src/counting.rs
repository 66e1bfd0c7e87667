//! An allocator that counts, for the tests of what allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backtrace::Backtrace;

/// The global allocator of a test binary that counts allocations.
pub struct Counting;

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(0) };
    static TRACE: Cell<bool> = const { Cell::new(false) };
}

static ALL: AtomicUsize = AtomicUsize::new(0);
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

fn count() {
    OWN.set(OWN.get() + 1);
    ALL.fetch_add(1, Ordering::Relaxed);
    if TRACE.replace(false) {
        TRACES.lock().unwrap_or_else(PoisonError::into_inner).push(Backtrace::new_unresolved());
        TRACE.set(true);
    }
}

// SAFETY: every call goes on to the system's allocator unchanged; the thread-locals have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// One test at a time: [`of_all_threads`] counts those of other tests too.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations of this thread while `work` runs.
pub fn of_this_thread(work: impl FnOnce()) -> usize {
    let before = OWN.get();
    work();
    OWN.get() - before
}

/// Allocations of all threads while `work` runs. The test runner's own may be among them.
pub fn of_all_threads(work: impl FnOnce()) -> usize {
    let before = ALL.load(Ordering::SeqCst);
    work();
    ALL.load(Ordering::SeqCst) - before
}

/// For each allocation of this thread while `work` runs: the innermost function outside the standard library.
pub fn origins(work: impl FnOnce()) -> Vec<String> {
    TRACE.set(true);
    work();
    TRACE.set(false);
    let traces = std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner));
    traces.into_iter().map(origin).collect()
}

fn origin(mut trace: Backtrace) -> String {
    trace.resolve();
    let names = trace.frames().iter().flat_map(|frame| frame.symbols()).filter_map(|symbol| symbol.name());
    let passed_by = ["alloc::", "core::", "std::", "__rust", "backtrace::"];
    names
        .map(|name| format!("{name:#}"))
        .find(|name| {
            let name = name.trim_start_matches(['<', '&']);
            !name.contains("counting::")
                && !name.contains("backtrace_rs::")
                && !passed_by.iter().any(|start| name.starts_with(start))
        })
        .unwrap_or_else(|| "unknown".into())
}
