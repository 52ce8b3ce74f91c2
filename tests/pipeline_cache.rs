//! Compiled pipelines kept for the next process: what comes back, what is refused, and what the command writes where.

mod common;

use std::path::Path;
use std::process::Command;

use mmae::device::ContextOptions;
use mmae::kernels::gelu;
use mmae::{Context, DType, Error, Tensor, wgpu};

/// Bytes of the header: magic, maker, length, checksum.
const HEADER: usize = 32;

/// A context on a device with a pipeline cache; `None`, said on stderr, where there is none.
fn device() -> Option<Context> {
    let context = common::open(ContextOptions::default())?;
    if context.pipelines_key().is_none() {
        eprintln!("the device has no pipeline cache: skipped");
        return None;
    }
    Some(context)
}

fn load(context: &Context, saved: Option<&[u8]>) -> Result<(), Error> {
    // SAFETY: what `save_pipelines` returned, or what must not come further than the checks that are tested here.
    unsafe { context.load_pipelines(saved) }
}

/// One kernel, so that there is something to keep.
fn compile(context: &Context) -> Vec<f32> {
    let x = Tensor::from_f32(context, &[2, 3], &[-1.0, 0.0, 0.5, 1.0, 2.0, 3.0], DType::F32).unwrap();
    gelu::launch(context, &x).unwrap().to_f32().unwrap()
}

fn saved() -> Option<Vec<u8>> {
    let first = device()?;
    load(&first, None).unwrap();
    assert_eq!(first.save_pipelines(), None, "nothing was compiled yet");
    compile(&first);
    Some(first.save_pipelines().expect("something was compiled"))
}

/// The checksum of the header, written down once more.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn what_was_saved_is_loaded_and_not_saved_again() {
    let Some(saved) = saved() else { return };
    let second = device().unwrap();
    load(&second, Some(&saved)).unwrap();
    let close = compile(&second).iter().zip(compile(&Context::cpu())).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close, "the results");
    assert_eq!(second.save_pipelines(), None, "all of it had been loaded");
}

