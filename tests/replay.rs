//! A replayed step leaves the same bytes as one that runs the tape, and touches no memory but its own.
#![cfg(feature = "data")]

mod common;

use mmae::data::Batch;
use mmae::device::Storage;
use mmae::model::config::{ModelConfig, m2ae_tiny};
use mmae::shape::DType;
use mmae::tensor::Tensor;
use mmae::train::config::{Precision, RunConfig};
use mmae::train::trainer::Trainer;
use mmae::{Context, Error, kernels};

fn config(precision: Precision, micro_batches: usize) -> RunConfig {
    let model = ModelConfig {
        image_size: 16,
        width: 16,
        heads: 2,
        text_length: 6,
        text_embed: 8,
        text_width: 8,
        text_heads: 2,
        latent: 16,
        vocab: 50,
        ..m2ae_tiny()
    };
    let mut config = RunConfig::new(model);
    (config.train.batch, config.train.micro_batches, config.train.precision) = (3, micro_batches, precision);
    (config.train.steps, config.train.lr, config.train.hide_image) = (20, 2e-3, 0.3);
    config
}

/// Another batch for every step: a replay that kept an old one would be noticed.
fn batch(config: &RunConfig, step: u64) -> Batch {
    let (size, model) = (config.train.batch * config.train.micro_batches, &config.model);
    let mut state = step + 1;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    Batch {
        size,
        image: (0..size * model.pixels()).map(|_| next()).collect(),
        tokens: (0..size * model.text_length).map(|_| (next() * 49.0) as u32).collect(),
        has_image: (0..size).map(|b| b != step as usize % 3).collect(),
        has_text: vec![true; size],
        ..Batch::default()
    }
}

/// Every value and moment after `steps` steps, and the losses.
fn train(ctx: &Context, config: &RunConfig, steps: u64, replay: bool) -> (Vec<u32>, [f32; 5], u64) {
    let mut trainer = Trainer::new(ctx, config).unwrap();
    trainer.set_replay(replay);
    let mut launches = 0;
    for step in 0..steps {
        let before = ctx.counters().launches;
        trainer.step(&batch(config, step)).unwrap();
        launches = ctx.counters().launches - before;
    }
    let state = trainer.model.params.read().unwrap().into_iter().chain(trainer.model.params.read_moments().unwrap());
    let bits = state.flat_map(|(_, _, values)| values).map(f32::to_bits).collect();
    let losses = trainer.losses().unwrap();
    (bits, losses.named().map(|(_, value)| *value), launches)
}

#[test]
fn a_replayed_step_leaves_the_same_bytes() {
    for (precision, micro, immediates) in
        [(Precision::F32, 1, true), (Precision::F16, 2, true), (Precision::F32, 2, false)]
    {
        let Some(ctx) = common::gpu(Storage::F16Packed, !immediates) else { return };
        let config = config(precision, micro);
        let (taped, replayed) = (train(&ctx, &config, 7, false), train(&ctx, &config, 7, true));
        let differ = taped.0.iter().zip(&replayed.0).filter(|(a, b)| a != b).count();
        assert!(differ == 0 && taped.0.len() == replayed.0.len(), "{precision:?} x{micro}: {differ} values differ");
        assert_eq!((taped.1, taped.2), (replayed.1, replayed.2), "losses and launches, {precision:?} x{micro}");
        // The comparison can fail: another number of steps leaves other bytes.
        assert_ne!(taped.0, train(&ctx, &config, 6, true).0);
    }
}

#[test]
fn replays_take_nothing_from_the_pool_and_compile_nothing() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let config = config(Precision::F32, 1);
    let mut trainer = Trainer::new(&ctx, &config).unwrap();
    let mut seen = Vec::new();
    for step in 0..9 {
        trainer.step(&batch(&config, step)).unwrap();
        seen.push((ctx.pool().reserved, ctx.pipelines()));
    }
    assert!(seen[2..].iter().all(|now| *now == seen[2]), "{seen:?}");
    let reserved = ctx.pool().reserved;
    trainer.forget_recording();
    assert_eq!(ctx.pool().reserved, reserved, "forgetting gives buffers back to the pool, not to the device");
    trainer.step(&batch(&config, 9)).unwrap();
    assert_eq!(ctx.pool().reserved, reserved, "and the next step takes them again");
}

#[test]
fn a_tensor_made_after_the_recording_is_not_overwritten() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let x = Tensor::from_f32(&ctx, &[8], &[1.0; 8], DType::F32).unwrap();
    let y = Tensor::zeros(&ctx, &[8], DType::F32).unwrap();
    // A temporary of the recorded work goes back to the pool within it.
    let work = || {
        let twice = kernels::add::launch(&ctx, &x, &x)?;
        kernels::accumulate::launch(&ctx, &twice, &y, 1.0)
    };
    let ((), recording) = ctx.record(work).unwrap();
    let recording = recording.unwrap();
    assert!(recording.segments() == 1 && recording.bytes() > 0);
    let bystanders: Vec<_> = (0..4).map(|_| Tensor::from_f32(&ctx, &[8], &[7.0; 8], DType::F32).unwrap()).collect();
    x.write_f32(&[10.0; 8]).unwrap();
    ctx.replay(&recording, 0).unwrap();
    assert_eq!(y.to_f32().unwrap(), [22.0; 8]);
    for bystander in &bystanders {
        assert_eq!(bystander.to_f32().unwrap(), [7.0; 8]);
    }
    let refused = ctx.replay(&recording, 1);
    assert!(matches!(refused, Err(Error::Check { .. })), "{refused:?}");
}

