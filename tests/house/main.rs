//! Rules of the source tree.

mod imports;
