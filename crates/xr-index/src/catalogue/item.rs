use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// What a catalogue knows of a picture and its texts, besides their embeddings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The caller's id.
    pub id: u64,
    /// Path or URL of the picture.
    pub source: String,
    /// Captions, titles.
    #[serde(default)]
    pub texts: Vec<String>,
    /// Anything; a search can ask for the value of a field that is a string, a number or a boolean.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// An item with what it is found by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewItem {
    /// What is known of it.
    pub item: Item,
    /// Bytes that the catalogue keeps and doesn't look into, such as a thumbnail.
    pub blob: Vec<u8>,
    /// Embeddings of the picture, one or more, or none.
    pub pictures: Vec<Vec<f32>>,
    /// Embeddings of the texts.
    pub texts: Vec<Vec<f32>>,
}

impl NewItem {
    pub(crate) fn vectors(&self, space: Space) -> &[Vec<f32>] {
        match space {
            Space::Pictures => &self.pictures,
            Space::Texts => &self.texts,
        }
    }
}

/// What is searched: embeddings of pictures or of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// The pictures' embeddings.
    #[default]
    Pictures,
    /// The texts' embeddings.
    Texts,
}

impl Space {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pictures, Self::Texts];
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pictures => "pictures",
            Self::Texts => "texts",
        })
    }
}

/// A field of the metadata that must have a value, written `field=value`.
///
/// ```
/// use xr_index::Condition;
///
/// let condition: Condition = "year=2024".parse()?;
/// assert!(condition.holds(serde_json::json!({ "year": 2024 }).as_object().unwrap()));
/// assert_eq!(
///     "year".parse::<Condition>().unwrap_err().to_string(),
///     "`year` is no condition; write it as field=value"
/// );
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    field: String,
    value: String,
}

impl Condition {
    /// Does it hold for an item of this metadata?
    pub fn holds(&self, metadata: &Map<String, Value>) -> bool {
        metadata.get(&self.field).and_then(text).is_some_and(|text| text == self.value)
    }

    /// All that hold for an item of this metadata.
    pub(crate) fn all_of(metadata: &Map<String, Value>) -> impl Iterator<Item = Self> {
        let text = |(field, value): (&String, &Value)| Some((field.clone(), text(value)?));
        metadata.iter().filter_map(text).map(|(field, value)| Self { field, value })
    }

    /// What items are filed under for which it holds.
    pub(super) fn key(&self) -> String {
        format!("{}\0{}", self.field, self.value)
    }
}

/// A value as it is written in a condition.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.field, self.value)
    }
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (field, value) = text.split_once('=').ok_or_else(|| Error::NoCondition(text.into()))?;
        Ok(Self { field: field.into(), value: value.into() })
    }
}

/// An item that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Id of the item.
    pub item: u64,
    /// The best score of its embeddings.
    pub score: f32,
}
