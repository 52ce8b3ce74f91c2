use super::*;

fn close(got: f64, want: f64) -> bool {
    (got - want).abs() <= 1e-15 * want.abs().max(1e-3)
}

#[test]
fn learning_rate_follows_the_formula() {
    // R = 100, W = 10, then a half cosine over 90 steps, at angles whose cosine is known by heart.
    let cosine = TrainConfig { steps: 100, lr: 1.0, warmup: Some(10), ..TrainConfig::default() };
    let cases = [
        (1, 0.1),
        (5, 0.5),
        (10, 1.0),
        // cos(pi/3) = 1/2: 0.01 + 0.99 * 0.75
        (40, 0.7525),
        // cos(pi/2) = 0: 0.01 + 0.99 / 2
        (55, 0.505),
        // cos(2 pi/3) = -1/2: 0.01 + 0.99 / 4
        (70, 0.2575),
        (100, 0.01),
        (1000, 0.01),
    ];
    let failed: Vec<_> =
        cases.iter().map(|(t, want)| (t, want, cosine.lr(*t))).filter(|(_, want, got)| !close(*got, **want)).collect();
    assert!(failed.is_empty(), "(t, want, got): {failed:?}");
}

#[test]
fn warmup_is_five_percent_rounded_half_up() {
    let cases = [(1, 0), (9, 0), (10, 1), (29, 1), (30, 2), (50, 3), (100, 5), (2000, 100)];
    let failed: Vec<_> = cases
        .iter()
        .map(|(steps, want)| (steps, want, TrainConfig { steps: *steps, ..TrainConfig::default() }.warmup_steps()))
        .filter(|(_, want, got)| **want != *got)
        .collect();
    assert!(failed.is_empty(), "(steps, want, got): {failed:?}");
}

#[test]
fn edges_of_the_schedules() {
    let base = TrainConfig { lr: 2.0, steps: 4, ..TrainConfig::default() };
    let none = TrainConfig { warmup: Some(0), ..base.clone() };
    // Without warm-up, t = 2 of 4 is the middle of the cosine.
    assert!(close(none.lr(2), 2.0 * 0.505), "{}", none.lr(2));
    let all = TrainConfig { warmup: Some(4), ..base.clone() };
    assert_eq!((all.lr(2), all.lr(4), all.lr(5)), (1.0, 2.0, 2.0));
    let constant = TrainConfig { schedule: Schedule::Constant, ..base.clone() };
    assert_eq!((constant.lr(1), constant.lr(4)), (2.0, 2.0));
    let ramp = TrainConfig { schedule: Schedule::Constant, warmup: Some(2), ..base };
    assert_eq!((ramp.lr(1), ramp.lr(2), ramp.lr(3)), (1.0, 2.0, 2.0));
}

#[test]
fn ema_follows_the_formula() {
    let config = TrainConfig { steps: 6, ..TrainConfig::default() };
    let cases = [(0, 0.996), (2, 0.997), (3, 0.998), (4, 0.999), (6, 1.0), (7, 1.0)];
    let failed: Vec<_> =
        cases.iter().map(|(t, want)| (t, want, config.ema(*t))).filter(|(_, want, got)| !close(*got, **want)).collect();
    assert!(failed.is_empty(), "(t, want, got): {failed:?}");
    assert_eq!(TrainConfig { ema: Some(0.99), ..config }.ema(3), 0.99);
}

#[test]
fn validation_names_the_field() {
    let base = TrainConfig::default();
    base.validate().unwrap();
    let cases = [
        ("total_steps", TrainConfig { steps: 0, ..base.clone() }),
        ("batch", TrainConfig { batch: 0, ..base.clone() }),
        ("batch", TrainConfig { batch: usize::MAX, ..base.clone() }),
        ("micro_batches", TrainConfig { micro_batches: 0, ..base.clone() }),
        ("log_every", TrainConfig { log_every: 0, ..base.clone() }),
        ("memory_budget", TrainConfig { memory_budget: Some(0), ..base.clone() }),
        ("lr", TrainConfig { lr: 0.0, ..base.clone() }),
        ("lr", TrainConfig { lr: f64::NAN, ..base.clone() }),
        ("eps", TrainConfig { eps: -1.0, ..base.clone() }),
        ("weight_decay", TrainConfig { weight_decay: -0.1, ..base.clone() }),
        ("clip", TrainConfig { clip: f64::INFINITY, ..base.clone() }),
        ("beta1", TrainConfig { beta1: 1.0, ..base.clone() }),
        ("beta2", TrainConfig { beta2: -0.1, ..base.clone() }),
        ("hide_image", TrainConfig { hide_image: 1.1, ..base.clone() }),
        ("hide_text", TrainConfig { hide_image: 0.6, hide_text: 0.6, ..base.clone() }),
        ("ema", TrainConfig { ema: Some(1.5), ..base.clone() }),
        ("warmup", TrainConfig { steps: 5, warmup: Some(6), ..base.clone() }),
    ];
    let failed: Vec<_> = cases
        .iter()
        .map(|(field, config)| (field, config.validate()))
        .filter(|(field, got)| !matches!(got, Err(Error::Config { field: f, .. }) if *f == format!("train.{field}")))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    for crop in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(DataConfig { crop, ..DataConfig::default() }.validate().is_err(), "{crop}");
    }
}
