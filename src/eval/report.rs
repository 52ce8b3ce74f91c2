//! The numbers of one evaluation, under the names that scripts read.

use serde_json::{Map, Value as Json};

use super::image::Scores;
use super::retrieval::Retrieval;

/// What a model does on one part of the data. Parts that were not measured are left out of the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Which part: `train`, `test` … the end of every name.
    pub split: String,
    /// Images against their reconstructions.
    pub image: Option<Scores>,
    /// Images against the mean image of the training data: the score of knowing nothing.
    pub mean_image: Option<Scores>,
    /// Images against reconstructions from their caption alone.
    pub from_text: Option<Scores>,
    /// Share of the captions' tokens read back rightly from the latent.
    pub token_accuracy: Option<f64>,
    /// Finding captions by images.
    pub image_to_text: Option<Retrieval>,
    /// Finding images by captions.
    pub text_to_image: Option<Retrieval>,
}

impl Report {
    /// Every measured number with its name: `psnr_train`, `ssim_train`, `psnr_mean_image_train`, `psnr_from_text_train`,
    /// `token_accuracy_train`, `recall1_image_to_text_train`, `recall1_image_to_text_chance_train`,
    /// `mrr_image_to_text_train`, `queries_image_to_text_train` and so on.
    #[must_use]
    pub fn values(&self) -> Vec<(String, f64)> {
        let split = &self.split;
        let mut values = Vec::new();
        let images = [("", &self.image), ("_mean_image", &self.mean_image), ("_from_text", &self.from_text)];
        for (of, scores) in images {
            if let Some(scores) = scores {
                values.push((format!("psnr{of}_{split}"), scores.psnr()));
                values.push((format!("ssim{of}_{split}"), scores.ssim()));
            }
        }
        if let Some(accuracy) = self.token_accuracy {
            values.push((format!("token_accuracy_{split}"), accuracy));
        }
        for (of, found) in [("image_to_text", &self.image_to_text), ("text_to_image", &self.text_to_image)] {
            let Some(found) = found else { continue };
            for ((k, recall), (_, chance)) in found.recall.iter().zip(&found.chance) {
                values.push((format!("recall{k}_{of}_{split}"), *recall));
                values.push((format!("recall{k}_{of}_chance_{split}"), *chance));
            }
            values.push((format!("mrr_{of}_{split}"), found.mrr));
            values.push((format!("queries_{of}_{split}"), found.queries as f64));
        }
        values
    }

    /// The numbers as one JSON object; what is not finite becomes null.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Json> {
        self.values().into_iter().map(|(name, value)| (name, Json::from(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        let mut scores = Scores::default();
        scores.add(&[1.0; 121], &[0.9; 121], [1, 11, 11]).unwrap();
        let found =
            Retrieval { recall: vec![(1, 0.5), (5, 0.75)], chance: vec![(1, 0.1), (5, 0.4)], mrr: 0.6, queries: 8 };
        let report = Report {
            split: "train".into(),
            image: Some(scores),
            mean_image: Some(Scores::default()),
            token_accuracy: Some(1.0),
            image_to_text: Some(found),
            ..Report::default()
        };
        let json = report.to_json();
        let names: Vec<_> = json.keys().map(String::as_str).collect();
        let want = [
            "psnr_train",
            "ssim_train",
            "psnr_mean_image_train",
            "ssim_mean_image_train",
            "token_accuracy_train",
            "recall1_image_to_text_train",
            "recall1_image_to_text_chance_train",
            "recall5_image_to_text_train",
            "recall5_image_to_text_chance_train",
            "mrr_image_to_text_train",
            "queries_image_to_text_train",
        ];
        assert_eq!(names, want);
        assert!((json["psnr_train"].as_f64().unwrap() - 20.0).abs() < 1e-5);
        assert!(json["psnr_mean_image_train"].is_null(), "no image: not a number");
        assert_eq!(json["recall5_image_to_text_train"], 0.75);
        assert!(Report::default().values().is_empty());
    }
}
