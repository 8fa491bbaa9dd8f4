//! The five maps of the algorithm along one axis: Toom and Cook's, for the points 0, ±¾, ±1½ and ∞.
//!
//! With these points the rounding error is about twice that of plain sums; with those of most
//! implementations, 0, ±1, ±2 and ∞ (Lavin and Gray 2016), five times (normal inputs after a ReLU,
//! 64 channels).

use pulp::Simd;

/// The points beside 0 and ∞, positive ones, and their second and third powers.
const A: f32 = 0.75;
const A2: f32 = A * A;
const A3: f32 = A2 * A;
const B: f32 = 1.5;
const B2: f32 = B * B;
const B3: f32 = B2 * B;

/// The products of the differences of a point to all others, inverted.
const AT_0: f32 = 1.0 / (A2 * B2);
const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// A linear map of `N` values to `M`, in each lane of registers.
pub(super) trait Transform<const N: usize, const M: usize> {
    fn apply<S: Simd>(simd: S, x: [S::f32s; N]) -> [S::f32s; M];
}

/// Along both axes: `row` gives the rows of a square one by one, and `out` gets each value of another
/// square, by its place in it.
#[inline(always)]
pub(super) fn transform<T: Transform<N, M>, S: Simd, const N: usize, const M: usize>(
    simd: S,
    row: impl Fn(usize) -> [S::f32s; N],
    mut out: impl FnMut(usize, S::f32s),
) {
    let mut columns = [[simd.splat_f32s(0.0); N]; M];
    for n in 0..N {
        let row = T::apply(simd, row(n));
        for m in 0..M {
            columns[m][n] = row[m];
        }
    }
    for m in 0..M {
        let column = T::apply(simd, columns[m]);
        for i in 0..M {
            out(i * M + m, column[i]);
        }
    }
}

/// Six values of the input to factors of the products: `Bᵀ`.
pub(super) struct Input;

impl Transform<6, 6> for Input {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [x0, x1, x2, x3, x4, x5]: [S::f32s; 6]) -> [S::f32s; 6] {
        let add = add_scaled::<S>(simd);
        let even_a = add(x4, -B2, x2);
        let odd_a = scale(simd, A, add(x3, -B2, x1));
        let even_b = add(x4, -A2, x2);
        let odd_b = scale(simd, B, add(x3, -A2, x1));
        [
            add(add(x4, -(A2 + B2), x2), A2 * B2, x0),
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            add(add(x5, -(A2 + B2), x3), A2 * B2, x1),
        ]
    }
}

/// Six products to four values of the output: `Aᵀ`.
pub(super) struct Output;

impl Transform<6, 4> for Output {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; 6]) -> [S::f32s; 4] {
        let add = add_scaled::<S>(simd);
        let (even_a, odd_a) = (simd.add_f32s(m1, m2), simd.sub_f32s(m1, m2));
        let (even_b, odd_b) = (simd.add_f32s(m3, m4), simd.sub_f32s(m3, m4));
        [
            simd.add_f32s(m0, simd.add_f32s(even_a, even_b)),
            add(scale(simd, A, odd_a), B, odd_b),
            add(scale(simd, A2, even_a), B2, even_b),
            add(add(m5, A3, odd_a), B3, odd_b),
        ]
    }
}

/// The gradient of four values of the output to that of six products: `A`.
pub(super) struct OutputGrad;

impl Transform<4, 6> for OutputGrad {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [y0, y1, y2, y3]: [S::f32s; 4]) -> [S::f32s; 6] {
        let add = add_scaled::<S>(simd);
        let (even_a, odd_a) = (add(y0, A2, y2), add(scale(simd, A, y1), A3, y3));
        let (even_b, odd_b) = (add(y0, B2, y2), add(scale(simd, B, y1), B3, y3));
        [
            y0,
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            y3,
        ]
    }
}

/// Three values of the kernel to factors of the products: `G`.
pub(super) struct Kernel;

impl Transform<3, 6> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [w0, w1, w2]: [S::f32s; 3]) -> [S::f32s; 6] {
        let add = add_scaled::<S>(simd);
        let (even_a, odd_a) = (add(w0, A2, w2), scale(simd, A, w1));
        let (even_b, odd_b) = (add(w0, B2, w2), scale(simd, B, w1));
        [
            scale(simd, AT_0, w0),
            scale(simd, AT_A, simd.add_f32s(even_a, odd_a)),
            scale(simd, AT_A, simd.sub_f32s(even_a, odd_a)),
            scale(simd, AT_B, simd.add_f32s(even_b, odd_b)),
            scale(simd, AT_B, simd.sub_f32s(even_b, odd_b)),
            w2,
        ]
    }
}

/// The gradient of six factors to that of three values of the kernel: `Gᵀ`.
pub(super) struct KernelGrad;

impl Transform<6, 3> for KernelGrad {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [u0, u1, u2, u3, u4, u5]: [S::f32s; 6]) -> [S::f32s; 3] {
        let add = add_scaled::<S>(simd);
        let (even_a, odd_a) = (simd.add_f32s(u1, u2), simd.sub_f32s(u1, u2));
        let (even_b, odd_b) = (simd.add_f32s(u3, u4), simd.sub_f32s(u3, u4));
        [
            add(add(scale(simd, AT_0, u0), AT_A, even_a), AT_B, even_b),
            add(scale(simd, AT_A * A, odd_a), AT_B * B, odd_b),
            add(add(u5, AT_A * A2, even_a), AT_B * B2, even_b),
        ]
    }
}

/// `x + factor · y`
#[inline(always)]
fn add_scaled<S: Simd>(simd: S) -> impl Fn(S::f32s, f32, S::f32s) -> S::f32s {
    #[inline(always)]
    move |x, factor, y| simd.mul_add_e_f32s(simd.splat_f32s(factor), y, x)
}

#[inline(always)]
fn scale<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}
