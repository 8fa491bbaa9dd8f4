//! xr-train
