use burn::tensor::Tensor;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

/// The lower triangle *L* of a symmetric positive definite *A* = *L Lᵀ*.
#[derive(Debug)]
pub(crate) struct Cholesky(Array2<f64>);

impl Cholesky {
    /// Reads the lower triangle of `a`.
    pub(crate) fn of(mut a: Array2<f64>) -> Self {
        for k in 0..a.nrows() {
            let pivot = a[[k, k]].sqrt();
            a.slice_mut(s![k.., k]).mapv_inplace(|x| x / pivot);
            let column = a.slice(s![k + 1.., k]).to_owned();
            for (i, &factor) in column.iter().enumerate() {
                let until = k + 1 + i;
                a.slice_mut(s![until, k + 1..=until]).scaled_add(-factor, &column.slice(s![..=i]));
            }
        }
        Self(a)
    }

    /// What stands below an element of the diagonal, divided by it.
    pub(crate) fn below(&self, i: usize) -> Array1<f64> {
        let Self(l) = self;
        &l.slice(s![i + 1.., i]) / l[[i, i]]
    }

    /// The *X* with *A X* = `b`.
    pub(crate) fn solve(&self, mut b: Array2<f64>) -> Array2<f64> {
        let Self(l) = self;
        for i in 0..b.nrows() {
            let (done, mut rest) = b.view_mut().split_at(Axis(0), i);
            let known = combination(l.slice(s![i, ..i]), done.view());
            let mut row = rest.row_mut(0);
            row.zip_mut_with(&known, |x, known| *x = (*x - known) / l[[i, i]]);
        }
        for i in (0..b.nrows()).rev() {
            let (mut rest, done) = b.view_mut().split_at(Axis(0), i + 1);
            let known = combination(self.below(i).view(), done.view());
            let mut row = rest.row_mut(i);
            row.zip_mut_with(&known, |x, known| *x = *x / l[[i, i]] - known);
        }
        b
    }
}

/// The sum of `rows`, each times its factor.
pub(crate) fn combination(factors: ArrayView1<f64>, rows: ArrayView2<f64>) -> Array1<f64> {
    let mut sum = Array1::zeros(rows.ncols());
    for (&factor, row) in factors.iter().zip(rows.rows()) {
        sum.scaled_add(factor, &row);
    }
    sum
}

/// The values of a tensor in double precision, which the factor needs.
pub(crate) fn to_array(x: Tensor<2>) -> Array2<f64> {
    let [rows, columns] = x.dims();
    let values: Vec<f32> = x.into_data().try_into_vec_as().expect("layers compute in f32");
    let values = values.into_iter().map(f64::from).collect();
    Array2::from_shape_vec((rows, columns), values).expect("as the tensor's shape says")
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn by_hand() {
        let a = array![[4.0, 2.0, -2.0], [2.0, 10.0, 2.0], [-2.0, 2.0, 6.0]];
        let cholesky = Cholesky::of(a.clone());
        assert_eq!(cholesky.below(0), array![0.5, -0.5]);
        assert_eq!(cholesky.below(1), array![1.0 / 3.0]);
        assert_eq!(cholesky.below(2), Array1::<f64>::zeros(0));
        let x = array![[1.0, 0.0], [-2.0, 3.0], [0.5, -1.0]];
        let found = cholesky.solve(a.dot(&x));
        assert!((found - x).iter().all(|off| off.abs() < 1e-12));
    }
}
