use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};
use rayon::prelude::*;

use super::{
    arch::{Arch, dispatch},
    blocks,
    math::{dot, exp, max, sum},
    product::{Matrix, add_product},
    storage::{contiguous, truths},
};
use crate::ops::attention::MASKED;

pub(super) fn forward(
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    mask: FlexTensor,
) -> FlexTensor {
    let [query, key, value] = [query, key, value].map(rows_in_place);
    let [query, key, value] = [&query, &key, &value].map(Heads::of);
    let mask = contiguous(mask);
    let mask = truths(&mask);
    let shape = query.shape;
    let out = blocks::generate(query.len(), query.item_len(), |item, out| {
        let mask = &mask[item * key.tokens()..][..key.tokens()];
        for head in 0..shape[1] {
            let [query, key, value] = [query, key, value].map(|x| x.head(item, head));
            let weights = weights(Arch::new(), query, key, mask);
            let weights = Matrix::new(&weights, mask.len());
            add_product(
                Arch::new(),
                weights,
                value,
                &mut out[head * shape[3]..],
                shape[1] * shape[3],
            );
        }
    });
    tensor(out, shape)
}

pub(super) fn backward(
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    mask: FlexTensor,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [query, key, value, grad] = [query, key, value, grad].map(rows_in_place);
    let [query, key, value, grad] = [&query, &key, &value, &grad].map(Heads::of);
    let mask = contiguous(mask);
    let mask = truths(&mask);
    let shapes = [query.shape, key.shape, value.shape];
    let [mut query_grad, mut key_grad, mut value_grad] =
        [query, key, value].map(|x| vec![0.0; x.len()]);
    let items = query_grad
        .par_chunks_mut(query.item_len())
        .zip(key_grad.par_chunks_mut(key.item_len()))
        .zip(value_grad.par_chunks_mut(value.item_len()));
    items.enumerate().for_each(|(item, ((query_grad, key_grad), value_grad))| {
        let mask = &mask[item * key.tokens()..][..key.tokens()];
        for head in 0..query.shape[1] {
            let [query, key, value, grad] = [query, key, value, grad].map(|x| x.head(item, head));
            let from = head * shapes[0][3];
            let out = [&mut query_grad[from..], &mut key_grad[from..], &mut value_grad[from..]];
            head_backward(
                Arch::new(),
                [query, key, value],
                mask,
                grad,
                out,
                shapes[0][1] * shapes[0][3],
            );
        }
    });
    (tensor(query_grad, shapes[0]), tensor(key_grad, shapes[1]), tensor(value_grad, shapes[2]))
}

/// See [`crate::ops::attention::composed_backward`].
fn head_backward(
    arch: Arch,
    [query, key, value]: [Matrix; 3],
    mask: &[u8],
    grad: Matrix,
    [query_grad, key_grad, value_grad]: [&mut [f32]; 3],
    stride: usize,
) {
    let tokens = mask.len();
    let p = weights(arch, query, key, mask);
    add_product(arch, Matrix::new(&p, tokens).transpose(), grad, value_grad, stride);
    let mut s = vec![0.0; p.len()];
    add_product(arch, grad, value.transpose(), &mut s, tokens);
    let root = (query.columns() as f32).sqrt();
    dispatch(
        arch,
        #[inline(always)]
        || {
            for (s, p) in s.chunks_exact_mut(tokens).zip(p.chunks_exact(tokens)) {
                let along = dot(s, p);
                for ((s, p), &keep) in s.iter_mut().zip(p).zip(mask) {
                    *s = if keep != 0 { p * (*s - along) / root } else { 0.0 };
                }
            }
        },
    );
    let s = Matrix::new(&s, tokens);
    add_product(arch, s, key, query_grad, stride);
    add_product(arch, s.transpose(), query, key_grad, stride);
}

/// `softmax(q kᵀ / √width)` of one head, `[tokens, tokens]`.
fn weights(arch: Arch, query: Matrix, key: Matrix, mask: &[u8]) -> Vec<f32> {
    let tokens = mask.len();
    let mut scores = vec![0.0; query.row_count() * tokens];
    add_product(arch, query, key.transpose(), &mut scores, tokens);
    let root = (query.columns() as f32).sqrt();
    dispatch(
        arch,
        #[inline(always)]
        || scores.chunks_exact_mut(tokens.max(1)).for_each(|row| softmax(row, root, mask)),
    );
    scores
}

