//! model

pub mod prepare;
