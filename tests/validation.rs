//! A mistake that the Vulkan validation layer must object to. `scripts/parity.sh validation` plants it first, and trusts the
//! layer's silence about everything else only then.
#![cfg(target_os = "linux")]

mod common;

use mmae::device::Storage;
use mmae::wgpu;
use wgpu::hal::api::Vulkan;

#[test]
#[ignore = "writes a buffer twice without a barrier; scripts/parity.sh validation runs it and expects the layer to object"]
fn two_writes_without_a_barrier() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let (device, queue) = gpu.wgpu().unwrap();
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("planted hazard"),
        size: 16,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    // SAFETY: the handles are used while their owners live, and both fills stay inside the buffer. That nothing orders them
    // is the mistake; either value may remain, and nobody reads it.
    unsafe {
        let raw = device.as_hal::<Vulkan>().expect("a Vulkan device").raw_device().clone();
        let target = buffer.as_hal::<Vulkan>().expect("a Vulkan buffer").raw_handle();
        encoder.as_hal_mut::<Vulkan, _, _>(|encoder| {
            let commands = encoder.expect("a Vulkan encoder").raw_handle();
            raw.cmd_fill_buffer(commands, target, 0, 16, 1);
            raw.cmd_fill_buffer(commands, target, 0, 16, 2);
        });
    }
    queue.submit([encoder.finish()]);
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
}
