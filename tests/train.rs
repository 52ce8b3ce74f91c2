//! Training runs in their folders: same bytes for the same seed, stopping and going on, bad numbers, memory that stays.
#![cfg(feature = "data")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use mmae::device::Storage;
use mmae::model::config::{ModelConfig, m2ae_tiny};
use mmae::train::config::{Precision, RunConfig};
use mmae::train::monitor::{Event, Log};
use mmae::train::plan::plan;
use mmae::train::run::{Run, Summary};
use mmae::{Context, Error, Result};

/// The device of this process, one test at a time; the twins where there is none.
fn device() -> MutexGuard<'static, Context> {
    static DEVICE: OnceLock<Mutex<Context>> = OnceLock::new();
    let open = || Mutex::new(common::gpu(Storage::F16Packed, false).unwrap_or_else(Context::cpu));
    DEVICE.get_or_init(open).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Images of one colour with a white square, and captions that say where and which.
fn data(folder: &Path, samples: usize) -> PathBuf {
    let path = folder.join("data");
    std::fs::create_dir_all(&path).unwrap();
    let colours = [("red", [220, 30, 30]), ("green", [30, 180, 60]), ("blue", [40, 60, 220])];
    let mut table = "file,caption\n".to_owned();
    for i in 0..samples {
        let (name, rgb) = colours[i % 3];
        let (left, top) = (i as u32 % 4 * 4, i as u32 / 4 % 4 * 4);
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let inside = (left..left + 4).contains(&x) && (top..top + 4).contains(&y);
            image::Rgb(if inside { [255; 3] } else { rgb })
        });
        picture.save(path.join(format!("{i}.png"))).unwrap();
        table += &format!("{i}.png,{name} at {left} {top}\n");
    }
    std::fs::write(path.join("captions.csv"), table).unwrap();
    path
}

/// The smallest model with every part of a large one, at 20 steps.
fn config(data: &Path) -> RunConfig {
    let model = ModelConfig {
        image_size: 16,
        width: 16,
        heads: 2,
        text_length: 6,
        text_embed: 8,
        text_width: 8,
        text_heads: 2,
        latent: 16,
        vocab: 300,
        ..m2ae_tiny()
    };
    let mut config = RunConfig::new(model);
    config.data.path = data.display().to_string();
    config.data.workers = 2;
    config.train.steps = 20;
    config.train.batch = 4;
    config.train.lr = 2e-3;
    config.train.seed = 7;
    config
}

fn create(ctx: &Context, root: &Path, config: &RunConfig) -> Result<Run> {
    Run::create(ctx, root, config.clone(), false, &mut |_| {})
}

fn go_on(run: &mut Run, stop: u64) -> Result<Summary> {
    run.train(stop, &AtomicBool::new(false), &mut |_| {})
}

fn train(ctx: &Context, root: &Path, config: &RunConfig, stop: u64) -> Result<Summary> {
    go_on(&mut create(ctx, root, config)?, stop)
}

fn resume(ctx: &Context, root: &Path, stop: u64) -> Result<Summary> {
    go_on(&mut Run::resume(ctx, root, &[], &mut |_| {})?, stop)
}

