//! `s3://BUCKET/PREFIX`: where backups are in a store.

use std::fmt;

use crate::limits::{BUCKET_BYTES_MAX, PREFIX_BYTES_MAX};

const SCHEME: &str = "s3://";
/// Besides letters and digits: what means itself in a key, in an address and in a shell.
const IN_PREFIX: &str = "-_.=+@,!";
const IN_BUCKET: &str = "-_.";

/// A bucket, and what the names of its objects begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    bucket: String,
    /// Without a `/` at its ends; empty for the whole bucket.
    prefix: String,
}

/// Why a text is no address in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnS3Url {
    /// It does not begin with `s3://`.
    #[error("write a place in an object store as s3://BUCKET/PREFIX")]
    Scheme,
    /// There is no such bucket.
    #[error(
        "`{bucket}` cannot be the name of a bucket: write s3://BUCKET/PREFIX, with letters, digits, `-`, `_` \
         and `.` in BUCKET; the address of the store itself goes into AWS_ENDPOINT_URL"
    )]
    Bucket {
        /// What stands in its place.
        bucket: String,
    },
    /// A character would have to be escaped.
    #[error(
        "{character:?} cannot stand in the prefix: use letters, digits, `/` and the characters {IN_PREFIX}"
    )]
    Character {
        /// Which one.
        character: char,
    },
    /// Stores and their tools see a part like this in different ways.
    #[error("the prefix has an empty part, or one that is `.` or `..`: take it out")]
    Part,
    /// There would be no room for the names of objects.
    #[error("the prefix has more than {PREFIX_BYTES_MAX} bytes: choose a shorter one")]
    TooLong,
}

impl S3Url {
    /// Reads an address. One `/` at its end means nothing.
    ///
    /// # Errors
    /// See [`NotAnS3Url`].
    pub fn parse(text: &str) -> Result<Self, NotAnS3Url> {
        let rest = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(NotAnS3Url::Scheme),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket(bucket) {
            return Err(NotAnS3Url::Bucket { bucket: bucket.to_owned() });
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        check_prefix(prefix)?;
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What the names of the objects begin with, without a `/` at its ends; empty for all of the bucket.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// More than Amazon allows, as other stores do; less than an address of HTTP can hold.
fn is_bucket(name: &str) -> bool {
    let at_the_ends = |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric());
    name.len() <= BUCKET_BYTES_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || IN_BUCKET.contains(c))
        && at_the_ends(name.chars().next())
        && at_the_ends(name.chars().next_back())
        && !name.contains("..")
}

fn check_prefix(prefix: &str) -> Result<(), NotAnS3Url> {
    if prefix.is_empty() {
        return Ok(());
    }
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(NotAnS3Url::TooLong);
    }
    let is_good = |c: &char| c.is_alphanumeric() || *c == '/' || IN_PREFIX.contains(*c);
    if let Some(character) = prefix.chars().find(|c| !is_good(c)) {
        return Err(NotAnS3Url::Character { character });
    }
    if prefix.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Err(NotAnS3Url::Part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let cases = [
            ("s3://events", "events", "", "s3://events"),
            ("s3://events/", "events", "", "s3://events"),
            ("s3://events/prod", "events", "prod", "s3://events/prod"),
            ("S3://My_bucket.1/a/b=c/größe/", "My_bucket.1", "a/b=c/größe", "s3://My_bucket.1/a/b=c/größe"),
        ];
        for (text, bucket, prefix, shown) in cases {
            let url = S3Url::parse(text).expect(text);
            assert_eq!((url.bucket(), url.prefix()), (bucket, prefix), "{text}");
            assert_eq!(url.to_string(), shown);
            assert_eq!(S3Url::parse(shown), Ok(url));
        }
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for text in ["", "s3:", "s3:/a", "gs://a/b", "https://s3.amazonaws.com/a", "/var/backups"] {
            assert_eq!(S3Url::parse(text), Err(NotAnS3Url::Scheme), "{text:?}");
        }
        for bucket in ["", "host:9000", "key:secret@b", "-a", "a.", "a..b", "a b", "größe", "a?b"] {
            let expected = NotAnS3Url::Bucket { bucket: bucket.to_owned() };
            assert_eq!(S3Url::parse(&format!("s3://{bucket}/p")), Err(expected), "{bucket:?}");
        }
        for (prefix, character) in [("a?b", '?'), ("a#b", '#'), ("a%20b", '%'), ("a b", ' '), ("a\nb", '\n')]
        {
            let expected = NotAnS3Url::Character { character };
            assert_eq!(S3Url::parse(&format!("s3://bucket/{prefix}")), Err(expected), "{prefix:?}");
        }
        for prefix in ["/a", "a//b", "a//", ".", "../a", "a/./b"] {
            let found = S3Url::parse(&format!("s3://bucket/{prefix}"));
            assert_eq!(found, Err(NotAnS3Url::Part), "{prefix:?}");
        }
        let long = format!("s3://bucket/{}", "a".repeat(PREFIX_BYTES_MAX + 1));
        assert_eq!(S3Url::parse(&long), Err(NotAnS3Url::TooLong));
        let sentence = S3Url::parse("s3://host:9000/p").expect_err("a port").to_string();
        assert!(sentence.contains("AWS_ENDPOINT_URL"), "{sentence}");
    }
}
