//! The optimiser on the CPU twins, against the formulas of the specification in f64.

use super::{AdamW, AdamWConfig, Control, StepInputs};
use crate::device::{Capabilities, Context};
use crate::nn::{Init, ParamSet, ParamSpec, Section};
use crate::shape::DType;

fn spec(name: &str, dims: &[usize], init: Init, decay: bool, trainable: bool) -> ParamSpec {
    ParamSpec { name: name.to_owned(), dims: dims.to_vec(), init, decay, trainable }
}

const DRAW: Init = Init::Normal { mean: 0.0, std: 0.5 };

/// An encoder with an average, a head, a scale to be bounded, a frozen table; names out of the order of memory.
fn model() -> Vec<ParamSpec> {
    let copy = |name: &str| Init::CopyOf(name.to_owned());
    vec![
        spec("target.bias", &[7], copy("encoder.bias"), false, false),
        spec("head.weight", &[3, 5], DRAW, true, true),
        spec("encoder.weight", &[4, 3, 7], DRAW, true, true),
        spec("encoder.mask", &[7], DRAW, false, true),
        spec("encoder.bias", &[7], DRAW, false, true),
        spec("table", &[9, 6], Init::NormalRowZero, true, false),
        spec("encoder.norm", &[130], Init::Constant(1.0), false, true),
        spec("target.weight", &[4, 3, 7], copy("encoder.weight"), true, false),
        spec("scale", &[], Init::Constant(4.5), false, true),
        spec("target.norm", &[130], copy("encoder.norm"), false, false),
    ]
}

fn pairs() -> Vec<(String, String)> {
    ["weight", "bias", "norm"].map(|end| (format!("target.{end}"), format!("encoder.{end}"))).to_vec()
}

const BOUNDS: &[(&str, f32, f32)] = &[("scale", 0.0, 4.6)];

/// A gradient that changes with step, parameter and element; large enough at some steps to be clipped.
fn gradient(step: usize, param: usize, element: usize) -> f32 {
    let phase = (step * 37 + param * 11 + element * 5) % 23;
    (phase as f32 - 11.0) * if step.is_multiple_of(3) { 0.03 } else { 0.001 }
}

/// Adds `factor` times the gradients of `step` to the slots, as a backward pass does.
fn put_gradients(set: &ParamSet, step: usize, factor: f32) {
    for (p, param) in set.params().iter().enumerate() {
        if let Some(slot) = &param.grad {
            let values: Vec<f32> = (0..param.shape.elements()).map(|i| factor * gradient(step, p, i)).collect();
            slot.write_f32(&values).unwrap();
        }
    }
}

fn inputs(step: usize) -> StepInputs {
    StepInputs { seed: 1, step: step as u32, lr: 0.01 * step as f64, ema: 0.9 }
}

/// One step with the gradients of `step` under the optimiser's loss scale and `micro` micro-batches.
fn advance(set: &ParamSet, optimiser: &AdamW, step: usize, micro: usize) {
    set.zero_gradients().unwrap();
    let scale = optimiser.loss_scale().to_f32().unwrap()[0];
    put_gradients(set, step, scale * micro as f32);
    optimiser.step(&inputs(step).tensor(set.context()).unwrap()).unwrap();
}

/// Weights and moments of a model in f64, moved by the text of the specification.
struct Reference {
    weights: Vec<Vec<f64>>,
    m: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
    k: i32,
}

impl Reference {
    fn new(set: &ParamSet) -> Self {
        let weights: Vec<Vec<f64>> =
            set.read().unwrap().into_iter().map(|(_, _, v)| v.into_iter().map(f64::from).collect()).collect();
        let zeros: Vec<Vec<f64>> = weights.iter().map(|w| vec![0.0; w.len()]).collect();
        Self { weights, m: zeros.clone(), v: zeros, k: 0 }
    }

