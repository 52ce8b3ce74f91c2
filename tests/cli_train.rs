//! `mmae train` and `mmae resume` from outside: wrong input, Ctrl-C, and what a script reads.
#![cfg(feature = "cli")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// On the twins, with a model that even they train quickly.
const SMALL: [&str; 20] = [
    "--device",
    "cpu",
    "--model",
    "m2ae-tiny",
    "--set",
    "model.image_size=16",
    "--set",
    "model.width=8",
    "--set",
    "model.text_embed=4",
    "--set",
    "model.text_width=4",
    "--set",
    "model.latent=8",
    "--set",
    "model.vocab=64",
    "--set",
    "model.text_length=4",
    "--set",
    "train.batch=1",
];

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmae"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn mmae(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with `data` (two pairs), `empty`, `headless`, `bad.toml` and `run` with something in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["data", "empty", "headless", "run"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    for (i, rgb) in [[200, 0, 0], [0, 0, 200]].into_iter().enumerate() {
        image::RgbImage::from_pixel(8, 8, image::Rgb(rgb)).save(at("data").join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(at("data/captions.csv"), "file,caption\n0.png,red\n1.png,blue\n").unwrap();
    std::fs::write(at("headless/captions.csv"), "image,words\n0.png,red\n").unwrap();
    std::fs::write(at("bad.toml"), "[train]\nlr = = 3\n").unwrap();
    std::fs::write(at("run/config.toml"), "").unwrap();
    folder
}

