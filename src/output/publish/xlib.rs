//! Handlers for errors of the X server and for its end. By default Xlib then ends the process, and with it every
//! recording; with these, only the window is lost.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod handler {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static GONE: AtomicBool = AtomicBool::new(false);
    static REFUSED: AtomicU64 = AtomicU64::new(0);

    /// `XIOErrorHandler` in Xlib's manual (section 11.8.2): Xlib ends the process if it returns.
    type OnBroken = unsafe extern "C" fn(display: *mut c_void) -> c_int;
    /// `XErrorHandler` in the same section: its result is ignored.
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
        // SAFETY: both functions have these signatures and may be called at any time; GStreamer's plugins, and the
        // libraries that they loaded, stay loaded.
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

/// Keeps the process alive when the X server ends or refuses a request; Xlib has to be loaded already. The thread that
/// finds its connection broken blocks for ever, and so would any thread that joins it.
pub(crate) fn outlive() {
    handler::outlive();
}

/// Whether the server has ended.
pub(crate) fn is_gone() -> bool {
    handler::is_gone()
}

/// Number of refused requests, which Xlib reports late and for all windows together.
pub(crate) fn refused() -> u64 {
    handler::refused()
}
