//! Errors of the X server and its end. Xlib ends the whole process then, and with it every recording; here only the window
//! goes.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod handler {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static GONE: AtomicBool = AtomicBool::new(false);
    static REFUSED: AtomicU64 = AtomicU64::new(0);

    /// `XIOErrorHandler` of Xlib's manual (section 11.8.2): the process ends where it returns.
    type OnBroken = unsafe extern "C" fn(display: *mut c_void) -> c_int;
    /// `XErrorHandler` of the same section: what it returns means nothing.
    type OnRefused = unsafe extern "C" fn(display: *mut c_void, event: *mut c_void) -> c_int;

    unsafe extern "C" fn stay(_display: *mut c_void) -> c_int {
        GONE.store(true, Ordering::Relaxed);
        loop {
            std::thread::park();
        }
    }

    unsafe extern "C" fn count(_display: *mut c_void, _event: *mut c_void) -> c_int {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        0
    }

    pub fn outlive() {
        // SAFETY: both functions have these signatures and may be called at any time; plugins of GStreamer, and what they
        // loaded, stay loaded.
        unsafe {
            let xlib = libc::dlopen(c"libX11.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if xlib.is_null() {
                return;
            }
            let set = libc::dlsym(xlib, c"XSetIOErrorHandler".as_ptr());
            if !set.is_null() {
                let set: unsafe extern "C" fn(OnBroken) -> Option<OnBroken> = std::mem::transmute(set);
                set(stay);
            }
            let set = libc::dlsym(xlib, c"XSetErrorHandler".as_ptr());
            if !set.is_null() {
                let set: unsafe extern "C" fn(OnRefused) -> Option<OnRefused> = std::mem::transmute(set);
                set(count);
            }
        }
    }

    pub fn refused() -> u64 {
        REFUSED.load(Ordering::Relaxed)
    }

    pub fn is_gone() -> bool {
        GONE.load(Ordering::Relaxed)
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod handler {
    pub fn outlive() {}
    pub fn is_gone() -> bool {
        false
    }
    pub fn refused() -> u64 {
        0
    }
}

/// Keeps the process alive when the X server ends or refuses something; Xlib has to be loaded already. The thread that finds
/// its connection broken stays where it is for ever, and so would one that waits for it.
pub(crate) fn outlive() {
    handler::outlive();
}

/// Whether the server has ended.
pub(crate) fn is_gone() -> bool {
    handler::is_gone()
}

/// How often the server refused something, which Xlib tells later and of any window.
pub(crate) fn refused() -> u64 {
    handler::refused()
}
