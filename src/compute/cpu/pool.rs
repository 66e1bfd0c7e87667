//! A fork-join pool: the same few threads for every frame, no allocation per job, and no thread that spins.
//!
//! Not rayon, which is as fast for long tasks, but takes three to six times as long for the short ones of small grids,
//! and allocates (`cargo bench --bench libraries`).

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result};

type Task<'a> = &'a (dyn Fn(usize) + Sync);

/// The current job, with its lifetime erased; `Pool::run` does not return before every worker has released it.
#[derive(Clone, Copy)]
struct ErasedTask {
    task: Task<'static>,
    count: usize,
}

#[derive(Default)]
struct State {
    job: Option<ErasedTask>,
    /// Rises by one per job, so that a worker takes each job once.
    generation: u64,
    /// Workers that run the current job.
    busy: usize,
    stop: bool,
}

#[derive(Default)]
struct PoolState {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
    next: AtomicUsize,
    panicked: AtomicBool,
}

impl PoolState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, job: ErasedTask) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= job.count {
                return;
            }
            (job.task)(task);
        }
    }

    fn serve(&self) {
        let mut seen = 0;
        loop {
            let mut state = self.lock();
            let job = loop {
                if state.stop {
                    return;
                }
                match state.job {
                    Some(job) if state.generation != seen => break job,
                    _ => state = self.start.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            seen = state.generation;
            state.busy += 1;
            drop(state);
            if catch_unwind(AssertUnwindSafe(|| self.work(job))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            let mut state = self.lock();
            state.busy -= 1;
            if state.busy == 0 {
                self.done.notify_one();
            }
        }
    }
}

/// Runs tasks 0..count on the caller's thread and on `threads - 1` workers.
pub(crate) struct Pool {
    shared: Arc<PoolState>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// `threads` counts the caller.
    pub fn new(threads: usize) -> Result<Self> {
        let shared = Arc::new(PoolState::default());
        let mut pool = Self { shared, workers: Vec::new() };
        for n in 1..threads.max(1) {
            let shared = pool.shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("compute{n}"))
                .spawn(move || shared.serve())
                .map_err(|e| Error::failed(format!("cannot start compute thread {n}: {e}")))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads at work, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i)` for each i in 0..count, in any order, and returns when all are done. A panic of a task is passed
    /// on. Takes `&mut self` because only one job can run at a time.
    pub fn run(&mut self, count: usize, task: Task<'_>) {
        if self.workers.is_empty() || count <= 1 {
            (0..count).for_each(task);
            return;
        }
        // SAFETY: only the lifetime changes. The job is taken out of the state below before this function returns or
        // unwinds, and `busy == 0` is awaited after that, so no worker calls `task` once its borrow has ended.
        let task = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        let job = ErasedTask { task, count };
        self.shared.next.store(0, Ordering::Relaxed);
        {
            let mut state = self.shared.lock();
            state.job = Some(job);
            state.generation += 1;
        }
        self.shared.start.notify_all();
        let own = catch_unwind(AssertUnwindSafe(|| self.shared.work(job)));
        let mut state = self.shared.lock();
        state.job = None;
        while state.busy > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "a compute thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.start.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to learn from the result.
            let _ = worker.join();
        }
    }
}

/// A buffer that the tasks of one job write to in parts which do not overlap.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]` that is split among threads; `range` asks its callers to keep the parts apart.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), life: PhantomData }
    }

    /// The part `[from, from + len)`.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    pub unsafe fn range(&self, from: usize, len: usize) -> &mut [T] {
        assert!(from <= self.len && len <= self.len - from);
        // SAFETY: within the buffer by the assertion, unique by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let mut pool = Pool::new(3).unwrap();
        for round in 1..50 {
            let mut hits = vec![0u32; round];
            let parts = Parts::new(&mut hits);
            // SAFETY: each task has its own element.
            pool.run(round, &|i| unsafe { parts.range(i, 1)[0] += 1 });
            assert!(hits.iter().all(|&h| h == 1), "{hits:?}");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert!(i != 5, "task 5"))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }
}
