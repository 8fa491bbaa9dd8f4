use super::super::{arch, clamp::Clamp, registers::registers};
use super::*;

/// Rows, inner dimension and columns: one number, nothing whole, more than a task, few rows of
/// many columns, more steps than are taken together.
const SIZES: [[usize; 3]; 7] =
    [[1, 1, 1], [7, 17, 33], [6, 16, 64], [130, 9, 70], [25, 300, 600], [3, 401, 5], [97, 20, 1]];

/// Miri takes a thousand times as long.
fn sizes() -> impl Iterator<Item = [usize; 3]> {
    SIZES.into_iter().filter(|size| !cfg!(miri) || size.iter().product::<usize>() < 10_000)
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| values[c..].iter().step_by(columns).copied()).collect()
}

/// Summed one by one, in `f64`.
fn expected([rows, depth, columns]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f64> {
    let at = |r: usize, c: usize| {
        (0..depth).map(|k| f64::from(a[r * depth + k]) * f64::from(b[k * columns + c])).sum()
    };
    (0..rows * columns).map(|i| at(i / columns, i % columns)).collect()
}

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (&found, expected) in found.iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() < 1e-4, "{what}: {found}, not {expected}");
    }
}

/// `then(left · right + bias)`, as the layers compute it.
struct Whole<'a, F> {
    left: &'a [f32],
    right: Matrix<'a>,
    bias: &'a [f32],
    then: F,
}

impl<F: Fn(&mut [f32]) + Send + Sync> WithSimd for Whole<'_, F> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let bias = registers(simd, self.bias);
        let finish = Write { bias: &bias, residual: None, clamp: Clamp::NONE };
        product(simd, self.left, &Panels::new(simd, self.right), finish, self.then)
    }
}

fn whole(arch: Arch, left: &[f32], right: Matrix) -> Vec<f32> {
    arch.dispatch(Whole { left, right, bias: &[], then: |_: &mut [f32]| () })
}

#[test]
fn every_instruction_set_and_layout_against_one_sum_after_the_other() {
    for size @ [rows, depth, columns] in sizes() {
        let (a, b) = (numbers(rows * depth), numbers(depth * columns));
        let (at, bt) = (transposed(&a, depth), transposed(&b, columns));
        let expected = expected(size, &a, &b);
        for arch in arch::all() {
            let what = format!("{size:?}, {arch:?}");
            for b in [Matrix::new(&b, columns), Matrix::new(&bt, depth).transpose()] {
                assert_close(&whole(arch, &a, b), &expected, &what);
                for a in [Matrix::new(&a, depth), Matrix::new(&at, rows).transpose()] {
                    let mut out = vec![0.0; rows * columns];
                    add_product(arch, a, b, &mut out, columns);
                    assert_close(&out, &expected, &what);
                }
            }
        }
    }
}

#[test]
fn rows_apart_and_a_sum_that_is_there_already() {
    // [1 2; 3 4] · [1; 1] within rows of 3, added to 10 and 20 within rows of 2.
    let a = Matrix::strided(&[1.0, 2.0, 9.0, 3.0, 4.0], 2, 2, 3);
    for arch in arch::all() {
        let mut out = [10.0, 0.0, 20.0];
        add_product(arch, a, Matrix::new(&[1.0, 1.0], 1), &mut out, 2);
        assert_eq!(out, [13.0, 0.0, 27.0]);
    }
}

#[test]
fn a_bias_and_what_comes_after_it() {
    let right = Matrix::new(&[1.0, 2.0], 2);
    let then = |out: &mut [f32]| out.iter_mut().for_each(|x| *x = x.abs());
    let left = &[1.0, -1.0];
    let found = Arch::new().dispatch(Whole { left, right, bias: &[0.5, 0.0], then });
    assert_eq!(found, [1.5, 2.0, 0.5, 2.0]);
}

#[test]
fn an_output_depends_on_its_row_and_column_alone() {
    let [rows, depth, columns] = if cfg!(miri) { [50, 9, 20] } else { [130, 400, 300] };
    let (a, b) = (numbers(rows * depth), numbers(depth * columns));
    let b = Matrix::new(&b, columns);
    let all = whole(Arch::new(), &a, b);
    for row in [0, rows / 2, rows - 1] {
        let alone = whole(Arch::new(), &a[row * depth..][..depth], b);
        assert_eq!(alone, all[row * columns..][..columns], "row {row}");
    }
}

#[test]
fn no_rows() {
    assert!(whole(Arch::new(), &[], Matrix::new(&[1.0; 12], 4)).is_empty());
}
