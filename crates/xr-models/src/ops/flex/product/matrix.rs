/// A matrix, transposed or not.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// From one row of `values` to the next; from one column if it is transposed.
    pub(super) stride: usize,
    pub(super) transposed: bool,
}

impl<'a> Matrix<'a> {
    /// Row-major values.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that begin `stride` values after one another.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, stride, transposed: false }
    }

    pub fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    pub fn row_count(self) -> usize {
        self.rows
    }

    pub fn columns(self) -> usize {
        self.columns
    }
}
