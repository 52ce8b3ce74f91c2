//! `mmae eval`: how well a run reconstructs and retrieves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Common, open_device, print, print_json};
use crate::data::{Collator, Dataset};
use crate::error::Result;
use crate::eval::image::Scores;
use crate::eval::report::Report;
use crate::train::evaluate::{evaluate, mean_image};
use crate::train::load::LoadedRun;

/// Training images that the mean image is made of, at most: more would not move it.
const MEAN_OF: usize = 2048;

/// Measure a run on a data set: PSNR and SSIM of reconstructions, captions read back, recall of retrieval
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a run, or of one checkpoint
    run: PathBuf,
    /// The data set to measure on
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Only the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The checkpoint of this step instead of the latest
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// End of the names of the numbers in --json
    #[arg(long, value_name = "NAME", default_value = "eval")]
    split: String,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let device = open_device(common)?;
    let loaded = LoadedRun::open(&device, &args.run, args.checkpoint)?;
    let collator = collator(&loaded, &args.data, args.limit.unwrap_or(usize::MAX))?;
    let batch = loaded.config.train.batch;
    let trained_on = Path::new(&loaded.config.data.path);
    let mean = self::collator(&loaded, trained_on, MEAN_OF).and_then(|collator| mean_image(&collator, batch));
    if let Err(error) = &mean {
        common.note(format_args!("no mean image to compare with: {error}"));
    }
    let (report, skipped) = evaluate(&loaded.model, &collator, mean.ok().as_deref(), batch, &args.split)?;
    common.skipped(&skipped);
    if common.json {
        let mut json = report.to_json();
        json.insert("step".into(), loaded.step.into());
        json.insert("skipped".into(), skipped.into());
        return print_json(&json.into());
    }
    print(format_args!("{} at step {}, on {}", args.run.display(), loaded.step, args.data.display()))?;
    print(table(&report))
}

fn collator(loaded: &LoadedRun, path: &Path, most: usize) -> Result<Collator> {
    let model = &loaded.config.model;
    let (dataset, tokenizer) = (Dataset::open(path)?.first(most), loaded.tokenizer.clone());
    Collator::new(Arc::new(dataset), Arc::new(tokenizer), model.image_size, model.text_length, 0)
}

/// The measured numbers as lines of text.
fn table(report: &Report) -> String {
    let mut lines = Vec::new();
    let mut images = |what: &str, scores: &Option<Scores>| {
        if let Some(s) = scores {
            let (psnr, ssim, n) = (s.psnr(), s.ssim(), s.images());
            lines.push(format!("{what:<30} PSNR {psnr:6.2} dB   SSIM {ssim:.3}   {n} images"));
        }
    };
    images("reconstruction", &report.image);
    images("from the caption alone", &report.from_text);
    images("the mean image, for comparison", &report.mean_image);
    if let Some(accuracy) = report.token_accuracy {
        lines.push(format!("{:<30} {:5.1} % of tokens", "captions read back", 100.0 * accuracy));
    }
    for (what, found) in [("image to text", &report.image_to_text), ("text to image", &report.text_to_image)] {
        let Some(found) = found else { continue };
        for ((k, recall), (_, chance)) in found.recall.iter().zip(&found.chance) {
            let (recall, chance, what) = (100.0 * recall, 100.0 * chance, format!("recall@{k} {what}"));
            lines.push(format!("{what:<30} {recall:5.1} %   chance {chance:.1} %   {} queries", found.queries));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::retrieval::Retrieval;

    #[test]
    fn only_what_was_measured_is_shown() {
        assert_eq!(table(&Report::default()), "");
        let found = Retrieval { recall: vec![(10, 0.5)], chance: vec![(10, 0.05)], mrr: 0.2, queries: 200 };
        let text = table(&Report { token_accuracy: Some(0.25), image_to_text: Some(found), ..Report::default() });
        let lines: Vec<_> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            ["captions read back 25.0 % of tokens", "recall@10 image to text 50.0 % chance 5.0 % 200 queries"]
        );
    }
}
