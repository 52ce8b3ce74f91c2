//! A table of rows added again and again: biases and position embeddings.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[r,:] = x[r,:] + v[r % period,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "add_rows",
    source: include_str!("../../shaders/add_rows.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored("v"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    table_cells: u32,
}

/// `x` of any shape plus the rows of `v` over and over. `v (W)` is a bias; `v (N, W)` is added to the N rows of every
/// sample. The result has the shape and element type of `x`.
///
/// # Errors
/// `Error::Shape` when the widths differ or the rows of `v` do not divide those of `x`.
pub fn launch(ctx: &Context, x: &Tensor, v: &Tensor) -> Result<Tensor> {
    if x.shape().last() != v.shape().last() || !x.shape().rows().is_multiple_of(v.shape().rows()) {
        let expected = format!("(N, {}) with N dividing {}", x.shape().last(), x.shape().rows());
        return Err(Error::shape("add_rows", expected, v.shape()));
    }
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, v, &y])
        .params(&Params { cells: cells as u32, table_cells: (v.shape().stored() / 4) as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(x.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (mut y, v) = (t.f32(0), t.f32(1));
    for table in y.chunks_mut(4 * p.table_cells as usize) {
        for (y, v) in table.iter_mut().zip(&v) {
            *y += v;
        }
    }
    t.put_f32(2, y);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (vec![1], vec![1]),
        (vec![3, 5], vec![5]),
        (vec![2, 3, 7], vec![3, 7]),
        (vec![6, 7], vec![2, 7]),
        (vec![5, 53, 129], vec![53, 129]),
        (vec![1031, 64], vec![64]),
    ]
    .into_iter()
    .map(|(x, v): (Vec<usize>, Vec<usize>)| {
        Case::new(format!("{x:?} + {v:?}"), Tolerance::elementwise(), move |ctx, storage| {
            let x = samples::normal(ctx, &x, storage, 1)?;
            let v = samples::normal(ctx, &v, storage, 2)?;
            Ok(vec![launch(ctx, &x, &v)?])
        })
    })
    .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "v[i % p.table_cells]", replace: "v[min(i, p.table_cells - 1u)]" },
    Fault { find: "+ unpack4(v[i % p.table_cells])", replace: "" },
];
