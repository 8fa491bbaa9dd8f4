//! Data sets: each a function from a path, or a seed, to a [`Corpus`](crate::Corpus).

pub mod synthetic;
