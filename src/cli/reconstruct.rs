//! `mmae reconstruct`: an image or a caption through the model and back.

use std::path::PathBuf;

use serde_json::json;

use super::{Common, open_device, print, print_json};
use crate::data::batch_from;
use crate::error::Result;
use crate::eval::image::psnr;
use crate::model::generate::Shown;
use crate::train::evaluate::upload;
use crate::train::load::LoadedRun;
use crate::train::{files, grid};

/// Reconstruct an image from an image, from a caption, or from both, and read the caption back
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("shown").required(true).multiple(true).args(["image", "text"]))]
pub struct Args {
    /// Folder of a run, or of one checkpoint
    run: PathBuf,
    /// The image to show to the model
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The caption to show to the model
    #[arg(long, value_name = "CAPTION")]
    text: Option<String>,
    /// Where the reconstruction goes
    #[arg(long, value_name = "PNG", default_value = "reconstruction.png")]
    out: PathBuf,
    /// The checkpoint of this step instead of the latest
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let device = open_device(common)?;
    let loaded = LoadedRun::open(&device, &args.run, args.checkpoint)?;
    let model = &loaded.config.model;
    let (image, text) = (args.image.as_deref(), args.text.as_deref());
    let batch = batch_from(&loaded.tokenizer, image, text, model.image_size, model.text_length)?;
    let made = loaded.model.reconstruct(&upload(&loaded.model, &batch)?, Shown::Both)?;
    files::write(&args.out, &grid::png(&grid::picture(&made.image, model.image_size)?)?)?;
    let caption = loaded.tokenizer.decode(&made.tokens);
    let psnr = image.map(|_| psnr(&batch.image, &made.image)).transpose()?;
    if common.json {
        let out = args.out.to_string_lossy();
        return print_json(&json!({ "step": loaded.step, "out": out, "caption": caption, "psnr": psnr }));
    }
    print(format_args!("image    {} ({} x {})", args.out.display(), model.image_size, model.image_size))?;
    if let Some(psnr) = psnr {
        print(format_args!("PSNR     {psnr:.2} dB"))?;
    }
    print(format_args!("caption  {caption}"))
}
