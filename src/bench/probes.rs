//! Kernels that measure the device itself: multiply-adds, copies, reads, launches. Each has a twin, so that a ceiling is
//! checked before it is believed.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Tolerance, matmul_cooperative, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

const WORKGROUP: usize = 64;
/// Cells of the table of `fma_stored`.
const TABLE: usize = 1024;

macro_rules! probe {
    ($static:ident, $name:literal, [$($part:ident),+], $twin:ident, $($binding:expr),+) => {
        static $static: Kernel = Kernel {
            name: concat!("bench/", $name),
            source: include_str!(concat!("../../shaders/bench/", $name, ".wgsl")),
            parts: &[$(Part::$part),+],
            bindings: &[$($binding),+],
            epilogues: false,
            twin: $twin,
        };
    };
}
probe!(FMA, "fma", [Grid], fma_twin, Binding::f32_mut("y"));
probe!(FMA_STORED, "fma_stored", [Grid], fma_stored_twin, Binding::stored("table"), Binding::f32_mut("y"));
probe!(COPY, "copy", [Grid, Cells], copy_twin, Binding::f32("x"), Binding::f32_mut("y"));
probe!(READ, "read", [Grid, Cells], read_twin, Binding::f32("x"), Binding::f32_mut("y"));
probe!(NOTHING, "nothing", [Grid], nothing_twin, Binding::f32_mut("y"));
probe!(MATRIX, "matrix", [Matrix], matrix_twin, Binding::stored("table"), Binding::f32_mut("y"));

/// All of them, for tests.
pub static ALL: [&Kernel; 6] = [&FMA, &FMA_STORED, &COPY, &READ, &NOTHING, &MATRIX];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Fma {
    steps: u32,
    cells: u32,
    scale: f32,
    shift: f32,
}

/// The forms of the same multiply-adds: vec4 in flight, and whether they are spelt `fma`.
pub const FORMS: [(usize, bool); 4] = [(4, false), (8, false), (4, true), (8, true)];

/// `invocations` times 4 `steps` times `chains` vec4 multiply-adds in registers. Returns the FLOPs.
///
/// # Errors
/// What the device reports.
pub fn fma(ctx: &Context, y: &Tensor, steps: usize, (chains, fused): (usize, bool)) -> Result<f64> {
    let cells = y.shape().stored() / 4;
    let flops = 32.0 * (chains * steps * cells) as f64;
    Launch::new(&FMA)
        .tensors(&[y])
        .params(&Fma { steps: steps as u32, cells: cells as u32, scale: 0.999, shift: 0.001 })
        .constant("CHAINS", chains as f64)
        .constant("FUSED", f64::from(fused))
        .groups(cells.div_ceil(WORKGROUP))
        .flops(flops)
        .run(ctx)?;
    Ok(flops)
}

fn fma_twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Fma = t.params();
    let chains = t.constant("CHAINS").unwrap_or(8.0) as usize;
    let mut y = vec![0.0; 4 * p.cells as usize];
    for (at, to) in y.iter_mut().enumerate() {
        let first = (at / 4 % 64) as f32 * 0.01 + [0.0, 0.1, 0.2, 0.3][at % 4];
        for chain in 0..8 {
            let mut x = first + 0.4 * chain as f32;
            for _ in 0..if chain < chains { 4 * p.steps } else { 0 } {
                x = x * p.scale + p.shift;
            }
            *to += x;
        }
    }
    t.put_f32(0, y);
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Stored {
    steps: u32,
    cells: u32,
    factor: f32,
}

/// The table that [`fma_stored`] reads.
///
/// # Errors
/// What the device reports.
pub fn table(ctx: &Context, dtype: DType) -> Result<Tensor> {
    samples::normal(ctx, &[4 * TABLE], dtype, 11)
}