/// The files of the checkpoint after `step` steps.
fn checkpoint(root: &Path, step: u64) -> BTreeMap<String, Vec<u8>> {
    let folder = root.join("checkpoints").join(format!("step-{step:06}"));
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    files
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// Which files differ.
fn differences(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    assert_eq!(a.len(), 3, "{:?}", a.keys());
    let names = a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_stopped_or_not() {
    let ctx = device();
    let cases = [(Precision::F32, 1), (Precision::F16, 2)];
    let mut wrong = Vec::new();
    for (precision, micro_batches) in cases {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut config = config(&data(folder.path(), 10));
        (config.train.precision, config.train.micro_batches) = (precision, micro_batches);
        train(&ctx, &at("a"), &config, 20).unwrap();
        train(&ctx, &at("b"), &config, 20).unwrap();
        train(&ctx, &at("c"), &config, 10).unwrap();
        assert_eq!(resume(&ctx, &at("c"), 20).unwrap().step, 20);
        config.train.seed += 1;
        train(&ctx, &at("d"), &config, 20).unwrap();
        let whole = checkpoint(&at("a"), 20);
        for (name, want) in [("b", 0), ("c", 0), ("d", 3)] {
            let differ = differences(&whole, &checkpoint(&at(name), 20));
            if differ.len() != want {
                wrong.push(format!("{precision:?} x {micro_batches}, run {name}: {differ:?}, expected {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_interrupted_run_leaves_a_checkpoint_and_goes_on() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let (config, at) = (config(&data(folder.path(), 5)), |name: &str| folder.path().join(name));
    let interrupted = AtomicBool::new(false);
    let mut run = create(&ctx, &at("a"), &config).unwrap();
    let stopped = run.train(6, &interrupted, &mut |event| {
        if let Event::Step { step: 3, .. } = event {
            interrupted.store(true, Ordering::SeqCst);
        }
    });
    assert!(matches!(stopped, Err(Error::Interrupted { step: 3 })), "{stopped:?}");
    assert_eq!(run.dir.steps().unwrap(), [3]);
    drop(run);
    resume(&ctx, &at("a"), 6).unwrap();
    train(&ctx, &at("b"), &config, 6).unwrap();
    assert_eq!(differences(&checkpoint(&at("a"), 6), &checkpoint(&at("b"), 6)), [""; 0]);
}

#[test]
fn losses_fall_and_everything_is_written() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let (mut config, root) = (config(&data(folder.path(), 8)), folder.path().join("run"));
    config.train.steps = 60;
    (config.train.sample_every, config.train.checkpoint_every, config.train.keep_checkpoints) = (30, 10, 2);
    let mut logs: Vec<Log> = Vec::new();
    let mut run = create(&ctx, &root, &config).unwrap();
    run.train(60, &AtomicBool::new(false), &mut |event| {
        if let Event::Log(log) = event {
            logs.push(*log);
        }
    })
    .unwrap();
    let (first, last) = (logs[0].losses, logs[5].losses);
    assert_eq!(logs.iter().map(|log| log.step).collect::<Vec<_>>(), [10, 20, 30, 40, 50, 60]);
    assert!(last.total < 0.8 * first.total, "{first:?} to {last:?}");
    assert!(last.recon_image < 0.8 * first.recon_image, "{first:?} to {last:?}");
    // Sample pictures and checkpoints between must not make the pool grow.
    let pool: Vec<u64> = logs.iter().map(|log| log.pool_bytes).collect();
    assert!(pool[0] > 0 && pool.iter().all(|bytes| *bytes == pool[0]), "{pool:?}");
    assert_eq!(run.dir.steps().unwrap(), [50, 60]);
    let files = ["config.toml", "tokenizer.json", "env.json", "metrics.jsonl", "train.log", "loss.svg"];
    let pictures = ["samples/step-000030.png", "samples/step-000060.png"];
    let missing: Vec<_> = files.iter().chain(&pictures).filter(|name| !root.join(name).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let records = mmae::train::metrics::read(&run.dir.metrics_path()).unwrap();
    assert_eq!(records.iter().map(|record| record.step).collect::<Vec<_>>(), [10, 20, 30, 40, 50, 60]);
    assert_eq!(records[5].get("total"), Some(f64::from(last.total)));
}

#[test]
fn numbers_that_are_none_are_refused_and_the_good_checkpoint_stays() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let (mut config, root) = (config(&data(folder.path(), 5)), folder.path().join("run"));
    (config.train.log_every, config.train.checkpoint_every) = (1, 1);
    let mut run = create(&ctx, &root, &config).unwrap();
    go_on(&mut run, 2).unwrap();
    let good = checkpoint(&root, 2);
    run.trainer.model.params.set("bottleneck.bias", &[f32::NAN; 16]).unwrap();
    let message = run.checkpoint().unwrap_err().to_string();
    assert!(message.contains("bottleneck.bias is not finite at step 2"), "{message}");
    let refused = go_on(&mut run, 8);
    assert!(matches!(refused, Err(Error::NotFinite { step: 3, .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("mmae resume"));
    assert_eq!(run.dir.steps().unwrap(), [1, 2]);
    assert_eq!(differences(&good, &checkpoint(&root, 2)), [""; 0]);
    drop(run);
    assert_eq!(resume(&ctx, &root, 4).unwrap().step, 4);
}

/// With images alone as the loss, the mean gradient of two halves is the gradient of the whole.
#[test]
fn micro_batches_add_up_to_the_whole_batch() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&data(folder.path(), 8));
    (config.loss.jepa, config.loss.align, config.loss.recon_text) = (0.0, 0.0, 0.0);
    (config.train.hide_image, config.train.hide_text) = (0.0, 0.0);
    let mut norms = Vec::new();
    for (batch, micro_batches) in [(8, 1), (4, 2), (1, 8)] {
        (config.train.batch, config.train.micro_batches) = (batch, micro_batches);
        let mut run = create(&ctx, &folder.path().join(format!("{batch}")), &config).unwrap();
        go_on(&mut run, 1).unwrap();
        norms.push(run.trainer.control().unwrap().norm);
    }
    assert!(norms[0] > 1e-3 && norms.iter().all(|norm| (norm / norms[0] - 1.0).abs() < 1e-4), "{norms:?}");
}

#[test]
fn one_sample_or_half_a_sample_is_enough() {
    let ctx = device();
    let tables = [
        ("one pair", "file,caption\n0.png,red\n"),
        ("images alone", "file,caption\n0.png,\n1.png,\n"),
        ("captions alone", "file,caption\n,red\n,green\n"),
        ("a bad record among good ones", "file,caption\n0.png,red\nmissing.png,green\n1.png,green\n2.png,blue\n"),
    ];
    let mut wrong = Vec::new();
    for (what, table) in tables {
        let folder = tempfile::tempdir().unwrap();
        let path = data(folder.path(), 3);
        std::fs::write(path.join("captions.csv"), table).unwrap();
        let mut notes = Vec::new();
        let mut run = create(&ctx, &folder.path().join("run"), &config(&path)).unwrap();
        let outcome = run.train(3, &AtomicBool::new(false), &mut |event| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
        });
        match outcome {
            Ok(summary) if summary.last.losses.total.is_finite() => {}
            other => wrong.push(format!("{what}: {other:?}")),
        }
        let skipped = notes.iter().any(|note| note.contains("skipped a record") && note.contains("missing.png"));
        if skipped != table.contains("missing.png") {
            wrong.push(format!("{what}: {notes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_cannot_be_gone_on_with_is_said() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let (config, root) = (config(&data(folder.path(), 4)), folder.path().join("run"));
    let fresh = create(&ctx, &root, &config).map(|_| ()).and_then(|()| resume(&ctx, &root, 4).map(|_| ()));
    let again = create(&ctx, &root, &config).map(|_| ());
    let mut run = Run::create(&ctx, &root, config.clone(), true, &mut |_| {}).unwrap();
    go_on(&mut run, 3).unwrap();
    let fixed = Run::resume(&ctx, &root, &["train.batch=2".into()], &mut |_| {}).map(|_| ());
    let typo = Run::resume(&ctx, &root, &["train.lrr=2".into()], &mut |_| {}).map(|_| ());
    let past = resume(&ctx, &root, 2).map(|_| ());
    let nothing = resume(&ctx, &root, 3).map(|summary| assert_eq!(summary.step, 3));
    let longer = Run::resume(&ctx, &root, &["train.lr=1e-4".into()], &mut |_| {});
    assert!(nothing.is_ok() && longer.is_ok_and(|run| run.trainer.config().train.lr == 1e-4));
    std::fs::write(root.join("checkpoints/step-000003/optimizer.safetensors"), b"cut").unwrap();
    let damaged = resume(&ctx, &root, 9).map(|_| ());
    std::fs::remove_file(root.join("tokenizer.json")).unwrap();
    let cases = [
        ("no checkpoint yet", fresh, "no checkpoint yet"),
        ("folder in use", again, "--force"),
        ("fixed field", fixed, "cannot change in a run"),
        ("unknown field", typo, "did you mean `train.lr`"),
        ("already past", past, "has done 3 steps already"),
        ("damaged", damaged, "optimizer.safetensors: damaged or cut short"),
    ];
    let wrong: Vec<_> = cases
        .into_iter()
        .map(|(what, outcome, text)| (what, outcome.err().map(|e| e.to_string()).unwrap_or_default(), text))
        .filter(|(_, got, text)| !got.contains(text))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Budgets between what the choices take: the step fits as planned and measured, and going on keeps the choice.
#[test]
fn a_memory_budget_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut given = config(&data(folder.path(), 10));
    (given.train.batch, given.train.micro_batches, given.train.steps) = (8, 1, 2);
    let ctx = Context::cpu();
    let planned = |config: &RunConfig| plan(config, Some(ctx.capabilities().clone())).unwrap();
    let create = |name: &str, budget| {
        let mut config = given.clone();
        config.train.memory_budget = Some(budget);
        let ctx = Context::cpu();
        Run::create(&ctx, &folder.path().join(name), config, false, &mut |_| {}).map(|run| (ctx, run))
    };
    let (_, plain) = create("plain", 1 << 40).unwrap();
    let whole = planned(plain.trainer.config()).peak_bytes;
    assert_eq!((plain.trainer.config().train.batch, plain.trainer.config().train.checkpoint_blocks), (8, false));
    let error = create("none", 1000).err().unwrap().to_string();
    assert!(error.contains("train.memory_budget") && error.contains("at least"), "{error}");
    assert!(!folder.path().join("none").exists());
    let mut seen = Vec::new();
    let mut budget = whole - 1;
    for name in ["a", "b", "c"] {
        let (ctx, mut run) = create(name, budget).unwrap();
        let chosen = run.trainer.config().clone();
        let t = &chosen.train;
        assert_eq!(t.batch * t.micro_batches, 8);
        seen.push((t.checkpoint_blocks, t.micro_batches > 1));
        let peak = planned(&chosen).peak_bytes;
        run.train(1, &AtomicBool::new(false), &mut |_| {}).unwrap();
        let taken = ctx.pool().peak;
        println!(
            "budget {budget}, planned {peak}, taken {taken}, {:?}",
            (t.batch, t.micro_batches, t.checkpoint_blocks)
        );
        assert!(
            peak <= budget && taken as f64 <= 1.05 * peak as f64,
            "{peak} planned, {taken} taken, {budget} allowed"
        );
        drop(run);
        let again = Run::resume(&Context::cpu(), &folder.path().join(name), &[], &mut |_| {}).unwrap();
        assert_eq!(again.trainer.config(), &chosen);
        budget = peak - 1;
    }
    assert!(seen[0] == (true, false) && seen[1].1 && seen[2].1, "checkpointing first, then parts: {seen:?}");
}

/// Looks at every step, through a ring and with a stall at each: the same losses in the same order, and no look is waited for
/// but those under way at the end.
#[test]
fn looks_at_every_step_wait_for_nothing() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&data(folder.path(), 8));
    config.train.log_every = 1;
    let mut run = |name: &str, checkpoint_every| {
        config.train.checkpoint_every = checkpoint_every;
        let (mut run, mut seen) = (create(&ctx, &folder.path().join(name), &config).unwrap(), Vec::new());
        let summary = run.train(12, &AtomicBool::new(false), &mut |event| {
            if let Event::Log(log) = event {
                assert_eq!(log.device_waited.is_some(), !ctx.is_cpu());
                seen.push((log.step, log.losses, log.gradient_norm.to_bits(), log.skipped_steps));
            }
        });
        (seen, summary.unwrap().waits)
    };
    let ((ring, waits), (stalled, _)) = (run("ring", 0), run("stalled", 1));
    assert_eq!(ring.iter().map(|(step, ..)| *step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(ring, stalled);
    assert!(waits <= 3, "{waits} waits: more than may be under way when the run ends");
}

#[test]
fn going_on_elsewhere_is_said() {
    let ctx = device();
    let folder = tempfile::tempdir().unwrap();
    let (config, root) = (config(&data(folder.path(), 4)), folder.path().join("run"));
    train(&ctx, &root, &config, 2).unwrap();
    let path = root.join("checkpoints/step-000002/state.json");
    let state = std::fs::read_to_string(&path).unwrap();
    let notes = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut notes = Vec::new();
        let run = Run::resume(&ctx, &root, &[], &mut |event| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
        });
        run.unwrap();
        notes.retain(|note| note.contains(" up to step 2 "));
        notes
    };
    assert_eq!(notes(&state), [""; 0], "the same device");
    let driver = &ctx.capabilities().driver;
    let doctored = state.replace(&format!("\"driver\": \"{driver}\""), "\"driver\": \"another 1.0\"");
    let doctored = doctored.replace("\"lanes\": \"", "\"lanes\": \"not ");
    let said = notes(&doctored);
    let names: Vec<_> = said.iter().filter_map(|note| note.split(' ').next()).collect();
    assert_eq!(names, ["driver", "lanes"], "{said:?}");
    assert!(said[0].contains("another 1.0") && said[0].contains(driver.as_str()), "{said:?}");
    let log = std::fs::read_to_string(root.join("train.log")).unwrap();
    assert!(log.contains(&said[0]) && std::fs::read_to_string(root.join("env.json")).unwrap().contains("earlier"));
}
