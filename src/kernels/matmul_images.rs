//! Products one of whose matrices lies in images: convolutions with kernel = stride.

use super::matmul::{Batched, check, execute};
use super::matmul_plan::{Plan, Variant};
use crate::device::{Context, Epilogue};
use crate::error::Result;
use crate::tensor::Tensor;

/// One of a product's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The left operand.
    A = 1,
    /// The right operand.
    B = 2,
    /// The result.
    C = 3,
}

/// Images (B, C, S, S) whose patches are the rows of a matrix (B (S/p)^2, C p p), p a multiple of 4: a convolution with
/// kernel = stride = p as a product, without a copy. Its strides mean nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Which matrix: A as it is, B as it is, or C.
    pub of: Operand,
    /// C.
    pub channels: usize,
    /// p.
    pub side: usize,
    /// S / p.
    pub across: usize,
}

impl Images {
    /// Cells of the images that hold so many rows.
    pub(super) const fn cells(&self, rows: usize) -> usize {
        let size = self.side * self.across;
        rows.div_ceil(self.across * self.across) * self.channels * size * size / 4
    }

    /// Where an element of the matrix lies, in the order of memory.
    pub(super) const fn place(&self, row: usize, column: usize) -> usize {
        let (side, across, size) = (self.side, self.across, self.side * self.across);
        let (image, n) = (row / (across * across), row % (across * across));
        let (channel, i, j) = (column / (side * side), column / side % side, column % side);
        ((image * self.channels + channel) * size + n / across * side + i) * size + n % across * side + j
    }
}

/// A product with a matrix in images, if the kernel that the plan takes knows them: `false` where it does not, on
/// processors that play GPU and for a few rows, which kernels of their own serve.
///
/// # Errors
/// As [`super::matmul::launch_batched`].
pub fn launch(ctx: &Context, m: &Batched, [a, b, c]: [&Tensor; 3], epilogue: Epilogue<'_>) -> Result<bool> {
    let plan = Plan::new(ctx, m, a.dtype());
    if matches!(plan.variant, Variant::Registers(_)) {
        return Ok(false);
    }
    check(m, [a, b, c], epilogue)?;
    execute(ctx, &plan, m, [a, b, c], epilogue).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Capabilities, Matrix};
    use crate::kernels::{patch_conv, patch_conv_transposed, patch_conv_weight};
    use crate::shape::DType;

    #[test]
    fn convolutions_of_whole_cells_are_products_on_hardware() {
        let host = Context::cpu().capabilities().clone();
        let gpu = Capabilities { software: false, workgroup_bytes: 48 << 10, subgroup_size: Some(32), ..host.clone() };
        let h200 = Capabilities { matrix: Some(Matrix::M16), ..gpu.clone() };
        let tiled = ["matmul_tiled", "matmul_tiled", "matmul_tiled", "matmul_sum"];
        let cooperative = ["matmul_cooperative", "matmul_cooperative", "matmul_cooperative", "matmul_sum"];
        let own = ["patch_conv", "patch_conv_transposed", "patch_conv_weight"];
        let any = ["patch_conv", "patch_conv_transposed_any", "patch_conv_weight"];
        // Device, storage, image side, patch side, samples, width.
        let table = [
            (&gpu, DType::F32, 224, 16, 8, 768, &tiled[..]),
            (&h200, DType::F16, 224, 16, 8, 768, &cooperative[..]),
            (&h200, DType::F32, 224, 16, 8, 768, &tiled[..]),
            (&host, DType::F32, 224, 16, 8, 768, &own[..]),
            (&h200, DType::F32, 224, 14, 8, 768, &any[..]),
        ];
        for (has, dtype, size, side, samples, width, want) in table {
            let ctx = Context::dry(Some(has.clone()));
            let n = (size / side) * (size / side);
            let image = Tensor::empty(&ctx, &[samples, 3, size, size], dtype).unwrap();
            let tokens = Tensor::empty(&ctx, &[samples, n, width], dtype).unwrap();
            let weight = Tensor::empty(&ctx, &[width, 3, side, side], dtype).unwrap();
            let bias = Tensor::empty(&ctx, &[3], dtype).unwrap();
            let all = || {
                patch_conv::launch(&ctx, &image, &weight, None)?;
                patch_conv_transposed::launch(&ctx, &tokens, &weight, Some(&bias))?;
                patch_conv_weight::launch(&ctx, &tokens, &image, side)
            };
            let (_, launches) = ctx.traced(all).unwrap();
            let got: Vec<_> = launches.iter().map(|launch| launch.kernel).collect();
            assert_eq!(got, want, "{size} by {side} in {dtype}, software {}", has.software);
        }
    }
}
