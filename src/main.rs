use std::process::ExitCode;

fn main() -> ExitCode {
    few_arenas();
    oodstream::cli::main()
}

/// glibc opens up to eight arenas per core for threads that allocate at the same time, and each keeps what it once needed.
/// Every reconnect of a camera starts a dozen threads anew, so over days memory would go up to all of them (`docs/soak.md`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn few_arenas() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: no other thread runs yet. Should it fail, memory is used as it would be without.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn few_arenas() {}
