//! Recording into an application's encoder: what may stand inside, and what is refused there.
#![cfg(feature = "data")]

mod common;

use mmae::device::Storage;
use mmae::kernels::add;
use mmae::model::config::m2ae_tiny;
use mmae::model::inputs::HostBatch;
use mmae::train::config::RunConfig;
use mmae::train::trainer::Trainer;
use mmae::{DType, Error, Tensor};

#[test]
fn what_submits_is_refused_and_the_encoder_stays_usable() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let (device, queue) = gpu.wgpu().unwrap();
    let x = Tensor::from_f32(&gpu, &[5], &[1.0, 2.0, 3.0, 4.0, 5.0], DType::F32).unwrap();
    let mut config = RunConfig::new(m2ae_tiny());
    config.train.batch = 1;
    let mut trainer = Trainer::new(&gpu, &config).unwrap();
    let model = &trainer.model.config;
    let inputs = trainer.model.inputs(&HostBatch {
        image: &vec![0.5; model.pixels()],
        tokens: &vec![0; model.text_length],
        has_image: &[true],
        has_text: &[false],
        show_image: &[true],
        show_text: &[false],
    });
    let inputs = inputs.unwrap();

    let mut encoder = device.create_command_encoder(&Default::default());
    let sum = gpu.encode_into(&mut encoder, || {
        let sum = add::launch(&gpu, &x, &x)?;
        let mut inner = device.create_command_encoder(&Default::default());
        let refused = [
            ("reading", sum.to_f32().err()),
            ("submitting", gpu.submit().err()),
            ("waiting", gpu.wait().err()),
            ("nesting", gpu.encode_into(&mut inner, || Ok(())).err()),
            ("training", trainer.step_on(&inputs).err()),
        ];
        for (what, error) in refused {
            let message = error.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(matches!(error, Some(Error::Check { .. })), "{what}: {error:?}");
            assert!(message.contains("encode_into"), "{what}: {message}");
        }
        add::launch(&gpu, &sum, &x)
    });
    let sum = sum.unwrap();
    // Nothing has run yet: the encoder is the application's to submit.
    queue.submit([encoder.finish()]);
    assert_eq!(sum.to_f32().unwrap(), [3.0, 6.0, 9.0, 12.0, 15.0]);
    gpu.submit().unwrap();
}
