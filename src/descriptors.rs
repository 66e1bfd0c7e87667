//! File descriptors: as many as the system gives, and how many are left.

/// Raises the soft limit of open descriptors to the hard one: many cameras, clients and recordings need more than the
/// usual 1,024. Where that is refused, everything works up to the limit that there is.
#[cfg(feature = "cli")]
pub fn raise_limit() {
    limit::raise();
}

/// How many more descriptors can be opened; none where the system does not tell.
pub fn left() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(limit::soft()?.saturating_sub(open))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod limit {
    fn get() -> Option<libc::rlimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a structure of this frame, which the call fills.
        (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
    }

    #[cfg(feature = "cli")]
    pub fn raise() {
        if let Some(limit) = get().filter(|limit| limit.rlim_cur < limit.rlim_max) {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            // SAFETY: the pointer is to a structure of this frame, which the call only reads.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
        }
    }

    pub fn soft() -> Option<u64> {
        get().map(|limit| limit.rlim_cur)
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod limit {
    pub fn raise() {}
    pub fn soft() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn some_are_left_and_fewer_with_a_file_open() {
        assert!(super::left().unwrap() > 0);
    }
}
