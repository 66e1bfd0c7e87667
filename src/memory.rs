//! The heap of a process that runs for weeks: with its defaults glibc keeps far more than is in use (`docs/soak.md`).
//!
//! Not an allocator crate: with jemalloc 5.3 or mimalloc 2 in place of malloc the same live run holds 5 % or 20 % more
//! memory, and neither reports what GStreamer and ONNX Runtime have allocated.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod heap {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Tunables of glibc, and the older variable that says the same.
    const TUNABLES: [(&str, Option<&str>); 3] = [
        ("glibc.malloc.tcache_count=0", None),
        ("glibc.malloc.arena_max=2", Some("MALLOC_ARENA_MAX")),
        ("glibc.malloc.mmap_threshold=131072", Some("MALLOC_MMAP_THRESHOLD_")),
    ];

    /// Read when glibc and GLib are loaded, before `main`.
    fn wanted() -> Vec<(&'static str, String)> {
        let unset = |name: &str| env::var_os(name).is_none();
        let mut wanted = Vec::new();
        if unset("G_SLICE") {
            wanted.push(("G_SLICE", "always-malloc".to_owned()));
        }
        if unset("GLIBC_TUNABLES") {
            let tunables = TUNABLES.into_iter().filter(|(_, older)| older.is_none_or(unset));
            wanted.push(("GLIBC_TUNABLES", tunables.map(|(tunable, _)| tunable).collect::<Vec<_>>().join(":")));
        }
        wanted
    }

    pub fn configure_heap() {
        let wanted = wanted();
        let Ok(program) = env::current_exe() else { return };
        // Run by the dynamic loader's command, the program is that loader.
        let loader = program.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"ld-"));
        let mut arguments = env::args_os();
        let Some(name) = arguments.next().filter(|_| !wanted.is_empty() && !loader) else { return };
        // Returns only on failure, and then everything works as without it.
        let _ = Command::new(program).arg0(name).args(arguments).envs(wanted).exec();
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
    pub fn configure_heap() {}
    pub fn give_back() {}
    pub fn in_use() -> Option<u64> {
        None
    }
}

/// Restarts the program, in the same process, with settings of the heap in its environment that keep what it uses from
/// rising over days; to be called first of all. `G_SLICE`, `GLIBC_TUNABLES`, `MALLOC_ARENA_MAX` and
/// `MALLOC_MMAP_THRESHOLD_` are left as they are found.
///
/// - Two arenas: by default glibc opens up to eight per core for threads that allocate at the same time, and each keeps
///   what it once needed. Every reconnect of a camera starts a dozen threads anew, so that memory would go up to all of
///   them.
/// - No caches of free blocks, neither of each thread (glibc) nor of small blocks (GLib before 2.76): they fill as
///   cameras and clients come and go, and hold on to the pages around them.
/// - Blocks of 128 kB and more always have pages of their own, which go back to the system at once. By default glibc
///   raises that limit to 32 MB as such blocks are freed; then they leave holes in the arenas, over whose pages small
///   ones scatter.
pub fn configure_heap() {
    heap::configure_heap();
}

/// Gives pages of the heap that nothing uses back to the system; takes some milliseconds.
///
/// Useful after much was freed: what is left of a connection lies between things that stay, and by default glibc gives
/// back only what lies at the end.
pub fn give_back() {
    heap::give_back();
}

/// Bytes of the heap that are allocated; `None` where the heap does not report them.
///
/// Resident memory varies with the free blocks that the heap keeps; a leak shows here.
pub fn in_use() -> Option<u64> {
    heap::in_use()
}
