//! Random bytes as text of some format, for the fuzz targets of every crate (`#[path]`: test code makes no crate).

/// Bytes as text that gets beyond its first character: half of them stand for a word of the format, the others for
/// themselves.
pub fn spelled(bytes: &[u8], words: &[&str]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match words.get(usize::from(*byte) % (2 * words.len())) {
            Some(word) => text.push_str(word),
            None => text.push(char::from(*byte)),
        }
    }
    text
}
