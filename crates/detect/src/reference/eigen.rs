//! Eigenvalues and eigenvectors of a small symmetric matrix by cyclic Jacobi rotations (Golub and Van Loan, 8.5).

/// Sweeps until the off-diagonal is gone for all practical purposes; six to eight are usual.
const SWEEPS_MAX: usize = 24;

/// Row-major square matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Square {
    pub(super) size: usize,
    pub(super) cells: Vec<f64>,
}

impl Square {
    pub(super) fn zero(size: usize) -> Self {
        Self { size, cells: vec![0.0; size * size] }
    }

    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.size + column]
    }

    pub(super) fn at_mut(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.cells[row * self.size + column]
    }
}

/// Eigenvalues, and the eigenvectors as rows in the same order. `matrix` must be symmetric.
pub(super) fn eigen(mut matrix: Square) -> (Vec<f64>, Square) {
    let size = matrix.size;
    let mut vectors = Square::zero(size);
    (0..size).for_each(|i| *vectors.at_mut(i, i) = 1.0);
    let total: f64 = matrix.cells.iter().map(|x| x * x).sum();
    for _ in 0..SWEEPS_MAX {
        let off: f64 = (0..size).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| matrix.at(i, j).powi(2)).sum();
        if off <= total * 1e-22 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, p, q);
            }
        }
    }
    ((0..size).map(|i| matrix.at(i, i)).collect(), vectors)
}

/// Makes the cells (p, q) and (q, p) zero.
fn rotate(matrix: &mut Square, vectors: &mut Square, p: usize, q: usize) {
    let off = matrix.at(p, q);
    if off == 0.0 {
        return;
    }
    let theta = (matrix.at(q, q) - matrix.at(p, p)) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let tangent = if theta == 0.0 { 1.0 } else { tangent };
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for i in 0..matrix.size {
        let (a, b) = (matrix.at(i, p), matrix.at(i, q));
        *matrix.at_mut(i, p) = cosine * a - sine * b;
        *matrix.at_mut(i, q) = sine * a + cosine * b;
    }
    for i in 0..matrix.size {
        let (a, b) = (matrix.at(p, i), matrix.at(q, i));
        *matrix.at_mut(p, i) = cosine * a - sine * b;
        *matrix.at_mut(q, i) = sine * a + cosine * b;
        let (a, b) = (vectors.at(p, i), vectors.at(q, i));
        *vectors.at_mut(p, i) = cosine * a - sine * b;
        *vectors.at_mut(q, i) = sine * a + cosine * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_values_make_the_matrix_again() {
        let size = 7;
        let mut matrix = Square::zero(size);
        for i in 0..size {
            for j in 0..=i {
                let x = ((i * 31 + j * 17) % 11) as f64 - 4.0;
                (*matrix.at_mut(i, j), *matrix.at_mut(j, i)) = (x, x);
            }
        }
        let (values, vectors) = eigen(matrix.clone());
        for i in 0..size {
            for j in 0..size {
                let sum: f64 = (0..size).map(|k| values[k] * vectors.at(k, i) * vectors.at(k, j)).sum();
                assert!((sum - matrix.at(i, j)).abs() < 1e-9, "{i} {j}: {sum}");
                let dot: f64 = (0..size).map(|k| vectors.at(i, k) * vectors.at(j, k)).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }
}
