//! Why a request failed, in words that say what to change. The client of the store tells little by types,
//! so some of it is read from the store's own answer.

use std::error::Error as _;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

use crate::address::S3Url;
use crate::limits::{CAUSE_BYTES_MAX, PARTS_MAX};

/// Why the store could not be used. A `place` is a bucket and an object, or what objects begin with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum S3Error {
    /// The environment says something that cannot be.
    #[error("{place} cannot be reached with these settings: {what}")]
    Settings {
        /// The place.
        place: String,
        /// What is wrong, and where.
        what: String,
    },
    /// No threads could be had.
    #[error("no threads for requests to a store: {cause}")]
    NoRuntime {
        /// What the system says.
        cause: String,
    },
    /// A request ended without an answer, because of a defect in the client.
    #[error("a request to the store broke off")]
    BrokenOff,
    /// There is no such bucket.
    #[error(
        "there is no bucket `{bucket}` for {place}: create it, or check its name, AWS_REGION and \
         AWS_ENDPOINT_URL"
    )]
    NoBucket {
        /// Its name.
        bucket: String,
        /// The place.
        place: String,
    },
    /// There is no such object.
    #[error("{place} is not there")]
    NotFound {
        /// The object.
        place: String,
    },
    /// Nobody has given credentials.
    #[error(
        "there are no credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles in \
         files are not read)"
    )]
    NoCredentials {
        /// The place.
        place: String,
    },
    /// The store does not know the credentials.
    #[error(
        "the store does not accept the credentials for {place} ({code}): check AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
    )]
    Credentials {
        /// The place.
        place: String,
        /// The store's word for it.
        code: String,
    },
    /// The credentials do not allow it.
    #[error(
        "the store denies access to {place}: allow s3:ListBucket on the bucket, and s3:GetObject, \
         s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects"
    )]
    Denied {
        /// The place.
        place: String,
    },
    /// The bucket is in another region.
    #[error("{place} is not in the region that was asked for: set AWS_REGION to the bucket's")]
    Region {
        /// The place.
        place: String,
    },
    /// Clocks differ by more than the store allows.
    #[error("the store of {place} has another time than this machine: set the clock")]
    Clock {
        /// The place.
        place: String,
    },
    /// Nothing answers, or not in time.
    #[error("the store of {place} does not answer: {cause}; check AWS_ENDPOINT_URL and the network")]
    Unreachable {
        /// The place.
        place: String,
        /// What the network says.
        cause: String,
    },
    /// The store cannot keep two backups apart.
    #[error(
        "the store of {place} does not do conditional writes (If-None-Match and If-Match), and without them \
         two backups could write at once: choose another store, or a directory"
    )]
    Unconditional {
        /// The lock.
        place: String,
    },
    /// Another backup holds the lock.
    #[error("{place} is held by {holder}")]
    Held {
        /// The lock.
        place: String,
        /// Who holds it.
        holder: String,
    },
    /// The lock was held, and is not any more.
    #[error("the lock {place} does not protect this backup any more: {what}")]
    Lost {
        /// The lock.
        place: String,
        /// Why.
        what: String,
    },
    /// The object is not the one whose first bytes were read.
    #[error("{place} was replaced while it was read")]
    Replaced {
        /// The object.
        place: String,
    },
    /// The store sent fewer bytes of an object than it has.
    #[error("the store sent {found} bytes of {place}, and not {expected}")]
    Short {
        /// The object.
        place: String,
        /// Bytes that came.
        found: u64,
        /// Bytes that were asked for.
        expected: u64,
    },
    /// An object is larger than a store takes.
    #[error("{place} would have more than {PARTS_MAX} parts: use smaller segments (segment.bytes)")]
    TooLarge {
        /// The object.
        place: String,
    },
    /// More objects than any log has.
    #[error("there are too many objects under {place}: choose a prefix that only backups use")]
    TooMany {
        /// The place.
        place: String,
    },
    /// Something else.
    #[error("{place}: {cause}")]
    Other {
        /// The place.
        place: String,
        /// What the client of the store says.
        cause: String,
    },
}

