//! The tensor functions that encoders call where a backend's own may be slow or wrong.
//!
//! Each is composed of Burn's operations, so that it runs, and has a gradient, on every backend. The
//! backend extension takes over the bodies of those that Flex has kernels for, without any model
//! changing.

mod attention;
mod backend;
#[cfg(feature = "flex")]
mod flex;
mod gelu;
mod l2_normalize;
mod masked_mean;
mod relu6;

pub use self::{
    attention::attention, gelu::gelu, l2_normalize::l2_normalize, masked_mean::masked_mean,
    relu6::relu6,
};
