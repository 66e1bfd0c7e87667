//! `oodstream mine`: events that are alike, or as different from each other as possible, by their embeddings.
//!
//! Embeddings are compared by cosine.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView1, Axis, concatenate};
use serde::Serialize;
use walkdir::WalkDir;

use super::status::Records;
use crate::record::embeddings::{EmbeddingId, IDS, ids_beside};
use crate::{Error, Result, npy};

/// The embeddings of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[events, features]`.
    pub rows: Array2<f32>,
    /// What each row is about.
    pub ids: Vec<EmbeddingId>,
}

/// An event that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    /// The event.
    #[serde(flatten)]
    pub event: EmbeddingId,
    /// Cosine to the event given, or the highest to those chosen before; none for the first.
    pub similarity: Option<f32>,
}

impl Embeddings {
    /// Reads one file and what is beside it.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not belong together.
    pub fn read(rows: &Path, ids: &Path) -> Result<Self> {
        let text = fs::read_to_string(ids).map_err(|error| Error::io(ids.display().to_string(), error))?;
        let parse = |(number, line): (usize, &str)| {
            serde_json::from_str::<EmbeddingId>(line).map_err(|error| {
                Error::failed(format!("{}, line {}: not about an embedding", ids.display(), number + 1))
                    .caused_by(error)
            })
        };
        let parsed = text.lines().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
        let read = npy::read(rows)?;
        if read.nrows() != parsed.len() {
            return Err(Error::failed(format!(
                "{} has {} rows and {} has {} lines",
                rows.display(),
                read.nrows(),
                ids.display(),
                parsed.len()
            )));
        }
        Ok(Self { rows: read, ids: parsed })
    }

    /// Those of files `*.npy`, of folders that hold such files at any depth, or of folders of completion records.
    ///
    /// # Errors
    /// There are none, one is damaged, or they are of several networks.
    pub fn find(inputs: &[PathBuf]) -> Result<Self> {
        let mut parts = Vec::new();
        for input in inputs {
            let files = if input.is_dir() { in_folder(input)? } else { vec![(input.clone(), ids_beside(input))] };
            for (rows, ids) in files {
                parts.push((Self::read(&rows, &ids)?, rows));
            }
        }
        Self::join(parts)
    }

    /// All `parts`, each with its file, as one.
    ///
    /// # Errors
    /// They are of several networks.
    pub fn join(parts: Vec<(Self, PathBuf)>) -> Result<Self> {
        let mut first: Option<(String, usize, PathBuf)> = None;
        let mut rows = Vec::new();
        let mut ids = Vec::new();
        for (part, path) in parts {
            for id in &part.ids {
                let (model, width, place) =
                    first.get_or_insert_with(|| (id.model.clone(), part.rows.ncols(), path.clone()));
                if *model != id.model || *width != part.rows.ncols() {
                    return Err(Error::failed(format!(
                        "{} and {} are of two networks, whose features cannot be compared",
                        place.display(),
                        path.display()
                    )));
                }
            }
            if !part.ids.is_empty() {
                rows.push(part.rows);
                ids.extend(part.ids);
            }
        }
        let views: Vec<_> = rows.iter().map(|rows| rows.view()).collect();
        let rows = if views.is_empty() {
            Array2::zeros((0, 0))
        } else {
            concatenate(Axis(0), &views).map_err(|error| Error::failed("embeddings").caused_by(error))?
        };
        Ok(Self { rows, ids })
    }

    /// The rows at length 1.
    fn directions(&self) -> Array2<f32> {
        let mut rows = self.rows.clone();
        for mut row in rows.rows_mut() {
            let length = row.dot(&row).sqrt();
            if length > 0.0 {
                row /= length;
            }
        }
        rows
    }

    /// The `count` events that are most like the event `id`, most alike first.
    ///
    /// # Errors
    /// There is no such event.
    pub fn like(&self, id: &str, count: usize) -> Result<Vec<Chosen>> {
        let Some(asked) = self.ids.iter().position(|event| event.id == id) else {
            return Err(Error::usage(format!("--like {id}: there is no embedding of this event"))
                .hint("ids are in the events files; an event has an embedding once it is over"));
        };
        let directions = self.directions();
        let asked_for = directions.row(asked);
        let mut others: Vec<(usize, f32)> =
            directions.rows().into_iter().map(|row| row.dot(&asked_for)).enumerate().collect();
        others.retain(|(index, _)| *index != asked);
        others.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        others.truncate(count);
        Ok(others.into_iter().map(|(index, similarity)| self.chosen(index, Some(similarity))).collect())
    }

