//! Pipelines compiled beforehand are those that a step uses, and change nothing about it.
#![cfg(feature = "data")]

mod common;

use mmae::Context;
use mmae::data::Batch;
use mmae::device::{ContextOptions, Storage};
use mmae::model::config::{ModelConfig, m2ae_tiny};
use mmae::train::config::{Precision, RunConfig};
use mmae::train::plan::prepare;
use mmae::train::trainer::Trainer;

fn config(precision: Precision) -> RunConfig {
    let model = ModelConfig { image_size: 16, width: 16, heads: 2, latent: 16, vocab: 50, ..m2ae_tiny() };
    let mut config = RunConfig::new(model);
    (config.train.batch, config.train.precision) = (2, precision);
    config
}

fn step(ctx: &Context, config: &RunConfig) -> Vec<u32> {
    let (size, model) = (config.train.batch, &config.model);
    let batch = Batch {
        size,
        image: (0..size * model.pixels()).map(|i| (i % 7) as f32 / 7.0).collect(),
        tokens: (0..size * model.text_length).map(|i| (i % 50) as u32).collect(),
        has_image: vec![true; size],
        has_text: vec![true; size],
        ..Batch::default()
    };
    let mut trainer = Trainer::new(ctx, config).unwrap();
    trainer.step(&batch).unwrap();
    ctx.wait().unwrap();
    trainer.model.params.read().unwrap().into_iter().flat_map(|(_, _, values)| values).map(f32::to_bits).collect()
}

/// Dry contexts for two precisions, so that a list that ignored storage or constants would be noticed.
#[test]
fn a_dry_run_names_the_pipelines_of_a_step() {
    for precision in [Precision::F32, Precision::F16] {
        let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
        let config = config(precision);
        let dry = Context::dry(Some(ctx.capabilities().clone()));
        Trainer::new(&dry, &config).unwrap().step_dry().unwrap();
        step(&ctx, &config);
        assert_eq!(dry.needs().len(), ctx.pipelines(), "{precision:?}");
        assert!(ctx.needs().is_empty(), "only a dry run keeps a list");
    }
}

/// Treated as hardware, a device has all pipelines before the first launch, and the step compiles none.
#[test]
fn on_hardware_all_pipelines_are_ready() {
    let options = || ContextOptions { as_hardware: true, half: Some(Storage::F16Packed), ..Default::default() };
    let Some(ctx) = common::open(options()) else { return };
    let config = config(Precision::F16);
    drop(prepare(&ctx, &config).unwrap());
    let ready = ctx.pipelines();
    let prepared = step(&ctx, &config);
    assert!(ready > 40, "{ready} pipelines prepared");
    assert_eq!(ctx.pipelines(), ready, "the step compiled more");
    let Some(fresh) = common::open(options()) else { return };
    assert_eq!(prepared, step(&fresh, &config), "the same bytes without preparation");
}

/// On a software driver a second device compiles beside the step; it may be dropped at any time.
#[test]
fn a_preparation_beside_the_work_changes_nothing() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let config = config(Precision::F32);
    drop(prepare(&ctx, &config).unwrap());
    let preparation = prepare(&ctx, &config).unwrap();
    let beside = step(&ctx, &config);
    drop(preparation);
    let Some(alone) = common::gpu(Storage::F16Packed, false) else { return };
    assert_eq!(beside, step(&alone, &config));
}
