//! xr-index
