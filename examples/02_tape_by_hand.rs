//! A small network fitted to a curve with the tape and AdamW, every step written out.
//!
//! What it teaches: parameters live in arenas and are named; operations run at once and are remembered on a tape; walking it
//! backwards adds gradients to the parameters; the optimiser is a few launches whose rates the host uploads for each step.
//!
//! Run with `cargo run --release --example 02_tape_by_hand`.

use mmae::device::ContextOptions;
use mmae::nn::{Init, Linear, ParamSet, ParamSpec};
use mmae::ops;
use mmae::optim::{AdamW, AdamWConfig, StepInputs};
use mmae::tape::{Tape, Var};
use mmae::{Context, DType, Error, Result, Tensor};

const SAMPLES: usize = 64;
const HIDDEN: usize = 32;
const STEPS: u32 = 300;

/// Weight (out, in) and bias (out) of a linear layer, as the library names them.
fn linear(name: &str, out: usize, inputs: usize, spread: f32) -> [ParamSpec; 2] {
    let spec = |part: &str, dims: &[usize], init, decay| ParamSpec {
        name: format!("{name}.{part}"),
        dims: dims.to_vec(),
        init,
        decay,
        trainable: true,
    };
    [
        spec("weight", &[out, inputs], Init::Normal { mean: 0.0, std: spread }, true),
        spec("bias", &[out], Init::Normal { mean: 0.0, std: spread }, false),
    ]
}

/// x (n, 1) to y (n, 1) through two hidden layers.
struct Network {
    layers: [Linear; 3],
}

impl Network {
    fn forward(&self, tape: &mut Tape, x: &Var) -> Result<Var> {
        let [first, second, last] = &self.layers;
        let hidden = first.forward_gelu(tape, x)?; //       (n, HIDDEN)
        let hidden = second.forward_gelu(tape, &hidden)?; // (n, HIDDEN)
        last.forward(tape, &hidden)
    }
}

fn main() -> Result<()> {
    let ctx = Context::new(&ContextOptions::default())?;
    println!("device: {}", ctx.capabilities().summary());

    let specs =
        [linear("first", HIDDEN, 1, 1.0), linear("second", HIDDEN, HIDDEN, 0.2), linear("last", 1, HIDDEN, 0.2)];
    let params = ParamSet::build(&ctx, &specs.concat(), DType::F32, 7)?;
    let load = |name| Linear::load(&params, name);
    let network = Network { layers: [load("first")?, load("second")?, load("last")?] };
    let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
    let optimizer = AdamW::new(&params, &config, &[], &[])?;

    let x: Vec<f32> = (0..SAMPLES).map(|i| 2.0 * i as f32 / (SAMPLES - 1) as f32 - 1.0).collect();
    let y: Vec<f32> = x.iter().map(|x| (3.0 * x).sin()).collect();
    let x = Tensor::from_f32(&ctx, &[SAMPLES, 1], &x, DType::F32)?;
    let y = Tensor::from_f32(&ctx, &[SAMPLES, 1], &y, DType::F32)?;

    let mut rates = StepInputs { lr: 5e-3, ..StepInputs::default() };
    let schedule = rates.tensor(&ctx)?;
    let mut last = f32::NAN;
    for step in 1..=STEPS {
        rates.step = step;
        schedule.write_u32(&rates.to_words())?;
        params.zero_gradients()?;

        let mut tape = Tape::new(&ctx);
        let input = tape.constant(x.clone());
        let output = network.forward(&mut tape, &input)?;
        let loss = ops::masked_mse::masked_mse(&mut tape, &output, &y, None, None)?;
        let value = loss.value().clone();
        tape.backward(&loss, optimizer.loss_scale())?;
        optimizer.step(&schedule)?;

        // Reading waits for the device, so not at every step.
        if step == 1 || step % 50 == 0 {
            last = value.to_f32()?.first().copied().unwrap_or(f32::NAN);
            println!("step {step:>4}   mean squared error {last:.5}");
        }
    }
    if last.is_nan() || last > 0.02 {
        return Err(Error::Check { what: "02_tape_by_hand".into(), detail: format!("the error is still {last}") });
    }
    Ok(())
}
