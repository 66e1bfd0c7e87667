//! Allocations per frame: a binary of its own, because its global allocator counts. Each test takes
//! [`support::counting::alone`].

use support::counting::Counting;

mod compute;
mod ood;
mod pixels;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