/// Of a row of scores over `root`.
#[inline(always)]
fn softmax(row: &mut [f32], root: f32, mask: &[u8]) {
    for (score, &keep) in row.iter_mut().zip(mask) {
        *score = if keep != 0 { *score / root } else { MASKED };
    }
    let max = max(row);
    row.iter_mut().for_each(|score| *score = exp(*score - max));
    let total = sum(row);
    row.iter_mut().for_each(|weight| *weight /= total);
}

/// `[batch, heads, tokens, width]` somewhere in memory; the values of a row lie side by side.
#[derive(Clone, Copy)]
struct Heads<'a> {
    values: &'a [f32],
    shape: [usize; 4],
    strides: [usize; 3],
}

impl<'a> Heads<'a> {
    fn of(x: &'a FlexTensor) -> Self {
        let strides = x.layout().strides();
        Self {
            values: &x.storage()[x.layout().start_offset()..],
            shape: x.layout().shape().dims(),
            strides: [0, 1, 2].map(|axis| strides[axis] as usize),
        }
    }

    fn head(self, item: usize, head: usize) -> Matrix<'a> {
        let [batch, heads, _] = self.strides;
        let values = self.values.get(item * batch + head * heads..).unwrap_or_default();
        Matrix::strided(values, self.shape[2], self.shape[3], self.strides[2])
    }

    fn tokens(self) -> usize {
        self.shape[2]
    }

    fn len(self) -> usize {
        self.shape.iter().product()
    }

    /// Values of one item of the batch, but 1 if there are none.
    fn item_len(self) -> usize {
        self.shape[1..].iter().product::<usize>().max(1)
    }
}

/// The same tensor, copied if the values of a row don't lie side by side, or if rows share some.
fn rows_in_place(x: FlexTensor) -> FlexTensor {
    let (strides, width) = (x.layout().strides(), x.layout().shape()[3] as isize);
    let forwards = strides.iter().all(|&stride| stride >= 0);
    if strides[3] == 1 && strides[2] >= width && forwards { x } else { x.to_contiguous() }
}

/// A tensor `[batch, heads, tokens, width]` of `[batch, tokens, heads, width]`, so that the heads of
/// a token can be put side by side without a copy.
fn tensor(values: Vec<f32>, [batch, heads, tokens, width]: [usize; 4]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::new([batch, tokens, heads, width])).transpose(1, 2);
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    const TOKENS: usize = 19;
    const WIDTH: usize = 5;

    fn numbers(salt: usize) -> Vec<f32> {
        (0..TOKENS * WIDTH).map(|i| ((i * salt) % 101) as f32 / 50.0 - 1.0).collect()
    }

    fn mask() -> Vec<u8> {
        (0..TOKENS).map(|i| u8::from(i < 17)).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_weights() {
        let (query, key) = (numbers(7), numbers(31));
        let [query, key] = [&query, &key].map(|x| Matrix::new(x, WIDTH));
        let run = |arch| weights(arch, query, key, &mask());
        let portable = run(Arch::Scalar);
        for row in portable.chunks(TOKENS) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert_eq!(row[17..], [0.0, 0.0]);
        }
        for arch in arch::all() {
            for (found, expected) in run(arch).into_iter().zip(&portable) {
                assert!((found - expected).abs() < 1e-6, "{arch:?}");
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_gradients() {
        let inputs = [7, 31, 13, 57].map(numbers);
        let run = |arch| {
            let [query, key, value, grad] = inputs.each_ref().map(|x| Matrix::new(x, WIDTH));
            let mut grads: [_; 3] = std::array::from_fn(|_| vec![0.0; TOKENS * WIDTH]);
            let out = grads.each_mut().map(Vec::as_mut_slice);
            head_backward(arch, [query, key, value], &mask(), grad, out, WIDTH);
            grads
        };
        let portable = run(Arch::Scalar);
        for arch in arch::all() {
            for (found, expected) in run(arch).iter().flatten().zip(portable.iter().flatten()) {
                assert!((found - expected).abs() < 1e-5, "{arch:?}: {found}, not {expected}");
            }
        }
    }
}
