//! The parts of an archive that several machines work on.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// One of several machines' parts of an archive, `I/N` with `I` from 1.
///
/// A file belongs to the shard that the SHA-256 of its key names, so that files added later move no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Numbers")]
pub struct Shard {
    /// Which shard, from 1.
    pub number: u64,
    /// How many there are.
    pub count: u64,
}

/// A [`Shard`] as it stands in a run file.
#[derive(Deserialize)]
struct Numbers {
    number: u64,
    count: u64,
}

impl TryFrom<Numbers> for Shard {
    type Error = String;

    fn try_from(Numbers { number, count }: Numbers) -> std::result::Result<Self, String> {
        let shard = Self { number, count };
        if shard.is_valid() { Ok(shard) } else { Err(format!("there is no shard {shard}")) }
    }
}

impl Shard {
    /// The most that an archive may have: those that are missing are listed one by one.
    const MOST: u64 = 1_000_000;

    fn is_valid(self) -> bool {
        self.count <= Self::MOST && (1..=self.count).contains(&self.number)
    }

    /// Whether the file with this key is in the shard.
    pub fn has(&self, key: &str) -> bool {
        let hash = Sha256::digest(key.as_bytes());
        let first = hash.iter().take(8).fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        first % self.count.max(1) == self.number.saturating_sub(1)
    }
}

impl std::str::FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("--shard {text}: expected I/N, such as 17/1000: I from 1 to N, N up to a million"));
        let (number, count) = text.split_once('/').ok_or_else(wrong)?;
        let shard = Self { number: number.parse().map_err(|_| wrong())?, count: count.parse().map_err(|_| wrong())? };
        if shard.is_valid() { Ok(shard) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_disjoint_and_complete_and_added_files_move_no_others() {
        let keys: Vec<String> = (0..500).map(|n| format!("cam{}/{n}.mp4", n % 3)).collect();
        let shards: Vec<Shard> = (1..=7).map(|number| Shard { number, count: 7 }).collect();
        for key in &keys {
            assert_eq!(shards.iter().filter(|shard| shard.has(key)).count(), 1, "{key}");
        }
        let sizes: Vec<usize> = shards.iter().map(|shard| keys.iter().filter(|key| shard.has(key)).count()).collect();
        assert!(sizes.iter().all(|size| (40..110).contains(size)), "{sizes:?}");
        for wrong in ["0/7", "8/7", "7", "a/b", "1/0", "-1/7"] {
            assert!(wrong.parse::<Shard>().unwrap_err().to_string().contains("--shard"), "{wrong}");
        }
    }
}
