use super::*;
use crate::model::config::m2ae_tiny;

fn tensor(name: &str, shape: &[usize], start: f32) -> Named {
    let data = (0..shape.iter().product()).map(|i| start + i as f32).collect();
    Named { name: name.into(), shape: shape.to_vec(), data }
}

fn sample() -> Checkpoint {
    let mut config = RunConfig::new(m2ae_tiny());
    config.train.ema = Some(0.99);
    let versions = [("mmae", "0.1.0"), ("adapter", "test")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let scale = 32768.0f32;
    Checkpoint {
        state: State {
            step: 500,
            seed: i64::MAX as u64,
            loss_scale: scale,
            control: vec![scale.to_bits(), f32::NAN.to_bits(), (-0.0f32).to_bits(), u32::MAX, 0],
            position: Position { epoch: 3, sample: 17 },
            config,
            versions,
        },
        model: vec![tensor("b", &[2, 3], 0.5), tensor("align.logit_scale", &[], 2.659), tensor("a", &[3], -1.0)],
        optimizer: vec![tensor("m.a", &[3], 0.0), tensor("v.a", &[3], 1.0)],
    }
}

fn expected(of: &[Named]) -> Vec<Expected> {
    of.iter().map(|t| (t.name.clone(), t.shape.clone())).collect()
}

fn load(folder: &Path) -> Result<Checkpoint> {
    Checkpoint::load(folder, |_| Ok((expected(&sample().model), expected(&sample().optimizer))))
}

#[test]
fn a_checkpoint_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let saved = sample();
    let path = saved.save(folder.path()).unwrap();
    assert_eq!(load(&path).unwrap(), saved);
    assert_eq!(files::read_text(&folder.path().join("latest")).unwrap(), "step-000500\n");
    let mut odd = sample();
    odd.model[0].data = [f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY, 1e-45, 1.0].to_vec();
    odd.save(folder.path()).unwrap();
    let bits = |t: &Named| t.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&load(&path).unwrap().model[0]), bits(&odd.model[0]));
}

#[test]
fn equal_input_gives_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = sample().model;
    let mut read = |name: &str| {
        let path = folder.path().join(name);
        save_weights(&path, &tensors, &m2ae_tiny()).unwrap();
        tensors.reverse();
        std::fs::read(path).unwrap()
    };
    // Each hash map has its own order, so a dozen files would differ somewhere if that order came through.
    let first = read("0");
    let different: Vec<_> = (1..12).filter(|i| read(&i.to_string()) != first).collect();
    assert!(different.is_empty(), "files {different:?} differ from the first");
    let header = String::from_utf8_lossy(&first[8..]).into_owned();
    assert!(header.starts_with(r#"{"__metadata__":{"config":"{\"image_size\":32"#), "{header}");
}

#[test]
fn every_difference_is_listed_at_once() {
    let path = Path::new("model.safetensors");
    let wanted = [("a", vec![3]), ("gone", vec![1]), ("b", vec![3, 2]), ("lost", vec![])];
    let wanted: Vec<_> = wanted.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
    let message = matched(path, sample().model, &wanted).unwrap_err().to_string();
    assert_eq!(
        message,
        "checkpoint model.safetensors: missing: gone, lost; unexpected: align.logit_scale; \
         wrong shape: b is [2, 3], expected [3, 2]"
    );
    let order: Vec<_> = matched(path, sample().model, &expected(&sample().model)).unwrap();
    assert_eq!(order, sample().model);
}

#[test]
fn damaged_files_are_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = sample().save(folder.path()).unwrap();
    let mut failed = Vec::new();
    for name in ["model.safetensors", "optimizer.safetensors", "state.json"] {
        let file = path.join(name);
        let whole = std::fs::read(&file).unwrap();
        let mut long = whole.clone();
        long.extend([0; 4]);
        let mut flipped = whole.clone();
        flipped[9] ^= 0x20;
        let huge: Vec<u8> = u64::MAX.to_le_bytes().into_iter().chain(whole.iter().copied().skip(8)).collect();
        let cuts = [0, 1, 7, 8, 9, whole.len() / 2, whole.len() - 3].map(|n| whole[..n].to_vec());
        for bytes in cuts.into_iter().chain([flipped, huge, long, vec![b'{'; 100]]) {
            std::fs::write(&file, &bytes).unwrap();
            match load(&path) {
                Err(Error::Checkpoint { path, .. }) if path == file => {}
                Err(Error::Io { path, .. }) if path == file => {}
                other => failed.push((name, bytes.len(), other.map(|c| c.state.step))),
            }
        }
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(load(&path), Err(Error::Io { .. })), "{name} absent");
        std::fs::write(&file, &whole).unwrap();
    }
    assert!(failed.is_empty(), "{failed:?}");
    load(&path).unwrap();
}

#[test]
fn other_types_and_other_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let half = safetensors::tensor::TensorView::new(Dtype::F16, vec![2], &[0; 4]).unwrap();
    let bytes = safetensors::serialize([("h", half)], None).unwrap();
    std::fs::write(&path, bytes).unwrap();
    assert!(load_tensors(&path).unwrap_err().to_string().ends_with("h is F16, expected F32"));

    save_tensors(&path, &sample().model, &[("format", "other")]).unwrap();
    assert!(load_weights(&path).unwrap_err().to_string().contains("format \"mmae\""));
    save_tensors(&path, &sample().model, &[("format", "mmae"), ("config", "{}")]).unwrap();
    assert!(load_weights(&path).unwrap_err().to_string().contains("without image_size"));

    let other = ModelConfig { width: 64, vocab: 99, ..m2ae_tiny() };
    let message = require_same_model(&path, &m2ae_tiny(), &other).unwrap_err().to_string();
    assert!(message.ends_with("model.width: 48 and 64, model.vocab: 512 and 99"), "{message}");
    let folder = sample().save(folder.path()).unwrap();
    save_weights(&folder.join("model.safetensors"), &sample().model, &other).unwrap();
    let message = load(&folder).unwrap_err().to_string();
    assert!(message.contains("model.width: 64 and 48"), "weights of another run in the folder: {message}");

    let twice = [tensor("a", &[1], 0.0), tensor("a", &[1], 0.0)];
    assert!(save_tensors(&path, &twice, &[]).is_err());
    let short = [Named { data: vec![], ..tensor("a", &[1], 0.0) }];
    assert!(save_tensors(&path, &short, &[]).is_err());
}

#[test]
fn folder_names() {
    let cases = [(0, "step-000000"), (500, "step-000500"), (12_345_678, "step-12345678")];
    for (step, name) in cases {
        assert_eq!((folder_name(step).as_str(), folder_step(name)), (name, Some(step)));
    }
    for name in ["latest", "step-", "step-500", "step-000500.tmp-1-2", "step-+00500", "step--00500"] {
        assert_eq!(folder_step(name), None, "{name}");
    }
}
