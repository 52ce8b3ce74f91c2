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
    let cases: [(&[&str], i32, &str); 14] = [
        (&["--data", "data", "--set", "train.lrr=1"], 2, "did you mean `train.lr`?"),
        (&["--data", "data", "--set", "trian.lr=1"], 2, "did you mean `train`?"),
        (&["--data", "data", "--set", "lr=1"], 2, "did you mean `train.lr`?"),
        (&["--data", "data", "--set", "train.lr"], 2, "section.field=value"),
        (&["--data", "data", "--set", "train.lr=fast"], 2, "expected a number"),
        (&["--data", "data", "--set", "train.batch=0"], 2, "train.batch"),
        (&["--data", "data", "--model", "m2ae-tny"], 2, "did you mean `m2ae-tiny`?"),
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
