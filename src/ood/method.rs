//! Scores by name: what `--method` takes, turned into the backend's [`Recipe`].
//!
//! | name | score |
//! |---|---|
//! | `msp`, `max-logit`, `entropy`, `energy`, `bank` | the statistic of each pixel |
//! | `rba`, `no-object` | the same for query-mask networks: rejected by all queries, claimed by none |
//! | `cluster` | minus the mean max logit of the pixel's cluster, K = 10 (the paper's) |
//! | `cluster-ensemble` | the mean of `cluster` over K = 5, 10, 20 |
//! | `entropy-cluster`, `entropy-cluster-ensemble`, `bank-cluster`, ... | another statistic's mean over the cluster |
//! | `default` | what the model's manifest says under `[scoring]`, else `cluster-ensemble` |
//! | `cluster:entropy*1.0+pixel:max-logit*0.5` | a weighted sum, each term standardised with statistics from calibration |
//!
//! `@K` or `@K,K,...` after a name or a sum sets the numbers of clusters: `cluster@20`, `cluster:entropy@5,10,20`.

use crate::compute::{Grid, Recipe, Statistic, Term, Unit, Upsampling};
use crate::model::manifest::ScoringSection;
use crate::model::runtime::Network;
use crate::{Error, Result};

/// The paper's K as this program's default, chosen by measurement on the development sets.
pub const SINGLE_K: &[usize] = &[10];
/// K of the ensemble (`docs/method.md`, M7).
pub const ENSEMBLE_K: &[usize] = &[5, 10, 20];
/// Default upper bound on Lloyd iterations.
pub const MAX_ITERATIONS: usize = 50;

/// The named methods that need nothing but the network, for help texts and `--methods all`.
pub const TRAINING_FREE: &[&str] = &[
    "msp",
    "max-logit",
    "entropy",
    "energy",
    "cluster",
    "cluster-ensemble",
    "entropy-cluster",
    "entropy-cluster-ensemble",
];

const STATISTICS: [(&str, Statistic); 7] = [
    ("msp", Statistic::Msp),
    ("max-logit", Statistic::MaxLogit),
    ("entropy", Statistic::Entropy),
    ("energy", Statistic::Energy),
    ("rba", Statistic::Rba),
    ("no-object", Statistic::NoObject),
    ("bank", Statistic::Bank),
];

/// The statistic's name on the command line and in files.
pub fn statistic_name(statistic: Statistic) -> &'static str {
    STATISTICS.iter().find(|(_, candidate)| *candidate == statistic).map_or("", |(name, _)| name)
}

/// The unit's name on the command line and in files.
pub fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Pixel => "pixel",
        Unit::Cluster => "cluster",
    }
}

/// A requested score, before a calibration fills in statistics, codebook and threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// As written.
    pub name: String,
    /// The score.
    pub recipe: Recipe,
    /// The threshold of the manifest or a calibration; `None` until one is known.
    pub threshold: Option<f32>,
    /// The score that takes the place of the threshold in the rules for alarms, where a calibration found one.
    pub alarm_threshold: Option<f32>,
    /// Whether its terms must be standardised with statistics that are still missing.
    pub needs_statistics: bool,
}

impl Method {
    /// Parses a method's name or sum; `scoring` is the `[scoring]` section of the model's manifest.
    ///
    /// # Errors
    /// An unknown name or a sum that does not parse; the message lists what is known.
    pub fn parse(text: &str, scoring: Option<&ScoringSection>) -> Result<Self> {
        let text = text.trim();
        let invalid = |message: String| Error::usage(format!("method `{text}`: {message}"));
        let (body, k) = match text.split_once('@') {
            Some((body, list)) => (body.trim(), Some(parse_k(list).map_err(invalid)?)),
            None => (text, None),
        };
        let mut method = match (body, scoring) {
            ("", _) => return Err(invalid("it is empty".to_owned()).hint(known())),
            ("default", Some(section)) => from_section(section),
            ("default", None) => named("cluster-ensemble").ok_or_else(|| invalid("it is not known".to_owned()))?,
            _ => match named(body) {
                Some(method) => method,
                None if body.contains([':', '*', '+']) => {
                    parse_sum(body).map_err(|message| invalid(message).hint(known()))?
                }
                None => return Err(invalid("it is not known".to_owned()).hint(known())),
            },
        };
        if let Some(k) = k {
            if method.recipe.terms.iter().all(|term| term.unit == Unit::Pixel) {
                return Err(invalid("it has no clusters to set K for".to_owned()));
            }
            method.recipe.k = k;
        }
        method.name = text.to_owned();
        Ok(method)
    }

