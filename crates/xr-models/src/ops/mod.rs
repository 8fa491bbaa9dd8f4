//! The tensor functions that encoders call where a backend's own may be slow or wrong.
//!
//! Each is composed of Burn's operations, so that it runs, and has a gradient, on every backend. The
//! backend extension takes over the bodies of those that Flex has kernels for, without any model
//! changing.

mod activation;
mod attention;
mod backend;
mod batch_norm;
mod conv2d;
#[cfg(feature = "flex")]
mod flex;
mod gelu;
mod global_avg_pool2d;
mod l2_normalize;
mod masked_mean;

pub use self::{
    activation::{Activation, relu6},
    attention::attention,
    batch_norm::{BatchNormTrain, batch_norm_train},
    conv2d::{Residual, conv2d, conv2d_fused},
    gelu::gelu,
    global_avg_pool2d::global_avg_pool2d,
    l2_normalize::l2_normalize,
    masked_mean::masked_mean,
};