#[test]
fn wrong_input_is_named_and_leaves_nothing() {
    let folder = folder();
    // Arguments after `train`, exit code, on stderr.
    let cases: [(&[&str], i32, &str); 15] = [
        (&["--data", "data", "--set", "train.lrr=1"], 2, "did you mean `train.lr`?"),
        (&["--data", "data", "--set", "trian.lr=1"], 2, "did you mean `train`?"),
        (&["--data", "data", "--set", "lr=1"], 2, "did you mean `train.lr`?"),
        (&["--data", "data", "--set", "train.lr"], 2, "section.field=value"),
        (&["--data", "data", "--set", "train.lr=fast"], 2, "expected a number"),
        (&["--data", "data", "--set", "train.batch=0"], 2, "train.batch"),
        (&["--data", "data", "--model", "m2ae-tny"], 2, "did you mean `m2ae-tiny`?"),
        (&["--data", "data", "--model", "m2ae", "--set", "train.batch=16000000"], 1, "lower train.batch"),
        (&["--data", "data", "--config", "none.toml"], 1, "none.toml"),
        (&["--data", "data", "--config", "bad.toml"], 1, "bad.toml"),
        (&[], 2, "--data"),
        (&["--data", "nowhere"], 1, "nowhere: there is no such file or folder"),
        (&["--data", "empty"], 1, "empty: no *.tar, captions.json or captions.csv"),
        (&["--data", "headless"], 1, "captions.csv"),
        (&["--data", "data", "--out", "run"], 2, "--force"),
    ];
    let mut wrong = Vec::new();
    for (args, code, on_stderr) in cases {
        let mut all = vec!["train", "--device", "cpu", "--steps", "1"];
        if !args.contains(&"--out") {
            all.extend(["--out", "new"]);
        }
        all.extend(args);
        let output = mmae(folder.path(), &all);
        let stderr = text(&output.stderr);
        if output.status.code() != Some(code) || !stderr.contains(on_stderr) || !output.stdout.is_empty() {
            wrong.push(format!("{args:?}: {}, expected {code} and {on_stderr:?}\n{stderr}", output.status));
        }
        if folder.path().join("new").exists() {
            wrong.push(format!("{args:?}: left a run's folder behind"));
        }
    }
    let output = mmae(folder.path(), &["resume", "data", "--device", "cpu", "--steps", "2"]);
    if output.status.code() != Some(2) || !text(&output.stderr).contains("data is not a run") {
        wrong.push(format!("resume: {}\n{}", output.status, text(&output.stderr)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_script_can_train_and_resume() {
    let folder = folder();
    let mut args = vec!["train", "--json", "--quiet", "--data", "data", "--out", "a/b", "--steps", "2"];
    args.extend(SMALL);
    args.extend(["--set", "train.total_steps=4", "--seed", "3"]);
    let first = mmae(folder.path(), &args);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(text(&first.stderr), "", "--quiet");
    let resume = ["resume", "a/b", "--steps", "4", "--json", "--device", "cpu", "--set", "train.log_every=1"];
    let second = mmae(folder.path(), &resume);
    assert!(second.status.success(), "{}", text(&second.stderr));
    for (output, step) in [(first, 2), (second, 4)] {
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((json["step"].as_u64(), json["adapter"].as_str()), (Some(step), Some("cpu twins")), "{json}");
        assert!(json["losses"]["total"].is_f64(), "{json}");
        assert!(folder.path().join(json["checkpoint"].as_str().unwrap()).join("state.json").is_file(), "{json}");
    }
    let state = std::fs::read_to_string(folder.path().join("a/b/checkpoints/step-000004/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!((state["seed"].as_u64(), state["train"]["total_steps"].as_u64()), (Some(3), Some(4)));
}

#[test]
fn bad_records_are_skipped_by_name_and_bad_checkpoints_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let mut cut = std::fs::read(at("data/0.png")).unwrap();
    cut.truncate(cut.len() / 2);
    std::fs::write(at("data/cut.png"), cut).unwrap();
    std::fs::write(at("data/none.png"), "").unwrap();
    let table = "file,caption\n0.png,red\ncut.png,half\nnone.png,nothing\n1.png,caf\u{e9}\ngone.png,gone\n";
    let latin: Vec<u8> = table.chars().map(|letter| letter as u8).collect();
    std::fs::write(at("data/captions.csv"), latin).unwrap();
    let args = ["train", "--data", "data", "--out", "a", "--steps", "6"];
    let output = mmae(folder.path(), &[&args[..], &SMALL].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for reason in
        ["cut.png, line 3 of", "none.png, line 4 of", "line 5: column `caption` is not UTF-8", "gone.png, line 6"]
    {
        assert!(said.contains("skipped a record: ") && said.contains(reason), "{reason:?} is not in\n{said}");
    }

    let (resume, last) = (["resume", "a", "--steps", "7", "--device", "cpu", "-q"], at("a/checkpoints/step-000006"));
    let state = std::fs::read_to_string(last.join("state.json")).unwrap();
    let cases = [
        ("model.safetensors", std::fs::read(last.join("model.safetensors")).unwrap()[..3000].to_vec(), "cut short"),
        ("optimizer.safetensors", vec![0xff; 64], "damaged"),
        ("state.json", state.replace("\"width\": 8", "\"width\": 16").into_bytes(), "another model"),
        ("state.json", Vec::new(), "state.json: EOF"),
    ];
    for (file, bytes, reason) in cases {
        let whole = std::fs::read(last.join(file)).unwrap();
        std::fs::write(last.join(file), bytes).unwrap();
        let output = mmae(folder.path(), &resume);
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && said.contains(reason) && said.contains("step-000006"),
            "{file}: {said}"
        );
        std::fs::write(last.join(file), whole).unwrap();
    }
    let output = mmae(folder.path(), &resume);
    assert!(output.status.success(), "a refused checkpoint is as it was: {}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn control_c_writes_a_checkpoint_and_exits_130() {
    let folder = folder();
    let mut args = vec!["train", "--data", "data", "--out", "a", "--steps", "100000"];
    args.extend(SMALL);
    let mut child = command(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let seen: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("step ")).collect();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let rest: Vec<String> = lines.collect();
    let status = child.wait().unwrap();
    assert!(kill.success() && status.code() == Some(130), "{status}\n{seen:?}\n{rest:?}");
    assert!(rest.iter().any(|line| line.contains("go on with `mmae resume`")), "{rest:?}");
    let latest = std::fs::read_to_string(folder.path().join("a/checkpoints/latest")).unwrap();
    assert!(folder.path().join("a/checkpoints").join(latest.trim()).join("model.safetensors").is_file());
}

/// Names in a run's `checkpoints`, sorted.
#[cfg(unix)]
fn checkpoints(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files of the checkpoint after `step` steps.
#[cfg(unix)]
fn saved(run: &Path, step: u64) -> [Vec<u8>; 3] {
    let folder = run.join(format!("checkpoints/step-{step:06}"));
    ["model.safetensors", "optimizer.safetensors", "state.json"].map(|name| std::fs::read(folder.join(name)).unwrap())
}

/// The disk is full for every file above some kilobytes: `ulimit -f` refuses the rest of it, in the middle of a write.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_later() {
    let folder = folder();
    let (run, whole) = (folder.path().join("a"), folder.path().join("whole"));
    let start = |out: &str, stop: &str| {
        let common = ["train", "-q", "--data", "data", "--set", "train.total_steps=4", "--out", out, "--steps", stop];
        let output = mmae(folder.path(), &[&common[..], &SMALL].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    start("a", "2");
    start("whole", "4");
    let before = saved(&run, 2);
    let resume = ["resume", "a", "--steps", "4", "--device", "cpu", "-q"];
    // 16 blocks are 8 or 16 KiB; one file of the checkpoint is larger, and all other files of this run are smaller.
    assert!(before[0].len() > 16 << 10, "the weights are {} bytes: no limit between", before[0].len());
    let mut full = Command::new("sh");
    full.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_mmae")]).args(resume);
    let output = full.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("write ") && said.contains("model.safetensors: File too large"), "{said}");
    assert_eq!((checkpoints(&run), saved(&run, 2)), (vec!["latest".to_owned(), "step-000002".to_owned()], before));

    let output = mmae(folder.path(), &resume);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (got, want) = (saved(&run, 4), saved(&whole, 4));
    assert!(got == want, "another result than without the full disk");
}

/// `kill -9` at moments that fall into steps and into the writing of checkpoints. Each time the run goes on from a whole one.
#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_from_a_whole_checkpoint() {
    let folder = folder();
    let run = folder.path().join("a");
    let common = ["--data", "data", "--set", "train.total_steps=9999", "--set", "train.sample_every=0"];
    let train =
        |out, stop, every| [&["train", "--out", out, "--steps", stop, "--set", every][..], &common, &SMALL].concat();
    let first = train("a", "9999", "train.checkpoint_every=1");
    let resume = ["resume", "a", "--steps", "9999", "--device", "cpu"];
    let latest = || std::fs::read_to_string(run.join("checkpoints/latest")).unwrap_or_default();
    let (mut in_a_save, mut kills) = (0, 0u64);
    while in_a_save < 4 || kills < 24 {
        assert!(kills < 60, "{in_a_save} of {kills} kills fell into the writing of a checkpoint");
        let before = latest();
        let mut child = command(folder.path(), if kills == 0 { &first } else { &resume });
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Every third falls into the start of a run, which takes back what was done after the last checkpoint.
        while kills % 3 != 2 && latest() == before {
            if let Some(status) = child.try_wait().unwrap() {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
                panic!("after {kills} kills, at {before}: {status}\n{said}");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // 0 to 38 ms, in an order that looks random and is not.
        std::thread::sleep(std::time::Duration::from_micros(kills * 53 % 128 * 300));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        in_a_save += usize::from(checkpoints(&run).iter().any(|name| name.contains(".tmp-")));
        let name = latest();
        let step = name.trim().strip_prefix("step-").unwrap().parse().unwrap();
        assert!(saved(&run, step).iter().all(|file| !file.is_empty()), "{name}");
    }
    let stop = latest().trim().trim_start_matches("step-").parse::<u64>().unwrap() + 1;
    let output = mmae(folder.path(), &["resume", "a", "--steps", &stop.to_string(), "--device", "cpu", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = mmae(folder.path(), &train("whole", &stop.to_string(), "train.checkpoint_every=0"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (got, want) = (saved(&run, stop), saved(&folder.path().join("whole"), stop));
    assert!(got[..2] == want[..2], "{kills} kills changed the result of {stop} steps");
    assert!(!checkpoints(&run).iter().any(|name| name.contains(".tmp-")), "{:?}", checkpoints(&run));
    println!("{kills} kills, {in_a_save} of them while a checkpoint was written, {stop} steps");
}

/// A part of a run that has nothing to do has seen no loss, and says none.
#[test]
fn nothing_to_do_is_no_loss_of_zero() {
    let folder = folder();
    let train = [&["train", "--data", "data", "--out", "short", "--steps", "1", "--json"], &SMALL[..]].concat();
    let resume = ["resume", "short", "--steps", "1", "--device", "cpu", "--json"];
    for (args, seen) in [(&train[..], true), (&resume[..], false)] {
        let output = mmae(folder.path(), args);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(said["step"], 1, "{args:?}: {}", text(&output.stderr));
        assert_eq!((said["losses"]["total"].is_f64(), said["losses"]["total"].is_null()), (seen, !seen), "{said}");
    }
    let said = text(&mmae(folder.path(), &resume[..6]).stdout);
    assert!(!said.contains("loss ") && said.contains("checkpoint"), "{said}");
}
