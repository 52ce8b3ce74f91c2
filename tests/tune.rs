//! Measured choices: tables and what is refused, wrong variants, runs that keep their table.
#![cfg(feature = "cli")]

mod common;

use std::path::Path;
use std::process::Command;

use mmae::bench::cases::TINY;
use mmae::bench::clock::{Clock, Effort, Reading};
use mmae::bench::tune::{Finding, tune};
use mmae::device::{Capabilities, Storage, Tuning};
use mmae::train::tuning::{Table, cache_path, merged};
use mmae::{Context, DType, Result};

#[test]
fn a_table_comes_back_and_a_wrong_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/table.json");
    let ctx = Context::cpu();
    let choices = Tuning::from([("NT f32 8 32 32".to_owned(), "registers 4x4x8".to_owned())]);
    let table = Table::new(&ctx, choices);
    table.save(&path).unwrap();
    assert_eq!(Table::load(&ctx, &path).unwrap(), table);

    let whole = std::fs::read_to_string(&path).unwrap();
    let other = Context::dry(Some(Capabilities { driver: "another".into(), ..ctx.capabilities().clone() }));
    let version = whole.replace(env!("CARGO_PKG_VERSION"), "0.0.0-other");
    let cases = [
        (&other, whole.clone(), "another device or version"),
        (&ctx, whole.replace("4x4x8", "4x2x8"), "is damaged"),
        (&ctx, version, "is damaged"),
        (&ctx, whole[..whole.len() / 2].to_owned(), "is no table"),
        (&ctx, String::new(), "is no table"),
    ];
    let mut wrong = Vec::new();
    for (ctx, text, want) in cases {
        std::fs::write(&path, text).unwrap();
        let said = Table::load(ctx, &path).map_or_else(|e| e.to_string(), |_| "accepted".into());
        if !said.contains(want) || !said.contains("mmae tune") {
            wrong.push(format!("{want}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Reads products with one block of rows and two cells, and attention with blocks of 16, as ten times faster than they deserve.
struct Liar<'a>(&'a Context);

impl Clock for Liar<'_> {
    fn time(&self, count: usize, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<Reading> {
        let ((), launches) = self.0.traced(|| (0..count).try_for_each(work))?;
        let is = |name, value| launches.iter().all(|l| l.constants.contains(&(name, value)));
        let favoured = is("BLOCKS", 1.0) && is("CELLS", 2.0) || is("KEYS", 16.0) || is("QUERIES", 16.0);
        let each = if favoured { 1e-3 } else { 1e-2 };
        Ok(Reading { gpu: None, wall: each * count as f64 })
    }
}

#[test]
fn a_wrong_variant_is_not_chosen() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let shapes = mmae::bench::cases::Shapes { squares: &[], ..TINY };
    let effort = Effort { rounds: 3, least: 0.0 };
    let run = || {
        let mut findings: Vec<Finding> = Vec::new();
        let won = tune(&ctx, &Liar(&ctx), effort, &shapes, &[DType::F32], &mut |f| findings.push(f.clone())).unwrap();
        (won, findings)
    };
    let (won, findings) = run();
    assert!(findings.len() > 5 && findings.iter().all(|f| f.wrong.is_empty()), "{findings:?}");
    assert_eq!(won.len(), findings.len(), "the fastest is kept: {findings:?}");
    let batches = won.keys().filter(|class| class.ends_with(" x4")).count();
    assert_eq!(batches, 3, "the products of a dense expansion of four positions: {won:?}");
    let favoured = |class: &str| if class.starts_with("attention") { "registers 4x16x8" } else { "registers 1x2x" };
    assert!(won.iter().all(|(class, name)| name.starts_with(favoured(class))), "{won:?}");
    assert!(ctx.tuning().is_empty(), "the context is as before");

    let always_first = "load_b(b_base, column, select(k, k % vec4(4u), vec4(BLOCKS == 1u && CELLS == 2u)))";
    ctx.plant_fault(Some(("matmul", "load_b(b_base, column, k)", always_first)));
    let (won, findings) = run();
    ctx.plant_fault(None);
    let noticed = |f: &Finding| f.wrong.iter().any(|(name, _)| name.starts_with("registers 1x2x"));
    let product = |class: &str| !class.starts_with("attention");
    assert!(findings.iter().filter(|f| product(&f.class)).all(noticed), "{findings:?}");
    assert!(!won.keys().any(|class| product(class)), "no other variant is faster: {won:?}");
}

#[test]
fn a_run_replaces_what_it_measures_and_nothing_else() {
    let table = |choices: &[(&str, &str)]| choices.iter().map(|(c, v)| ((*c).to_owned(), (*v).to_owned())).collect();
    let before = table(&[("a", "old"), ("b", "old"), ("c", "old")]);
    // b and c were measured: another variant won for b, the rule for c.
    assert_eq!(merged(before, &["b", "c"], table(&[("b", "new")])), table(&[("a", "old"), ("b", "new")]));
}

fn mmae(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmae"));
    let output = command.args(args).current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { String::new() } else { format!("error {:?} {stderr}", output.status.code()) }
}

/// The smallest model.
const SETTINGS: [&str; 7] = [
    "model.image_size=16",
    "model.width=8",
    "model.text_embed=4",
    "model.text_width=4",
    "model.latent=8",
    "model.vocab=64",
    "model.text_length=4",
];

fn weights(folder: &Path, run: &str) -> Vec<u8> {
    std::fs::read(folder.join(run).join("checkpoints/step-000004/optimizer.safetensors")).unwrap()
}

#[test]
fn a_tuned_run_goes_on_by_its_own_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("data")).unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([200, 0, 0])).save(at.join("data/0.png")).unwrap();
    std::fs::write(at.join("data/captions.csv"), "file,caption\n0.png,red\n").unwrap();
    let ctx = common::gpu(Storage::F16Packed, false).unwrap_or_else(Context::cpu);
    let device = ctx.capabilities().adapter.clone();
    let device = if ctx.is_cpu() { "cpu" } else { device.as_str() };
    // The cache lies where the environment of the command says: only its last two parts come from here.
    let known = cache_path(ctx.capabilities()).unwrap();
    let cached = at.join("cache/mmae").join(known.file_name().unwrap());
    let table = |choice: &str| {
        let classes = ["NT", "NN", "TN"].into_iter().flat_map(|form| {
            let sizes = (0..6).flat_map(|m| (0..6).flat_map(move |n| (0..6).map(move |k| [m, n, k])));
            sizes.map(move |[m, n, k]| format!("{form} f32 {} {} {}", 1 << m, 1 << n, 1 << k))
        });
        Table::new(&ctx, classes.map(|class| (class, choice.to_owned())).collect())
    };
    let mut settings = vec!["--device", device, "--model", "m2ae-tiny", "--data", "data", "--tuned"];
    for set in SETTINGS {
        settings.extend(["--set", set]);
    }
    settings.extend(["--set", "train.batch=1", "--set", "train.total_steps=4"]);
    let train =
        |run: &str, steps: &str| mmae(at, &[&["train", "--out", run, "--steps", steps], &settings[..]].concat());
    let tuning = |run: &str| {
        let text = std::fs::read_to_string(at.join(run).join("env.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["tuning"].clone()
    };

    let said = train("none", "4");
    assert!(said.contains("mmae tune") && !at.join("none").exists(), "without a table: {said}");
    let (first, second) = (table("registers 1x2x8"), table("registers 4x4x8"));
    first.save(&cached).unwrap();
    assert_eq!(train("whole", "4"), "");
    assert_eq!(train("parts", "2"), "");
    second.save(&cached).unwrap();
    assert_eq!(mmae(at, &["resume", "parts", "--steps", "4", "--device", device]), "");
    assert_eq!(tuning("parts"), serde_json::to_value(&first.choices).unwrap(), "the run's own table");
    assert!(weights(at, "parts") == weights(at, "whole"), "the same bytes as without a stop");
    // The cache's table would be taken by a new run, and a damaged copy stops the old one.
    assert_eq!(train("new", "1"), "");
    assert_eq!(tuning("new"), serde_json::to_value(&second.choices).unwrap());
    std::fs::write(at.join("parts/tuning.json"), "{").unwrap();
    let said = mmae(at, &["resume", "parts", "--steps", "5", "--device", device]);
    assert!(said.contains("tuning.json") && said.contains("train.tuned=false"), "{said}");
    let rule = ["resume", "parts", "--steps", "5", "--device", device, "--set", "train.tuned=false"];
    assert_eq!(mmae(at, &rule), "");
}
