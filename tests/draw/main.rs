//! Drawing into I420 frames.

mod painter;
