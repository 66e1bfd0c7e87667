//! A term of a score, measured by itself.

use std::sync::Arc;

use crate::compute::{Codebook, Recipe, Statistic, Term, Unit, Upsampling};
use crate::ood::method::MAX_ITERATIONS;

/// What the values of a term depend on: not its weight, nor how it is standardised.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MeasuredTerm {
    pub statistic: Statistic,
    pub unit: Unit,
    pub k: Vec<usize>,
    pub seed: u64,
    pub unit_length: bool,
}

impl MeasuredTerm {
    /// A term of `recipe`.
    pub fn new(term: &Term, recipe: &Recipe) -> Self {
        let k = if term.unit == Unit::Cluster { recipe.k.clone() } else { Vec::new() };
        Self { statistic: term.statistic, unit: term.unit, k, seed: recipe.seed, unit_length: recipe.unit_length }
    }

    /// The recipe of a score that is this term alone.
    pub fn recipe(&self, codebook: Option<&Arc<Codebook>>) -> Recipe {
        Recipe {
            terms: vec![Term { statistic: self.statistic, unit: self.unit, weight: 1.0, mean: 0.0, deviation: 1.0 }],
            k: self.k.clone(),
            seed: self.seed,
            max_iterations: MAX_ITERATIONS,
            unit_length: self.unit_length,
            codebook: codebook.cloned(),
            warm_start: false,
            smoothing: None,
            // Values are taken on the grid.
            upsampling: Upsampling::Bilinear,
        }
    }
}
