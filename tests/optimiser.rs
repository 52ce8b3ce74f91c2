//! The optimiser on the device against the optimiser on the twins: the same steps, an overflow among them.

mod common;

use mmae::device::Storage;
use mmae::nn::{Entry, Init, ParamSet, ParamSpec};
use mmae::optim::{AdamW, AdamWConfig, StepInputs};
use mmae::{Context, DType};

fn spec(name: &str, dims: &[usize], decay: bool, trainable: bool) -> ParamSpec {
    let init = match name.strip_prefix("target.") {
        Some(source) => Init::CopyOf(source.to_owned()),
        None => Init::Normal { mean: 0.5, std: 0.5 },
    };
    ParamSpec { name: name.to_owned(), dims: dims.to_vec(), init, decay, trainable }
}

/// Names and values of weights, working copies and moments after six steps, the fourth with a gradient that is not finite.
fn train(context: &Context, precision: DType) -> Vec<Entry> {
    let specs = [
        spec("encoder.weight", &[33, 5, 7], true, true),
        spec("encoder.bias", &[33], false, true),
        spec("table", &[11, 3], true, false),
        spec("scale", &[], false, true),
        spec("target.encoder.weight", &[33, 5, 7], true, false),
        spec("target.encoder.bias", &[33], false, false),
    ];
    let set = ParamSet::build(context, &specs, precision, 9).unwrap();
    let config = AdamWConfig { dynamic_loss_scale: precision == DType::F16, ..Default::default() };
    let pairs = ["encoder.weight", "encoder.bias"].map(|name| (format!("target.{name}"), name.to_owned()));
    let optimiser = AdamW::new(&set, &config, &[("scale", 0.0, 0.55)], &pairs).unwrap();
    let schedule = StepInputs::default().tensor(context).unwrap();
    for step in 1..=6u32 {
        set.zero_gradients().unwrap();
        let scale = optimiser.loss_scale().to_f32().unwrap()[0];
        for slot in set.params().iter().filter_map(|param| param.grad.as_ref()) {
            let value = |i: usize| scale * 0.1 * ((i * 13 + step as usize * 7) % 11) as f32 - scale * 0.4;
            let mut values: Vec<f32> = (0..slot.shape().elements()).map(value).collect();
            if step == 4 {
                *values.last_mut().unwrap() = f32::INFINITY;
            }
            slot.write_f32(&values).unwrap();
        }
        schedule.write_u32(&StepInputs { seed: 1, step, lr: 0.01, ema: 0.75 }.to_words()).unwrap();
        optimiser.step(&schedule).unwrap();
    }
    let control = optimiser.control().unwrap();
    assert_eq!((control.updates, control.skipped, control.good_steps), (5, 1, 2), "{}", context.capabilities().adapter);
    let copy =
        |p: &mmae::nn::Param| (format!("copy of {}", p.name), p.shape.dims().to_vec(), p.working.to_f32().unwrap());
    let mut all = set.read().unwrap();
    all.extend(set.read_moments().unwrap());
    all.extend(set.params().iter().map(copy));
    all.push(("norm".to_owned(), vec![], vec![control.norm]));
    all.push(("loss scale".to_owned(), vec![], vec![control.loss_scale.log2()]));
    all
}

#[test]
fn device_and_twins_agree() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    println!("{}", gpu.capabilities().summary());
    let mut failed = Vec::new();
    for precision in [DType::F32, DType::F16] {
        for ((name, _, got), (_, _, want)) in train(&gpu, precision).iter().zip(train(&Context::cpu(), precision)) {
            // A copy in halves may fall on the other side of a tie.
            let half = if name.starts_with("copy") && precision == DType::F16 { 1.0 / 1024.0 } else { 0.0 };
            let far = |(got, want): (&f32, &f32)| (got - want).abs() > 2e-5 * (1.0 + want.abs()) + half * want.abs();
            let far = got.iter().zip(&want).position(far);
            if let Some(at) = far {
                failed.push(format!("{precision} {name}[{at}]: {}, twins {}", got[at], want[at]));
            }
        }
        let infinite = train(&gpu, precision).iter().filter(|(.., v)| v.iter().any(|v| !v.is_finite())).count();
        if infinite > 0 {
            failed.push(format!("{precision}: {infinite} tensors are not finite"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
