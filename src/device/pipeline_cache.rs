//! Compiled pipelines as bytes that outlive the process, where the backend has a pipeline cache.
//!
//! No files here: the caller keeps the bytes, or does not. They are what the driver gave, behind a header of our own, since
//! neither wgpu nor every driver looks whether its data is damaged: magic, who made it, length, checksum.

use super::context::{Context, Executor, lock};
use super::hash::fnv1a;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"mmaepipe";
/// Format of the header and version of this program. Caches only grow: those of another version would keep its pipelines too.
const MAKER: &str = concat!("1 ", env!("CARGO_PKG_VERSION"));
/// Magic, hash of the maker, length, checksum.
const HEADER_BYTES: usize = 8 + 3 * 8;

/// The pipeline cache of a context.
pub(super) struct Kept {
    pub(super) cache: wgpu::PipelineCache,
    /// Checksum of its data when it was made from data, before anything was compiled. Not that of the data it was made from:
    /// SwiftShader returns that with 32 bytes more each time.
    began: Option<u64>,
}

impl Context {
    /// A name for what [`Context::save_pipelines`] returns on this device: the name of a file, say. `None` where the device has
    /// no pipeline cache; the other two functions then do nothing.
    #[must_use]
    pub fn pipelines_key(&self) -> Option<String> {
        let (device, _) = self.wgpu().filter(|_| self.0.capabilities.pipeline_cache)?;
        wgpu::util::pipeline_cache_key(&device.adapter_info())
    }

    /// Begins to collect compiled pipelines, with those that [`Context::save_pipelines`] of an earlier process returned. To be
    /// called before the first launch. Bytes of another version of this crate or of the driver are silently left out.
    ///
    /// # Errors
    /// `Error::Check` for bytes that are damaged or belong to another device. The driver never sees them, and the context
    /// collects from nothing: the error is there to warn with.
    ///
    /// # Safety
    /// `saved` was returned by [`Context::save_pipelines`]. What happened to it by accident since is found by its checksum, but
    /// drivers trust their data, and bytes that were made up on purpose may do anything.
    pub unsafe fn load_pipelines(&self, saved: Option<&[u8]>) -> Result<()> {
        let Executor::Gpu { recorder, device, .. } = &self.0.executor else { return Ok(()) };
        if !self.0.capabilities.pipeline_cache {
            return Ok(());
        }
        let data = saved.map_or(Ok(None), unseal);
        // SAFETY: by this function's contract the data came from `get_data`; `unseal` saw that it is whole and unchanged.
        let opened = data.and_then(|data| unsafe { open(device, data) });
        let (kept, outcome) = match opened {
            Ok(kept) => (Some(kept), Ok(())),
            // SAFETY: there is no data.
            Err(error) => (unsafe { open(device, None) }.ok(), Err(error)),
        };
        lock(recorder).pipelines.kept = kept;
        outcome
    }

    /// The pipelines that were loaded and those compiled since, for the next process. `None` when there is nothing to be kept:
    /// no [`Context::load_pipelines`] before, nothing compiled, or nothing that had not been loaded.
    #[must_use]
    pub fn save_pipelines(&self) -> Option<Vec<u8>> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return None };
        let recorder = lock(recorder);
        let kept = recorder.pipelines.kept.as_ref().filter(|_| recorder.pipelines.len() > 0)?;
        let data = kept.cache.get_data()?;
        let checksum = fnv1a(data.iter().copied());
        (kept.began != Some(checksum)).then(|| seal(&data, checksum))
    }
}

/// A pipeline cache that begins with `data`.
///
/// # Errors
/// `Error::Check` for data of another device.
///
/// # Safety
/// `data` was returned by `get_data` of such a cache and is unchanged.
unsafe fn open(device: &wgpu::Device, data: Option<&[u8]>) -> Result<Kept> {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("mmae"), data, fallback: true };
    // SAFETY: the caller's promise, word for word what wgpu asks for.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    match pollster::block_on(scope.pop()) {
        Some(error) => Err(refused(error.to_string())),
        None => {
            let began = data.and_then(|_| cache.get_data()).map(fnv1a);
            Ok(Kept { cache, began })
        }
    }
}

fn seal(data: &[u8], checksum: u64) -> Vec<u8> {
    let numbers = [fnv1a(MAKER.bytes()), data.len() as u64, checksum];
    let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
    MAGIC.iter().copied().chain(numbers).chain(data.iter().copied()).collect()
}

/// The data behind the header, `None` for that of another version.
fn unseal(saved: &[u8]) -> Result<Option<&[u8]>> {
    if !saved.starts_with(MAGIC) {
        return Err(refused("this is no pipeline cache"));
    }
    let Some((header, data)) = saved.split_at_checked(HEADER_BYTES) else {
        return Err(refused("the data is cut short"));
    };
    let mut numbers =
        header.chunks_exact(8).skip(1).map(|bytes| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
    let (maker, length, checksum) = (numbers.next(), numbers.next(), numbers.next());
    if maker != Some(fnv1a(MAKER.bytes())) {
        return Ok(None);
    }
    if length != Some(data.len() as u64) {
        return Err(refused("the data is cut short, or there is too much of it"));
    }
    if checksum != Some(fnv1a(data.iter().copied())) {
        return Err(refused("the data is damaged: its checksum does not fit"));
    }
    Ok(Some(data))
}

fn refused(detail: impl Into<String>) -> Error {
    Error::Check { what: "loading compiled pipelines".into(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// wgpu refuses a cache of another device, so that handing one over shows that pipelines are made with it. No software driver
    /// puts anything into its cache that would show it otherwise.
    #[test]
    fn pipelines_are_made_with_the_cache() {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
        let required_features = wgpu::Features::PIPELINE_CACHE;
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let Some(adapter) = found.into_iter().find(|adapter| adapter.features().contains(required_features)) else {
            return eprintln!("no adapter has a pipeline cache: skipped");
        };
        let required_limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
        let adopt = || {
            let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
            Context::from_wgpu(&adapter, &device, &queue)
        };
        let put = |context: &Context, kept: Option<Kept>| match &context.0.executor {
            Executor::Gpu { recorder, .. } => std::mem::replace(&mut lock(recorder).pipelines.kept, kept),
            _ => None,
        };
        let (own, other) = (adopt(), adopt());
        // SAFETY: there is no data.
        unsafe { other.load_pipelines(None) }.unwrap();
        put(&own, put(&other, None));
        let x = crate::Tensor::from_f32(&own, &[1, 4], &[0.0; 4], crate::DType::F32).unwrap();
        let refused = crate::kernels::gelu::launch(&own, &x).expect_err("a cache of another device");
        assert!(refused.to_string().contains("PipelineCache"), "{refused}");
        put(&own, None);
        crate::kernels::gelu::launch(&own, &x).expect("without it");
    }

    #[test]
    fn data_comes_back_and_no_byte_may_change() {
        let data: Vec<u8> = (0..=99).collect();
        let whole = seal(&data, fnv1a(data.iter().copied()));
        assert_eq!(unseal(&whole).unwrap(), Some(&data[..]));
        let accepted = |bytes: &[u8]| matches!(unseal(bytes), Ok(Some(_)));
        let changed = (0..whole.len()).filter(|&i| {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x10;
            accepted(&bytes)
        });
        assert_eq!(changed.collect::<Vec<_>>(), [0; 0], "bytes that may change");
        let cut = (0..whole.len()).filter(|&length| accepted(&whole[..length]));
        assert_eq!(cut.collect::<Vec<_>>(), [0; 0], "lengths that are enough");
        assert!(!accepted(&[&whole[..], &[0]].concat()), "a byte more");
    }
}
