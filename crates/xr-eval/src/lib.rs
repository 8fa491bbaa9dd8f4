//! xr-eval
