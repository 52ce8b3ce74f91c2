//! Where parameters lie, what they begin with, what is refused.

use super::layout::{ALIGN, plan};
use super::{Entry, Init, ParamSet, ParamSpec, Section};
use crate::device::{Capabilities, Context};
use crate::kernels::samples;
use crate::ops;
use crate::shape::DType;
use crate::tape::{Tape, Written};
use crate::tensor::Tensor;

fn spec(name: &str, dims: &[usize], init: Init, decay: bool, trainable: bool) -> ParamSpec {
    ParamSpec { name: name.to_owned(), dims: dims.to_vec(), init, decay, trainable }
}

const DRAW: Init = Init::Normal { mean: 0.0, std: 0.02 };

fn limits(max_binding: u64, max_buffer: u64) -> Capabilities {
    Capabilities { max_binding, max_buffer, ..Context::cpu().capabilities().clone() }
}

fn model() -> Vec<ParamSpec> {
    let copy = |name: &str| Init::CopyOf(name.to_owned());
    vec![
        spec("a", &[3, 5], DRAW, true, true),
        spec("b", &[129], DRAW, false, true),
        spec("c", &[2, 64], DRAW, true, false),
        spec("d", &[], Init::Constant(2.5), false, true),
        spec("e", &[5, 3, 2, 8], DRAW, true, true),
        spec("copy of e", &[5, 3, 2, 8], copy("e"), true, false),
        spec("table", &[4, 6], Init::NormalRowZero, true, false),
        spec("copy of b", &[129], copy("b"), false, false),
    ]
}

