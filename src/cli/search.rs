//! `mmae search`: images and captions nearest to an image or a caption.

use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};
use serde_json::json;

use super::encode::encode;
use super::{Common, open_device, print, print_json};
use crate::data::batch_from;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::eval::search::{Hit, MOST_HITS, search};
use crate::train::evaluate::upload;
use crate::train::index::Index;
use crate::train::load::LoadedRun;

/// Find the images or captions nearest to a caption or an image, exactly, by cosine of the latents
#[derive(clap::Args)]
#[command(group = ArgGroup::new("query").required(true).args(["text", "image"]))]
#[command(group = ArgGroup::new("where").required(true).multiple(true).args(["run", "index"]))]
pub struct Args {
    /// Folder of a run; may be left out with --index, which knows its run
    run: Option<PathBuf>,
    /// Search in a file that `mmae encode` wrote; without it the data set is encoded first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "limit"])]
    index: Option<PathBuf>,
    /// Search in this data set instead of the one that the run was trained on
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Only in the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The caption to search for
    #[arg(long, value_name = "CAPTION")]
    text: Option<String>,
    /// The image to search for
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// What to find
    #[arg(long = "in", value_enum, default_value_t = Kind::Images)]
    kind: Kind,
    /// How many, at most 64
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=MOST_HITS as i64))]
    k: u32,
}

/// What is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Images,
    Texts,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let device = open_device(common)?;
    let (loaded, index) = prepare(&device, args, common)?;
    let model = &loaded.config.model;
    let (image, text) = (args.image.as_deref(), args.text.as_deref());
    let batch = batch_from(&loaded.tokenizer, image, text, model.image_size, model.text_length)?;
    let (z_image, z_text) = loaded.model.latents(&upload(&loaded.model, &batch)?)?;
    let query = if image.is_some() { z_image } else { z_text };
    let (rows, samples) = index.candidates(args.kind == Kind::Images);
    let hits = search(&device, &query, &rows, index.width, args.k as usize)?.pop().unwrap_or_default();
    // A row among the candidates is not yet a sample: those without the modality are no candidates.
    let found = hits.iter().filter_map(|hit| Some((hit, index.entries.get(*samples.get(hit.index)?)?)));
    if common.json {
        let hit = |(rank, (hit, entry)): (usize, (&Hit, &crate::train::index::Entry))| json!({ "rank": rank + 1, "score": hit.score, "id": entry.id, "caption": entry.caption });
        let hits: Vec<_> = found.enumerate().map(hit).collect();
        return print_json(&json!({ "step": index.step, "candidates": samples.len(), "hits": hits }));
    }
    print(format_args!("{:>4} {:>7}  {:<40} caption", "rank", "score", "id"))?;
    for (rank, (hit, entry)) in found.enumerate() {
        print(format_args!("{:>4} {:>7.4}  {:<40} {}", rank + 1, hit.score, entry.id, entry.caption))?;
    }
    Ok(())
}

/// The model and what to search in, encoded with the same weights.
fn prepare(device: &Context, args: &Args, common: &Common) -> Result<(LoadedRun, Index)> {
    if let Some(path) = &args.index {
        let index = Index::load(path)?;
        let run = args.run.as_ref().unwrap_or(&index.run);
        // A folder of one checkpoint has only that one; a run may have gone on since.
        let step = (!run.join("state.json").is_file()).then_some(index.step);
        let loaded = LoadedRun::open(device, run, step)?;
        if (loaded.step, loaded.config.model.latent) != (index.step, index.width) {
            let reason = format!(
                "encoded at step {} with latents of {}, the checkpoint is of step {} with {}; encode it anew",
                index.step, index.width, loaded.step, loaded.config.model.latent
            );
            return Err(Error::checkpoint(path, reason));
        }
        return Ok((loaded, index));
    }
    let Some(run) = &args.run else {
        return Err(Error::config("run", "name a run's folder, or a file of latents with --index"));
    };
    let loaded = LoadedRun::open(device, run, None)?;
    let index = encode(&loaded, run, args.data.as_deref(), args.limit, common)?;
    Ok((loaded, index))
}