impl S3Error {
    /// The kind that an [`io::Error`] of it has: `NotFound` for an object alone.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NotFound { .. } => io::ErrorKind::NotFound,
            Self::NoCredentials { .. } | Self::Credentials { .. } | Self::Denied { .. } => {
                io::ErrorKind::PermissionDenied
            }
            Self::Unreachable { .. } => io::ErrorKind::NotConnected,
            Self::Unconditional { .. } => io::ErrorKind::Unsupported,
            Self::Held { .. } => io::ErrorKind::WouldBlock,
            Self::Lost { .. } => io::ErrorKind::ConnectionAborted,
            Self::Short { .. } => io::ErrorKind::UnexpectedEof,
            Self::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Self::Settings { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        }
    }
}

impl From<S3Error> for io::Error {
    fn from(error: S3Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Where requests go: it knows how to speak of their failures.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) url: S3Url,
    /// Whether the environment names credentials. Where it does not, the machine is asked for some.
    pub(crate) has_credentials: bool,
}

impl Site {
    /// An object by its name, or with an empty name the whole.
    pub(crate) fn place(&self, name: &str) -> String {
        if name.is_empty() { self.url.to_string() } else { format!("{}/{name}", self.url) }
    }

    /// What a failure of the client means.
    pub(crate) fn explain(&self, name: &str, error: &object_store::Error) -> S3Error {
        let place = self.place(name);
        let said = error.to_string();
        if !self.has_credentials && asks_the_machine(&said) {
            return S3Error::NoCredentials { place };
        }
        if let Some(told) = self.by_code(&place, code(&said)) {
            return told;
        }
        match error {
            object_store::Error::NotFound { .. } => S3Error::NotFound { place },
            object_store::Error::PermissionDenied { .. } => S3Error::Denied { place },
            object_store::Error::Unauthenticated { .. } => {
                S3Error::Credentials { place, code: "status 401".to_owned() }
            }
            object_store::Error::Precondition { .. } => S3Error::Replaced { place },
            _ if said.contains("incorrectly configured region") => S3Error::Region { place },
            _ if is_of_the_network(error) => S3Error::Unreachable { place, cause: innermost(error) },
            _ => S3Error::Other { place, cause: bounded(&said) },
        }
    }

    /// By the word that the store has for it.
    fn by_code(&self, place: &str, code: Option<&str>) -> Option<S3Error> {
        let place = place.to_owned();
        Some(match code? {
            "NoSuchBucket" => S3Error::NoBucket { bucket: self.url.bucket().to_owned(), place },
            "NoSuchKey" => S3Error::NotFound { place },
            code @ ("InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "InvalidClientTokenId"
            | "TokenRefreshRequired") => S3Error::Credentials { place, code: code.to_owned() },
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => S3Error::Denied { place },
            "RequestTimeTooSkewed" => S3Error::Clock { place },
            "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
                S3Error::Region { place }
            }
            _ => return None,
        })
    }
}

/// Whether the store does not know what was asked of it at all.
pub(crate) fn is_not_implemented(error: &object_store::Error) -> bool {
    let said = error.to_string();
    matches!(error, object_store::Error::NotImplemented { .. })
        || code(&said) == Some("NotImplemented")
        || said.contains("status code: 501")
}

/// The innermost cause of a failure: the outer ones only say that there was one.
pub(crate) fn innermost(error: &object_store::Error) -> String {
    let mut innermost = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        innermost = cause.to_string();
        at = cause.source();
    }
    bounded(&innermost)
}

/// The `Code` in an answer of S3, which is XML.
fn code(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code)
}

/// Whether the request was one to the service from which a machine in a cloud has its credentials.
fn asks_the_machine(said: &str) -> bool {
    ["/latest/api/token", "/latest/meta-data/"].iter().any(|path| said.contains(path))
}

