//! output

pub mod maps;