    /// Checks that `network` gives what the score is made from.
    ///
    /// # Errors
    /// A statistic is defined on logits or on queries, and the network has none.
    pub fn check_network(&self, network: &Network) -> Result<()> {
        let term = self.recipe.terms.iter().find(|term| term.statistic.needs_logits());
        if let Some(term) = term.filter(|_| network.logits_name().is_none()) {
            return Err(Error::usage(format!(
                "method `{}`: `{}` is made from logits, and model {} gives features alone",
                self.name,
                statistic_name(term.statistic),
                network.path().display()
            ))
            .hint(
                "`bank` needs features only: `oodstream calibrate` makes its codebook from ordinary footage, then \
                 --method bank --calibration FILE; or name the logits as outputs.logits in the manifest",
            ));
        }
        let term = self.recipe.terms.iter().find(|term| term.statistic.needs_queries());
        match term.filter(|_| !network.has_queries()) {
            Some(term) => Err(Error::usage(format!(
                "method `{}`: `{}` is defined on the queries of a query-mask network, and model {} gives logits",
                self.name,
                statistic_name(term.statistic),
                network.path().display()
            ))
            .hint("max-logit, energy and entropy are defined on logits")),
            None => Ok(()),
        }
    }

    /// Whether ordinary footage is needed for it: a codebook or statistics ("training-light" in the tables).
    pub fn needs_calibration(&self) -> bool {
        self.needs_statistics || self.recipe.terms.iter().any(|term| term.statistic == Statistic::Bank)
    }
}

/// The names of methods, for hints.
fn known() -> String {
    format!(
        "known are default, {}, rba, no-object, bank, bank-cluster, msp-cluster, energy-cluster, or a sum such as \
         cluster:entropy*1.0+pixel:max-logit*0.5; @5,10,20 after it sets K",
        TRAINING_FREE.join(", ")
    )
}

/// Clusters and the codebook are of features, and all terms of a sum share one grid; where no term is made from features,
/// small objects are kept by the logits' own resolution.
fn grid(terms: &[Term]) -> Grid {
    let of_logits = |term: &Term| term.unit == Unit::Pixel && term.statistic.needs_logits();
    if terms.iter().all(of_logits) { Grid::Finest } else { Grid::Features }
}

fn recipe(terms: Vec<Term>, k: &[usize]) -> Recipe {
    Recipe {
        grid: grid(&terms),
        terms,
        k: k.to_vec(),
        seed: 0,
        max_iterations: MAX_ITERATIONS,
        unit_length: true,
        codebook: None,
        warm_start: false,
        smoothing: None,
        upsampling: Upsampling::Bilinear,
    }
}

fn plain(statistic: Statistic, unit: Unit) -> Term {
    Term { statistic, unit, weight: 1.0, mean: 0.0, deviation: 1.0 }
}

fn named(name: &str) -> Option<Method> {
    let statistic = |name: &str| STATISTICS.iter().find(|(known, _)| *known == name).map(|(_, statistic)| *statistic);
    let (base, ensemble) = match name.strip_suffix("-ensemble") {
        Some(base) => (base, true),
        None => (name, false),
    };
    let (statistic, unit) = match base.strip_suffix("cluster") {
        Some("") => (Statistic::MaxLogit, Unit::Cluster),
        Some(prefix) => (statistic(prefix.strip_suffix('-')?)?, Unit::Cluster),
        None if ensemble => return None,
        None => (statistic(base)?, Unit::Pixel),
    };
    let k = match (unit, ensemble) {
        (Unit::Pixel, _) => &[],
        (Unit::Cluster, true) => ENSEMBLE_K,
        (Unit::Cluster, false) => SINGLE_K,
    };
    let recipe = recipe(vec![plain(statistic, unit)], k);
    Some(Method { name: name.to_owned(), recipe, threshold: None, alarm_threshold: None, needs_statistics: false })
}

fn from_section(section: &ScoringSection) -> Method {
    let mut recipe = recipe(section.terms.clone(), &section.k);
    recipe.seed = section.seed;
    recipe.unit_length = section.unit_length;
    recipe.upsampling = section.upsampling;
    Method {
        name: "default".to_owned(),
        recipe,
        threshold: Some(section.threshold),
        alarm_threshold: None,
        needs_statistics: false,
    }
}

fn parse_k(list: &str) -> Result<Vec<usize>, String> {
    let numbers = list.split(',').map(|number| match number.trim().parse::<usize>() {
        Ok(k) if (1..=1024).contains(&k) => Ok(k),
        _ => Err(format!("`{}` is not a number of clusters (1 to 1024)", number.trim())),
    });
    numbers.collect()
}

fn parse_sum(body: &str) -> Result<Method, String> {
    let terms = body.split('+').map(|part| parse_term(part.trim())).collect::<Result<Vec<_>, _>>()?;
    let k = if terms.iter().any(|term| term.unit == Unit::Cluster) { ENSEMBLE_K } else { &[] };
    let needs_statistics = terms.len() > 1;
    Ok(Method {
        name: body.to_owned(),
        recipe: recipe(terms, k),
        threshold: None,
        alarm_threshold: None,
        needs_statistics,
    })
}

