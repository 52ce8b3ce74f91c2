use super::*;
use crate::model::config::{Expansion, m2ae_tiny};
use crate::train::config::{Precision, Schedule};

fn resolve(file: &str, environment: &[(&str, &str)], set: &[&str], preset: Option<&str>) -> Result<RunConfig> {
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let set: Vec<_> = set.iter().map(|s| (*s).to_owned()).collect();
    let file = Some((Path::new("run.toml"), file));
    RunConfig::resolve(&Sources { file, environment: &environment, set: &set, preset, steps: None })
}

#[test]
fn later_sources_win() {
    let file = "preset = \"m2ae-tiny\"\n[train]\nlr = 1\ntotal_steps = 50\nbatch = 2\n[model]\nexpansion = \"dense\"";
    let variables = [("MMAE_TRAIN__LR", "2e-4"), ("MMAE_TRAIN__TOTAL_STEPS", "60"), ("MMAE_LOG", "debug")];
    let config = resolve(file, &variables, &["train.lr = 3e-4", "train.freeze=text., image.encoder"], None).unwrap();
    assert_eq!((config.train.lr, config.train.steps, config.train.batch), (3e-4, 60, 2));
    assert_eq!((config.model.width, config.model.expansion), (48, Expansion::Dense));
    assert_eq!(config.train.freeze, ["text.", "image.encoder"]);
    assert_eq!(config.train.eps, 1e-8, "a field that nobody names keeps its default");

    let presets = [
        (resolve("", &[], &[], None), 256),
        (resolve("preset = \"m2ae-tiny\"", &[], &[], None), 48),
        (resolve("preset = \"m2ae-tiny\"", &[("MMAE_PRESET", "m2ae")], &[], None), 768),
        (resolve("", &[("MMAE_PRESET", "m2ae")], &["preset=m2ae-tiny"], None), 48),
        (resolve("", &[], &["preset=m2ae-tiny"], Some("m2ae-vit")), 768),
        (resolve("[model]\nwidth = 64", &[], &[], Some("m2ae-vit")), 0),
    ];
    let failed: Vec<_> = presets
        .iter()
        .map(|(config, width)| (config.as_ref().map_or(0, |c| c.model.width), *width))
        .filter(|(got, want)| got != want)
        .collect();
    assert!(failed.is_empty(), "(got, want): {failed:?} (the last has 12 heads in width 64, an error)");
}

#[test]
fn mistakes_are_named() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let cases: [Case<'_>; 15] = [
        ("[train]\nlrr = 1", &[], &[], "config train.lrr: no such field (from run.toml) (did you mean `train.lr`?)"),
        ("[train]\nlr = \"x\"", &[], &[], "config train.lr: expected a number, got `x` (from run.toml)"),
        ("[train]\nlr = nan", &[], &[], "config train.lr: expected a number, got `NaN` (from run.toml)"),
        ("[train]\nbatch = -1", &[], &[], "config train.batch: expected a whole number, got `-1.0` (from run.toml)"),
        ("[train]\nbatch = 1.5", &[], &[], "config train.batch: expected a whole number, got `1.5` (from run.toml)"),
        ("[train]\nlr = 1979-05-27", &[], &[], "config train.lr: cannot be `1979-05-27` (from run.toml)"),
        ("[train]\nfreeze = [1]", &[], &[], "config train.freeze: cannot be `[1]` (from run.toml)"),
        ("train = 1", &[], &[], "config train: expected a table of fields, got `1` (from run.toml)"),
        (
            "[trian]",
            &[],
            &[],
            "config trian: no such section, there are model, loss, train, data (from run.toml) (did you mean `train`?)",
        ),
        ("batch = 1", &[], &[], "config batch: no such section, there are model, loss, train, data (from run.toml)"),
        (
            "",
            &[("MMAE_TRAIN__BATHC", "1")],
            &[],
            "config train.bathc: no such field (from MMAE_TRAIN__BATHC) (did you mean `train.batch`?)",
        ),
        ("", &[("MMAE_TRAIN__FLIP", "1")], &[], "config train.flip: no such field (from MMAE_TRAIN__FLIP)"),
        ("", &[], &["lr=1"], "config lr: fields are named section.field (did you mean `train.lr`?)"),
        ("", &[], &["train.lr"], "config train.lr: --set takes section.field=value, for example train.lr=3e-4"),
        (
            "",
            &[],
            &["train.precision=f15"],
            "config train.precision: expected one of f32, f16, got `f15` (did you mean `f16`?)",
        ),
    ];
    let failed: Vec<_> = cases
        .iter()
        .map(|(file, env, set, want)| {
            (*want, resolve(file, env, set, None).map_or_else(|e| e.to_string(), |_| "ok".into()))
        })
        .filter(|(want, got)| want != got && !(got.starts_with(want) && got.contains("did you mean")))
        .collect();
    assert!(failed.is_empty(), "(want, got): {failed:#?}");
    let broken = resolve("[train\n", &[], &[], None).unwrap_err();
    assert!(matches!(&broken, Error::Data { path, .. } if path == Path::new("run.toml")), "{broken}");
    assert!(resolve("preset = 3", &[], &[], None).unwrap_err().to_string().contains("no preset `3`"));
}