#[test]
fn windows_are_aligned_disjoint_and_within_limits() {
    let mut failed = Vec::new();
    for (binding, buffer) in [(1 << 31, 1 << 40), (4 * 256, 1 << 40), (4 * 128, 4 * 288), (1 << 27, (1 << 31) - 1)] {
        let specs = model();
        let layout = plan(&specs, &limits(binding, buffer)).unwrap();
        for (spec, (place, shape)) in specs.iter().zip(layout.places.iter().zip(&layout.shapes)) {
            let (section, length) = layout.arenas[place.arena];
            let alone = place.offset == 0 && place.length == length;
            let fits =
                place.offset % ALIGN == 0 && place.length >= shape.stored() && place.offset + place.length <= length;
            if !fits || 4 * length as u64 > buffer || (4 * length as u64 > binding && !alone) {
                failed.push(format!("limits {binding} {buffer}: {} at {place:?} in {length}", spec.name));
            }
            if section.is_trained() != spec.trainable || (section == Section::Decayed && !spec.decay) {
                failed.push(format!("{} lies in {section:?}", spec.name));
            }
        }
        let mut ranges: Vec<_> = layout.places.iter().map(|p| (p.arena, p.offset, p.offset + p.length)).collect();
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
            failed.push(format!("limits {binding} {buffer}: overlap in {ranges:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_parameter_larger_than_any_buffer_is_refused() {
    let error = plan(&model(), &limits(4 * 128, 4 * 144)).unwrap_err().to_string();
    assert!(error.contains("parameter") && error.contains("expansion"), "{error}");
}

#[test]
fn bad_specifications_are_refused() {
    let copy = |name: &str| Init::CopyOf(name.to_owned());
    let cases = [
        ("twice", vec![spec("a", &[3], DRAW, true, true), spec("a", &[3], DRAW, true, true)]),
        ("copy of nothing", vec![spec("a", &[3], copy("b"), true, false)]),
        ("copy of itself", vec![spec("a", &[3], copy("a"), true, false)]),
        ("copy of another shape", vec![spec("a", &[3], DRAW, true, true), spec("b", &[4], copy("a"), true, false)]),
        ("no element", vec![spec("a", &[3, 0], DRAW, true, true)]),
        ("five axes", vec![spec("a", &[1, 1, 1, 1, 1], DRAW, true, true)]),
    ];
    let context = Context::cpu();
    let accepted: Vec<_> = cases
        .iter()
        .filter(|(_, specs)| ParamSet::build(&context, specs, DType::F32, 1).is_ok())
        .map(|(name, _)| name)
        .collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

#[test]
fn values_do_not_depend_on_the_layout() {
    let context = Context::cpu();
    let whole = ParamSet::build(&context, &model(), DType::F32, 3).unwrap();
    let cut = ParamSet::build_within(&context, &model(), DType::F32, 3, &limits(4 * 128, 4 * 288)).unwrap();
    assert_eq!(whole.read().unwrap(), cut.read().unwrap());
    let fewer: Vec<_> = model().into_iter().filter(|spec| spec.name != "a").collect();
    let fewer = ParamSet::build(&context, &fewer, DType::F32, 3).unwrap();
    assert_eq!(whole.read().unwrap()[1..], fewer.read().unwrap(), "without one parameter the others stay");
    let value = |name: &str| whole.get(name).unwrap().value.to_f32().unwrap();
    assert_eq!((value("copy of e"), value("copy of b"), value("d")), (value("e"), value("b"), vec![2.5]));
    assert!(value("a").iter().all(|v| *v != 0.0 && v.abs() < 0.2), "{:?}", value("a"));
}

#[test]
fn gradients_are_cleared_and_belong_to_trained_parameters_alone() {
    let set = ParamSet::build(&Context::cpu(), &model(), DType::F32, 3).unwrap();
    let with: Vec<_> = set.params().iter().filter(|param| param.grad.is_some()).map(|param| &*param.name).collect();
    assert_eq!(with, ["a", "b", "d", "e"]);
    let slot = set.get("b").unwrap().grad.clone().unwrap();
    slot.write_f32(&[3.0; 129]).unwrap();
    set.zero_gradients().unwrap();
    assert_eq!(slot.to_f32().unwrap(), [0.0; 129]);
}

/// A pass over slots with something in them leaves the gradients of a pass over zeros: whether a rule writes the slot, adds rows to
/// it, or knows nothing of it, and where no gradient comes at all.
#[test]
fn what_an_earlier_pass_left_does_not_count() {
    let specs = [
        spec("table", &[5, 8], DRAW, true, true),
        spec("weight", &[3, 8], DRAW, true, true),
        spec("bias", &[3], DRAW, false, true),
        spec("scale", &[], Init::Constant(0.5), false, true),
        spec("unused", &[7], DRAW, false, true),
    ];
    let ctx = Context::cpu();
    let gradients = |stale: bool, clear: bool| {
        let set = ParamSet::build(&ctx, &specs, DType::F32, 3).unwrap();
        let slots: Vec<_> = set.params().iter().filter_map(|param| param.grad.clone()).collect();
        if stale {
            slots.iter().for_each(|slot| slot.write_f32(&vec![3.0; slot.shape().elements()]).unwrap());
        }
        let written = Written::default();
        let mut tape = if stale { Tape::overwriting(&ctx, &written) } else { Tape::new(&ctx) };
        let [table, weight, bias, scale] =
            ["table", "weight", "bias", "scale"].map(|name| set.get(name).unwrap().var(&mut tape));
        let ids = Tensor::from_u32(&ctx, &[2, 2], &[3, 0, 3, 4]).unwrap();
        let x = ops::embedding::embedding(&mut tape, &table, &ids).unwrap();
        let y = ops::linear::linear(&mut tape, &x, &weight, Some(&bias)).unwrap();
        let y = ops::exp_scale::exp_scale(&mut tape, &y, &scale).unwrap();
        let seed = samples::normal(&ctx, &[2, 2, 3], DType::F32, 1).unwrap();
        tape.backward(&y, &seed).unwrap();
        if clear {
            set.zero_gradients_but(&written).unwrap();
        }
        slots.iter().map(|slot| slot.to_f32().unwrap()).collect::<Vec<_>>()
    };
    let want = gradients(false, false);
    assert!(want[..4].iter().all(|slot| slot.iter().any(|g| g.abs() > 1e-6)), "{want:?}");
    assert_eq!(gradients(true, true), want);
    // Without the last step the parameter that is not used has kept what it had.
    assert_ne!(gradients(true, false), want);
}

#[test]
fn loading_is_strict() {
    let set = ParamSet::build(&Context::cpu(), &model(), DType::F16, 3).unwrap();
    let good = set.read().unwrap();
    let edit = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = good.clone();
        entries.iter_mut().for_each(|(_, _, values)| values.iter_mut().for_each(|v| *v += 1.0));
        change(&mut entries);
        entries
    };
    let cases = [
        ("missing", edit(&|e| drop(e.remove(2))), "c missing"),
        ("unexpected", edit(&|e| e.push(("x".into(), vec![1], vec![0.0]))), "x unexpected"),
        ("twice", edit(&|e| e.push(e[0].clone())), "a given twice"),
        ("shape", edit(&|e| e[0].1 = vec![5, 3]), "a is [5, 3]"),
        ("count", edit(&|e| e[1].2.truncate(128)), "b is [129] with 128"),
    ];
    let mut failed = Vec::new();
    for (name, entries, want) in &cases {
        match set.load(entries) {
            Err(error) if error.to_string().contains(want) => {}
            other => failed.push(format!("{name}: {other:?}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(set.read().unwrap(), good, "a refused load changes nothing");
    set.load(&edit(&|entries| entries.reverse())).unwrap();
    let d = set.get("d").unwrap();
    assert_eq!((d.value.to_f32().unwrap(), d.working.to_f32().unwrap()), (vec![3.5], vec![3.5]));
    assert_eq!(d.working.to_f32_padded().unwrap(), [3.5, 0.0, 0.0, 0.0], "padding stays zero in the copy");
    assert!(set.get("tabel").unwrap_err().to_string().contains("`table`"), "a suggestion");
}

#[test]
fn what_never_changes_is_kept_as_halves_alone() {
    let mut specs = model();
    for spec in specs.iter_mut().filter(|spec| spec.name == "e") {
        spec.trainable = false;
    }
    let set = ParamSet::build(&Context::cpu(), &specs, DType::F16, 3).unwrap();
    let kept = |name: &str| {
        let arena = &set.arenas()[set.place(name).unwrap().arena];
        (arena.section, arena.values.dtype(), arena.halves.is_some())
    };
    assert_eq!(kept("table"), (Section::Constant, DType::F16, false));
    assert_eq!(kept("e"), (Section::Frozen, DType::F32, true), "an average follows it, in f32");
    assert_eq!(kept("copy of e"), (Section::Copies, DType::F32, true));
    assert_eq!(kept("a"), (Section::Decayed, DType::F32, true));
    // What is read back is what was loaded, rounded to a half; and loading that changes nothing.
    let values: Vec<f32> = (0..24).map(|i| 0.1 * i as f32).collect();
    set.set("table", &values).unwrap();
    let rounded: Vec<f32> = values.iter().map(|v| half::f16::from_f32(*v).to_f32()).collect();
    let read = |set: &ParamSet| set.read().unwrap().into_iter().find(|(name, ..)| name == "table").unwrap().2;
    assert_eq!(read(&set), rounded);
    assert_ne!(rounded, values, "the case must round");
    let all = set.read().unwrap();
    set.load(&all).unwrap();
    assert_eq!(set.read().unwrap(), all);
    // In f32 nothing is rounded.
    let whole = ParamSet::build(&Context::cpu(), &specs, DType::F32, 3).unwrap();
    whole.set("table", &values).unwrap();
    assert_eq!(read(&whole), values);
}
