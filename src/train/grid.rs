//! A picture of what a model makes of samples: input, reconstruction and reconstruction from the text alone side by side,
//! the caption and the caption read back underneath.

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};
use image::imageops::{FilterType, overlay, resize};
use image::{ImageEncoder, Rgb, RgbImage};

use crate::error::{Error, Result};

/// Narrowest tile, in pixels.
const TILE: usize = 128;
/// Space around tiles and lines of text, in pixels.
const GAP: usize = 8;
/// Side of a letter, in pixels.
const LETTER: usize = 8;
/// Lines of a caption at most.
const LINES: usize = 2;
/// Letters that the label before a caption takes.
const LABEL: usize = 10;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const MISSING: Rgb<u8> = Rgb([232, 232, 232]);
const INK: Rgb<u8> = Rgb([30, 30, 30]);
const READ_BACK: Rgb<u8> = Rgb([0, 90, 170]);
const HEADINGS: [&str; 3] = ["input", "reconstruction", "from text alone"];

/// One sample. Images are `(3, S, S)`, row-major; values are clamped to [0, 1] here.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The image itself; a grey tile when the sample has none.
    pub input: Option<Vec<f32>>,
    /// The reconstruction from all that the sample has.
    pub reconstruction: Option<Vec<f32>>,
    /// The reconstruction from the caption alone.
    pub from_text: Option<Vec<f32>>,
    /// The caption; empty when the sample has none.
    pub caption: String,
    /// The caption that the model reads back.
    pub read_back: String,
}

/// Draws samples with images of side `size`, one below the other.
///
/// # Errors
/// [`Error::Shape`] when an image is not `(3, size, size)` or `size` is 0 or above 4096.
pub fn draw(samples: &[Sample], size: usize) -> Result<RgbImage> {
    if !(1..=4096).contains(&size) {
        return Err(Error::shape("sample grid", "images with a side of 1 to 4096", size));
    }
    let tile = size * TILE.div_ceil(size);
    let scale = if tile >= 2 * TILE { 2 } else { 1 };
    let line = LETTER * scale + GAP / 2;
    let row = tile + GAP / 2 + 2 * LINES * line + 2 * GAP;
    let (width, head) = (GAP + HEADINGS.len() * (tile + GAP), GAP + line);
    let mut grid = RgbImage::from_pixel(pixels(width)?, pixels(head + samples.len() * row)?, PAPER);
    for (column, heading) in HEADINGS.iter().enumerate() {
        write(&mut grid, heading, (GAP + column * (tile + GAP), GAP), tile, scale, INK);
    }
    for (at, sample) in samples.iter().enumerate() {
        let top = head + at * row;
        for (column, image) in [&sample.input, &sample.reconstruction, &sample.from_text].into_iter().enumerate() {
            let picture = match image {
                Some(values) => enlarged(values, size, tile)?,
                None => RgbImage::from_pixel(pixels(tile)?, pixels(tile)?, MISSING),
            };
            overlay(&mut grid, &picture, (GAP + column * (tile + GAP)) as i64, top as i64);
        }
        let mut below = top + tile + GAP / 2;
        let letters = (width - 2 * GAP) / (LETTER * scale);
        for (label, text, colour) in [("caption", &sample.caption, INK), ("read back", &sample.read_back, READ_BACK)] {
            for (number, part) in wrapped(text, letters - LABEL).into_iter().enumerate() {
                let label = if number == 0 { label } else { "" };
                write(&mut grid, &format!("{label:LABEL$}{part}"), (GAP, below), width - 2 * GAP, scale, colour);
                below += line;
            }
        }
    }
    Ok(grid)
}

/// The picture as PNG.
///
/// # Errors
/// [`Error::Check`] when the encoder refuses.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(picture.as_raw(), picture.width(), picture.height(), image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::Check { what: "encoding the sample grid".into(), detail: e.to_string() })?;
    Ok(bytes)
}

fn pixels(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::shape("sample grid", "a picture of at most 2^32 pixels a side", length))
}

/// An image (3, S, S) as 8-bit RGB, S = `size`; values are clamped to [0, 1].
///
/// # Errors
/// [`Error::Shape`] when it is not that.
pub fn picture(values: &[f32], size: usize) -> Result<RgbImage> {
    let plane = size * size;
    if values.len() != 3 * plane {
        let expected = format!("(3, {size}, {size}), {} values", 3 * plane);
        return Err(Error::shape("sample grid", expected, format!("{} values", values.len())));
    }
    // `as u8` clamps to 0 … 255 and takes NaN to 0.
    let byte = |value: &f32| (value * 255.0).round() as u8;
    let (red, rest) = values.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    let bytes = red.iter().zip(green).zip(blue).flat_map(|((r, g), b)| [byte(r), byte(g), byte(b)]).collect();
    RgbImage::from_raw(pixels(size)?, pixels(size)?, bytes)
        .ok_or_else(|| Error::shape("sample grid", "an image of 3 channels", values.len()))
}