#[test]
fn what_a_replay_would_not_repeat_is_an_error() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let x = Tensor::zeros(&ctx, &[4], DType::F32).unwrap();
    for refused in [ctx.record(|| x.write_f32(&[1.0; 4])).err(), ctx.record(|| x.to_f32().map(drop)).err()] {
        assert!(matches!(refused, Some(Error::Check { .. })), "{refused:?}");
    }
    let allowed = ctx.record(|| ctx.unrecorded(|| x.write_f32(&[2.0; 4])));
    assert!(allowed.is_ok() && x.to_f32().unwrap() == [2.0; 4]);
}

#[test]
fn a_look_begun_early_reads_the_values_of_its_moment() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let x = Tensor::from_f32(&ctx, &[3], &[1.0, 2.0, 3.0], DType::F32).unwrap();
    let n = Tensor::from_u32(&ctx, &[4], &[4, 5, 6, 7]).unwrap();
    let mut look = ctx.read_later(&[&x, &n]).unwrap();
    x.write_f32(&[9.0; 3]).unwrap();
    ctx.wait().unwrap();
    assert!(look.is_ready(), "all work is done");
    let bytes = look.wait().unwrap();
    let floats: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[0]);
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes[1]);
    assert_eq!((&floats[..3], &words[..]), (&[1.0, 2.0, 3.0][..], &[4, 5, 6, 7][..]));
    // The buffer serves again, also for who does not ask whether it is ready.
    let again = ctx.read_later(&[&x, &n]).unwrap().wait().unwrap();
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&again[0])[..3], [9.0; 3]);
}

#[test]
fn a_step_in_its_stride_allocates_nothing() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let config = config(Precision::F16, 2);
    let mut trainer = Trainer::new(&ctx, &config).unwrap();
    let mut step = |i| {
        trainer.step(&batch(&config, i)).unwrap();
        // Upload buffers come back when the device has read them.
        ctx.wait().unwrap();
        (ctx.upload_buffers(), ctx.pool().reserved, ctx.pipelines())
    };
    let made: Vec<_> = (0..12).map(&mut step).collect();
    assert!(made[0].0 > 0, "nothing was uploaded");
    assert!(made[3..].iter().all(|now| *now == made[3]), "upload buffers, bytes, pipelines: {made:?}");
    // The count can grow: what is given back has to be made again.
    ctx.trim();
    assert!(step(12).0 > made[3].0);
}

#[test]
fn a_batch_prepared_for_another_trainer_is_refused() {
    let ctx = Context::cpu();
    let (one, two) = (config(Precision::F32, 1), config(Precision::F32, 2));
    let mut trainer = Trainer::new(&ctx, &one).unwrap();
    let other = Trainer::new(&ctx, &two).unwrap().preparer();
    let refused = trainer.step_prepared(other.prepare(&batch(&two, 0)).unwrap());
    assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
    // As many parts, of other sizes.
    let mut smaller = config(Precision::F32, 1);
    smaller.train.batch = 2;
    let mut shorter = config(Precision::F32, 1);
    shorter.model.text_length = 4;
    for odd in [smaller, shorter] {
        let prepared = Trainer::new(&ctx, &odd).unwrap().preparer().prepare(&batch(&odd, 0)).unwrap();
        assert!(matches!(trainer.step_prepared(prepared), Err(Error::Shape { .. })), "{:?}", odd.train.batch);
    }
    // The sizes are right, the memory is that of another context.
    let elsewhere = Trainer::new(&Context::cpu(), &one).unwrap().preparer();
    let refused = trainer.step_prepared(elsewhere.prepare(&batch(&one, 0)).unwrap());
    assert!(matches!(refused, Err(Error::Check { .. })), "{refused:?}");
    trainer.step(&batch(&one, 0)).unwrap();
    assert!(matches!(other.prepare(&batch(&one, 0)), Err(Error::Shape { .. })));
    let mut holed = batch(&one, 0);
    // A hole in an image that is not there does not matter.
    holed.image[0] = f32::NAN;
    assert!(!holed.has_image[0] && trainer.preparer().prepare(&holed).is_ok());
    holed.has_image[0] = true;
    assert!(matches!(trainer.preparer().prepare(&holed), Err(Error::NotFinite { .. })));
}

/// Another size of batches: the steps are those of a trainer that was made with it, taped, recorded and replayed.
#[test]
fn another_batch_size_drops_the_recording() {
    let ctx = common::gpu(Storage::F16Packed, false).unwrap_or_else(Context::cpu);
    let (three, mut two) = (config(Precision::F32, 2), config(Precision::F32, 2));
    two.train.batch = 2;
    let mut trainer = Trainer::new(&ctx, &three).unwrap();
    (0..4).for_each(|step| trainer.step(&batch(&three, step)).unwrap());
    let stale = trainer.preparer().prepare(&batch(&three, 4)).unwrap();
    assert!(matches!(trainer.set_batch(0), Err(Error::Config { .. })) && trainer.samples_per_step() == 6);
    trainer.set_batch(2).unwrap();
    assert!(matches!(trainer.step_prepared(stale), Err(Error::Shape { .. })));
    let mut fresh = Trainer::new(&ctx, &two).unwrap();
    fresh.restore(trainer.checkpoint(Default::default(), &Default::default()).unwrap()).unwrap();
    let mut losses = Vec::new();
    for step in 4..8 {
        [&mut trainer, &mut fresh].into_iter().for_each(|t| t.step(&batch(&two, step)).unwrap());
        let both = [&trainer, &fresh].map(|t| t.losses().unwrap().named().map(|(_, value)| value.to_bits()));
        assert_eq!(both[0], both[1], "step {step}");
        losses.push(both[0]);
    }
    losses.dedup();
    assert_eq!(losses.len(), 4, "the comparison can fail: every step has other losses");
    assert_eq!(trainer.config(), &two);
}
