//! What a search for files passes by.

use serde::{Deserialize, Serialize};

/// What was passed by, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Hidden files and folders, `._*` of macOS among them.
    pub hidden: u64,
    /// Folders of deleted files and thumbnails.
    pub trash: u64,
    /// Previews and thumbnails of cameras: `.LRV`, `.LRF`, `.THM`.
    pub previews: u64,
    /// Symbolic links to folders, which are not followed, and links to nothing.
    pub links: u64,
    /// Outputs of runs: `NAME.ood.mp4` beside `NAME.*`, and the folders of this run's outputs.
    pub outputs: u64,
    /// Files that `--include` and `--exclude` leave out.
    pub excluded: u64,
    /// Files that are no videos by their extension.
    pub others: u64,
    /// Lines of a list, or inputs, that name a file once more.
    pub repeated: u64,
    /// Files of other shards.
    pub other_shards: u64,
    /// Folders and files that could not be read, with the reason.
    pub unreadable: Vec<String>,
}

impl Passed {
    /// The numbers that are not zero, in words.
    pub fn describe(&self) -> Option<String> {
        let counts = [
            (self.hidden, "hidden"),
            (self.trash, "trash or thumbnail folders"),
            (self.previews, "camera previews"),
            (self.links, "symbolic links to folders or to nothing"),
            (self.outputs, "outputs of runs"),
            (self.excluded, "left out by --include or --exclude"),
            (self.others, "not known as videos"),
            (self.repeated, "named twice"),
            (self.other_shards, "in other shards"),
            (self.unreadable.len() as u64, "unreadable"),
        ];
        let said: Vec<_> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}
