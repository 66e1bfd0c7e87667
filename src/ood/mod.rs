//! ood