/// `invocations` times `steps` loads of a stored cell, its conversion, and eight vec4 multiply-adds. Returns the FLOPs.
///
/// # Errors
/// What the device reports.
pub fn fma_stored(ctx: &Context, table: &Tensor, y: &Tensor, steps: usize) -> Result<f64> {
    let cells = y.shape().stored() / 4;
    let flops = 64.0 * (steps * cells) as f64;
    Launch::new(&FMA_STORED)
        .tensors(&[table, y])
        .params(&Stored { steps: steps as u32, cells: cells as u32, factor: 0.9 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(flops)
        .run(ctx)?;
    Ok(flops)
}

fn fma_stored_twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Stored = t.params();
    let table = t.f32(0);
    let mut y = vec![0.0; 4 * p.cells as usize];
    for (at, to) in y.iter_mut().enumerate() {
        let (lane, part) = (at / 4 % WORKGROUP, at % 4);
        let read = |step: usize| f64::from(table[(step * WORKGROUP + lane) % TABLE * 4 + part]);
        let sum: f64 = (0..p.steps as usize).map(read).sum();
        let factors: f64 = (1..=8).map(|j| f64::from(p.factor).powi(j)).sum();
        *to = (2.8 + sum * factors) as f32;
    }
    t.put_f32(1, y);
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Cells {
    cells: u32,
}

/// Invocations of a workgroup, and cells of each: drivers and devices differ in which moves memory fastest.
pub type Sweep = (usize, usize);

/// The forms in which memory is swept.
pub const SWEEPS: [Sweep; 8] = [(64, 1), (256, 1), (256, 4), (64, 16), (256, 16), (256, 32), (8, 16), (8, 64)];

fn swept<'a>(launch: Launch<'a>, x: &Tensor, (workgroup, each): Sweep) -> Launch<'a> {
    let cells = x.shape().stored() / 4;
    launch
        .params(&Cells { cells: cells as u32 })
        .constant("EACH", each as f64)
        .constant("WORKGROUP", workgroup as f64)
        .groups(cells.div_ceil(each * workgroup))
}

/// y = x.
///
/// # Errors
/// What the device reports.
pub fn copy(ctx: &Context, x: &Tensor, y: &Tensor, form: Sweep) -> Result<()> {
    swept(Launch::new(&COPY).tensors(&[x, y]), x, form).run(ctx)
}

fn copy_twin(t: &mut Twin<'_>) -> Result<()> {
    let x = t.f32(0);
    t.put_f32(1, x);
    Ok(())
}

/// Room for the sums of [`read`].
///
/// # Errors
/// What the device reports.
pub fn sums(ctx: &Context, x: &Tensor, (workgroup, each): Sweep) -> Result<Tensor> {
    let groups = (x.shape().stored() / 4).div_ceil(each * workgroup);
    Tensor::empty(ctx, &[groups * workgroup * 4], DType::F32)
}

/// y holds sums over x, made by [`sums`] for the same form.
///
/// # Errors
/// What the device reports.
pub fn read(ctx: &Context, x: &Tensor, y: &Tensor, form: Sweep) -> Result<()> {
    swept(Launch::new(&READ).tensors(&[x, y]), x, form).flops(x.shape().elements() as f64).run(ctx)
}

fn read_twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Cells = t.params();
    let [workgroup, each] = ["WORKGROUP", "EACH"].map(|name| t.constant(name).unwrap_or(1.0) as usize);
    let (x, mut y) = (t.f32(0), vec![0.0f64; t.f32(1).len()]);
    for cell in 0..p.cells as usize {
        let to = cell / (each * workgroup) * workgroup + cell % workgroup;
        (0..4).for_each(|part| y[4 * to + part] += f64::from(x[4 * cell + part]));
    }
    t.put_f32(1, y.into_iter().map(|sum| sum as f32).collect());
    Ok(())
}

/// One launch that does next to nothing, on a tensor of four numbers.
///
/// # Errors
/// What the device reports.
pub fn nothing(ctx: &Context, y: &Tensor) -> Result<()> {
    Launch::new(&NOTHING).tensors(&[y]).params(&1.0f32).run(ctx)
}

