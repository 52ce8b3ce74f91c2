//! Shared by the device tests: one GPU context per process, with checks and poison on.
#![allow(dead_code, reason = "each test file uses a part")]

use mmae::Context;
use mmae::device::{ContextOptions, Storage};
use mmae::kernels::Entry;

/// Whether tests may pass without an adapter (`MMAE_REQUIRE_DEVICE=1` forbids it; `scripts/test.sh` sets it).
fn required() -> bool {
    std::env::var_os("MMAE_REQUIRE_DEVICE").is_some()
}

/// A GPU context for tests, or `None` (said on stderr) where the machine has no adapter.
pub fn gpu(half: Storage, no_immediates: bool) -> Option<Context> {
    // The run without immediates is the one that also tries the tiles of hardware.
    open(ContextOptions { no_immediates, as_hardware: no_immediates, half: Some(half), ..Default::default() })
}

/// The same with options of the test's own; checks and poison are on.
pub fn open(options: ContextOptions) -> Option<Context> {
    let options = ContextOptions {
        device: std::env::var("MMAE_TEST_DEVICE").unwrap_or_else(|_| "auto".into()),
        checks: true,
        poison: true,
        ..options
    };
    let context = Context::new(&options).expect("a context");
    if context.is_cpu() {
        assert!(
            !required(),
            "no adapter, and MMAE_REQUIRE_DEVICE is set: run scripts/test.sh, which installs a driver"
        );
        eprintln!("no adapter: device tests skipped");
        return None;
    }
    Some(context)
}

/// Whether a device can run a kernel's cases in a storage; says so where not.
pub fn runs(entry: &Entry, context: &Context, dtype: mmae::DType) -> bool {
    let missing = (entry.missing)(context, dtype);
    if let Some(why) = missing {
        println!("skipped: {} in {dtype}: {why}", entry.kernel.name);
    }
    missing.is_none()
}

/// `MMAE_KERNEL=name` restricts a run to one kernel.
pub fn selected(name: &str) -> bool {
    std::env::var("MMAE_KERNEL").map_or(true, |wanted| wanted.split(',').any(|w| w == name))
}
