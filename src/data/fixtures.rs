//! Small images, archives and folders for the tests of this layer.

use std::io::Cursor;
use std::path::Path;

/// A PNG of one colour.
pub fn png(width: u32, height: u32, rgb: [u8; 3]) -> Vec<u8> {
    encode(
        &image::DynamicImage::ImageRgb8(image::RgbImage::from_pixel(width, height, image::Rgb(rgb))),
        image::ImageFormat::Png,
    )
}

/// Any image in any format that is compiled in.
pub fn encode(image: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// One tar header with its padded data; `kind` is the type flag (`0` file, `2` symbolic link). Written by hand because
/// the library refuses to write the names that must be refused here.
pub fn tar_entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A tar archive of plain files.
pub fn tar(path: &Path, entries: &[(&str, &[u8])]) {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|(name, data)| tar_entry(name, b'0', data)).collect();
    bytes.resize(bytes.len() + 1024, 0);
    std::fs::write(path, bytes).unwrap();
}

/// A folder with `captions.csv`: row `i` has a PNG of its own colour and the caption `caption i`; rows in `bad` have a
/// file that is no image.
pub fn folder(path: &Path, rows: usize, bad: &[usize]) {
    let mut table = "file,caption\n".to_owned();
    for i in 0..rows {
        let bytes = if bad.contains(&i) { b"no image".to_vec() } else { png(3, 2, [i as u8, 100, 200]) };
        std::fs::write(path.join(format!("{i}.png")), bytes).unwrap();
        table += &format!("{i}.png,caption {i}\n");
    }
    std::fs::write(path.join("captions.csv"), table).unwrap();
}
