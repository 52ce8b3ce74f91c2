//! Bounds on single parameters, held after the update.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::adamw::stand_in;
use crate::kernels::step_control::{Control, WORDS, block, check_block};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `x = min(max(x, low), high)`.
pub static KERNEL: Kernel = Kernel {
    name: "clamp",
    source: include_str!("../../shaders/clamp.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::u32("control"), Binding::f32_mut("x"), Binding::stored_mut("working")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    low: f32,
    high: f32,
}

const WORKGROUP: usize = 64;

/// Bounds `x` (any shape, f32) in place, and copies it to `working` where there is one. Nothing happens when `control` (16)
/// says skip.
///
/// # Errors
/// [`Error::Shape`] when shapes differ or the block does not have 16 words.
pub fn launch(
    ctx: &Context,
    control: &Tensor,
    x: &Tensor,
    working: Option<&Tensor>,
    (low, high): (f32, f32),
) -> Result<()> {
    check_block("clamp", control)?;
    if let Some(other) = working.filter(|other| other.shape() != x.shape()) {
        return Err(Error::shape("clamp", x.shape(), other.shape()));
    }
    let (shape, working_copy) = (x.shape(), stand_in(ctx, working)?);
    let params =
        Params { rows: shape.rows() as u32, width: shape.last() as u32, cells: shape.cells() as u32, low, high };
    Launch::new(&KERNEL)
        .tensors(&[control, x, &working_copy])
        .params(&params)
        .constant("WRITE_WORKING", working.is_some())
        .groups((shape.stored() / 4).div_ceil(WORKGROUP))
        .flops(2.0 * shape.elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    if Control::from_words(&block(&t.u32(0))).skip {
        return Ok(());
    }
    let mut x = t.f32(1);
    for row in x.chunks_mut(4 * p.cells as usize) {
        for value in row.iter_mut().take(p.width as usize) {
            *value = value.max(p.low).min(p.high);
        }
    }
    if t.flag("WRITE_WORKING") {
        t.put_f32(2, x.clone());
    }
    t.put_f32(1, x);
    Ok(())
}

/// Bounds with 0 inside and outside, rows with padding, a working copy, a step to skip.
pub fn cases() -> Vec<Case> {
    let table = [
        (&[][..], (0.0, 4.6), false, false),
        (&[7], (0.25, 0.5), true, false),
        (&[3, 5], (-0.5, -0.25), false, false),
        (&[5, 131], (0.5, 1.5), true, false),
        (&[9], (0.25, 0.5), true, true),
    ];
    table
        .into_iter()
        .map(|(dims, bounds, copy, skip)| {
            let name = format!("{dims:?} {bounds:?} copy {copy} skip {skip}");
            Case::new(name, Tolerance::exact(), move |ctx, storage| {
                let x = samples::normal(ctx, dims, DType::F32, 1)?;
                let working = samples::normal(ctx, dims, storage, 2)?;
                let control = Tensor::from_u32(ctx, &[WORDS], &Control { skip, ..Control::new(1.0) }.to_words())?;
                launch(ctx, &control, &x, copy.then_some(&working), bounds)?;
                Ok(vec![x, working])
            })
        })
        .collect()
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "column < vec4<u32>(p.width)", replace: "column <= vec4<u32>(p.width)" },
    Fault { find: "max(x[cell], vec4<f32>(p.low))", replace: "x[cell]" },
    Fault { find: "(cell % p.cells)", replace: "cell" },
    Fault { find: "|| control[SKIP] == 1u", replace: "" },
];