    /// `count` events that differ as much as possible: the most severe one, then each time the one that is least like any
    /// of those before it (farthest-point selection; Gonzalez 1985).
    pub fn unique(&self, count: usize) -> Vec<Chosen> {
        let directions = self.directions();
        let most_severe =
            (0..self.ids.len()).max_by(|a, b| self.ids[*a].severity.total_cmp(&self.ids[*b].severity).then(b.cmp(a)));
        let mut chosen: Vec<Chosen> = most_severe.map(|index| self.chosen(index, None)).into_iter().collect();
        let mut nearest = vec![f32::NEG_INFINITY; self.ids.len()];
        let approach = |to: ArrayView1<'_, f32>, nearest: &mut [f32]| {
            for (nearest, row) in nearest.iter_mut().zip(directions.rows()) {
                *nearest = nearest.max(row.dot(&to));
            }
        };
        if let Some(index) = most_severe {
            approach(directions.row(index), &mut nearest);
            // Above every cosine: it is not chosen again.
            nearest[index] = f32::INFINITY;
        }
        while chosen.len() < count.min(self.ids.len()) {
            let Some(index) = (0..nearest.len()).min_by(|a, b| nearest[*a].total_cmp(&nearest[*b])) else { break };
            chosen.push(self.chosen(index, Some(nearest[index])));
            approach(directions.row(index), &mut nearest);
            nearest[index] = f32::INFINITY;
        }
        chosen.truncate(count);
        chosen
    }

    fn chosen(&self, index: usize, similarity: Option<f32>) -> Chosen {
        Chosen { event: self.ids[index].clone(), similarity }
    }
}

/// The files of embeddings in `folder`, each with the file beside it.
fn in_folder(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::failed(folder.display().to_string()).caused_by(error))?;
        let name = entry.file_name().to_string_lossy();
        if let Some(stem) = name.strip_suffix(&format!(".{IDS}")).filter(|stem| !stem.starts_with('.')) {
            found.push((entry.path().with_file_name(format!("{stem}.npy")), entry.path().to_path_buf()));
        }
    }
    if found.is_empty() {
        let records = Records::read(folder).map(|records| records.records).unwrap_or_default();
        for (path, record) in records {
            let mut outputs = record.outputs_from(&path);
            if let (Some(rows), Some(ids)) = (outputs.remove("embeddings"), outputs.remove("embedding-ids")) {
                found.push((rows, ids));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::failed(format!("{}: there are no embeddings in this folder", folder.display()))
            .hint("`oodstream run ... -o embeddings:FILE.npy` writes them, -o embeddings:FOLDER/ for a tree"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(rows: &[[f32; 2]]) -> Embeddings {
        let id = |index: usize| EmbeddingId {
            schema: 1,
            id: format!("e{index}"),
            stream: "s".to_owned(),
            model: "m".to_owned(),
            label: "unknown".to_owned(),
            alarm: true,
            nearest_class: None,
            start_s: 0.0,
            peak_s: 0.0,
            end_s: 0.0,
            severity: if index == 1 { 0.9 } else { 0.5 },
            snapshot: None,
        };
        Embeddings { rows: ndarray::arr2(rows), ids: (0..rows.len()).map(id).collect() }
    }

    #[test]
    fn what_is_alike_comes_first_and_what_differs_is_chosen() {
        // Two of each of three directions, of any length.
        let set = embeddings(&[[1.0, 0.0], [0.1, 5.0], [3.0, 3.1], [7.0, 0.1], [0.0, 1.0], [1.0, 1.0]]);
        let ids = |chosen: &[Chosen]| chosen.iter().map(|chosen| chosen.event.id.clone()).collect::<Vec<_>>();
        let like = set.like("e0", 2).unwrap();
        assert_eq!(ids(&like)[0], "e3");
        assert!(like[0].similarity > Some(0.9) && like[1].similarity < like[0].similarity, "{like:?}");
        let unique = set.unique(3);
        assert_eq!(unique[0].event.id, "e1");
        // One of each direction.
        let mut kinds: Vec<usize> =
            ids(&unique).iter().filter_map(|id| Some(id[1..].parse::<usize>().ok()? % 3)).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [0, 1, 2], "{unique:?}");
        assert_eq!((set.unique(100).len(), set.like("e0", 100).unwrap().len(), set.unique(0).len()), (6, 5, 0));
        assert!(set.like("other", 1).unwrap_err().to_string().contains("--like other"));
        assert!(embeddings(&[]).unique(3).is_empty());
    }

    #[test]
    fn networks_are_not_mixed() {
        let mut other = embeddings(&[[1.0, 2.0]]);
        other.ids[0].model = "n".to_owned();
        let parts = vec![(embeddings(&[[1.0, 2.0]]), PathBuf::from("a.npy")), (other, PathBuf::from("b.npy"))];
        let error = Embeddings::join(parts).unwrap_err().to_string();
        assert!(error.contains("a.npy and b.npy are of two networks"), "{error}");
    }
}
