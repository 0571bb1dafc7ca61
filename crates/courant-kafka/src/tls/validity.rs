//! From when until when a certificate is good. Nothing else of a certificate is read here: the rest is the business of
//! those who have to trust it.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

/// Tags of DER (X.690).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when until when a certificate is good, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub from: Timestamp,
    /// Its last second.
    pub until: Timestamp,
}

impl Validity {
    /// That of a certificate; `None` if that cannot be read.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (mut fields, _) = expect(SEQUENCE, certificate)?;
        if let Some((_, rest)) = expect(VERSION, fields) {
            fields = rest;
        }
        // The serial number, the algorithm, and who has issued it.
        for _ in 0..3 {
            (_, _, fields) = element(fields)?;
        }
        let (validity, _) = expect(SEQUENCE, fields)?;
        let (tag, from, validity) = element(validity)?;
        let from = time(tag, from)?;
        let (tag, until, _) = element(validity)?;
        Some(Self { from, until: time(tag, until)? })
    }
}

/// The first element, if it has this tag: what is in it, and what follows.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, what is in it, and what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // Nothing in a file that was read whole takes more.
        let is_short = (1..=4).contains(&bytes.len());
        let length = bytes
            .iter()
            .try_fold(0_usize, |length, byte| length.checked_mul(256)?.checked_add(usize::from(*byte)));
        (length.filter(|_| is_short)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time as RFC 5280 has them (4.1.2.5): with seconds, and in UTC.
fn time(tag: u8, content: &[u8]) -> Option<Timestamp> {
    let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => (format!("20{}", &digits[..2]), &digits[2..]),
        (UTC_TIME, 12) => (format!("19{}", &digits[..2]), &digits[2..]),
        (GENERALIZED_TIME, 14) => (digits[..4].to_owned(), &digits[4..]),
        _ => return None,
    };
    // The last second of that year stands for no end at all, and is more than a timestamp holds.
    if year == "9999" {
        return Some(Timestamp::MAX);
    }
    let part = |at: usize| &rest[at..at + 2];
    let text = format!("{year}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8));
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tag: u8, text: &str) -> Option<String> {
        time(tag, text.as_bytes()).map(|time| time.to_string())
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(shown(UTC_TIME, "270131120005Z").as_deref(), Some("2027-01-31T12:00:05Z"));
        assert_eq!(shown(UTC_TIME, "491231235959Z").as_deref(), Some("2049-12-31T23:59:59Z"));
        assert_eq!(shown(UTC_TIME, "500101000000Z").as_deref(), Some("1950-01-01T00:00:00Z"));
        assert_eq!(shown(GENERALIZED_TIME, "20560229000000Z").as_deref(), Some("2056-02-29T00:00:00Z"));
        assert_eq!(time(GENERALIZED_TIME, b"99991231235959Z"), Some(Timestamp::MAX));
        for (tag, bad) in [
            (UTC_TIME, "270131120005"),
            (UTC_TIME, "2701311200Z"),
            (UTC_TIME, "20270131120005Z"),
            (UTC_TIME, "271331120005Z"),
            (UTC_TIME, "+70131120005Z"),
            (GENERALIZED_TIME, "270131120005Z"),
            (GENERALIZED_TIME, "20270131120005+0100"),
            (SEQUENCE, "270131120005Z"),
        ] {
            assert_eq!(time(tag, bad.as_bytes()), None, "{tag} {bad}");
        }
    }

    /// A file can claim whatever it likes.
    #[test]
    fn lengths_that_lead_out_of_the_file_are_refused() {
        for bad in [
            &[] as &[u8],
            &[SEQUENCE],
            &[SEQUENCE, 1],
            &[SEQUENCE, 0x80, 0],
            &[SEQUENCE, 0x82, 1],
            &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
            &[SEQUENCE, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0],
            &[SEQUENCE, 0xff, 0],
        ] {
            assert_eq!(element(bad), None, "{bad:?}");
        }
        assert_eq!(element(&[4, 0x81, 1, 7, 9]), Some((4, &[7][..], &[9][..])));
        assert_eq!(Validity::of(&CertificateDer::from(vec![SEQUENCE, 2, SEQUENCE, 0])), None);
    }
}
