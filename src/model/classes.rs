//! Class names and colours of well-known data sets, guessed by the number of classes where a model does not name its own.

use std::sync::LazyLock;

use serde::Deserialize;

/// The classes of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    /// Name of the data set.
    #[serde(skip)]
    pub dataset: &'static str,
    /// In the order of the networks' outputs.
    pub names: Vec<String>,
    /// R, G, B per class, as the data set's own tools draw them.
    pub palette: Vec<[u8; 3]>,
}

/// Shared with the exporters in `models/export`.
const SOURCES: [(&str, &str); 5] = [
    ("Cityscapes", include_str!("../../models/classes/cityscapes.toml")),
    ("ADE20K", include_str!("../../models/classes/ade20k.toml")),
    ("CamVid", include_str!("../../models/classes/camvid.toml")),
    ("PASCAL VOC", include_str!("../../models/classes/voc.toml")),
    ("Mapillary Vistas", include_str!("../../models/classes/mapillary.toml")),
];

/// All tables. A test reads every source, so none is missing here.
static TABLES: LazyLock<Vec<ClassTable>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .filter_map(|(dataset, text)| toml::from_str(text).ok().map(|table| ClassTable { dataset, ..table }))
        .collect()
});

/// The data set whose networks have `count` outputs. Mapillary's are made with and without their last class, "unlabeled".
pub fn by_count(count: usize) -> Option<&'static ClassTable> {
    TABLES.iter().find(|table| {
        let without_last = table.names.last().is_some_and(|last| last == "unlabeled");
        table.names.len() == count || (without_last && table.names.len() == count + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_whole() {
        assert_eq!(TABLES.len(), SOURCES.len());
        for table in TABLES.iter() {
            assert_eq!(table.names.len(), table.palette.len(), "{}", table.dataset);
            let distinct: std::collections::BTreeSet<_> = table.names.iter().collect();
            assert_eq!(distinct.len(), table.names.len(), "{}", table.dataset);
        }
    }

    #[test]
    fn guessed_by_count() {
        for (count, dataset, first) in [
            (19, "Cityscapes", "road"),
            (150, "ADE20K", "wall"),
            (11, "CamVid", "sky"),
            (21, "PASCAL VOC", "background"),
            (65, "Mapillary Vistas", "bird"),
            (66, "Mapillary Vistas", "bird"),
        ] {
            let table = by_count(count).unwrap();
            assert_eq!((table.dataset, table.names[0].as_str()), (dataset, first));
        }
        assert_eq!(by_count(4), None);
        assert_eq!(by_count(64), None);
    }
}
