//! The heap of a process that runs for weeks: glibc keeps far more than is in use unless told otherwise (`docs/soak.md`).

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod heap {
    pub fn share() {
        if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
            // SAFETY: it takes no pointers. Should it fail, memory is used as it would be without.
            unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
        }
    }

    pub fn give_back() {
        // SAFETY: it touches only memory that is free, and takes the locks of the heap itself.
        unsafe { libc::malloc_trim(0) };
    }

    pub fn in_use() -> Option<u64> {
        // SAFETY: it only reads the heap's own counts, under its locks.
        let counts = unsafe { libc::mallinfo2() };
        Some((counts.uordblks + counts.hblkhd) as u64)
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod heap {
    pub fn share() {}
    pub fn give_back() {}
    pub fn in_use() -> Option<u64> {
        None
    }
}

/// Lets all threads share two arenas, unless `MALLOC_ARENA_MAX` says otherwise; to be called before there are any threads.
///
/// By itself glibc opens up to eight arenas per core for threads that allocate at the same time, and each keeps what it once
/// needed. Every reconnect of a camera starts a dozen threads anew, so over days memory would go up to all of them.
pub fn share_arenas() {
    heap::share();
}

/// Gives pages of the heap that nothing uses back to the system; takes some milliseconds.
///
/// Of use after much was freed: what is left of a connection lies between things that stay, and glibc by itself gives back
/// only what lies at the end.
pub fn give_back() {
    heap::give_back();
}

/// Bytes of the heap that are allocated; none where the heap does not tell.
///
/// What is resident goes up and down with what the heap keeps; a leak shows here.
pub fn in_use() -> Option<u64> {
    heap::in_use()
}
