use super::*;
use crate::model::fields::Value;

#[test]
fn presets_are_valid_and_have_their_tokens() {
    let cases = [("m2ae", 196, 98), ("m2ae-small", 144, 72), ("m2ae-tiny", 16, 8), ("m2ae-vit", 196, 98)];
    for (name, tokens, masked) in cases {
        let config = preset(name).unwrap();
        config.validate().unwrap();
        assert_eq!((config.tokens(), config.masked(0.5)), (tokens, masked), "{name}");
    }
    assert_eq!(preset("m2ae-vit").unwrap().depth, 12);
    let message = preset("m2ae_tny").unwrap_err().to_string();
    assert!(message.contains("did you mean `m2ae-tiny`?"), "{message}");
}

#[test]
fn masked_tokens_round_half_up() {
    let config = ModelConfig { image_size: 24, ..m2ae_tiny() };
    let cases = [(0.0, 0), (0.5, 5), (1.0, 9), (2.0, 9), (-1.0, 0), (0.05, 0), (0.06, 1)];
    for (ratio, want) in cases {
        assert_eq!(config.masked(ratio), want, "{ratio} of {}", config.tokens());
    }
}

#[test]
fn every_field_is_listed_once_and_settable() {
    let mut config = m2ae();
    let names: Vec<_> = config.fields().iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), 17);
    for (name, value) in m2ae_tiny().fields() {
        config.set(name, &value.to_string()).unwrap();
    }
    assert_eq!(config, m2ae_tiny());
    let mut loss = LossConfig::default();
    for (at, (name, _)) in LossConfig::default().fields().into_iter().enumerate() {
        loss.put(name, &Value::Real(at as f64)).unwrap();
    }
    assert_eq!(
        loss,
        LossConfig { recon: 0.0, jepa: 1.0, align: 2.0, recon_image: 3.0, recon_text: 4.0, mask_ratio: 5.0 }
    );
}

#[test]
fn bad_values_name_the_field() {
    let cases: [(&str, &str, &str); 7] = [
        ("widht", "4", "config model.widht: no such field (did you mean `model.width`?)"),
        ("width", "-4", "config model.width: expected a whole number, got `-4`"),
        ("width", "4.0", "config model.width: expected a whole number, got `4.0`"),
        ("width", "", "config model.width: expected a whole number, got ``"),
        (
            "expansion",
            "dens",
            "config model.expansion: expected one of spatial, dense, got `dens` (did you mean `dense`?)",
        ),
        ("text_head", "Ω", "config model.text_head: expected one of embedding, tokens, got `Ω`"),
        ("qqqqqq", "1", "config model.qqqqqq: no such field"),
    ];
    let failed: Vec<_> = cases
        .iter()
        .map(|(key, value, want)| (want, m2ae().set(key, value).unwrap_err().to_string()))
        .filter(|(want, got)| *want != got)
        .collect();
    assert!(failed.is_empty(), "(want, got): {failed:#?}");
    assert!(LossConfig::default().set("jepa", "nan").is_err());
    assert!(LossConfig::default().set("jepa", "inf").is_err());
}

#[test]
fn validation_names_the_field() {
    let cases = [
        ("patch", ModelConfig { patch: 15, ..m2ae() }),
        ("patch", ModelConfig { patch: 0, ..m2ae() }),
        ("image_size", ModelConfig { image_size: 0, ..m2ae() }),
        ("image_size", ModelConfig { image_size: 16 << 14, ..m2ae() }),
        ("width", ModelConfig { width: usize::MAX, ..m2ae() }),
        ("heads", ModelConfig { heads: 5, ..m2ae() }),
        ("heads", ModelConfig { heads: 0, ..m2ae() }),
        ("text_heads", ModelConfig { text_heads: 3, ..m2ae_tiny() }),
        ("depth", ModelConfig { depth: 1 << 20, ..m2ae() }),
        ("vocab", ModelConfig { vocab: 3, ..m2ae() }),
        ("text_length", ModelConfig { text_length: 0, ..m2ae() }),
    ];
    let failed: Vec<_> = cases
        .iter()
        .map(|(field, config)| (field, config.validate()))
        .filter(|(field, got)| !matches!(got, Err(Error::Config { field: f, .. }) if *f == format!("model.{field}")))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    // Where no block of that width exists, the heads are not asked for.
    ModelConfig { text_heads: 0, ..m2ae() }.validate().unwrap();
    ModelConfig { heads: 0, predictor_depth: 0, ..m2ae() }.validate().unwrap();
}

#[test]
fn loss_weights_are_checked() {
    LossConfig::default().validate().unwrap();
    let bad = [
        LossConfig { jepa: -1.0, ..LossConfig::default() },
        LossConfig { recon: f64::NAN, ..LossConfig::default() },
        LossConfig { mask_ratio: 1.5, ..LossConfig::default() },
        LossConfig { mask_ratio: f64::NAN, ..LossConfig::default() },
    ];
    for loss in bad {
        assert!(loss.validate().is_err(), "{loss:?}");
    }
}
