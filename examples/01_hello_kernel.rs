//! A kernel of your own: its WGSL text, its twin in Rust, one launch on the device and one on the CPU, and the comparison.
//!
//! What it teaches: tensors are rows padded to cells of four; a kernel declares its buffers and parameters, the engine joins
//! the text that reads and writes cells in whatever storage the launch has; the twin is the formula as plain loops.
//!
//! Run with `cargo run --release --example 01_hello_kernel`.

use mmae::device::{Binding, ContextOptions, Kernel, Launch, Part, Twin};
use mmae::{Context, DType, Error, Result, Tensor};

/// `unpack4`, `pack4`, `Stored4` and `group_index` are joined before this text: the kernel never knows whether numbers lie
/// in memory as f32 or f16.
const SOURCE: &str = "
struct Params {
    cells: u32, // cells of four elements
    scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

// y = scale * sin(x), a cell of four for each invocation.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = group_index(wid, count) * 64u + lid;
    if (i < p.cells) {
        y[i] = pack4(p.scale * sin(unpack4(x[i])));
    }
}
";

static KERNEL: Kernel = Kernel {
    name: "scaled_sine",
    source: SOURCE,
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

/// The same as `Params` in the shader.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    scale: f32,
}

/// The formula, from the formula: this is what the shader must agree with.
fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let y = t.f32(0).into_iter().map(|x| p.scale * x.sin()).collect();
    t.put_f32(1, y);
    Ok(())
}

fn scaled_sine(ctx: &Context, x: &Tensor, scale: f32) -> Result<Tensor> {
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params { cells: cells as u32, scale })
        .groups(cells.div_ceil(64))
        .flops(2.0 * x.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn main() -> Result<()> {
    let device = Context::new(&ContextOptions::default())?;
    let twins = Context::cpu();
    println!("device: {}", device.capabilities().summary());
    let values: Vec<f32> = (0..3 * 7).map(|i| i as f32 * 0.3 - 3.0).collect();
    let mut worst = 0.0f32;
    for dtype in [DType::F32, DType::F16] {
        let run = |ctx: &Context| {
            let x = Tensor::from_f32(ctx, &[3, 7], &values, dtype)?;
            scaled_sine(ctx, &x, 2.0)?.to_f32()
        };
        let (got, want) = (run(&device)?, run(&twins)?);
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{dtype}: {:.4?} ... differs from the twin by at most {off:e}", &got[..4]);
        worst = worst.max(off);
    }
    // Halves near 2 lie 1/1024 apart; the sine of WGSL may itself be off by 2^-11.
    if worst > 2e-3 {
        return Err(Error::Check { what: "01_hello_kernel".into(), detail: format!("off by {worst}") });
    }
    Ok(())
}
