use std::path::Path;

use super::super::fixtures::folder;
use super::*;

fn options() -> LoaderOptions {
    LoaderOptions { batch: 4, image_size: 5, text_length: 6, seed: 3, workers: 2, ahead: 3, ..LoaderOptions::default() }
}

fn loader(path: &Path, options: LoaderOptions) -> Result<Loader> {
    let dataset = Arc::new(Dataset::open(path).unwrap());
    let tokenizer = Arc::new(Tokenizer::train(&dataset.captions(), 100).unwrap());
    Loader::new(dataset, tokenizer, options)
}

fn batches(path: &Path, options: LoaderOptions, count: usize) -> Vec<Batch> {
    let mut loader = loader(path, options).unwrap();
    (0..count).map(|_| loader.next_batch().unwrap()).collect()
}

#[test]
fn batches_do_not_depend_on_workers_cache_or_resumption() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 11, &[2, 7]);
    let augment = Augment { flip: true, crop: Some((0.5, 1.0)) };
    let options = LoaderOptions { augment, ..options() };
    let line = batches(dir.path(), options, 12);
    assert!(line.iter().all(|b| b.size == 4 && b.image.len() == 4 * 75 && b.tokens.len() == 24 && b.ids.len() == 4));
    for (workers, ahead, cache_bytes) in [(1, 1, 0), (5, 2, 0), (3, 50, 1 << 20), (0, 0, 700)] {
        assert!(
            batches(dir.path(), LoaderOptions { workers, ahead, cache_bytes, ..options }, 12) == line,
            "{workers} {ahead} {cache_bytes}"
        );
    }
    for start in [1, 5, 11] {
        let rest = batches(dir.path(), LoaderOptions { start_step: start as u64, ..options }, 12 - start);
        assert!(rest == line[start..], "resumed at {start}");
    }
    assert!(batches(dir.path(), LoaderOptions { seed: 4, ..options }, 12) != line);
}

#[test]
fn every_good_record_occurs_once_an_epoch_and_partial_batches_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 10, &[]);
    let seen: Vec<usize> = batches(dir.path(), options(), 5).iter().flat_map(|b| b.indices.clone()).collect();
    for epoch in seen.chunks(10) {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..10), "{epoch:?}");
    }
    assert_ne!(seen[..10], seen[10..]);
}

#[test]
fn one_sample_fills_any_batch() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 1, &[]);
    for batch in batches(dir.path(), options(), 3) {
        assert_eq!(batch.ids, ["0.png"; 4]);
    }
}

#[test]
fn a_bad_record_is_replaced_by_the_next_good_one_and_named_once() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 9, &[0, 4]);
    let mut loader = loader(dir.path(), options()).unwrap();
    let order = Order::new(3, 9);
    let mut walk = order.walk();
    for step in 0..6 {
        let batch = loader.next_batch().unwrap();
        let wanted: Vec<usize> = order
            .positions(step, 4)
            .map(|position| (position..).map(|p| walk.at(p).sample).find(|sample| ![0, 4].contains(sample)).unwrap())
            .collect();
        assert_eq!(batch.indices, wanted, "batch {step}");
    }
    assert_eq!(loader.step(), 6);
    let mut skipped = loader.skipped().to_vec();
    skipped.sort();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(
        skipped[0].contains("0.png") && skipped[0].contains("line 2") && skipped[1].contains("4.png"),
        "{skipped:?}"
    );
}

#[test]
fn too_many_bad_records_are_an_error_at_a_fixed_batch() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 12, &[1, 5, 6]);
    let failing = |workers| {
        let mut loader =
            loader(dir.path(), LoaderOptions { bad_limit: Some(2), workers, batch: 2, ..options() }).unwrap();
        let mut delivered = 0;
        loop {
            match loader.next_batch() {
                Ok(_) => delivered += 1,
                Err(error) => return (delivered, error.to_string(), loader.next_batch().unwrap_err().to_string()),
            }
        }
    };
    let (delivered, first, second) = failing(1);
    assert!(first.contains("3 of 12 records") && first.contains(".png"), "{first}");
    assert_eq!(first, second);
    for workers in [2, 4] {
        assert_eq!(failing(workers), (delivered, first.clone(), second.clone()));
    }
}

#[test]
fn a_set_of_bad_records_only_is_an_error_even_below_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 3, &[0, 1, 2]);
    let error = loader(dir.path(), options()).unwrap().next_batch().unwrap_err().to_string();
    assert!(error.contains("3 of 3 records"), "{error}");
}

#[test]
fn the_caption_of_several_is_drawn_by_seed_epoch_and_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("captions.json");
    std::fs::write(dir.path().join("a.png"), super::super::fixtures::png(2, 2, [1, 2, 3])).unwrap();
    let annotations: Vec<String> = (0..5).map(|i| format!(r#"{{"image_id":1,"caption":"number {i}"}}"#)).collect();
    let json = format!(r#"{{"images":[{{"id":1,"file_name":"a.png"}}],"annotations":[{}]}}"#, annotations.join(","));
    std::fs::write(&path, json).unwrap();
    let line: Vec<String> = batches(&path, options(), 30).into_iter().flat_map(|b| b.captions).collect();
    for i in 0..5 {
        let count = line.iter().filter(|caption| **caption == format!("number {i}")).count();
        assert!((10..40).contains(&count), "caption {i}: {count} of 120");
    }
    let tail: Vec<String> = batches(&path, LoaderOptions { start_step: 20, ..options() }, 10)
        .into_iter()
        .flat_map(|b| b.captions)
        .collect();
    assert_eq!(tail, line[80..]);
}

#[test]
fn dropping_a_loader_at_any_moment_ends() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 5, &[]);
    for taken in [0, 1, 3] {
        let mut loader = loader(dir.path(), LoaderOptions { workers: 3, ahead: 2, ..options() }).unwrap();
        for _ in 0..taken {
            loader.next_batch().unwrap();
        }
        drop(loader);
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 2, &[]);
    let cases = [
        (LoaderOptions { batch: 0, ..options() }, "train.batch"),
        (LoaderOptions { image_size: 0, ..options() }, "model.image_size"),
        (LoaderOptions { text_length: 1, ..options() }, "model.text_length"),
        (LoaderOptions { augment: Augment { flip: false, crop: Some((2.0, 3.0)) }, ..options() }, "data.crop"),
    ];
    for (options, wanted) in cases {
        let error = loader(dir.path(), options).map(|_| "started").unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