/// An image enlarged by a whole factor. Catmull-Rom keeps edges sharper than a linear filter and hides the pixel lattice
/// that would distract from what the model drew.
fn enlarged(values: &[f32], size: usize, tile: usize) -> Result<RgbImage> {
    let small = picture(values, size)?;
    Ok(resize(&small, pixels(tile)?, pixels(tile)?, FilterType::CatmullRom))
}

/// Writes one line of text, cut to `width` pixels with "..." at the end; letters the font lacks become `?`.
fn write(grid: &mut RgbImage, text: &str, (left, top): (usize, usize), width: usize, scale: usize, colour: Rgb<u8>) {
    for (at, letter) in cut(text, width / (LETTER * scale)).chars().enumerate() {
        for (y, bits) in glyph(letter).into_iter().enumerate() {
            for x in (0..LETTER).filter(|x| bits >> x & 1 == 1) {
                let corner = (left + (at * LETTER + x) * scale, top + y * scale);
                for (dx, dy) in (0..scale * scale).map(|i| (i % scale, i / scale)) {
                    if let Some(pixel) = grid.get_pixel_mut_checked((corner.0 + dx) as u32, (corner.1 + dy) as u32) {
                        *pixel = colour;
                    }
                }
            }
        }
    }
}

/// Bits of a letter, a byte per row, the lowest bit leftmost. Printers' quotes and dashes become plain ones.
fn glyph(letter: char) -> [u8; 8] {
    let letter = match letter {
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2010}'..='\u{2015}' => '-',
        other => other,
    };
    let known = BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter)).or_else(|| GREEK_FONTS.get(letter));
    known.filter(|_| !letter.is_control()).or_else(|| BASIC_FONTS.get('?')).unwrap_or_default()
}

/// The text in at most [`LINES`] lines of `letters` letters, broken between words; what is too long for them stays in the
/// last, to be cut.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.len() == LINES;
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if full || line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters.saturating_sub(3)).chain("...".chars()).take(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_clamping() {
        let size = 33;
        let plane = size * size;
        let bright: Vec<f32> = (0..3 * plane).map(|i| if i < plane { 7.0 } else { -3.0 }).collect();
        let sample = Sample {
            input: Some(bright),
            reconstruction: Some(vec![f32::NAN; 3 * plane]),
            caption: "a".into(),
            ..Sample::default()
        };
        let grid = draw(&[sample.clone(), sample], size).unwrap();
        // 33 * 4 = 132 pixels a tile, three columns with gaps of 8; 20 for the headings, 132 + 4 + 4 * 12 + 16 a row.
        assert_eq!(grid.dimensions(), (8 + 3 * 140, 20 + 2 * 200));
        let at = |x, y| grid.get_pixel(x, y).0;
        for top in [20, 220] {
            assert_eq!(at(8, top), [255, 0, 0], "values above 1 and below 0 are clamped");
            assert_eq!(at(148, top + 60), [0, 0, 0], "NaN is black");
            assert_eq!(at(288 + 131, top + 131), MISSING.0);
            assert_eq!(at(4, top + 60), PAPER.0);
        }
        let bytes = png(&grid).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), grid);
    }

    #[test]
    fn tiles_are_whole_multiples() {
        for (size, tile) in [(1, 128), (32, 128), (96, 192), (127, 254), (128, 128), (224, 224), (300, 300)] {
            let grid = draw(&[Sample::default()], size).unwrap();
            assert_eq!(grid.width() as usize, GAP + 3 * (tile + GAP), "side {size}");
        }
        assert!(draw(&[], 32).is_ok());
        assert!(draw(&[], 0).is_err() && draw(&[], 1 << 20).is_err());
        let wrong = Sample { from_text: Some(vec![0.0; 5]), ..Sample::default() };
        assert!(draw(&[wrong], 32).is_err());
    }

    #[test]
    fn text_is_cut_and_unknown_letters_become_question_marks() {
        let cases = [
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc..."),
            ("éé\u{1F600}é", 3, "..."),
            ("abc", 2, ".."),
            ("a", 0, ""),
        ];
        for (text, letters, want) in cases {
            assert_eq!(cut(text, letters), want, "{text} in {letters}");
        }
        let cases = [
            ("", vec![""]),
            (" one\ntwo ", vec!["one two"]),
            ("one two three", vec!["one two", "three"]),
            ("one two three four five", vec!["one two", "three four five"]),
            ("extraordinary cat", vec!["extraordinary", "cat"]),
        ];
        for (text, want) in cases {
            assert_eq!(wrapped(text, 7), want, "{text:?}");
        }
        let question = BASIC_FONTS.get('?').unwrap();
        assert_eq!([glyph('\u{1F600}'), glyph('\n'), glyph('字')], [question; 3]);
        assert_ne!(glyph('é'), question);
        assert_ne!(glyph('Ω'), question);
        assert_eq!([glyph('\u{201c}'), glyph('\u{2014}')], [glyph('"'), glyph('-')]);
        let long = Sample { caption: "W".repeat(1000), ..Sample::default() };
        let grid = draw(&[long], 32).unwrap();
        assert!((0..grid.height()).all(|y| grid.get_pixel(grid.width() - 1, y).0 == PAPER.0), "text stays inside");
    }
}