fn is_of_the_network(error: &object_store::Error) -> bool {
    let mut at = error.source();
    while let Some(cause) = at {
        if let Some(error) = cause.downcast_ref::<HttpError>() {
            return !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown);
        }
        at = cause.source();
    }
    false
}

fn bounded(said: &str) -> String {
    if said.len() <= CAUSE_BYTES_MAX {
        return said.to_owned();
    }
    format!("{}…", &said[..said.floor_char_boundary(CAUSE_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(has_credentials: bool) -> Site {
        Site { url: S3Url::parse("s3://events/prod").expect("an address"), has_credentials }
    }

    fn generic(said: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: said.into() }
    }

    fn answer(code: &str) -> object_store::Error {
        generic(&format!("status code: 400 Bad Request: <Error><Code>{code}</Code><Key>k</Key></Error>"))
    }

    #[test]
    fn answers_of_a_store_become_sentences_that_say_what_to_change() {
        let cases = [
            ("NoSuchBucket", "there is no bucket `events` for s3://events/prod/LOCK: create it"),
            ("NoSuchKey", "s3://events/prod/LOCK is not there"),
            (
                "SignatureDoesNotMatch",
                "s3://events/prod/LOCK (SignatureDoesNotMatch): check AWS_ACCESS_KEY_ID",
            ),
            ("AccessDenied", "access to s3://events/prod/LOCK: allow s3:ListBucket"),
            ("RequestTimeTooSkewed", "set the clock"),
            ("AuthorizationHeaderMalformed", "set AWS_REGION"),
            ("SlowDown", "s3://events/prod/LOCK: Generic S3 error: status code: 400"),
        ];
        for (code, expected) in cases {
            let sentence = site(true).explain("LOCK", &answer(code)).to_string();
            assert!(sentence.contains(expected), "{code}: {sentence}");
        }
    }

    /// Only a missing object is `NotFound`: whoever asks for one takes that for an answer.
    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let missing = object_store::Error::NotFound {
            path: "prod/LOCK".to_owned(),
            source: "status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>".into(),
        };
        let told = site(true).explain("LOCK", &missing);
        assert!(matches!(told, S3Error::NoBucket { .. }), "{told:?}");
        assert_ne!(told.kind(), io::ErrorKind::NotFound);
        let missing = object_store::Error::NotFound { path: String::new(), source: "404".into() };
        assert_eq!(site(true).explain("LOCK", &missing).kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn who_gives_no_credentials_is_told_so() {
        let asked = generic("Error performing PUT http://169.254.169.254/latest/api/token in 11s");
        let told = site(false).explain("", &asked);
        assert!(matches!(&told, S3Error::NoCredentials { place } if place == "s3://events/prod"), "{told:?}");
        // The environment names a service of its own, and that one fails.
        assert!(matches!(site(true).explain("", &asked), S3Error::Other { .. }));
    }

    #[test]
    fn a_network_that_fails_is_told_by_its_innermost_cause() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there");
        let error = object_store::Error::Generic {
            store: "S3",
            source: Box::new(HttpError::new(HttpErrorKind::Connect, refused)),
        };
        let told = site(true).explain("", &error);
        assert_eq!(told.kind(), io::ErrorKind::NotConnected);
        assert!(told.to_string().contains("does not answer: nobody listens there;"), "{told}");
    }

    #[test]
    fn a_store_tells_no_novels() {
        let told = site(true).explain("", &generic(&"ü".repeat(10_000)));
        assert!(told.to_string().len() < CAUSE_BYTES_MAX + 100);
    }

    #[test]
    fn what_a_store_does_not_have_is_seen() {
        assert!(is_not_implemented(&answer("NotImplemented")));
        assert!(is_not_implemented(&generic("non-2xx status code: 501 Not Implemented: ")));
        assert!(!is_not_implemented(&answer("AccessDenied")));
    }
}
