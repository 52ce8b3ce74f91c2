use super::*;

fn captions() -> Vec<String> {
    let things = ["dog", "cat", "red heart", "Grinning face", "blue square", "café crème", "T-Rex", "piñata"];
    let forms = ["a photo of a {}", "{} with sunglasses", "the {}", "{}, smiling", "person’s {}"];
    things.iter().flat_map(|thing| forms.iter().map(move |form| form.replace("{}", thing))).collect()
}

#[test]
fn rows_start_end_and_decode_to_readable_text() {
    let tokenizer = Tokenizer::train(&captions(), 300).unwrap();
    assert_eq!((tokenizer.start(), tokenizer.end()), (1, 2));
    assert!(tokenizer.vocab() > 50 && tokenizer.vocab() <= 300, "{}", tokenizer.vocab());
    let cases = [
        ("A Photo of a DOG", "a photo of a dog"),
        ("  the \t red\n heart ", "the red heart"),
        ("cafe\u{301} cre\u{300}me", "café crème"),
        ("t-rex, smiling", "t-rex, smiling"),
        ("person’s piñata", "person’s piñata"),
        ("", ""),
    ];
    for (text, wanted) in cases {
        let row = tokenizer.encode(text, 40).unwrap();
        let end = row.iter().position(|&id| id == 2).unwrap();
        assert_eq!((row.len(), row[0]), (40, 1), "{text}");
        assert!(row[1..end].iter().all(|&id| id > 3 && (id as usize) < tokenizer.vocab()), "{text}: {row:?}");
        assert!(row[end + 1..].iter().all(|&id| id == 0), "{text}: {row:?}");
        assert_eq!(tokenizer.decode(&row), wanted, "{row:?}");
    }
    let dog = tokenizer.encode("dog", 5).unwrap();
    assert_eq!(dog[2], 2, "a frequent word is one token: {dog:?}");
    assert_eq!(tokenizer.encode("the dog", 5).unwrap()[2], dog[1], "the same in the middle");
}

#[test]
fn long_captions_keep_the_end_token() {
    let tokenizer = Tokenizer::train(&captions(), 300).unwrap();
    for text in ["dog ".repeat(10_000), "é".repeat(1_000_000), "<end> <pad>".repeat(50)] {
        for length in [2, 3, 12] {
            let row = tokenizer.encode(&text, length).unwrap();
            assert_eq!((row.len(), row[0], row[length - 1]), (length, 1, 2));
            assert!(row[1..length - 1].iter().all(|id| ![0, 1, 2].contains(id)), "{row:?}");
        }
    }
    for length in [0, 1] {
        assert!(tokenizer.encode("dog", length).unwrap_err().to_string().contains("model.text_length"));
    }
}

#[test]
fn unseen_bytes_are_unknown_and_odd_ids_are_ignored() {
    let tokenizer = Tokenizer::train(&["abc", "abd"], 20).unwrap();
    let row = tokenizer.encode("日本", 5).unwrap();
    assert_eq!((row[2..].as_ref(), tokenizer.decode(&row).as_str()), ([3, 2, 0].as_slice(), ""), "space, unknown, end");
    assert_eq!(tokenizer.decode(&tokenizer.encode("abc日abd", 12).unwrap()), "abcabd");
    assert_eq!(tokenizer.decode(&[1, 0, 9999, u32::MAX, 2, 5]), "");
    assert_eq!(tokenizer.decode(&[]), "");
}

#[test]
fn training_is_deterministic_in_any_order() {
    let captions = captions();
    let mut reversed = captions.clone();
    reversed.reverse();
    for vocab in [60, 90, 300] {
        let first = Tokenizer::train(&captions, vocab).unwrap().to_bytes().unwrap();
        for _ in 0..10 {
            assert!(Tokenizer::train(&reversed, vocab).unwrap().to_bytes().unwrap() == first, "vocab {vocab}");
        }
        let again = Tokenizer::from_bytes(&first).unwrap();
        assert!(again.to_bytes().unwrap() == first, "vocab {vocab}");
        assert_eq!(
            again.encode("the dog, smiling", 9).unwrap(),
            Tokenizer::train(&captions, vocab).unwrap().encode("the dog, smiling", 9).unwrap()
        );
    }
}

#[test]
fn the_vocabulary_limit_is_held_or_refused() {
    let error = Tokenizer::train(&captions(), 10).unwrap_err().to_string();
    assert!(error.contains("model.vocab") && error.contains("10 is too few"), "{error}");
    let empty: [&str; 0] = [];
    assert_eq!(Tokenizer::train(&empty, 100).unwrap().vocab(), 4);
    assert_eq!(Tokenizer::train(&empty, 100).unwrap().encode("word", 4).unwrap(), [1, 3, 2, 0]);
}

fn foreign(vocab: &str, unknown: &str) -> String {
    format!(
        r#"{{"version":"1.0","truncation":{{"direction":"Right","max_length":3,"strategy":"LongestFirst","stride":0}},
        "padding":{{"strategy":{{"Fixed":20}},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}},
        "added_tokens":[],"normalizer":null,"pre_tokenizer":{{"type":"Whitespace"}},"post_processor":null,"decoder":null,
        "model":{{"type":"WordLevel","vocab":{{{vocab}}},"unk_token":"{unknown}"}}}}"#
    )
}

#[test]
fn foreign_tokenizers_keep_zero_for_padding() {
    let clip = foreign(r#""!":0,"dog":1,"runs":2,"<|startoftext|>":3,"<|endoftext|>":4"#, "!");
    let bert = foreign(r#""[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"dog":4,"runs":5"#, "[UNK]");
    let cases = [(clip, 6, vec![4, 2, 3, 2, 3, 5, 0, 0]), (bert, 6, vec![2, 4, 5, 4, 5, 3, 0, 0])];
    for (json, vocab, wanted) in cases {
        let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
        assert_eq!(tokenizer.vocab(), vocab);
        assert_eq!(tokenizer.encode("dog runs dog runs", 8).unwrap(), wanted);
        assert_eq!(tokenizer.decode(&wanted), "dog runs dog runs");
        let again = Tokenizer::from_bytes(&tokenizer.to_bytes().unwrap()).unwrap();
        assert_eq!(again.encode("dog runs dog runs", 8).unwrap(), wanted);
    }
}

#[test]
fn files_that_are_no_tokenizer_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    assert!(Tokenizer::from_file(&path).unwrap_err().to_string().contains("tokenizer.json"));
    let no_end = foreign(r#""<s>":0,"dog":1"#, "dog");
    let cases = [
        ("", "not a tokenizer.json"),
        ("{}", "not a tokenizer.json"),
        ("\u{0}\u{1}", "not a tokenizer.json"),
        (&no_end, "no end token"),
    ];
    for (text, wanted) in cases {
        std::fs::write(&path, text).unwrap();
        let error = Tokenizer::from_file(&path).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("tokenizer.json"), "{error}");
    }
    let refuses = Tokenizer::from_bytes(foreign(r#""<s>":0,"</s>":1"#, "none").as_bytes()).unwrap();
    assert!(refuses.encode("word", 4).unwrap_err().to_string().contains("refuses"));
}