    /// Returns the norm.
    fn step(&mut self, specs: &[ParamSpec], step: usize, config: &AdamWConfig) -> f64 {
        let trained: Vec<usize> = (0..specs.len()).filter(|p| specs[*p].trainable).collect();
        let mut squares = 0.0;
        for &p in &trained {
            squares += (0..self.weights[p].len()).map(|i| f64::from(gradient(step, p, i)).powi(2)).sum::<f64>();
        }
        let norm = squares.sqrt();
        let shrink = if config.clip > 0.0 { (config.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let StepInputs { lr, ema, .. } = inputs(step);
        self.k += 1;
        for &p in &trained {
            for i in 0..self.weights[p].len() {
                let g = shrink * f64::from(gradient(step, p, i));
                let (w, m, v) = (&mut self.weights[p][i], &mut self.m[p][i], &mut self.v[p][i]);
                if specs[p].decay {
                    *w *= 1.0 - lr * config.weight_decay;
                }
                *m = config.beta1 * *m + (1.0 - config.beta1) * g;
                *v = config.beta2 * *v + (1.0 - config.beta2) * g * g;
                let mean = *m / (1.0 - config.beta1.powi(self.k));
                let root = (*v / (1.0 - config.beta2.powi(self.k))).sqrt();
                *w -= lr * mean / (root + config.eps);
            }
        }
        let at = |name: &str| specs.iter().position(|spec| spec.name == name).unwrap();
        for (name, low, high) in BOUNDS {
            self.weights[at(name)].iter_mut().for_each(|w| *w = w.clamp(f64::from(*low), f64::from(*high)));
        }
        for (average, source) in pairs() {
            let source = self.weights[at(&source)].clone();
            let average = self.weights[at(&average)].iter_mut();
            average.zip(source).for_each(|(a, s)| *a = ema * *a + (1.0 - ema) * s);
        }
        norm
    }
}

/// Limits so small that every section falls into several arenas, and the largest parameter into several launches.
fn cramped(context: &Context) -> Capabilities {
    Capabilities { max_binding: 4 * 128, ..context.capabilities().clone() }
}

/// Largest difference of weights and of moments from the reference, relative to 1 + |reference|.
fn difference(set: &ParamSet, reference: &Reference) -> f64 {
    let mut worst = 0.0f64;
    let mut compare = |got: &[f32], want: &[f64]| {
        for (got, want) in got.iter().zip(want) {
            worst = worst.max((f64::from(*got) - want).abs() / (1.0 + want.abs()));
        }
    };
    for ((_, _, got), want) in set.read().unwrap().iter().zip(&reference.weights) {
        compare(got, want);
    }
    let moments = set.read_moments().unwrap();
    for (p, param) in set.params().iter().enumerate().filter(|(_, param)| param.is_trained()) {
        for (prefix, want) in [("m", &reference.m), ("v", &reference.v)] {
            let name = format!("{prefix}.{}", param.name);
            compare(&moments.iter().find(|(n, ..)| *n == name).unwrap().2, &want[p]);
        }
    }
    worst
}

#[test]
fn ten_steps_follow_the_formulas() {
    let plain = AdamWConfig::default();
    let cases = [
        ("defaults", DType::F32, plain, false),
        ("no clipping", DType::F32, AdamWConfig { clip: 0.0, ..plain }, false),
        ("tight clipping", DType::F32, AdamWConfig { clip: 0.05, ..plain }, false),
        ("strong decay", DType::F32, AdamWConfig { weight_decay: 0.9, ..plain }, false),
        ("micro-batches", DType::F32, AdamWConfig { micro_batches: 3, ..plain }, false),
        ("other betas", DType::F32, AdamWConfig { beta1: 0.8, beta2: 0.99, eps: 1e-4, ..plain }, false),
        ("halves", DType::F16, AdamWConfig { dynamic_loss_scale: true, micro_batches: 2, ..plain }, false),
        ("many arenas", DType::F32, plain, true),
        ("many arenas, halves", DType::F16, AdamWConfig { dynamic_loss_scale: true, ..plain }, true),
    ];
    let mut failed = Vec::new();
    for (name, precision, config, small) in cases {
        let context = Context::cpu();
        let limits = if small { cramped(&context) } else { context.capabilities().clone() };
        let set = ParamSet::build_within(&context, &model(), precision, 5, &limits).unwrap();
        let optimiser = AdamW::new(&set, &config, BOUNDS, &pairs()).unwrap();
        let mut reference = Reference::new(&set);
        for step in 1..=10 {
            advance(&set, &optimiser, step, config.micro_batches);
            let norm = reference.step(&model(), step, &config);
            let control = optimiser.control().unwrap();
            let (off, k) = (difference(&set, &reference), control.updates);
            if off > 3e-6 || (f64::from(control.norm) - norm).abs() > 1e-5 * norm || k != step as u32 || control.skip {
                failed.push(format!("{name}, step {step}: off {off:e}, norm {} for {norm}, k {k}", control.norm));
            }
        }
        for param in set.params().iter().filter(|param| param.working.dtype() == DType::F16) {
            let (value, copy) = (param.value.to_f32().unwrap(), param.working.to_f32().unwrap());
            if value.iter().zip(&copy).any(|(v, c)| half::f16::from_f32(*v).to_f32() != *c) {
                failed.push(format!("{name}: the copy of {} is stale", param.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// All bytes of values, copies and moments, gaps between parameters included.
fn bytes(set: &ParamSet) -> Vec<Vec<u8>> {
    let arena = |arena: &crate::nn::Arena| {
        let moments = arena.state.as_ref().map(|s| [s.m.clone(), s.v.clone()]);
        let all = [Some(arena.values.clone()), arena.halves.clone()].into_iter().flatten();
        all.chain(moments.into_iter().flatten()).collect::<Vec<_>>()
    };
    set.arenas().iter().flat_map(arena).map(|tensor| tensor.to_bytes().unwrap()).collect()
}

#[test]
fn a_bad_gradient_skips_the_step_and_nothing_else() {
    let mut failed = Vec::new();
    for (bad, precision) in
        [(f32::NAN, DType::F32), (f32::INFINITY, DType::F16), (f32::NEG_INFINITY, DType::F32), (f32::NAN, DType::F16)]
    {
        let context = Context::cpu();
        let set = ParamSet::build(&context, &model(), precision, 5).unwrap();
        let dynamic = precision == DType::F16;
        let config = AdamWConfig { dynamic_loss_scale: dynamic, ..Default::default() };
        let optimiser = AdamW::new(&set, &config, BOUNDS, &pairs()).unwrap();
        advance(&set, &optimiser, 1, 1);
        let (before, then) = (bytes(&set), optimiser.control().unwrap());
        let slot = set.get("encoder.bias").unwrap().grad.clone().unwrap();
        slot.write_f32(&[0.0, 0.0, 0.0, bad, 0.0, 0.0, 0.0]).unwrap();
        optimiser.step(&inputs(2).tensor(&context).unwrap()).unwrap();
        let now = optimiser.control().unwrap();
        let scale = if dynamic { then.loss_scale / 2.0 } else { 1.0 };
        let wanted =
            Control { loss_scale: scale, good_steps: 0, skip: true, norm: 0.0, multiplier: 0.0, skipped: 1, ..then };
        if bytes(&set) != before {
            failed.push(format!("{bad} {precision}: a skipped step changed something"));
        }
        if now.norm.is_finite() || (Control { norm: 0.0, ..now }) != wanted {
            failed.push(format!("{bad} {precision}: {now:?}, expected {wanted:?} and no finite norm"));
        }
        if optimiser.loss_scale().to_f32().unwrap() != [scale] {
            failed.push(format!("{bad} {precision}: the next backward pass would not begin with {scale}"));
        }
        advance(&set, &optimiser, 3, 1);
        let after = optimiser.control().unwrap();
        if after.updates != 2 || after.skip || after.good_steps != 1 || bytes(&set) == before {
            failed.push(format!("{bad} {precision}: does not go on after a skipped step: {after:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_loss_scale_doubles_after_200_good_steps() {
    let specs = [spec("w", &[3], DRAW, true, true)];
    let mut failed = Vec::new();
    for (dynamic, table) in [
        (true, [(199, 32768.0), (200, 65536.0), (399, 65536.0), (400, 131_072.0)]),
        (false, [(199, 1.0), (200, 1.0), (399, 1.0), (400, 1.0)]),
    ] {
        let set = ParamSet::build(&Context::cpu(), &specs, DType::F32, 1).unwrap();
        let config = AdamWConfig { dynamic_loss_scale: dynamic, ..Default::default() };
        let optimiser = AdamW::new(&set, &config, &[], &[]).unwrap();
        let schedule = inputs(1).tensor(set.context()).unwrap();
        for step in 1..=400 {
            optimiser.step(&schedule).unwrap();
            let scale = optimiser.loss_scale().to_f32().unwrap()[0];
            let wanted = table.iter().find(|(at, _)| *at == step);
            if wanted.is_some_and(|(_, want)| *want != scale) {
                failed.push(format!("dynamic {dynamic}, after {step} steps: {scale}, expected {wanted:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn frozen_parameters_keep_their_bytes_and_do_not_count() {
    let mut specs = model();
    for spec in specs.iter_mut().filter(|spec| spec.name.starts_with("encoder") || spec.name == "scale") {
        spec.trainable = false;
    }
    let config = AdamWConfig { clip: 0.05, ..Default::default() };
    let set = ParamSet::build(&Context::cpu(), &specs, DType::F16, 5).unwrap();
    let optimiser = AdamW::new(&set, &config, BOUNDS, &[]).unwrap();
    let mut reference = Reference::new(&set);
    let before = bytes(&set);
    for step in 1..=4 {
        advance(&set, &optimiser, step, 1);
        let norm = reference.step(&specs, step, &config);
        let got = f64::from(optimiser.control().unwrap().norm);
        assert!((got - norm).abs() <= 1e-5 * norm, "step {step}: norm {got}, expected {norm} of the head alone");
    }
    let sections = set.arenas().iter().flat_map(|arena| {
        std::iter::repeat_n(
            arena.section,
            1 + usize::from(arena.halves.is_some()) + 2 * usize::from(arena.state.is_some()),
        )
    });
    let mut failed = Vec::new();
    for ((section, before), after) in sections.zip(&before).zip(&bytes(&set)) {
        if section.is_trained() == (before == after) {
            failed.push(section);
        }
    }
    assert!(failed.is_empty(), "frozen but changed, or trained but not: {failed:?}");
    assert!(set.arenas().iter().any(|arena| arena.section == Section::Frozen), "the case must have frozen arenas");
}

#[test]
fn a_step_takes_at_most_eight_launches() {
    let context = Context::dry(None);
    let set = ParamSet::build(&context, &model(), DType::F16, 1).unwrap();
    let optimiser = AdamW::new(&set, &AdamWConfig::default(), BOUNDS, &pairs()).unwrap();
    let schedule = inputs(1).tensor(&context).unwrap();
    let before = context.counters().launches;
    optimiser.step(&schedule).unwrap();
    let launches = context.counters().launches - before;
    assert!(launches <= 8, "{launches} launches: sums, control, two updates, a bound, two averages");
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    for precision in [DType::F32, DType::F16] {
        let config = AdamWConfig { dynamic_loss_scale: precision == DType::F16, ..Default::default() };
        let fresh = |seed| {
            let set = ParamSet::build(&Context::cpu(), &model(), precision, seed).unwrap();
            let optimiser = AdamW::new(&set, &config, BOUNDS, &pairs()).unwrap();
            (set, optimiser)
        };
        let (set, optimiser) = fresh(5);
        (1..=3).for_each(|step| advance(&set, &optimiser, step, 1));
        let (other, resumed) = fresh(6);
        other.load(&set.read().unwrap()).unwrap();
        other.load_moments(&set.read_moments().unwrap()).unwrap();
        resumed.set_state(&optimiser.state().unwrap()).unwrap();
        assert_eq!(bytes(&set), bytes(&other), "{precision}: what was loaded");
        for step in 4..=5 {
            advance(&set, &optimiser, step, 1);
            advance(&other, &resumed, step, 1);
        }
        assert_eq!(bytes(&set), bytes(&other), "{precision}: two steps later");
        assert_eq!(optimiser.control().unwrap(), resumed.control().unwrap(), "{precision}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let set = ParamSet::build(&Context::cpu(), &model(), DType::F32, 5).unwrap();
    let plain = AdamWConfig::default();
    let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
    let cases = [
        ("beta1 of 1", AdamW::new(&set, &AdamWConfig { beta1: 1.0, ..plain }, &[], &[])),
        ("eps of 0", AdamW::new(&set, &AdamWConfig { eps: 0.0, ..plain }, &[], &[])),
        ("clip of NaN", AdamW::new(&set, &AdamWConfig { clip: f64::NAN, ..plain }, &[], &[])),
        ("no micro-batch", AdamW::new(&set, &AdamWConfig { micro_batches: 0, ..plain }, &[], &[])),
        ("unknown bound", AdamW::new(&set, &plain, &[("scales", 0.0, 1.0)], &[])),
        ("unknown average", AdamW::new(&set, &plain, &[], &pair("target.wait", "encoder.weight"))),
        ("other shape", AdamW::new(&set, &plain, &[], &pair("target.bias", "encoder.norm"))),
        ("trained average", AdamW::new(&set, &plain, &[], &pair("encoder.mask", "encoder.bias"))),
        ("one buffer", AdamW::new(&set, &plain, &[], &pair("target.bias", "target.bias"))),
    ];
    let accepted: Vec<_> = cases.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| name).collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
    let frozen = [spec("w", &[3], DRAW, true, false)];
    let frozen = ParamSet::build(&Context::cpu(), &frozen, DType::F32, 1).unwrap();
    assert!(AdamW::new(&frozen, &plain, &[], &[]).is_err(), "nothing to train");
    let optimiser = AdamW::new(&set, &plain, &[], &[]).unwrap();
    assert!(optimiser.set_state(&[0; 16]).is_err(), "a loss scale of 0");
    assert!(optimiser.set_state(&Control::new(1.0).to_words()[..15]).is_err(), "15 words");
}
