//! Which multiples of a step stand for weights.

use ndarray::{Array2, ArrayView2, Zip, s};

use crate::cholesky::{Cholesky, combination};

/// The nearest.
pub(super) fn nearest(weights: ArrayView2<f32>, steps: ArrayView2<f32>) -> Array2<i16> {
    // A row of zeros has a step of zero, and 0/0 becomes 0.
    Zip::from(weights).and(steps).map_collect(|weight, step| (weight / step).round() as i16)
}

/// Those that change the outputs of a layer little: the error of an input's weights is made up for by
/// those of the inputs that go along with it.
///
/// It is Babai's nearest plane, and gives what GPTQ does (Frantar et al. 2023; the equivalence: Chen
/// et al., "The geometry of LLM quantization", 2025). Weights of the strongest inputs are rounded
/// first.
///
/// # Shapes
/// - weights, steps and output: `[inputs, outputs]`
/// - products: `[inputs, inputs]`, of each two inputs in the mean
/// - most: the largest number there is
pub(super) fn for_inputs(
    weights: ArrayView2<f32>,
    steps: ArrayView2<f32>,
    products: &Array2<f64>,
    most: i16,
) -> Array2<i16> {
    let order = by_strength(products);
    let ordered = Array2::from_shape_fn(products.dim(), |(i, j)| products[[order[i], order[j]]]);
    let factor = Cholesky::of(ordered);
    let mut numbers = Array2::zeros(weights.dim());
    let mut errors = Array2::zeros(weights.dim());
    for (i, &input) in order.iter().enumerate().rev() {
        let made_up = combination(factor.below(i).view(), errors.slice(s![i + 1.., ..]));
        Zip::from(numbers.row_mut(input))
            .and(errors.row_mut(i))
            .and(weights.row(input))
            .and(steps.row(input))
            .and(&made_up)
            .for_each(|number, error, &weight, &step, made_up| {
                let wanted = (f64::from(weight) + made_up) / f64::from(step);
                *number = (wanted.round() as i16).clamp(-most, most);
                *error = f64::from(weight) - f64::from(*number) * f64::from(step);
            });
    }
    numbers
}

/// Inputs from the weakest to the strongest.
fn by_strength(products: &Array2<f64>) -> Vec<usize> {
    let mut order: Vec<_> = (0..products.nrows()).collect();
    order.sort_by(|&a, &b| products[[a, a]].total_cmp(&products[[b, b]]));
    order
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    const MOST: i16 = 127;

    /// Numbers of mean 0 and deviation 1, the same each time for a shape: sums of four from a linear
    /// congruence.
    fn normal(shape: [usize; 2]) -> Array2<f32> {
        let mut state = (31 * shape[0] + shape[1]) as u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as f32 / u32::MAX as f32 - 0.5
        };
        let mut normal = || (0..4).map(|_| uniform()).sum::<f32>() * 3f32.sqrt();
        Array2::from_shape_simple_fn(shape, &mut normal)
    }

    /// Rows whose columns go along with each other, and are of different strength.
    fn inputs(rows: usize, width: usize) -> Array2<f32> {
        let mix = normal([width, width]) * Array1::range(1.0, 1.0 + width as f32, 1.0) + 0.5;
        normal([rows, width]).dot(&mix)
    }

    fn products(x: &Array2<f32>) -> Array2<f64> {
        let x = x.mapv(f64::from);
        x.t().dot(&x) / x.nrows() as f64
    }

    #[test]
    fn what_one_input_loses_another_makes_up_for() {
        // Both inputs are nearly the same, so .4 + .4 is best rounded to 1 + 0.
        let products = array![[1.0, 0.99], [0.99, 1.01]];
        let (weights, steps) = (array![[0.4f32], [0.4]], Array2::ones([2, 1]));
        let found = for_inputs(weights.view(), steps.view(), &products, MOST);
        assert_eq!(found, array![[1], [0]]);
        assert_eq!(nearest(weights.view(), steps.view()), array![[0], [0]]);
    }

    #[test]
    fn inputs_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest() {
        let (weights, steps) = (normal([6, 3]), Array2::from_elem([6, 3], 0.3));
        let products = Array2::from_diag(&array![2.0, 0.1, 5.0, 1.0, 3.0, 0.2]);
        let found = for_inputs(weights.view(), steps.view(), &products, MOST);
        assert_eq!(found, nearest(weights.view(), steps.view()));
    }

    /// GPTQ as its authors have it: whenever an input is rounded, what remains is moved by the optimal
    /// brain surgeon's formula, with the inverse of the products left.
    fn gptq(weights: &Array2<f32>, step: f64, products: &Array2<f64>) -> Array2<i16> {
        let mut inverse = Cholesky::of(products.clone()).solve(Array2::eye(products.nrows()));
        let mut weights = weights.mapv(f64::from);
        let mut numbers = Array2::zeros(weights.dim());
        for &i in by_strength(products).iter().rev() {
            let row = weights.row(i).to_owned();
            let rounded = row.mapv(|w| (w / step).round());
            numbers.row_mut(i).assign(&rounded.mapv(|n| n as i16));
            let column = inverse.column(i).to_owned() / inverse[[i, i]];
            let off = row - rounded * step;
            for (mut weights, &share) in weights.rows_mut().into_iter().zip(&column) {
                weights.scaled_add(-share, &off);
            }
            let row = inverse.row(i).to_owned();
            for (mut inverse, &share) in inverse.rows_mut().into_iter().zip(&column) {
                inverse.scaled_add(-share, &row);
            }
        }
        numbers
    }

    #[test]
    fn equals_gptq() {
        let (weights, products) = (normal([7, 5]), products(&inputs(40, 7)));
        let steps = Array2::from_elem([7, 5], 0.25);
        let found = for_inputs(weights.view(), steps.view(), &products, MOST);
        assert_eq!(found, gptq(&weights, 0.25, &products));
    }

    #[test]
    fn outputs_are_nearer_than_with_the_nearest_weights() {
        let (weights, x) = (normal([24, 16]), inputs(400, 24));
        let steps = Array2::from_elem([24, 16], 0.4);
        let off = |numbers: Array2<i16>| {
            let off = numbers.mapv(f32::from) * &steps - &weights;
            x.dot(&off).mapv(|x| x * x).sum()
        };
        let nearest = off(nearest(weights.view(), steps.view()));
        let found = off(for_inputs(weights.view(), steps.view(), &products(&x), MOST));
        assert!(found < nearest / 2.0, "{found} {nearest}");
    }

    #[test]
    fn numbers_stay_in_their_range_and_rows_of_zeros_are_zeros() {
        let products = products(&inputs(20, 3));
        let weights = array![[0.0f32, 0.0], [90.0, -90.0], [0.1, -0.2]];
        let steps = array![[0.0f32, 0.0], [1.0, 1.0], [0.001, 0.001]];
        let found = for_inputs(weights.view(), steps.view(), &products, MOST);
        assert!(found.iter().all(|number| number.abs() <= MOST), "{found}");
        assert_eq!(nearest(weights.view(), steps.view()).row(0), array![0, 0]);
        let values = found.mapv(f32::from) * steps;
        assert_eq!(values.row(0), array![0.0, 0.0]);
    }
}
