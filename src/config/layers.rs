//! A file and what is put over it, read as one: each value knows the folder that a relative path in it starts at.

use std::path::{Path, PathBuf};

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use toml::de::Error;
use toml::{Table, Value};

use crate::address::LOCATED;

/// The layers of a configuration.
#[derive(Default)]
pub(super) struct Layers {
    pub file: Table,
    /// Where the file is.
    pub folder: Option<PathBuf>,
    /// Sections with the keys that take the place of the file's.
    pub overrides: Table,
}

impl Layers {
    pub fn read<'de, T: Deserialize<'de>>(self) -> Result<T, Error> {
        let Self { file, folder, overrides } = self;
        let mut sections: Vec<(String, Node)> =
            file.into_iter().map(|(name, value)| (name, Node::of(value, folder.as_deref()))).collect();
        for (name, keys) in overrides {
            let Node::Table(keys) = Node::of(keys, None) else { continue };
            match sections.iter_mut().find(|(section, _)| *section == name) {
                Some((_, Node::Table(section))) => {
                    section.retain(|(key, _)| keys.iter().all(|(other, _)| other != key));
                    section.extend(keys);
                }
                _ => sections.push((name, Node::Table(keys))),
            }
        }
        T::deserialize(Node::Table(sections))
    }
}

/// A value with its origin.
enum Node {
    Table(Vec<(String, Node)>),
    Array(Vec<Node>),
    Leaf(Value, Option<PathBuf>),
}

impl Node {
    fn of(value: Value, folder: Option<&Path>) -> Self {
        match value {
            Value::Table(table) => {
                Self::Table(table.into_iter().map(|(key, value)| (key, Self::of(value, folder))).collect())
            }
            Value::Array(values) => Self::Array(values.into_iter().map(|value| Self::of(value, folder)).collect()),
            value => Self::Leaf(value, folder.map(Path::to_path_buf)),
        }
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Table(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
            Self::Array(values) => visitor.visit_seq(SeqDeserializer::new(values.into_iter())),
            Self::Leaf(value, _) => value.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Leaf(value, _) => value.deserialize_enum(name, variants, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Leaf(value, Some(folder)) if name == LOCATED => {
                visitor.visit_seq(Located { folder: Some(folder), value: Some(value) })
            }
            other => visitor.visit_newtype_struct(other),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The sequence of a folder and the value in its file.
struct Located {
    folder: Option<PathBuf>,
    value: Option<Value>,
}

impl<'de> SeqAccess<'de> for Located {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if let Some(folder) = self.folder.take() {
            let bytes = folder.into_os_string().into_encoded_bytes();
            return seed.deserialize(SeqDeserializer::new(bytes.into_iter())).map(Some);
        }
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}
