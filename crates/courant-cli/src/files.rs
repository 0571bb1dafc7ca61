//! The few files beside the data directory that the command line reads or writes: a settings file, a token
//! file, what the system says of itself under `/proc` and `/sys`, and the ledger and the report of
//! `courant torture`.
//! Nothing else here touches `std::fs`.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

/// Reads a whole file of text.
///
/// # Errors
/// What the system says, or that there is more than `bytes_max`.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    // Files under `/proc` say that they are empty, so that only reading tells their size.
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {bytes_max} bytes"),
        ));
    }
    Ok(text)
}

/// Opens a file that is read piece by piece.
///
/// # Errors
/// What the system says.
pub(crate) fn open(path: &Path) -> io::Result<BufReader<File>> {
    File::open(path).map(BufReader::new)
}

/// Writes a file of text, in place of one that is there.
///
/// # Errors
/// What the system says.
pub(crate) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("text");
        std::fs::write(&path, "12345").expect("a file");
        assert_eq!(read_text(&path, 5).expect("it fits"), "12345");
        assert_eq!(read_text(&path, 4).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        let gone = read_text(&directory.path().join("gone"), 5).expect_err("no file");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(read_text(directory.path(), 5).is_err(), "a directory");
    }
}