fn nothing_twin(t: &mut Twin<'_>) -> Result<()> {
    let value = t.params::<f32>();
    t.put_f32(0, vec![value; 4]);
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Products {
    steps: u32,
    groups: u32,
    size: u32,
}

/// Side of the device's cooperative matrices and invocations of a subgroup, where kernels may use them.
#[must_use]
pub fn matrices(ctx: &Context) -> Option<(usize, usize)> {
    let has = ctx.capabilities();
    let found = has.matrices().map(|(matrix, subgroup)| (matrix.size(), subgroup as usize));
    found.filter(|_| matmul_cooperative::available(ctx))
}

/// Two matrices for [`products`].
///
/// # Errors
/// What the device reports.
pub fn pair(ctx: &Context, side: usize) -> Result<Tensor> {
    samples::normal(ctx, &[2 * side * side], DType::F16, 12)
}

/// `groups` subgroups times 4 `steps` products of matrices; y (groups, side x side). Returns the FLOPs.
///
/// # Errors
/// What the device reports.
pub fn products(
    ctx: &Context,
    pair: &Tensor,
    y: &Tensor,
    steps: usize,
    (side, subgroup): (usize, usize),
) -> Result<f64> {
    let groups = y.shape().elements() / (side * side);
    let flops = 8.0 * (side * side * side * steps * groups) as f64;
    Launch::new(&MATRIX)
        .tensors(&[pair, y])
        .params(&Products { steps: steps as u32, groups: groups as u32, size: side as u32 })
        .constant("SUBGROUP", subgroup as f64)
        .groups(groups)
        .flops(flops)
        .run(ctx)?;
    Ok(flops)
}

fn matrix_twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Products = t.params();
    let (table, side) = (t.f32(0), p.size as usize);
    let (a, b) = table.split_at(side * side);
    let value = |at: usize| {
        let (row, column) = (at / side % side, at % side);
        let terms = (0..side).map(|k| f64::from(a[row * side + k]) * f64::from(b[k * side + column]));
        // Each of the four by so many more, and where they start: at none to three.
        ((4.0 * f64::from(p.steps) + 6.0) * terms.sum::<f64>()) as f32
    };
    t.put_f32(1, (0..p.groups as usize * side * side).map(value).collect());
    Ok(())
}

/// The cooperative matrices of a device against the twin.
#[must_use]
pub fn matrix_case(size: (usize, usize)) -> Case {
    const STEPS: usize = 3;
    let sum = Tolerance::sum((4 * STEPS + 6) * size.0);
    Case::new("products of matrices", sum, move |ctx, _| {
        let y = Tensor::empty(ctx, &[5, size.0 * size.0], DType::F32)?;
        products(ctx, &pair(ctx, size.0)?, &y, STEPS, size)?;
        Ok(vec![y])
    })
}

/// Every probe against its twin, at a size that does not fill its last workgroup.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = FORMS
        .into_iter()
        .map(|form| {
            Case::new(format!("fma {form:?}"), Tolerance { abs: 0.0, rel: 1e-4 }, move |ctx, _| {
                let y = Tensor::empty(ctx, &[4 * 100], DType::F32)?;
                fma(ctx, &y, 16, form)?;
                Ok(vec![y])
            })
        })
        .collect();
    cases.push(Case::new("fma_stored", Tolerance::sum(8 * 40), |ctx, dtype| {
        let y = Tensor::empty(ctx, &[4 * 100], DType::F32)?;
        fma_stored(ctx, &table(ctx, dtype)?, &y, 40)?;
        Ok(vec![y])
    }));
    for form in SWEEPS {
        let case = move |ctx: &Context, reads: bool| {
            let x = samples::normal(ctx, &[4 * 5000], DType::F32, 1)?;
            let y = if reads { sums(ctx, &x, form)? } else { Tensor::empty(ctx, x.dims(), DType::F32)? };
            if reads {
                read(ctx, &x, &y, form)?
            } else {
                copy(ctx, &x, &y, form)?
            }
            Ok(vec![y])
        };
        cases.push(Case::new(format!("copy {form:?}"), Tolerance::exact(), move |ctx, _| case(ctx, false)));
        cases.push(Case::new(format!("read {form:?}"), Tolerance::sum(form.1), move |ctx, _| case(ctx, true)));
    }
    cases.push(Case::new("nothing", Tolerance::exact(), |ctx, _| {
        let y = Tensor::empty(ctx, &[4], DType::F32)?;
        nothing(ctx, &y)?;
        Ok(vec![y])
    }));
    cases
}