#[test]
fn damaged_and_foreign_bytes_are_refused_and_replaced() {
    let Some(saved) = saved() else { return };
    // With a checksum that fits. Behind our header begins wgpu's: its adapter lies at byte 17, its driver at byte 32.
    let sealed = |at: usize| {
        let mut bytes = saved.clone();
        bytes[HEADER + at] ^= 1;
        let checksum = fnv1a(&bytes[HEADER..]);
        bytes[HEADER - 8..HEADER].copy_from_slice(&checksum.to_le_bytes());
        bytes
    };
    let flipped = |at: usize| {
        let mut bytes = saved.clone();
        bytes[at] ^= 1;
        bytes
    };
    let last = saved.len() - 1;
    let cases = [
        ("empty", Vec::new(), Some("no pipeline cache")),
        ("foreign", b"PNG or whatever, longer than a header".to_vec(), Some("no pipeline cache")),
        ("cut in the header", saved[..HEADER - 1].to_vec(), Some("cut short")),
        ("cut in the data", saved[..last].to_vec(), Some("cut short")),
        ("a byte more", [&saved[..], &[0]].concat(), Some("too much")),
        ("damaged data", flipped(last), Some("checksum")),
        ("damaged checksum", flipped(HEADER - 1), Some("checksum")),
        ("another adapter, whole", sealed(17), Some("different device")),
        ("another driver, whole", sealed(32), None),
        ("another version of this program", flipped(8), None),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, want) in cases {
        let context = device().unwrap();
        let said = load(&context, Some(&bytes)).err().map(|error| error.to_string());
        if said.is_some() != want.is_some() || !said.iter().all(|said| said.contains(want.unwrap_or_default())) {
            wrong.push(format!("{name}: {said:?}"));
        }
        compile(&context);
        match context.save_pipelines() {
            Some(again) => load(&device().unwrap(), Some(&again)).unwrap(),
            // Replaced only where the driver puts something into its data.
            None if name.starts_with("another driver") => {}
            None => wrong.push(format!("{name}: is not replaced")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_adopted_device_keeps_pipelines_if_it_has_the_feature() {
    let Some(own) = device() else { return };
    let info = own.wgpu().unwrap().0.adapter_info();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = found.into_iter().find(|a| a.get_info().name == info.name).expect("the same adapter");
    for (required_features, has) in [(wgpu::Features::empty(), false), (wgpu::Features::PIPELINE_CACHE, true)] {
        let required_limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let adopted = Context::from_wgpu(&adapter, &device, &queue);
        load(&adopted, None).unwrap();
        compile(&adopted);
        assert_eq!((adopted.pipelines_key().is_some(), adopted.save_pipelines().is_some()), (has, has));
    }
}

/// Files below `folder` that are this program's: drivers have caches there too.
fn own_files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("mmae")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The test of this name once more, in a process whose cache folder is empty and its own.
#[test]
fn a_plain_context_writes_nothing() {
    const CHILD: &str = "MMAE_TEST_CHILD";
    let Some(context) = device() else { return };
    if std::env::var_os(CHILD).is_some() {
        compile(&context);
        assert_eq!(context.save_pipelines(), None);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::args().next().unwrap());
    child.args(["--exact", "a_plain_context_writes_nothing"]).env(CHILD, "1").env("HOME", folder.path());
    let output = child.env("XDG_CACHE_HOME", folder.path()).env_remove("MMAE_PIPELINE_CACHE").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    assert_eq!(own_files(folder.path()), [""; 0]);
}

#[cfg(feature = "cli")]
mod command {
    use super::*;

    /// A short command that compiles pipelines, with `cache` as the user's cache folder. What it said on stderr.
    fn run(cache: &Path, variable: Option<&str>) -> String {
        let said = mmae(
            cache,
            variable,
            &["bench", "--filter", "gelu", "--sizes", "tiny", "--rounds", "3", "--round-ms", "1"],
        );
        String::from_utf8(said.stderr).unwrap()
    }

    fn mmae(cache: &Path, variable: Option<&str>, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmae"));
        command.args(arguments).env("XDG_CACHE_HOME", cache).env_remove("MMAE_PIPELINE_CACHE");
        command.args(["--device", &std::env::var("MMAE_TEST_DEVICE").unwrap_or_else(|_| "auto".into())]);
        if let Some(value) = variable {
            command.env("MMAE_PIPELINE_CACHE", value);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// What `mmae info --json` says of the file.
    fn info(cache: &Path, variable: Option<&str>) -> serde_json::Value {
        let output = mmae(cache, variable, &["info", "--json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["pipelines"].clone()
    }

    #[test]
    fn the_command_keeps_a_file_and_mends_it() {
        let Some(context) = device() else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path();
        let path = cache.join("mmae").join(format!("pipelines-{}", context.pipelines_key().unwrap()));
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(info(cache, None), serde_json::json!({ "file": path, "bytes": null, "reason": null }));
        assert!(!path.exists(), "nothing was compiled");

        assert!(!run(cache, None).contains("compiled again"));
        let whole = std::fs::read(&path).expect("a file");
        assert_eq!(own_files(cache).join(" "), name);
        assert_eq!(info(cache, None)["bytes"], whole.len());
        load(&context, Some(&whole)).unwrap();
        let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
        let before = written();
        assert!(!run(cache, None).contains("compiled again"));
        assert_eq!(written(), before, "nothing new, and written again");

        let mut damaged = whole.clone();
        damaged[HEADER + 3] ^= 1;
        for (bytes, why) in [(&damaged[..], "checksum"), (&whole[..whole.len() / 2], "cut short")] {
            std::fs::write(&path, bytes).unwrap();
            let said = run(cache, None);
            assert!(said.contains("warning: ") && said.contains(&name) && said.contains(why), "{said}");
            load(&context, Some(&std::fs::read(&path).unwrap())).expect("mended");
        }
        assert_eq!(own_files(cache).join(" "), name);
    }

    #[test]
    fn the_variable_moves_it_or_turns_it_off() {
        let Some(context) = device() else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        assert!(!run(&cache, Some("off")).contains("compiled again"));
        assert_eq!(info(&cache, Some("off"))["reason"], "MMAE_PIPELINE_CACHE=off");
        assert!(run(&cache, Some("relative/folder")).contains("absolute path"));
        assert_eq!(own_files(&cache), [""; 0]);

        let other = folder.path().join("other");
        assert!(!run(&cache, other.to_str()).contains("compiled again"));
        assert_eq!(own_files(&cache), [""; 0]);
        assert!(other.join(format!("pipelines-{}", context.pipelines_key().unwrap())).is_file());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_warning() {
        if device().is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "in the way").unwrap();
        let said = run(folder.path(), file.join("below").to_str());
        assert!(said.contains("warning: ") && said.contains("compiled again"), "{said}");
        // A folder that is there and takes no files, not even from the superuser.
        if cfg!(target_os = "linux") {
            let said = run(folder.path(), Some("/proc/self"));
            assert!(said.contains("warning: write /proc/self/pipelines-"), "{said}");
        }
    }

    #[test]
    fn two_commands_at_once_leave_one_whole_file() {
        let Some(context) = device() else { return };
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert!(!run(folder.path(), None).contains("compiled again")));
            }
        });
        let name = format!("pipelines-{}", context.pipelines_key().unwrap());
        assert_eq!(own_files(folder.path()).join(" "), name);
        load(&context, Some(&std::fs::read(folder.path().join("mmae").join(name)).unwrap())).unwrap();
    }
}
