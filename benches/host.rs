//! The host's part of training, whatever the device: the tape, recording launches, reading and collating data.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use mmae::bench::probes;
use mmae::bench::step::synthetic;
use mmae::data::{Collator, Dataset, Tokenizer};
use mmae::device::ContextOptions;
use mmae::model::config::preset;
use mmae::model::inputs::stage_images;
use mmae::train::config::RunConfig;
use mmae::train::trainer::Trainer;
use mmae::{Context, DType, Tensor};

/// A whole step on a context that runs nothing: tape, shapes, pool, counting.
fn tape(c: &mut Criterion) {
    let mut group = c.benchmark_group("step without a device");
    for name in ["m2ae", "m2ae-small", "m2ae-vit"] {
        let mut config = RunConfig::new(preset(name).unwrap());
        config.train.batch = 8;
        let mut trainer = Trainer::new(&Context::dry(None), &config).unwrap();
        group.bench_function(name, |b| b.iter(|| trainer.step_dry().unwrap()));
    }
    group.finish();
}

/// Launches recorded and submitted, next to nothing in each. Without an adapter there is nothing to record.
fn recorder(c: &mut Criterion) {
    let ctx = Context::new(&ContextOptions::default()).unwrap();
    if ctx.is_cpu() {
        return;
    }
    let y = Tensor::empty(&ctx, &[4], DType::F32).unwrap();
    c.bench_function("record 64 launches", |b| {
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let start = std::time::Instant::now();
                (0..64).for_each(|_| probes::nothing(&ctx, &y).unwrap());
                spent += start.elapsed();
                // What the device does with them is not the host's time.
                ctx.wait().unwrap();
            }
            spent
        });
    });
}

/// A replayed step handed to an idle device: what training leaves to the host from the third step on. Waits for room in the
/// device's queue are not the host's work.
fn replay(c: &mut Criterion) {
    let ctx = Context::new(&ContextOptions::default()).unwrap();
    if ctx.is_cpu() {
        return;
    }
    let mut group = c.benchmark_group("replayed step");
    for name in ["m2ae-tiny", "m2ae-small"] {
        let mut config = RunConfig::new(preset(name).unwrap());
        config.train.batch = 2;
        let mut trainer = Trainer::new(&ctx, &config).unwrap();
        let (preparer, batch) = (trainer.preparer(), synthetic(&config, 1));
        let mut step = || {
            let prepared = preparer.prepare(&batch).unwrap();
            ctx.wait().unwrap();
            let (start, waited) = (std::time::Instant::now(), ctx.counters().waited);
            trainer.step_prepared(prepared).unwrap();
            let spent = start.elapsed().saturating_sub(ctx.counters().waited - waited);
            ctx.wait().unwrap();
            spent
        };
        // One runs the tape, one is recorded, one is replayed.
        for _ in 0..3 {
            step();
        }
        group.bench_function(name, |b| b.iter_custom(|rounds| (0..rounds).map(|_| step()).sum()));
    }
    group.finish();
}

/// Sixteen records from files to a batch: read, decode, fit to 96 pixels, tokenize, stack.
fn loading(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/emoji/held_out");
    let dataset = Arc::new(Dataset::open(&path).unwrap());
    let tokenizer = Arc::new(Tokenizer::train(&dataset.captions(), 512).unwrap());
    let indices: Vec<_> = (0..16.min(dataset.len())).collect();
    let mut group = c.benchmark_group("16 records to a batch");
    for (name, cache) in [("from files", 0), ("from the cache", 64 << 20)] {
        let collator = Collator::new(Arc::clone(&dataset), Arc::clone(&tokenizer), 96, 32, cache).unwrap();
        group.bench_function(name, |b| b.iter(|| black_box(collator.batch(&indices).unwrap())));
    }
    group.finish();
}

/// A batch of 64 images of 224 pixels on its way to the device: what a loader's worker does with it, and what is left to the
/// thread that trains.
fn feeding(c: &mut Criterion) {
    let ctx = Context::new(&ContextOptions::default()).unwrap();
    let model = preset("m2ae").unwrap();
    let (batch, dims) = (64, [64, model.channels, model.image_size, model.image_size]);
    let image: Vec<f32> = (0..batch * model.pixels()).map(|i| (i % 251) as f32 / 251.0).collect();
    let present = vec![true; batch];
    let mut group = c.benchmark_group("64 images of 224 pixels");
    for dtype in [DType::F32, DType::F16] {
        let to = Tensor::empty(&ctx, &dims, dtype).unwrap();
        let stage = || stage_images(&ctx, &model, &image, &present, dtype).unwrap();
        // Handed over and waited for, so that buffers are used again as in training.
        let hand_over = |staged| {
            let start = std::time::Instant::now();
            to.write(staged).unwrap();
            ctx.submit().unwrap();
            let spent = start.elapsed();
            ctx.wait().unwrap();
            spent
        };
        group.bench_function(format!("staged in {dtype}"), |b| {
            b.iter_custom(|rounds| {
                let once = || {
                    let start = std::time::Instant::now();
                    let staged = stage();
                    let spent = start.elapsed();
                    hand_over(staged);
                    spent
                };
                (0..rounds).map(|_| once()).sum()
            });
        });
        group.bench_function(format!("handed over in {dtype}"), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| hand_over(stage())).sum());
        });
    }
    group.finish();
}

criterion_group! {
    name = host;
    config = Criterion::default().sample_size(20).without_plots();
    targets = tape, recorder, replay, loading, feeding
}
criterion_main!(host);
