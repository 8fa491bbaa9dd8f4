use burn::tensor::{DType, Device, Distribution, TensorData, Tolerance, module, s};

use super::super::{activation::activate, relu6};
use super::*;
use crate::fixture::Fixture;

/// Channels in and out, sides of the picture, sides of the kernel, stride, padding, dilation,
/// groups.
#[derive(Clone, Copy, Debug)]
struct Case {
    channels: [usize; 2],
    sides: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [(usize, usize); 2],
    dilation: [usize; 2],
    groups: usize,
}

impl Case {
    /// Square, and dense.
    const fn new(channels: [usize; 2], side: usize, kernel: usize, stride: usize) -> Self {
        Self {
            channels,
            sides: [side; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [(kernel / 2, kernel / 2); 2],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// Each channel by itself.
    const fn depthwise(channels: usize, side: usize, kernel: usize, stride: usize) -> Self {
        Self { groups: channels, ..Self::new([channels; 2], side, kernel, stride) }
    }

    const fn padded(self, before: usize, after: usize) -> Self {
        Self { padding: [(before, after); 2], ..self }
    }

    fn options(self) -> ConvOptions<2> {
        ConvOptions::new_with_padding(self.stride, self.padding, self.dilation, self.groups)
    }

    fn tensors(self, batch: usize, device: &Device) -> (Tensor<4>, Tensor<4>) {
        let [from, to] = self.channels;
        let ([height, width], [kernel_height, kernel_width]) = (self.sides, self.kernel);
        let shape = [to, from / self.groups, kernel_height, kernel_width];
        let fan_in = shape[1..].iter().product::<usize>() as f64;
        let normal = |deviation| Distribution::Normal(0.0, deviation);
        (
            Tensor::random([batch, from, height, width], normal(1.0), device),
            Tensor::random(shape, normal(fan_in.sqrt().recip()), device),
        )
    }
}

/// Every kernel and what there is none for.
fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new([1, 1], 1, 1, 1),
        Case::new([16, 40], 6, 1, 1),
        Case::new([17, 3], 5, 1, 2),
        Case::new([3, 17], 9, 3, 2).padded(0, 1),
        Case::new([8, 16], 7, 3, 1),
        Case::new([2, 3], 1, 3, 1),
        Case::new([3, 5], 2, 5, 1),
        Case { dilation: [2, 1], padding: [(2, 2), (0, 1)], ..Case::new([4, 6], 7, 3, 1) },
        Case { dilation: [1, 3], padding: [(1, 0), (3, 3)], ..Case::new([4, 6], 7, 3, 1) },
        Case { kernel: [3, 1], stride: [2, 3], sides: [8, 11], ..Case::new([5, 4], 8, 1, 1) },
        Case { groups: 2, ..Case::new([4, 6], 5, 3, 1) },
        Case { groups: 3, ..Case::new([3, 6], 5, 3, 1) },
        Case::depthwise(4, 6, 7, 1),
        Case::depthwise(4, 6, 3, 3),
    ];
    for (kernel, stride, side) in [(3, 1, 1), (3, 1, 9), (3, 2, 8), (5, 1, 2), (5, 1, 7), (5, 2, 9)]
    {
        cases
            .extend([1, 3, 17, 32].map(|channels| Case::depthwise(channels, side, kernel, stride)));
    }
    for (channels, side) in [([16, 40], 1), ([17, 16], 4), ([20, 70], 30), ([70, 20], 25)] {
        let case = Case::new(channels, side, 3, 1);
        cases.extend([case, case.padded(1, 2), case.padded(2, 0)]);
    }
    cases.extend([
        Case { sides: [3, 21], padding: [(0, 1), (2, 2)], ..Case::new([16, 16], 3, 3, 1) },
        Case::depthwise(8, 8, 3, 2).padded(0, 1),
        Case::depthwise(8, 6, 5, 2).padded(1, 2),
    ]);
    cases
}

fn assert_close<const D: usize>(found: Tensor<D>, expected: Tensor<D>, what: impl std::fmt::Debug) {
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let tolerance = Tolerance::rel_abs(1e-4, 1e-5 * largest.max(1.0));
    println!("{what:?}");
    found.into_data().assert_approx_eq::<f32>(&expected.into_data(), tolerance);
}

#[test]
fn equals_the_composed_one() {
    let device = Device::flex();
    for case in cases() {
        let (x, weight) = case.tensors(2, &device);
        let stock = module::conv2d(x.clone(), weight.clone(), None, case.options());
        assert_close(conv2d(x.clone(), weight.clone(), case.options()), stock.clone(), case);

        let bias = Tensor::<1>::random([case.channels[1]], Distribution::Default, &device);
        let residual = Tensor::random(stock.dims(), Distribution::Default, &device);
        let biased = stock + bias.clone().reshape([1, -1, 1, 1]);
        for (activation, residual) in [
            (Activation::Identity, Some(residual.clone())),
            (Activation::Relu, None),
            (Activation::Relu6, Some(residual.clone())),
        ] {
            let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
            let fused = conv2d_fused(x, weight, bias, residual.clone(), case.options(), activation);
            let activated = activate(biased.clone(), activation);
            let expected = match residual {
                Some(residual) => activated + residual,
                None => activated,
            };
            assert_close(fused, expected, (case, activation));
        }
    }
}

#[test]
fn gradients_equal_the_composed_ones() {
    let device = Device::flex().autodiff();
    for case in cases() {
        let (x, weight) = case.tensors(3, &device);
        let (x, weight) = (x.require_grad(), weight.require_grad());
        let grads = |y: Tensor<4>| {
            // Another gradient at each place.
            let grads = (y.clone() * y).sum().backward();
            (x.grad(&grads).unwrap(), weight.grad(&grads).unwrap())
        };
        let found = grads(conv2d(x.clone(), weight.clone(), case.options()));
        let stock = grads(module::conv2d(x.clone(), weight.clone(), None, case.options()));
        assert_close(found.0, stock.0, case);
        assert_close(found.1, stock.1, case);
    }
}

#[test]
fn gradients_of_the_fused_one_reach_every_input() {
    let device = Device::flex().autodiff();
    let case = Case::new([3, 8], 6, 3, 1);
    let (x, weight) = case.tensors(2, &device);
    let (x, weight) = (x.require_grad(), weight.require_grad());
    let bias = Tensor::<1>::ones([8], &device).require_grad();
    let residual = Tensor::<4>::ones([2, 8, 6, 6], &device).require_grad();
    let grads = |y: Tensor<4>| {
        let grads = (y.clone() * y).sum().backward();
        let (x, weight) = (x.grad(&grads).unwrap(), weight.grad(&grads).unwrap());
        (x, weight, bias.grad(&grads).unwrap(), residual.grad(&grads).unwrap())
    };
    let (a, b) = (x.clone(), weight.clone());
    let (c, d) = (bias.clone(), Some(residual.clone()));
    let found = grads(conv2d_fused(a, b, c, d, case.options(), Activation::Relu6));
    let (a, b, c) = (x.clone(), weight.clone(), Some(bias.clone()));
    let stock = module::conv2d(a, b, c, case.options()).clamp(0.0, 6.0) + residual.clone();
    let stock = grads(stock);
    assert_close(found.0, stock.0, "x");
    assert_close(found.1, stock.1, "weight");
    assert_close(found.2, stock.2, "bias");
    assert_close(found.3, stock.3, "residual");
}

/// A convolution is linear in either input, so that a difference quotient has no error but
/// rounding.
#[test]
fn gradients_are_difference_quotients() {
    let device = Device::flex().autodiff();
    for case in
        [Case::new([2, 3], 4, 3, 1), Case::depthwise(3, 5, 3, 2), Case::new([3, 2], 3, 1, 1)]
    {
        let (x, weight) = case.tensors(1, &device);
        let (x, weight) = (x.require_grad(), weight.require_grad());
        let loss = |x: Tensor<4>, weight: Tensor<4>| {
            let y = conv2d(x, weight, case.options());
            let ramp =
                Tensor::<1, burn::tensor::Int>::arange(0..y.shape().num_elements() as i64, &device);
            (y.clone() * ramp.float().reshape(y.dims()).sin()).sum()
        };
        let grads = loss(x.clone(), weight.clone()).backward();
        let step = |tensor: &Tensor<4>| {
            Tensor::random(tensor.dims(), Distribution::Normal(0.0, 1.0), &device)
        };
        let (dx, dweight) = (step(&x), step(&weight));
        let quotient = |x: [Tensor<4>; 2], weight: [Tensor<4>; 2]| {
            let [[x0, x1], [weight0, weight1]] = [x, weight];
            (loss(x1, weight1) - loss(x0, weight0)).into_scalar::<f32>() / 2.0
        };
        let slope =
            |grad: Tensor<4>, step: Tensor<4>| (grad * step.inner()).sum().into_scalar::<f32>();
        let along_x = quotient(
            [x.clone() - dx.clone(), x.clone() + dx.clone()],
            [weight.clone(), weight.clone()],
        );
        let along_weight = quotient(
            [x.clone(), x.clone()],
            [weight.clone() - dweight.clone(), weight.clone() + dweight.clone()],
        );
        let pairs = [
            (slope(x.grad(&grads).unwrap(), dx), along_x),
            (slope(weight.grad(&grads).unwrap(), dweight), along_weight),
        ];
        for (slope, quotient) in pairs {
            assert!((slope - quotient).abs() < 1e-3, "{case:?}: {slope} and {quotient}");
        }
    }
}

#[test]
fn equals_pytorch() {
    let fixture = Fixture::open("conv2d");
    let both = |padding| [padding; 2];
    for (name, stride, padding, dilation, groups) in [
        ("pointwise", 1, (0, 0), 1, 1),
        ("stem", 2, (0, 1), 1, 1),
        ("dilated", 1, (2, 2), 2, 1),
        ("depthwise 3", 1, (1, 1), 1, 17),
        ("depthwise 5, stride 2", 2, (1, 2), 1, 8),
        ("groups", 1, (1, 1), 1, 2),
    ] {
        println!("{name}");
        let options =
            ConvOptions::new_with_padding([stride; 2], both(padding), [dilation; 2], groups);
        let device = Device::flex();
        let key = |suffix: &str| format!("{name}.{suffix}");
        let [x, weight] = ["x", "weight"].map(|k| fixture.tensor::<4>(&key(k), &device));
        let bias = fixture.tensor::<1>(&key("bias"), &device);
        let activation = Activation::Relu6;
        let y = conv2d_fused(x, weight, bias, None, options.clone(), activation);
        fixture.assert(&key("output"), y);

        let device = device.autodiff();
        let [x, weight] =
            ["x", "weight"].map(|k| fixture.tensor::<4>(&key(k), &device).require_grad());
        let bias = fixture.tensor::<1>(&key("bias"), &device).require_grad();
        let grad = fixture.tensor::<4>(&key("grad"), &device);
        let inputs = (x.clone(), weight.clone(), bias.clone());
        let y = conv2d_fused(inputs.0, inputs.1, inputs.2, None, options, activation);
        fixture.assert(&key("output"), y.clone());
        let grads = (y * grad).sum().backward();
        fixture.assert(&key("x_grad"), x.grad(&grads).unwrap());
        fixture.assert(&key("weight_grad"), weight.grad(&grads).unwrap());
        fixture.assert(&key("bias_grad"), bias.grad(&grads).unwrap());
    }
}

/// As wide as minimal filtering takes, and as often beside itself as that takes tiles. Its sums are
/// off by what is little for the largest of them.
#[test]
fn wide_ones_equal_pytorch() {
    const COPIES: usize = 32;
    let (fixture, device) = (Fixture::open("conv2d_wide"), Device::flex().autodiff());
    for (name, padding) in [("wide", (1, 1)), ("wide, padded behind", (0, 2))] {
        let options = ConvOptions::new_with_padding([1; 2], [padding; 2], [1; 2], 1);
        let tensor = |key: &str| fixture.tensor::<4>(&format!("{name}.{key}"), &device);
        let [x, weight] = ["x", "weight"].map(|key| tensor(key).require_grad());
        let copies = |x: Tensor<4>| x.repeat_dim(0, COPIES);
        let y = conv2d(copies(x.clone()), weight.clone(), options);
        assert_close(y.clone(), copies(tensor("output")), name);
        let grads = (y * copies(tensor("grad")) / COPIES as f64).sum().backward();
        assert_close(x.grad(&grads).unwrap(), tensor("x_grad").inner(), name);
        assert_close(weight.grad(&grads).unwrap(), tensor("weight_grad").inner(), name);
    }
}

/// Whatever the order of the values in memory, and whoever else holds them.
#[test]
fn any_layout() {
    let device = Device::flex();
    let options = Case::new([6, 4], 5, 3, 1).options();
    let normal = Distribution::Normal(0.0, 1.0);
    let stored = Tensor::<4>::random([5, 6, 7, 2], normal, &device);
    let weight = Tensor::<4>::random([3, 4, 3, 6], normal, &device);
    // [2, 6, 5, 5] from the middle of what is stored, and [4, 6, 3, 3].
    let x = stored.clone().permute([3, 1, 0, 2]).slice(s![.., .., .., 1..6]);
    let weight = weight.permute([1, 3, 2, 0]);
    let plain = |t: &Tensor<4>| Tensor::<4>::from_data(t.to_data(), &device);
    let expected = module::conv2d(plain(&x), plain(&weight), None, options.clone());
    let shared = x.clone();
    assert_close(conv2d(x, weight.clone(), options.clone()), expected.clone(), "permuted");
    assert_close(conv2d(shared.flip([3]).flip([3]), weight, options), expected, "flipped");
}

/// What was packed of a weight is used for that weight and no other.
#[test]
fn a_weight_that_changes() {
    let device = Device::flex();
    let case = Case::new([3, 8], 5, 1, 1);
    let (x, mut weight) = case.tensors(1, &device);
    let bias = Tensor::<1>::zeros([8], &device);
    for _ in 0..3 {
        let stock = module::conv2d(x.clone(), weight.clone(), None, case.options());
        for _ in 0..2 {
            let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
            let y = conv2d_fused(x, weight, bias, None, case.options(), Activation::Identity);
            assert_close(y, stock.clone(), case);
        }
        weight = weight * 2.0;
    }
}

#[test]
fn an_empty_batch() {
    let device = Device::flex();
    for case in [Case::new([3, 4], 5, 3, 1), Case::depthwise(4, 5, 3, 1)] {
        let (x, weight) = case.tensors(1, &device);
        let empty = x.slice(s![0..0]);
        assert_eq!(conv2d(empty, weight, case.options()).dims(), [0, 4, 5, 5]);
    }
}

#[test]
fn what_is_not_a_number_stays_where_it_is_seen() {
    let device = Device::flex();
    for case in [Case::new([1, 1], 5, 3, 1), Case::depthwise(1, 5, 3, 1)] {
        for (value, relu6_of_it) in
            [(f32::NAN, f32::NAN), (f32::INFINITY, 6.0), (f32::NEG_INFINITY, 0.0)]
        {
            let x = Tensor::<4>::zeros([1, 1, 5, 5], &device);
            let x =
                x.slice_assign(s![.., .., 1..2, 1..2], Tensor::full([1, 1, 1, 1], value, &device));
            let weight = Tensor::<4>::ones([1, 1, 3, 3], &device);
            let bias = Tensor::<1>::zeros([1], &device);
            let y = conv2d_fused(x, weight, bias, None, case.options(), Activation::Relu6);
            let seen = y.clone().slice(s![.., .., 0..3, 0..3]).into_data();
            let expected = TensorData::full([1, 1, 3, 3], relu6_of_it);
            seen.assert_approx_eq::<f32>(&expected, Tolerance::default());
            let others = y.slice(s![.., .., 3..5, ..]).into_data();
            others.assert_eq(&TensorData::zeros::<f32, _>([1, 1, 2, 5]), true);
        }
    }
    let x = Tensor::<1>::from_data([f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &device);
    let [nan, six, zero] = relu6(x).into_data().try_into_vec_as::<f32>().unwrap()[..] else {
        unreachable!("three values")
    };
    assert!(nan.is_nan() && six == 6.0 && zero == 0.0);
}

#[test]
fn other_numbers_than_f32() {
    let device = Device::flex();
    let (x, weight) = Case::new([2, 3], 4, 3, 1).tensors(1, &device);
    let options = Case::new([2, 3], 4, 3, 1).options();
    let exact = conv2d(x.clone(), weight.clone(), options.clone());
    let wide =
        conv2d(x.cast(burn::tensor::DType::F64), weight.cast(burn::tensor::DType::F64), options);
    assert_close(wide.cast(burn::tensor::DType::F32), exact, "f64");
}

/// 1 + 2⁻⁹ isn't a bf16: it is 1 in the products and in the gradients.
#[test]
fn gradients_of_a_weight_in_bf16() {
    let device = Device::flex().autodiff();
    let off = 1.0 + 2f32.powi(-9);
    let x = Tensor::<4>::from_data([[[[off, 2.0]], [[3.0, off]]]], &device).require_grad();
    let weight = Tensor::<4>::from_data([[[[off]], [[0.5]]]], &device).require_grad();
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let y = conv2d(x.clone(), weight.clone().cast(DType::BF16), options);
    y.to_data().assert_eq(&TensorData::from([[[[2.5f32, 2.5]]]]), true);
    let grads = y.sum().backward();
    let assert = |found: TensorData, expected| found.assert_eq(&expected, true);
    let x = x.grad(&grads).unwrap().into_data();
    assert(x, TensorData::from([[[[1f32, 1.0]], [[0.5, 0.5]]]]));
    let weight = weight.grad(&grads).unwrap().into_data();
    assert(weight, TensorData::from([[[[3f32]], [[4.0]]]]));
}
