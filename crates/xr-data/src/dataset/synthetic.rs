//! Scenes of coloured shapes with captions, made from a seed.

/// What one generated picture shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {}
