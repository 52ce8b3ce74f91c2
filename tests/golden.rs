//! The model against golden files computed in float64 by a separate implementation: on the device and on the twins.

mod common;

use std::path::{Path, PathBuf};

use mmae::Context;
use mmae::device::{ContextOptions, Storage};
use mmae::train::config::Precision;
use mmae::train::verify::{Row, verify};

fn folder(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(set)
}

/// Rows beyond tolerance, and the worst of each kind for the log.
fn failures(ctx: &Context, set: &str, steps: usize, precision: Precision) -> Vec<String> {
    match verify(ctx, &folder(set), steps, precision) {
        Ok(rows) => {
            let worst = |prefix: &str| {
                let kind = rows.iter().filter(|r| r.name.starts_with(prefix) && r.tolerance.is_finite());
                kind.map(|r| r.error / r.tolerance).fold(0.0, f64::max)
            };
            println!(
                "{set} {precision:?} on {}: {} comparisons; share of the tolerance used: gradients {:.2}, training {:.2}, weights {:.2}",
                ctx.capabilities().adapter,
                rows.len(),
                worst("grad."),
                worst("train."),
                worst("final.")
            );
            let beyond = rows.iter().filter(|r| !r.passes());
            beyond
                .map(|Row { name, error, tolerance }| {
                    format!("{set} {precision:?} {name}: {error:.2e} > {tolerance:.0e}")
                })
                .collect()
        }
        Err(error) => vec![format!("{set} {precision:?}: {error}")],
    }
}

fn all(ctx: &Context, precision: Precision, steps: usize) {
    let wrong: Vec<String> =
        ["tiny", "flat", "dense"].iter().flat_map(|set| failures(ctx, set, steps, precision)).collect();
    assert!(wrong.is_empty(), "{} beyond tolerance:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn golden_sets_on_the_twins() {
    all(&Context::cpu(), Precision::F32, 10);
}

#[test]
fn golden_sets_in_halves_on_the_twins() {
    all(&Context::cpu(), Precision::F16, 1);
}

#[test]
fn golden_sets_on_the_device() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    all(&gpu, Precision::F32, 10);
}

#[test]
fn golden_sets_in_halves_on_the_device() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    all(&gpu, Precision::F16, 2);
}

/// The kernels that GPUs take: tiles, patches as rows of products, and where the driver has them cooperative matrices.
#[test]
fn golden_sets_on_the_path_of_hardware() {
    let options = || ContextOptions { as_hardware: true, half: Some(Storage::F16Native), ..Default::default() };
    let Some(gpu) = common::open(options()) else { return };
    all(&gpu, Precision::F32, 10);
    all(&gpu, Precision::F16, 2);
    let kernels = gpu.counters().kernels;
    assert!(kernels.contains_key("matmul_tiled"), "the path of hardware was not taken: {:?}", kernels.keys());
    if gpu.capabilities().matrix.is_some() {
        assert!(kernels.contains_key("attention_cooperative_backward_key"), "no matrices: {:?}", kernels.keys());
    }
}

#[test]
fn a_wrong_epsilon_is_caught() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    gpu.plant_fault(Some(("layernorm", "variance + p.epsilon", "variance + 0.1 * p.epsilon")));
    let wrong = failures(&gpu, "tiny", 0, Precision::F32);
    gpu.plant_fault(None);
    assert!(wrong.iter().any(|w| w.contains("encoded")), "a layernorm epsilon of 1e-6 passes: {wrong:?}");
}
