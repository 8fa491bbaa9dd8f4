//! Every instruction set, one thread and two, and products in bf16.

use burn::{backend::ops::FloatTensorOps, tensor::FloatDType};

use super::{super::bf16::rounded, *};
use crate::ops::Activation;

#[derive(Clone, Copy, Debug)]
struct Case {
    conv: Conv,
    /// Values of a weight.
    weight: usize,
    winograd: bool,
}

fn case(
    [from, to]: [usize; 2],
    side: usize,
    kernel: usize,
    stride: usize,
    depthwise: bool,
) -> Case {
    let axis = Axis::new(side, kernel, stride, 1, (kernel / 2, kernel / 2));
    let window = Window { batch: 3, channels: [from, to], height: axis, width: axis };
    let conv = if depthwise { Conv::Depthwise(window) } else { Conv::Dense(window) };
    let weight = kernel * kernel * to * if depthwise { 1 } else { from };
    Case { conv, weight, winograd: false }
}

fn cases() -> Vec<Case> {
    let dense = [
        ([3, 17], 9, 3, 2),
        ([16, 24], 7, 1, 1),
        ([40, 96], 12, 1, 1),
        ([8, 5], 4, 5, 1),
        // Gradients of the weight in blocks of rows and columns, in parts of the pixels, and with
        // more under the kernel than comes out.
        ([220, 230], 5, 1, 1),
        ([210, 100], 11, 1, 1),
        ([5, 7], 40, 1, 1),
        ([30, 4], 19, 3, 2),
    ];
    let depthwise = [(1, 5, 3, 1), (17, 9, 3, 2), (24, 7, 5, 1), (40, 8, 5, 2)];
    let dense = dense.map(|(channels, side, k, s)| case(channels, side, k, s, false));
    let depthwise = depthwise.map(|(channels, side, k, s)| case([channels; 2], side, k, s, true));
    // The last ones take several tasks, of rows of tiles and of whole pictures.
    let winograd = [([16, 24], 7), ([17, 70], 9), ([130, 20], 13), ([16, 24], 28), ([16, 16], 29)];
    let winograd = winograd
        .map(|(channels, side)| Case { winograd: true, ..case(channels, side, 3, 1, false) });
    dense.into_iter().chain(depthwise).chain(winograd).collect()
}

/// Numbers that look random, from -1 to 1.
fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 + seed) * 12.9898).sin() * 43.758_55 % 1.0).collect()
}

/// The output, the gradient of the input and that of the weight.
fn run(arch: Arch, case: Case) -> [Vec<f32>; 3] {
    let window = case.conv.window();
    let x = &numbers(window.values_in(), 0.1)[..];
    let weight = &numbers(case.weight, 0.2)[..];
    let grad = &numbers(window.values_out(), 0.3)[..];
    let bias = numbers(window.channels[1], 0.4);
    let residual = numbers(window.values_out(), 0.5);
    let (bias, residual, clamp) =
        (Some(&bias[..]), Some(&residual[..]), Clamp::of(Activation::Relu).unwrap());
    let (values, keep_weight) = (weight, false);
    let weight = &storage::tensor(values.to_vec(), Shape::new([values.len()]));
    match case.conv {
        Conv::Dense(_) if case.winograd => [
            arch.dispatch(winograd::Forward { window, x, weight: values }),
            arch.dispatch(winograd::InputGrad { window, weight: values, grad }),
            arch.dispatch(winograd::WeightGrad { window, x, grad }),
        ],
        Conv::Dense(_) => [
            arch.dispatch(dense::Forward { window, x, weight, keep_weight, bias, residual, clamp }),
            arch.dispatch(dense::InputGrad { window, weight: values, grad }),
            arch.dispatch(dense::WeightGrad { window, x, grad }),
        ],
        Conv::Depthwise(_) => [
            arch.dispatch(depthwise::Forward {
                window,
                x,
                weight,
                keep_weight,
                bias,
                residual,
                clamp,
            }),
            arch.dispatch(depthwise::InputGrad { window, weight: values, grad }),
            arch.dispatch(depthwise::WeightGrad { window, x, grad }),
        ],
    }
}

#[test]
fn every_instruction_set() {
    for case in cases() {
        let portable = run(Arch::Scalar, case);
        for arch in super::super::arch::all() {
            for (found, expected) in run(arch, case).iter().zip(&portable) {
                assert_eq!(found.len(), expected.len());
                let largest = expected.iter().fold(10.0, |largest: f32, x| largest.max(x.abs()));
                let pairs = found.iter().zip(expected);
                let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-5 * largest, "{arch:?} {case:?}: {off} of {largest}");
            }
        }
    }
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for case in cases() {
        let [one, two] = [1, 2].map(|threads| pool(threads).install(|| run(Arch::new(), case)));
        assert!(one == two, "{case:?}");
    }
}

/// Of values that bf16 has, rounding leaves the products as they are.
#[test]
fn in_bf16() {
    for Case { conv, weight, .. } in cases() {
        let Conv::Dense(window) = conv else { continue };
        let x = rounded(Arch::new(), &numbers(window.values_in(), 0.1));
        let values = rounded(Arch::new(), &numbers(weight, 0.2));
        let weight = storage::tensor(values, Shape::new([weight]));
        let halves = burn::backend::Flex::float_cast(weight.clone(), FloatDType::BF16);
        let bias = numbers(window.channels[1], 0.4);
        let forward = |weight| dense::Forward {
            window,
            x: &x,
            weight,
            keep_weight: false,
            bias: Some(&bias),
            residual: None,
            clamp: Clamp::NONE,
        };
        let expected = Arch::new().dispatch(forward(&weight));
        let ways = [forward(&halves).run_pairs(), Some(forward(&halves).run_rounded())];
        for found in ways.into_iter().flatten() {
            assert_eq!(found.len(), expected.len());
            let pairs = found.iter().zip(&expected);
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-4, "{conv:?}: {off}");
        }
    }
}
