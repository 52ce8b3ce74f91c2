//! From encoded images to square 8-bit pixels, and from those to the numbers of a batch.

use std::io::Cursor;
use std::panic::catch_unwind;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::sample::{Blob, MAX_IMAGE_BYTES};
use crate::error::Result;

/// The longest side of an image that is decoded, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most bytes of decoded pixels, before any conversion.
pub const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Read, decode and fit one image: (S, S, 3) bytes.
///
/// # Errors
/// An unreadable, oversized or broken file, named.
pub fn load(blob: &Blob, side: usize) -> Result<Vec<u8>> {
    let bytes = blob.read(MAX_IMAGE_BYTES)?;
    if bytes.is_empty() {
        return Err(blob.error("the image file is empty"));
    }
    // A fault in a decoder must cost one record, not the run; nothing outside the closure is changed by it.
    let decoded = catch_unwind(|| decode(&bytes)).unwrap_or_else(|_| Err("the image decoder failed".to_owned()));
    decoded.and_then(|image| fit(&image, side)).map_err(|reason| blob.error(reason))
}

/// Decode a PNG, JPEG or WebP to 8-bit RGB: orientation applied as its EXIF data asks, transparency laid over white.
///
/// # Errors
/// The reason in words; the caller knows the file.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if reader.format().is_none() {
        return Err("not a PNG, JPEG or WebP image".to_owned());
    }
    if reader.format() == Some(image::ImageFormat::Jpeg) && !jpeg_has_end(bytes) {
        // The decoder would fill the missing rows with grey.
        return Err("cannot be decoded: the file ends inside the image".to_owned());
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| match e {
        image::ImageError::Limits(_) => {
            format!("larger than {MAX_SIDE} pixels or {} MiB; make it smaller", MAX_DECODED_BYTES >> 20)
        }
        other => format!("cannot be decoded: {other}"),
    })?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(format!("decodes to {} MiB, more than {}", decoder.total_bytes() >> 20, MAX_DECODED_BYTES >> 20));
    }
    // Broken EXIF data is no reason to refuse good pixels.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| format!("cannot be decoded: {e}"))?;
    image.apply_orientation(orientation);
    if image.width() == 0 || image.height() == 0 {
        return Err("the image has no pixels".to_owned());
    }
    Ok(if image.color().has_alpha() { over_white(image) } else { image.into_rgb8() })
}

/// Whether an end marker (0xffd9) follows the start of the first scan. Segments before it are skipped by their length,
/// because an embedded preview has an end marker of its own.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xff, kind, high, low, ..] = *rest {
        if kind == 0xda {
            return rest.windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        // 0xff may be repeated before a marker.
        let step = if kind == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
        rest = rest.get(step..).unwrap_or_default();
    }
    // Not the usual layout: let the decoder judge.
    rest.len() >= 4
}

fn over_white(image: DynamicImage) -> RgbImage {
    let image = image.into_rgba8();
    let blend = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0;
        image::Rgb([blend(r, a), blend(g, a), blend(b, a)])
    })
}

/// Scale the shorter side to `side` and cut the centre: (S, S, 3) bytes, row-major.
///
/// # Errors
/// The reason in words, when `side` is 0 or too large.
pub fn fit(image: &RgbImage, side: usize) -> Result<Vec<u8>, String> {
    let options = ResizeOptions::new().fit_into_destination(Some((0.5, 0.5)));
    resize(image.as_raw(), image.width(), image.height(), side, &options)
}

/// Lanczos with three lobes, widened by the scale when shrinking (antialiased), on interleaved RGB bytes.
pub(super) fn resize(
    rgb: &[u8],
    width: u32,
    height: u32,
    side: usize,
    options: &ResizeOptions,
) -> Result<Vec<u8>, String> {
    let side = u32::try_from(side)
        .ok()
        .filter(|side| (1..=MAX_SIDE).contains(side))
        .ok_or("the image side is out of range")?;
    let source = ImageRef::new(width, height, rgb, PixelType::U8x3).map_err(|e| e.to_string())?;
    let mut target = Image::new(side, side, PixelType::U8x3);
    let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| e.to_string())?;
    Ok(target.into_vec())
}

