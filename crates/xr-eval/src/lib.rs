//! Retrieval metrics with confidence intervals, and pictures of the results.
//!
//! [`Ranking`] is where the right answers stand, [`Metric`] makes a number of it, [`Bootstrap`]
//! says how sure that number is, and [`evaluate()`] does all three in both directions.
//!
//! ```
//! use xr_eval::{Bootstrap, Ranking, measure, metric};
//!
//! // Three captions of two pictures; the right picture came 1st, 4th and 2nd of eight.
//! let ranking = Ranking::from_ranks(8, vec![vec![1], vec![4], vec![2]]);
//! let pictures = [0, 0, 1];
//! let measures =
//!     measure(&ranking, &metric::standard(&[1, 5]), &pictures, &Bootstrap::default())?;
//! assert_eq!(measures["R@5"].value, 1.0);
//! assert_eq!(measures["MedR"].value, 2.0);
//! # Ok::<(), xr_eval::Error>(())
//! ```

mod bootstrap;
mod error;
mod evaluate;
mod geometry;
pub mod metric;
pub mod plot;
mod rank;
pub mod report;
mod summary;

pub use bootstrap::{Bootstrap, Interval};
pub use error::{Error, Result};
pub use evaluate::{Banks, EvalConfig, Measures, Scores, evaluate, evaluate_corrected, measure};
pub use geometry::{Dispersion, Geometry};
pub use metric::Metric;
pub use rank::Ranking;
pub use report::Table;
pub use summary::{Spread, Summary};