fn parse_term(part: &str) -> Result<Term, String> {
    let (name, weight) = match part.split_once('*') {
        Some((name, weight)) => {
            let weight = weight.trim();
            let value = weight.parse::<f32>().ok().filter(|value| value.is_finite());
            (name.trim(), value.ok_or_else(|| format!("`{weight}` in `{part}` is not a weight"))?)
        }
        None => (part, 1.0),
    };
    let (unit, statistic) = match name.split_once(':') {
        Some(("pixel", statistic)) => (Unit::Pixel, statistic),
        Some(("cluster", statistic)) => (Unit::Cluster, statistic),
        Some((unit, _)) => return Err(format!("`{unit}` in `{part}` is not a unit (pixel or cluster)")),
        None => (Unit::Pixel, name),
    };
    let statistic = STATISTICS.iter().find(|(known, _)| *known == statistic).map(|(_, statistic)| *statistic);
    match statistic {
        Some(statistic) => Ok(Term { weight, ..plain(statistic, unit) }),
        None => {
            let names = STATISTICS.map(|(name, _)| name).join(", ");
            Err(format!("`{name}` is not a term: write UNIT:STATISTIC*WEIGHT with a statistic of {names}"))
        }
    }
}

/// Splits a `--methods` list at the commas that are not part of `@5,10,20`.
pub fn split_list(list: &str) -> Vec<String> {
    let mut methods: Vec<String> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match methods.last_mut() {
            Some(last) if last.contains('@') && part.bytes().all(|c| c.is_ascii_digit()) => {
                last.push(',');
                last.push_str(part);
            }
            _ => methods.push(part.to_owned()),
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_their_recipes() {
        for (name, statistic, unit, k) in [
            ("msp", Statistic::Msp, Unit::Pixel, vec![]),
            ("max-logit", Statistic::MaxLogit, Unit::Pixel, vec![]),
            ("bank", Statistic::Bank, Unit::Pixel, vec![]),
            ("rba", Statistic::Rba, Unit::Pixel, vec![]),
            ("no-object", Statistic::NoObject, Unit::Pixel, vec![]),
            ("rba-cluster", Statistic::Rba, Unit::Cluster, vec![10]),
            ("cluster", Statistic::MaxLogit, Unit::Cluster, vec![10]),
            ("cluster@20", Statistic::MaxLogit, Unit::Cluster, vec![20]),
            ("cluster-ensemble", Statistic::MaxLogit, Unit::Cluster, vec![5, 10, 20]),
            ("entropy-cluster", Statistic::Entropy, Unit::Cluster, vec![10]),
            ("entropy-cluster-ensemble", Statistic::Entropy, Unit::Cluster, vec![5, 10, 20]),
        ] {
            let method = Method::parse(name, None).unwrap();
            assert_eq!(method.recipe.terms, [plain(statistic, unit)], "{name}");
            assert_eq!(method.recipe.k, k, "{name}");
            assert_eq!(method.name, name);
        }
        for (name, want) in [
            ("max-logit", Grid::Finest),
            ("rba", Grid::Finest),
            ("pixel:energy*1+pixel:entropy*2", Grid::Finest),
            ("bank", Grid::Features),
            ("cluster", Grid::Features),
            ("cluster:energy*1+pixel:energy*0.3", Grid::Features),
            ("pixel:bank*1+pixel:energy*1", Grid::Features),
        ] {
            assert_eq!(Method::parse(name, None).unwrap().recipe.grid, want, "{name}");
        }
        for name in TRAINING_FREE {
            assert!(!Method::parse(name, None).unwrap().needs_calibration(), "{name}");
        }
    }

    #[test]
    fn sums_parse() {
        let method = Method::parse("cluster:entropy*1.5 + pixel:max-logit*-0.5 @ 5, 20", None).unwrap();
        assert_eq!(
            method.recipe.terms,
            [
                Term { weight: 1.5, ..plain(Statistic::Entropy, Unit::Cluster) },
                Term { weight: -0.5, ..plain(Statistic::MaxLogit, Unit::Pixel) }
            ]
        );
        assert_eq!(method.recipe.k, [5, 20]);
        assert!(method.needs_calibration());
    }

    #[test]
    fn errors_name_the_part() {
        for (text, part) in [
            ("", "empty"),
            ("clustr", "not known"),
            ("pixel:entropi*2", "pixel:entropi"),
            ("region:entropy", "region"),
            ("cluster:entropy*x", "`x`"),
            ("cluster@0", "`0`"),
            ("msp@5", "no clusters"),
            ("msp-ensemble", "not known"),
        ] {
            let error = Method::parse(text, None).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_default_comes_from_the_manifest() {
        let section = ScoringSection {
            k: vec![7],
            seed: 3,
            unit_length: false,
            upsampling: Upsampling::Guided,
            threshold: 1.5,
            terms: vec![plain(Statistic::Energy, Unit::Cluster)],
        };
        let Method { recipe, threshold, .. } = Method::parse("default", Some(&section)).unwrap();
        assert_eq!((recipe.k, recipe.seed, recipe.unit_length, threshold), (vec![7], 3, false, Some(1.5)));
        assert_eq!(Method::parse("default", None).unwrap().recipe.k, ENSEMBLE_K);
    }

    #[test]
    fn lists_keep_the_ks_together() {
        assert_eq!(split_list("msp, cluster@5,10,20,entropy,"), ["msp", "cluster@5,10,20", "entropy"]);
    }
}
