//! The end of the X server. Xlib ends the whole process then, and with it every recording; here only the window goes.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod handler {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicBool, Ordering};

    static GONE: AtomicBool = AtomicBool::new(false);

    /// `XIOErrorHandler` of Xlib's manual (section 11.8.2): the process ends where it returns.
    type OnBroken = unsafe extern "C" fn(display: *mut c_void) -> c_int;

    unsafe extern "C" fn stay(_display: *mut c_void) -> c_int {
        GONE.store(true, Ordering::Relaxed);
        loop {
            std::thread::park();
        }
    }

    pub fn outlive() {
        // SAFETY: `XSetIOErrorHandler` has this signature and may be called at any time; plugins of GStreamer, and what they
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
        }
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
}

/// Keeps the process alive when the X server ends; Xlib has to be loaded already. The thread that finds its connection
/// broken stays where it is for ever, and so would one that waits for it.
pub(super) fn outlive() {
    handler::outlive();
}

/// Whether the server has ended.
pub(super) fn is_gone() -> bool {
    handler::is_gone()
}
