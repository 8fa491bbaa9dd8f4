//! The tensor functions that encoders call where a backend's own may be slow or wrong.
//!
//! Each is composed of Burn's operations, so that it runs, and has a gradient, on every backend. The
//! backend extension takes over the bodies of those that Flex has kernels for, without any model
//! changing.

mod activation;
mod adam;
mod add_norm;
mod attention;
mod backend;
mod batch_norm;
mod conv2d;
mod dropout;
#[cfg(feature = "flex")]
mod flex;
mod global_avg_pool2d;
mod l2_normalize;
mod linear;
mod masked_mean;
mod max_pool2d;
mod rounded;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use self::{
    activation::{Activation, gelu, quick_gelu, relu6},
    adam::{AdamStep, adam},
    add_norm::add_norm,
    attention::attention,
    batch_norm::{BatchNormTrain, batch_norm_train},
    conv2d::{Residual, conv2d, conv2d_fused},
    global_avg_pool2d::global_avg_pool2d,
    l2_normalize::l2_normalize,
    linear::linear,
    masked_mean::masked_mean,
    max_pool2d::{Pool, max_pool2d},
};
pub(crate) use self::{dropout::dropout, linear::layer};
