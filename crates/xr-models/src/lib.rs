//! xr-models
