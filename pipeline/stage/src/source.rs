//! A parameter that names where something comes from.

use std::convert::Infallible;
use std::str::FromStr;

/// A path, or a `scheme:…` of the stage's own. Where it is a path, the content of what stands there counts in the fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Source(pub String);

impl FromStr for Source {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}
