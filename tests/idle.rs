//! The device has nothing to do while data is waited for, and the host sees it.
#![cfg(feature = "data")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mmae::Context;
use mmae::data::{Dataset, Loader, LoaderOptions, Tokenizer};
use mmae::device::Storage;
use mmae::model::config::{ModelConfig, m2ae_tiny};
use mmae::train::config::RunConfig;
use mmae::train::trainer::Trainer;

#[test]
fn a_slow_loader_lets_the_device_wait() {
    let Some(ctx) = common::gpu(Storage::F16Packed, false) else { return };
    let folder = tempfile::tempdir().unwrap();
    image::RgbImage::from_pixel(16, 16, image::Rgb([200, 0, 0])).save(folder.path().join("0.png")).unwrap();
    std::fs::write(folder.path().join("captions.csv"), "file,caption\n0.png,red\n").unwrap();
    let dataset = Arc::new(Dataset::open(folder.path()).unwrap());
    let tokenizer = Arc::new(Tokenizer::train(&dataset.captions(), 300).unwrap());
    let model = ModelConfig { image_size: 16, width: 16, heads: 2, vocab: tokenizer.vocab(), ..m2ae_tiny() };
    let mut config = RunConfig::new(model);
    config.train.batch = 2;
    let mut trainer = Trainer::new(&ctx, &config).unwrap();
    let options = LoaderOptions {
        batch: trainer.samples_per_step(),
        image_size: 16,
        text_length: config.model.text_length,
        workers: 1,
        ahead: 1,
        ..LoaderOptions::default()
    };
    assert_eq!(Context::cpu().idle(), None);
    assert_eq!(ctx.pipelines(), 0, "nothing was submitted so far but uploads");
    // The share of ten steps in which the device waits; a batch takes `pause` to make.
    let mut share = |pause: Duration, polling: bool| {
        let preparer = trainer.preparer();
        let slow = move |batch| {
            std::thread::sleep(pause);
            preparer.prepare(&batch)
        };
        let mut loader = Loader::with(Arc::clone(&dataset), Arc::clone(&tokenizer), options, slow).unwrap();
        let mut step = || {
            let mut meanwhile = || {
                if polling {
                    ctx.poll()
                }
            };
            trainer.step_prepared(loader.next_batch_while(&mut meanwhile).unwrap().unwrap()).unwrap();
        };
        (0..3).for_each(|_| step());
        ctx.wait().unwrap();
        let (start, before) = (Instant::now(), ctx.idle().unwrap());
        (0..10).for_each(|_| step());
        ctx.wait().unwrap();
        (ctx.idle().unwrap() - before).as_secs_f64() / start.elapsed().as_secs_f64()
    };
    let fast = share(Duration::ZERO, true);
    let slow = share(Duration::from_millis(300), true);
    let unseen = share(Duration::from_millis(300), false);
    println!(
        "share of time that the device waited: {fast:.2}, with a slow loader {slow:.2}, without looking {unseen:.2}"
    );
    assert!((0.0..=1.0).contains(&fast) && slow <= 1.0);
    assert!(slow > 0.4 && slow > 1.5 * fast, "a slow loader raises it: {fast:.2} to {slow:.2}");
    assert!(unseen < slow / 2.0, "who does not look meanwhile sees less: {unseen:.2} of {slow:.2}");
}
