use std::fs;

use super::*;
use crate::model::config::m2ae_tiny;
use crate::train::checkpoint::Position;
use crate::train::trainer::Trainer;

/// A run with one checkpoint at step 0, made without training.
fn run(folder: &Path) -> (RunDir, Trainer) {
    let tokenizer = Tokenizer::train(&["a red square", "a blue circle"], 64).unwrap();
    let mut config = RunConfig::new(m2ae_tiny());
    config.model.vocab = tokenizer.vocab();
    let dir = RunDir::create(folder, &config, false).unwrap();
    fs::write(folder.join(TOKENIZER), tokenizer.to_bytes().unwrap()).unwrap();
    let trainer = Trainer::new(&Context::cpu(), &config).unwrap();
    (dir, trainer)
}

#[test]
fn weights_come_back_frozen_from_run_and_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, trainer) = run(&folder.path().join("run"));
    let saved = trainer.checkpoint(Position::default(), &Default::default()).unwrap().save(&dir.checkpoints()).unwrap();
    for (path, step) in [(dir.root(), None), (dir.root(), Some(0)), (saved.as_path(), None)] {
        let loaded = LoadedRun::open(&Context::cpu(), path, step).unwrap();
        assert_eq!(loaded.model.params.read().unwrap(), trainer.model.params.read().unwrap(), "{path:?}");
        assert!(loaded.model.params.params().iter().all(|p| !p.is_trained()));
        assert_eq!((loaded.step, &loaded.config), (0, trainer.config()));
    }
}

#[test]
fn nothing_is_swept_while_somebody_else_may_train() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, trainer) = run(&folder.path().join("run"));
    trainer.checkpoint(Position::default(), &Default::default()).unwrap().save(&dir.checkpoints()).unwrap();
    let half = dir.checkpoints().join("step-000001.tmp-77-0");
    fs::create_dir(&half).unwrap();
    LoadedRun::open(&Context::cpu(), dir.root(), None).unwrap();
    assert!(half.is_dir());
}

#[test]
fn what_cannot_be_loaded_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let open = |path: &Path, step| match LoadedRun::open(&Context::cpu(), path, step) {
        Ok(_) => "loaded".to_owned(),
        Err(error) => error.to_string(),
    };
    let mut wrong = Vec::new();
    let mut expect = |got: String, wanted: &str| {
        if !got.contains(wanted) {
            wrong.push(format!("`{wanted}` is not in `{got}`"));
        }
    };
    expect(open(&root, None), "there is no folder");
    expect(open(folder.path(), None), "is not a run");
    let (dir, trainer) = run(&root);
    expect(open(&root, None), "no checkpoint yet");
    expect(open(&root, Some(5)), "there are: none yet");
    let checkpoint = trainer.checkpoint(Position::default(), &Default::default()).unwrap();
    let saved = checkpoint.save(&dir.checkpoints()).unwrap();
    expect(open(&root, Some(5)), "no checkpoint of step 5; there are: 0");
    expect(open(&saved, Some(0)), "is one checkpoint already");

    let model = saved.join("model.safetensors");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..whole.len() - 10]).unwrap();
    expect(open(&root, None), "damaged or cut short");
    let mut other = trainer.config().clone();
    other.model.latent += 4;
    super::super::checkpoint::save_weights(&model, &checkpoint.model, &other.model).unwrap();
    expect(open(&root, None), "saved for another model");
    fs::write(&model, &whole).unwrap();

    let larger: String = (0..40).map(|i| char::from_u32(0x4e00 + i).unwrap()).collect();
    let larger = Tokenizer::train(&[larger, "abcdefghijklmnopqrstuvwxyz0123456789".into()], 4096).unwrap();
    fs::write(root.join(TOKENIZER), larger.to_bytes().unwrap()).unwrap();
    expect(open(&root, None), "the model only");
    fs::remove_file(root.join(TOKENIZER)).unwrap();
    expect(open(&root, None), "its run has no tokenizer.json");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