#[test]
fn both_formats_round_trip() {
    let mut config = RunConfig::new(m2ae_tiny());
    config.set("train.ema", "0.99").unwrap();
    config.set("train.lr", "0.1").unwrap();
    config.set("train.precision", "f16").unwrap();
    config.set("train.freeze", "text.,a \"b\"").unwrap();
    config.set("data.path", "C:\\pictures\n\u{1F600}").unwrap();
    config.set("train.seed", "9223372036854775807").unwrap();
    assert!(config.set("train.seed", "9223372036854775808").is_err(), "TOML has no such integer");
    let text = config.to_toml();
    assert!(text.contains("# warmup = default\n") && text.contains("eps = 1e-8\n"), "{text}");
    assert_eq!(resolve(&text, &[], &[], None).unwrap(), config, "{text}");
    let json = config.to_json();
    assert_eq!(RunConfig::from_json(&json).unwrap(), config);
    let model: Json = serde_json::from_str(&model_to_json(&config.model)).unwrap();
    assert_eq!(model_from_json(&model).unwrap(), config.model);
}

#[test]
fn default_clears_a_value() {
    let config = resolve("[train]\nwarmup = 7\nema = 0.9", &[], &["train.warmup=default"], None).unwrap();
    assert_eq!((config.train.warmup, config.train.ema), (None, Some(0.9)));
    assert_eq!(config.train.precision, Precision::F32);
}

/// The form in which reference files give a configuration: no schedule, a fixed rate and a fixed average.
#[test]
fn reference_form_is_read() {
    let model = model_to_json(&m2ae_tiny());
    let text = format!(
        r#"{{"model": {model}, "loss": {{"recon": 1.0, "jepa": 2}}, "train": {{"lr": 0.001, "beta1": 0.9, "beta2": 0.95,
        "eps": 1e-08, "weight_decay": 0.05, "clip": 1.0, "ema": 0.99, "steps": 10}}, "note": 3}}"#
    );
    let json: Json = serde_json::from_str(&text).unwrap();
    let mut config = RunConfig::from_json(json.as_object().unwrap()).unwrap();
    config.train.schedule = Schedule::Constant;
    assert_eq!((config.train.lr(1), config.train.lr(10), config.train.ema(4)), (1e-3, 1e-3, 0.99));
    assert_eq!((config.loss.jepa, config.loss.align, config.train.batch), (2.0, 0.1, 8));
}

#[test]
fn incomplete_or_odd_json_is_refused() {
    let whole = model_to_json(&m2ae_tiny());
    let cases = [
        ("{}".to_owned(), "config model: without image_size"),
        ("3".into(), "config model: expected an object of fields, got `3`"),
        (
            whole.replace("\"vocab\":512", "\"vocab\":null"),
            "config model.vocab: expected a whole number, got `default`",
        ),
        (whole.replace("\"vocab\":512", "\"vocab\":{}"), "config model.vocab: cannot be `{}`"),
        (whole.replace("\"vocab\":512", "\"vocab\":2"), "config model.vocab: 2 is too small"),
        (whole.replace("vocab", "vocap"), "config model.vocap: no such field (did you mean `model.vocab`?)"),
        (whole.replace("\"vocab\":512,", "").replace(",\"vocab\":512", ""), "config model: without vocab"),
    ];
    let failed: Vec<_> = cases
        .iter()
        .map(|(text, want)| (want, model_from_json(&serde_json::from_str(text).unwrap())))
        .filter(|(want, got)| !got.as_ref().is_err_and(|e| e.to_string().starts_with(**want)))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(RunConfig::from_json(&Map::new()).is_err());
}