/// Append (S, S, 3) bytes as (3, S, S) floats in [0, 1].
pub fn append_planes(pixels: &[u8], out: &mut Vec<f32>) {
    for channel in 0..3 {
        out.extend(pixels.iter().skip(channel).step_by(3).map(|&byte| f32::from(byte) / 255.0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{encode, png};
    use super::*;
    use image::ImageFormat::{Jpeg, Png, WebP};
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba};

    /// Left half red, right half blue, upper row brighter.
    fn corners(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let value = if y < height / 2 { 250 } else { 120 };
            if x < width / 2 { Rgb([value, 0, 0]) } else { Rgb([0, 0, value]) }
        })
    }

    #[test]
    fn every_pixel_form_becomes_rgb() {
        let gray = DynamicImage::ImageLuma8(GrayImage::from_pixel(4, 4, Luma([77])));
        let gray16 = DynamicImage::ImageLuma16(ImageBuffer::from_pixel(4, 4, Luma([0x8080])));
        let rgb16 = DynamicImage::ImageRgb16(ImageBuffer::from_pixel(4, 4, Rgb([0xffff, 0x8080, 0])));
        let clear = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(4, 4, Rgba([9, 9, 9, 0])));
        let half = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(4, 4, Rgba([255, 0, 0, 128])));
        let gray_alpha = DynamicImage::ImageLumaA8(ImageBuffer::from_pixel(4, 4, LumaA([0, 255])));
        let rgba16 = DynamicImage::ImageRgba16(ImageBuffer::from_pixel(4, 4, Rgba([0, 0, 0xffff, 0x8080])));
        let plain = DynamicImage::ImageRgb8(RgbImage::from_pixel(4, 4, Rgb([10, 200, 30])));
        let cases = [
            ("gray", encode(&gray, Png), [77, 77, 77], 0),
            ("gray 16", encode(&gray16, Png), [128, 128, 128], 0),
            ("rgb 16", encode(&rgb16, Png), [255, 128, 0], 0),
            ("clear", encode(&clear, Png), [255, 255, 255], 0),
            ("half clear", encode(&half, Png), [255, 127, 127], 0),
            ("gray alpha", encode(&gray_alpha, Png), [0, 0, 0], 0),
            ("rgba 16", encode(&rgba16, Png), [127, 127, 255], 0),
            ("jpeg", encode(&plain, Jpeg), [10, 200, 30], 6),
            ("gray jpeg", encode(&gray, Jpeg), [77, 77, 77], 3),
            ("webp", encode(&plain, WebP), [10, 200, 30], 0),
            ("palette", PALETTE_PNG.to_vec(), [255, 0, 0], 0),
        ];
        let mut failures = Vec::new();
        for (name, bytes, wanted, tolerance) in cases {
            match decode(&bytes) {
                Ok(image) => {
                    let got = image.get_pixel(0, 0).0;
                    if got.iter().zip(wanted).any(|(&a, b)| a.abs_diff(b) > tolerance) {
                        failures.push(format!("{name}: {got:?}, wanted {wanted:?}"));
                    }
                }
                Err(e) => failures.push(format!("{name}: {e}")),
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }

    /// 1x1, colour type 3, palette (255, 0, 0).
    const PALETTE_PNG: &[u8] = &[
        0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0,
        0, 0, 0x28, 0xcb, 0x34, 0xbb, 0, 0, 0, 3, b'P', b'L', b'T', b'E', 255, 0, 0, 0x19, 0xe2, 0x09, 0x37, 0, 0, 0,
        10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1, 0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I',
        b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
    ];

    /// The JPEG with an EXIF segment that holds nothing but the orientation.
    fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let tiff =
            [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0, 0]].concat();
        let exif = [b"Exif\0\0".as_slice(), &tiff].concat();
        let length = (exif.len() + 2) as u16;
        [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn exif_orientation_is_applied() {
        let jpeg = encode(&DynamicImage::ImageRgb8(corners(32, 16)), Jpeg);
        // Orientation, size, then the kind of the upper left corner: 'R'ed or 'B'lue, bright (capital) or dark.
        let cases = [
            (1, 32, 'R'),
            (2, 32, 'B'),
            (3, 32, 'b'),
            (4, 32, 'r'),
            (5, 16, 'R'),
            (6, 16, 'r'),
            (7, 16, 'b'),
            (8, 16, 'B'),
        ];
        for (orientation, width, wanted) in cases {
            let image = decode(&with_orientation(&jpeg, orientation)).unwrap();
            let [r, _, b] = image.get_pixel(1, 1).0;
            let got = match (r > b, r.max(b) > 200) {
                (true, true) => 'R',
                (true, false) => 'r',
                (false, true) => 'B',
                (false, false) => 'b',
            };
            assert_eq!((image.width(), got), (width, wanted), "orientation {orientation}");
        }
    }

    #[test]
    fn broken_and_oversized_images_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let good = encode(&DynamicImage::ImageRgb8(corners(64, 64)), Png);
        let jpeg = encode(&DynamicImage::ImageRgb8(corners(64, 64)), Jpeg);
        let huge = |width: u32, height: u32| {
            let mut bytes = PALETTE_PNG[..16].to_vec();
            bytes.extend(width.to_be_bytes());
            bytes.extend(height.to_be_bytes());
            bytes.extend([8, 2, 0, 0, 0]);
            let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[12..29]);
            bytes.extend(checksum.to_be_bytes());
            bytes.extend(&PALETTE_PNG[33..]);
            bytes
        };
        let cases: [(&str, Vec<u8>, &str); 9] = [
            ("empty.png", Vec::new(), "is empty"),
            ("text.png", b"hello, this is text".to_vec(), "not a PNG"),
            ("cut.png", good[..good.len() / 2].to_vec(), "cannot be decoded"),
            ("header.png", good[..20].to_vec(), "cannot be decoded"),
            ("header.jpg", jpeg[..100].to_vec(), "cannot be decoded"),
            ("cut.jpg", with_orientation(&jpeg[..jpeg.len() - 20], 1), "ends inside"),
            ("wide.png", huge(20_000, 20_000), "larger than 16384"),
            ("heavy.png", huge(16_000, 16_000), "MiB"),
            ("missing.png", Vec::new(), "cannot open"),
        ];
        for (name, bytes, wanted) in cases {
            let path = dir.path().join(name);
            if name != "missing.png" {
                std::fs::write(&path, bytes).unwrap();
            }
            let error = load(&Blob::file(&path, "line 3"), 8).map(|_| "decoded").unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains(name) && error.contains("line 3"), "{name}: {error}");
        }
        assert!(decode(&png(1, 1, [1, 2, 3])).is_ok());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let good = [Png, Jpeg, WebP].map(|format| encode(&DynamicImage::ImageRgb8(corners(9, 7)), format));
        for (kind, bytes) in good.iter().enumerate() {
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x55;
                assert!(catch_unwind(|| decode(&bad).is_ok()).is_ok(), "kind {kind}, byte {at}");
                assert!(catch_unwind(|| decode(&bytes[..at]).is_ok()).is_ok(), "kind {kind}, cut at {at}");
            }
        }
    }

    #[test]
    fn the_centre_square_is_kept_at_every_size() {
        // Three vertical bands: only the middle one, as wide as the image is high, may be seen.
        let bands =
            RgbImage::from_fn(90, 30, |x, _| Rgb(if (30..60).contains(&x) { [0, 255, 0] } else { [255, 0, 0] }));
        for side in [1, 7, 16, 30, 64] {
            let pixels = fit(&bands, side).unwrap();
            assert_eq!(pixels.len(), side * side * 3);
            // As after scaling the whole image: the filter of the outermost pixels reaches over the cut a little.
            assert!(pixels.chunks(3).all(|p| p[0] < 70 && p[1] > 185 && p[2] == 0), "side {side}");
            let centre = (side / 2 * side + side / 2) * 3;
            assert!(side < 7 || pixels[centre..centre + 3] == [0, 255, 0], "side {side}");
        }
        assert!(fit(&bands, 0).is_err());
    }

    #[test]
    fn shrinking_averages_and_planes_come_channel_first() {
        let checks = RgbImage::from_fn(64, 64, |x, y| Rgb(if (x + y) % 2 == 0 { [255, 0, 51] } else { [0, 0, 51] }));
        let pixels = fit(&checks, 4).unwrap();
        let mut planes = Vec::new();
        append_planes(&pixels, &mut planes);
        assert_eq!(planes.len(), 3 * 16);
        assert!(planes[..16].iter().all(|v| (v - 0.5).abs() < 0.02), "{:?}", &planes[..16]);
        assert!(planes[16..32].iter().all(|&v| v == 0.0) && planes[32..].iter().all(|&v| v == 0.2));
    }
}
