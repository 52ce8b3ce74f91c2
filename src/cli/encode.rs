//! `mmae encode`: the latents of a data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::{Common, open_device, print, print_json};
use crate::data::Dataset;
use crate::error::Result;
use crate::train::index::Index;
use crate::train::load::LoadedRun;

/// Encode every sample of a data set: unit latents of images and captions in one safetensors file
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a run, or of one checkpoint
    run: PathBuf,
    /// The data set; without it the one that the run was trained on
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Where the latents go: `z_image` and `z_text`, row i for sample i, with names and captions in the metadata
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Only the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The checkpoint of this step instead of the latest
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let device = open_device(common)?;
    let loaded = LoadedRun::open(&device, &args.run, args.checkpoint)?;
    let index = encode(&loaded, &args.run, args.data.as_deref(), args.limit, common)?;
    index.save(&args.out)?;
    let (images, texts) = (index.candidates(true).1.len(), index.candidates(false).1.len());
    if common.json {
        return print_json(&json!({
            "out": args.out.to_string_lossy(),
            "step": index.step,
            "latent": index.width,
            "samples": index.entries.len(),
            "images": images,
            "texts": texts,
            "skipped": index.skipped,
        }));
    }
    let (samples, out) = (index.entries.len(), args.out.display());
    print(format_args!("{samples} samples ({images} images, {texts} captions) of {} values in {out}", index.width))
}

/// Encodes `data`, or what the run was trained on, and says on stderr how it goes.
pub(super) fn encode(
    loaded: &LoadedRun,
    run: &Path,
    data: Option<&Path>,
    limit: Option<usize>,
    common: &Common,
) -> Result<Index> {
    let path = data.unwrap_or_else(|| Path::new(&loaded.config.data.path));
    let dataset = Arc::new(Dataset::open(path)?.first(limit.unwrap_or(usize::MAX)));
    let all = dataset.len();
    let index = Index::encode(loaded, run, &dataset, |done| common.detail(format_args!("encoded {done} of {all}")))?;
    common.skipped(&index.skipped);
    Ok(index)
}
