use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{Bool, Shape, Tensor},
};

use super::backend::Kernels;

/// Far below any score, and finite: a row without a single token gives a mean and no NaN.
pub(super) const MASKED: f32 = -1e9;

/// Scaled dot-product attention, `softmax(q kᵀ / √width) v` over the positions with a token.
///
/// Burn 0.22 has this operation too, but reads its mask the wrong way round on libtorch.
///
/// # Shapes
/// - query, key, value: `[batch, heads, tokens, width]`
/// - mask: `[batch, tokens]`, true where there is a token to attend to
/// - output: `[batch, heads, tokens, width]`
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Tensor<2, Bool>,
) -> Tensor<4> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    let mask = mask.into_dispatch();
    Tensor::from_dispatch(<Dispatch as Kernels>::attend(query, key, value, mask))
}

pub(super) fn composed<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: BoolTensor<B>,
) -> FloatTensor<B> {
    B::float_matmul(weights::<B>(query, key, mask), value)
}

/// `softmax(q kᵀ / √width)`, `[batch, heads, tokens, tokens]`.
fn weights<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    mask: BoolTensor<B>,
) -> FloatTensor<B> {
    let [batch, _, tokens, width] = query.shape().dims();
    let padding = B::bool_reshape(B::bool_not(mask), Shape::new([batch, 1, 1, tokens]));
    let scores = B::float_matmul(query, B::float_swap_dims(key, 2, 3));
    let scores = B::float_div_scalar(scores, (width as f32).sqrt().into());
    let padding = B::bool_expand(padding, scores.shape());
    B::softmax(B::float_mask_fill(scores, padding, MASKED.into()), 3)
}

/// With the weights `p` and `g = grad vᵀ`, the gradient of the scores is `s = p (g − Σ g p)`, and
/// those of query, key and value are `s k / √width`, `sᵀ q / √width` and `pᵀ grad`.
pub(super) fn composed_backward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: BoolTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let [batch, _, tokens, width] = query.shape().dims();
    let p = weights::<B>(query.clone(), key.clone(), mask.clone());
    let transpose = |x| B::float_swap_dims(x, 2, 3);
    let value_grad = B::float_matmul(transpose(p.clone()), grad.clone());
    let g = B::float_matmul(grad, transpose(value));
    let along = B::float_sum_dim(B::float_mul(g.clone(), p.clone()), 3);
    let s = B::float_mul(p, B::float_sub(g, along));
    // A masked score is a constant.
    let padding = B::bool_reshape(B::bool_not(mask), Shape::new([batch, 1, 1, tokens]));
    let s = B::float_mask_fill(s.clone(), B::bool_expand(padding, s.shape()), 0f32.into());
    let s = B::float_div_scalar(s, (width as f32).sqrt().into());
    (B::float_matmul(s.clone(), key), B::float_matmul(transpose(s), query), value_grad)
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    query: FloatTensor<Autodiff<B, C>>,
    key: FloatTensor<Autodiff<B, C>>,
    value: FloatTensor<Autodiff<B, C>>,
    mask: BoolTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    let (query, query_node) = query.into_parts();
    let (key, key_node) = key.into_parts();
    let (value, value_node) = value.into_parts();
    match Attention.prepare::<C>([query_node, key_node, value_node]).compute_bound().stateful() {
        OpsKind::UnTracked(prep) => prep.finish(B::attend(query, key, value, mask)),
        OpsKind::Tracked(prep) => {
            let state = ([query.clone(), key.clone(), value.clone()], mask.clone());
            prep.finish(state, B::attend(query, key, value, mask))
        }
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Kernels> Backward<B, 3> for Attention {
    type State = ([FloatTensor<B>; 3], BoolTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let ([query, key, value], mask) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let (query, key, value) = B::attend_backward(query, key, value, mask, grad);
        for (parent, grad) in ops.parents.into_iter().zip([query, key, value]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    #[test]
    fn equal_scores_give_the_mean_of_the_unmasked_values() {
        let device = Device::flex();
        let same = Tensor::<4>::ones([1, 1, 3, 2], &device);
        let value = Tensor::from_data([[[[1.0, 10.0], [3.0, 20.0], [99.0, 99.0]]]], &device);
        let mask = Tensor::from_data([[true, true, false]], &device);
        let output = attention(same.clone(), same, value, mask);
        let mean = TensorData::from([[[[2.0, 15.0], [2.0, 15.0], [2.0, 15.0]]]]);
        output.into_data().assert_approx_eq::<f32>(&mean, Tolerance::default());
    }

    #[test]
    fn scores_are_divided_by_the_root_of_the_width() {
        let device = Device::flex();
        // One query against keys 0 and 1, width 4: scores 0 and 4 ln 3 / √4 = ln 9, weights 1 : 9.
        let query = Tensor::from_data([[[[3f32.ln(); 4]]]], &device);
        let key = Tensor::from_data([[[[0.0f32; 4], [1.0; 4]]]], &device);
        let value = Tensor::from_data([[[[0.0f32; 4], [10.0; 4]]]], &device);
        let output = attention(query, key, value, Tensor::from_data([[true, true]], &device));
        let expected = TensorData::from([[[[9.0f32; 4]]]]);
        output.into_data().assert_approx_eq::<f32>(&expected, Tolerance::default());
    }

    #[test]
    fn a_row_without_tokens_is_finite() {
        let device = Device::flex();
        let x = Tensor::<4>::ones([1, 1, 2, 2], &device);
        let mask = Tensor::from_data([[false, false]], &device);
        let output = attention(x.clone(), x.clone(), x.clone(), mask);
        output.into_data().assert_approx_eq::<f32>(&x.into_data(), Tolerance::default());
    }
}
