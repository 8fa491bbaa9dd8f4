//! Every operation of tensors whose values lie otherwise in memory, which may be shared or not.

use super::{
    super::{
        activation::activate, add_norm, attention, batch_norm_train, global_avg_pool2d, linear,
        max_pool2d,
    },
    *,
};

#[derive(Clone, Copy)]
enum Layout {
    /// As it comes: others hold it too.
    Shared,
    /// Nobody else holds it: it may be overwritten.
    Alone,
    /// The last axis first, and so on, after as many other values.
    Reversed,
    /// Axis 1 last, after as many other values.
    ChannelsLast,
}

impl Layout {
    /// The same values.
    fn of<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Shared => x,
            Self::Alone => x + 0.0,
            Self::Reversed => ordered(x, std::array::from_fn(|i| D - 1 - i)),
            Self::ChannelsLast => ordered(
                x,
                std::array::from_fn(|i| match i {
                    0 => 0,
                    i if i == D - 1 => 1,
                    i => i + 1,
                }),
            ),
        }
    }
}

/// The same values, with the axes in this order in memory.
fn ordered<const D: usize>(x: Tensor<D>, order: [usize; D]) -> Tensor<D> {
    let mut back = [0; D];
    order.into_iter().enumerate().for_each(|(to, from)| back[from] = to);
    let x = x.permute(order);
    let (shape, len) = (x.dims(), x.shape().num_elements());
    let flat: Tensor<1> = x.reshape([-1]);
    let behind = Tensor::cat(vec![flat.clone(), flat], 0).slice_dim(0, len..2 * len);
    behind.reshape(shape).permute(back)
}

/// Is `f` the same for tensors in any layout? It gets the one that it brings its inputs to.
///
/// Its output is in it too, and so is the gradient, which is that of another summand as well.
fn assert_any_layout<const D: usize>(
    mut inputs: Vec<Tensor<1>>,
    f: impl Fn(&[Tensor<1>], Layout) -> Tensor<D>,
) {
    let shape = f(&inputs, Layout::Shared).dims();
    inputs.push(random([shape.iter().product()], 7));
    let sum = |x: &[Tensor<1>], layout: Layout| {
        layout.of(f(x, layout)) + x[x.len() - 1].clone().reshape(shape)
    };
    for layout in [Layout::Alone, Layout::Reversed, Layout::ChannelsLast] {
        assert_same(&inputs, |x| sum(x, layout), |x| sum(x, Layout::Shared));
    }
}

#[test]
fn activations() {
    for f in ACTIVATIONS {
        assert_any_layout(activate_inputs([7, 17]), |x, layout| {
            activate(layout.of(x[0].clone().reshape([7, 17])), f)
        });
    }
}

#[test]
fn linear_layers() {
    for f in ACTIVATIONS {
        assert_any_layout(linear_inputs([7, 17]), |x, layout| {
            let (x, weight, bias) = linear_of(x, [7, 17]);
            linear(layout.of(x), layout.of(weight), layout.of(bias), f)
        });
    }
}

#[test]
fn norms_of_sums() {
    assert_any_layout(norm_inputs([7, 17]), |x, layout| {
        let (summands, parameters) = norm_of(x, [7, 17]);
        let [x, residual] = summands.map(|x| layout.of(x));
        let [gamma, beta] = parameters.map(|x| layout.of(x));
        add_norm(x, residual, gamma, beta, 1e-2)
    });
}

#[test]
fn attention_with_a_mask() {
    assert_any_layout(attention_inputs([2, 3, 5, 4]), |x, layout| {
        let (heads, mask) = attention_of(x, [2, 3, 5, 4]);
        let [query, key, value] = heads.map(|x| layout.of(x));
        attention(query, key, value, mask)
    });
}

/// All tokens of a head may be one row in memory.
#[test]
fn attention_of_tokens_that_are_the_same() {
    let (shape, row) = ([2, 3, 5, 4], [2usize, 3, 1, 4]);
    for same in 0..3 {
        let mut inputs = attention_inputs(shape);
        inputs[same] = random([row.iter().product()], 5);
        let attend = |x: &[Tensor<1>], repeat: fn(Tensor<4>) -> Tensor<4>| {
            let [query, key, value] = [0, 1, 2].map(|i| {
                let x = x[i].clone();
                if i == same { repeat(x.reshape(row)) } else { x.reshape(shape) }
            });
            let mask = Tensor::<2, Bool>::full([2, 5], true, &query.device());
            attention(query, key, value, mask)
        };
        assert_same(
            &inputs,
            |x| attend(x, |row| row.expand([2, 3, 5, 4])),
            |x| attend(x, |row| row.repeat_dim(2, 5)),
        );
    }
}

#[test]
fn batch_norms_in_training() {
    let shape = [2, 17, 5, 4];
    for f in ACTIVATIONS {
        assert_any_layout(batch_norm_inputs(shape), |x, layout| {
            let (x, gamma, beta) = batch_norm_of(x, shape);
            let [gamma, beta] = [gamma, beta].map(|x| layout.of(x));
            batch_norm_train(layout.of(x), gamma, beta, 1e-2, f).output
        });
    }
}

#[test]
fn pools() {
    let (shape, pool) = ([2usize, 17, 5, 4], Pool { side: 3, stride: 2, padding: 1 });
    let pixels = || inputs([shape.iter().product()]);
    let picture = |x: &[Tensor<1>], layout: Layout| layout.of(x[0].clone().reshape(shape));
    assert_any_layout(pixels(), |x, layout| global_avg_pool2d(picture(x, layout)));
    assert_any_layout(pixels(), |x, layout| max_pool2d(picture(x, layout), pool));
}
