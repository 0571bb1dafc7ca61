//! The key of a service, which requests are signed with.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What comes before a request when it is signed: a signature is of use for nothing else.
const PURPOSE: &[u8] = b"courant.ops/1\n";

/// Fewest bytes of a key: as many as a signature has.
const BYTES_MIN: usize = 32;

/// Most bytes of a key.
const BYTES_MAX: usize = 1024;

/// Letters of a signature in hexadecimal.
const SIGNATURE_LETTERS: usize = 64;

/// What the requests to a service are signed with: HMAC with SHA-256.
///
/// Whoever has it can decide about the dead letters of the service, and nobody else can. Each service has
/// its own.
#[derive(Clone, PartialEq, Eq)]
pub struct OperationsKey {
    key: Vec<u8>,
    is_enough: bool,
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It can be guessed.
    #[error(
        "the key has {bytes} bytes, and needs {min} at least: make one with `openssl rand -hex 32`",
        min = BYTES_MIN
    )]
    Short {
        /// Bytes that it has.
        bytes: usize,
    },
    /// It is no key but something else.
    #[error("the key has {bytes} bytes, and may have {max}: name the file of the key", max = BYTES_MAX)]
    Long {
        /// Bytes that it has.
        bytes: usize,
    },
}

impl OperationsKey {
    /// The key of a text, such as the contents of a file. White space around it does not count.
    ///
    /// # Errors
    /// It is too short or too long.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        let key = text.trim().as_bytes();
        match key.len() {
            bytes if bytes < BYTES_MIN => Err(InvalidKey::Short { bytes }),
            bytes if bytes > BYTES_MAX => Err(InvalidKey::Long { bytes }),
            _ => Ok(Self { key: key.to_vec(), is_enough: false }),
        }
    }

    /// The signature is to be enough where the engine lets everybody write who reaches it. Without this a
    /// service takes no requests there.
    #[must_use]
    pub fn signature_is_enough(mut self) -> Self {
        self.is_enough = true;
        self
    }

    /// Whether the signature is to be enough.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.is_enough
    }

    /// The signature of a request's text, in lower-case hexadecimal.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let Some(mac) = self.mac(text) else { return String::new() };
        hex(&mac.finalize().into_bytes())
    }

    /// Whether `signature` is the one of `text`. Takes as long whichever of its bytes is wrong.
    #[must_use]
    pub fn has_signed(&self, text: &str, signature: &str) -> bool {
        let signature = Some(signature).filter(|said| said.len() == SIGNATURE_LETTERS).and_then(unhex);
        let (Some(mac), Some(signature)) = (self.mac(text), signature) else { return false };
        mac.verify_slice(&signature).is_ok()
    }

    /// `None` never comes: keys of any length are taken.
    fn mac(&self, text: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(PURPOSE);
        mac.update(text.as_bytes());
        Some(mac)
    }
}

impl fmt::Debug for OperationsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperationsKey")
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The bytes of a hexadecimal text; `None`: it is none.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_signature_is_of_its_text_and_its_key() {
        let key = OperationsKey::new(TEXT).expect("long enough");
        let signature = key.sign("a");
        assert_eq!(signature.len(), 64);
        assert!(key.has_signed("a", &signature));
        assert!(key.has_signed("a", &signature.to_uppercase()));
        let other = OperationsKey::new(&TEXT.replace('0', "x")).expect("long enough");
        assert!(!other.has_signed("a", &signature));
        for (text, signature) in
            [("b", signature.as_str()), ("a", &signature[..62]), ("a", ""), ("a", "zz"), ("a", "abc")]
        {
            assert!(!key.has_signed(text, signature), "{text} {signature}");
        }
    }

    /// Written down in `docs/formats/services.md`: other programs sign, too.
    #[test]
    fn the_signature_is_the_one_of_the_page() {
        let key = OperationsKey::new(TEXT).expect("long enough");
        assert_eq!(key.sign("{}"), "396149e7fef468fe25b0d58a48fd902c6cd90716ba04f270987fe2892a1e1461");
    }

    #[test]
    fn a_key_that_can_be_guessed_is_none() {
        assert!(matches!(OperationsKey::new("secret"), Err(InvalidKey::Short { bytes: 6 })));
        assert!(matches!(OperationsKey::new(&"k".repeat(2000)), Err(InvalidKey::Long { bytes: 2000 })));
        assert!(OperationsKey::new(&format!("{TEXT}\n")).is_ok());
        assert_eq!(format!("{:?}", OperationsKey::new(TEXT)), "Ok(OperationsKey)");
    }

    #[test]
    fn bytes_come_back_from_hexadecimal() {
        assert_eq!(hex(&[0, 0xaf, 0xff]), "00afff");
        assert_eq!(unhex("00afFF"), Some(vec![0, 0xaf, 0xff]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("é0"), None);
    }
}
