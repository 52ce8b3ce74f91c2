//! Captions to token ids and back.
//!
//! A new tokenizer is a byte-level BPE trained on the captions, lower-cased and NFC-normalised. A user's own
//! `tokenizer.json` works too. In both cases the model sees id 0 as padding.

use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence, Strip};
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::error::{Error, Result};

/// The id that fills rows after the caption.
pub const PAD: u32 = 0;
/// The special tokens of a trained tokenizer, with ids 0 to 3.
const SPECIAL: [&str; 4] = ["<pad>", "<start>", "<end>", "<unk>"];
/// What other tokenizers call these, in the order of preference.
const PAD_NAMES: [&str; 4] = ["<pad>", "[PAD]", "<|pad|>", "<|padding|>"];
const START_NAMES: [&str; 6] = ["<start>", "<|startoftext|>", "<s>", "[CLS]", "<bos>", "<|begin_of_text|>"];
const END_NAMES: [&str; 7] = ["<end>", "<|endoftext|>", "</s>", "[SEP]", "<eos>", "<|end_of_text|>", "<|im_end|>"];

/// Captions to rows of ids and back: `<start> words <end>`, then zeros.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Added to every id of `inner`: 1 when its id 0 is a word, so that 0 stays free for padding.
    shift: u32,
    start: u32,
    end: u32,
    vocab: usize,
}

impl Tokenizer {
    /// Train on captions, with at most `vocab` ids, special ones included. The same captions in any order give the same
    /// bytes. Bytes that occur in no caption become `<unk>`.
    ///
    /// # Errors
    /// A `vocab` without room for the bytes of the captions.
    pub fn train<S: AsRef<str>>(captions: &[S], vocab: usize) -> Result<Self> {
        let mut captions: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
        captions.sort_unstable();
        let special = SPECIAL.map(|name| AddedToken::from(name, true)).to_vec();
        // No word-end suffix: the trainer would number the suffixed letters in the order of a randomly seeded hash map.
        let trainer = BpeTrainer::builder().show_progress(false).vocab_size(vocab).special_tokens(special).build();
        let mut inner = untrained().map_err(|e| Error::config("tokenizer", e))?;
        inner
            .train(&mut TrainerWrapper::from(trainer), captions.into_iter())
            .map_err(|e| Error::config("tokenizer", format_args!("training failed: {e}")))?;
        let tokenizer = Self::new(inner.into()).map_err(|reason| Error::config("tokenizer", reason))?;
        if tokenizer.vocab > vocab {
            let reason = format!(
                "{vocab} is too few: the captions alone have {} different bytes and special tokens",
                tokenizer.vocab
            );
            return Err(Error::config("model.vocab", reason));
        }
        Ok(tokenizer)
    }

    /// Load a `tokenizer.json`, ours or any that names a start and an end token. When its id 0 is not a padding token all
    /// its ids are shifted up by one, so that 0 remains padding and [`Tokenizer::vocab`] is one more.
    ///
    /// # Errors
    /// A file that cannot be read or is no tokenizer, or one without start and end tokens.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        Self::parse(&bytes).map_err(|reason| Error::data(path, reason))
    }

    /// The same from the bytes of such a file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|reason| Error::data("tokenizer.json", reason))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| format!("not a tokenizer.json: {e}"))?;
        Self::new(inner)
    }

    fn new(mut inner: tokenizers::Tokenizer) -> Result<Self, String> {
        // Rows are cut and filled here; and a caption that spells `<end>` is text, not the end of the caption.
        inner.with_truncation(None).map_err(|e| e.to_string())?.with_padding(None);
        inner.set_encode_special_tokens(true);
        let find = |what: &str, names: &[&str]| {
            let found = names.iter().find_map(|name| inner.token_to_id(name));
            found.ok_or_else(|| format!("it has no {what} token (looked for {})", names.join(", ")))
        };
        let (start, end) = (find("start", &START_NAMES)?, find("end", &END_NAMES)?);
        let first = inner.id_to_token(0);
        let shift = u32::from(!first.is_some_and(|name| PAD_NAMES.contains(&name.as_str())));
        let last = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let vocab = last as usize + 1 + shift as usize;
        Ok(Self { inner, shift, start: start + shift, end: end + shift, vocab })
    }

    /// The number of ids, padding included: every id is below it.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The id before the first word.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// The id after the last word.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// `length` ids: `<start> words <end>`, then zeros. A long caption loses its last words, never the end token.
    ///
    /// # Errors
    /// A `length` below 2, or a word that a user's tokenizer refuses.
    pub fn encode(&self, caption: &str, length: usize) -> Result<Vec<u32>> {
        if length < 2 {
            return Err(Error::config("model.text_length", "at least 2: the start and the end token"));
        }
        // A caption longer than any row could hold is cut first, so that the time is bounded whatever the input.
        let caption = prefix(caption, length.saturating_mul(256).max(4096));
        let encoding = self
            .inner
            .encode_fast(caption, false)
            .map_err(|e| Error::data("caption", format_args!("the tokenizer refuses it: {e}")))?;
        let mut row = Vec::with_capacity(length);
        row.push(self.start);
        row.extend(encoding.get_ids().iter().take(length - 2).map(|id| id + self.shift));
        row.push(self.end);
        row.resize(length, PAD);
        Ok(row)
    }

    /// The words of a row up to its first end token; padding, start tokens and unknown ids leave no trace.
    pub fn decode(&self, row: &[u32]) -> String {
        let words: Vec<u32> = row
            .iter()
            .take_while(|&&id| id != self.end)
            .filter(|&&id| id != PAD && id != self.start && (id as usize) < self.vocab)
            .map(|id| id - self.shift)
            .collect();
        self.inner.decode(&words, true).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// The `tokenizer.json`, which [`Tokenizer::from_bytes`] reads back.
    ///
    /// # Errors
    /// Only when the library cannot write what it read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.inner.to_string(true).map(String::into_bytes).map_err(|e| Error::data("tokenizer.json", e))
    }
}

type Bpe = tokenizers::TokenizerImpl<ModelWrapper, Sequence, ByteLevel, ByteLevel, ByteLevel>;

fn untrained() -> tokenizers::Result<Bpe> {
    let model = BPE::builder().unk_token("<unk>".to_owned()).fuse_unk(true).build()?;
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let normalizer = Sequence::new(vec![NFC.into(), Lowercase.into(), spaces.into(), Strip::new(true, true).into()]);
    TokenizerBuilder::new()
        .with_model(model.into())
        .with_normalizer(Some(normalizer))
        // A space before the first word makes it the same token as in the middle of a caption.
        .with_pre_tokenizer(Some(ByteLevel::new(true, false, true)))
        .with_post_processor(None)
        .with_decoder(Some(ByteLevel::default()))
        .build()
}

/// The longest prefix of at most `limit` bytes.
fn prefix(text: &str, limit: usize) -> &str {
    let cut = (0..=limit.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..cut).unwrap_or("")
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
