//! From an address and what the environment says to a client of the store.
//!
//! The variables are those of Amazon's own tools, as `object_store` reads them. What could make the
//! client panic later, an address that is none, is refused here.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use crate::address::S3Url;
use crate::error::{S3Error, Site, innermost};
use crate::limits::{REQUEST_TIMEOUT, RETRIES_MAX, RETRY_TIME};

/// What names of variables begin with that mean a store.
const VARIABLES: &str = "AWS_";
/// Addresses that requests may go to, and the variables that set them.
const ADDRESSES: [(AmazonS3ConfigKey, &str); 3] = [
    (AmazonS3ConfigKey::MetadataEndpoint, "AWS_METADATA_ENDPOINT"),
    (AmazonS3ConfigKey::StsEndpoint, "AWS_ENDPOINT_URL_STS"),
    (AmazonS3ConfigKey::ContainerCredentialsFullUri, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
];

/// A client, and where its requests go. None is made yet.
pub(crate) fn connect(
    url: &S3Url,
    variables: &[(String, String)],
) -> Result<(Arc<dyn ObjectStore>, Site), S3Error> {
    // Another one that the process has chosen already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = |what: String| S3Error::Settings { place: url.to_string(), what };
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables.iter().filter(|(name, value)| is_set(name, value)) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    check(&builder).map_err(settings)?;
    if let Some(endpoint) = endpoint(&builder).map_err(settings)? {
        builder = builder
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.as_str().trim_end_matches('/'))
            .with_allow_http(endpoint.scheme() == "http");
    } else {
        builder = builder.with_allow_http(false);
    }
    let has_credentials = has_credentials(&builder);
    let timeout = format!("{}s", REQUEST_TIMEOUT.as_secs());
    let store = builder
        .with_bucket_name(url.bucket())
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), timeout)
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIME,
        })
        // Objects go one by one, and some stores do not know the request for many.
        .with_disable_bulk_delete(true)
        .build()
        .map_err(|error| {
            settings(format!("{}; look at the variables that begin with {VARIABLES}", innermost(&error)))
        })?;
    Ok((Arc::new(store), Site { url: url.clone(), has_credentials }))
}

fn is_set(name: &str, value: &str) -> bool {
    name.starts_with(VARIABLES) && !value.is_empty()
}

/// The address of the store, where it is not Amazon's.
fn endpoint(builder: &AmazonS3Builder) -> Result<Option<Url>, String> {
    let of = |key| builder.get_config_value(&key);
    let given = of(AmazonS3ConfigKey::S3Endpoint).or_else(|| of(AmazonS3ConfigKey::Endpoint));
    given.map(|given| address(&given, "AWS_ENDPOINT_URL")).transpose()
}

fn address(text: &str, variable: &str) -> Result<Url, String> {
    let is_plain = |url: &Url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(text) {
        Ok(url) if is_plain(&url) => Ok(url),
        _ => Err(format!("{variable} says `{text}`; write for example https://s3.example.org:9000")),
    }
}

/// Whatever else becomes a part of addresses.
fn check(builder: &AmazonS3Builder) -> Result<(), String> {
    for (key, variable) in ADDRESSES {
        if let Some(given) = builder.get_config_value(&key) {
            address(&given, variable)?;
        }
    }
    let relative = builder.get_config_value(&AmazonS3ConfigKey::ContainerCredentialsRelativeUri);
    if let Some(path) = relative.filter(|path| !path.starts_with('/') || path.contains(char::is_whitespace)) {
        return Err(format!("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI says `{path}`; it begins with `/`"));
    }
    let is_region = |region: &str| region.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    match builder.get_config_value(&AmazonS3ConfigKey::Region).filter(|region| !is_region(region)) {
        Some(region) => Err(format!("AWS_REGION says `{region}`; write for example eu-central-1")),
        None => Ok(()),
    }
}

/// Whether the environment says who asks. Otherwise the client asks the machine, as one in Amazon's
/// cloud can be.
fn has_credentials(builder: &AmazonS3Builder) -> bool {
    use AmazonS3ConfigKey as Key;
    let has = |key| builder.get_config_value(&key).is_some();
    has(Key::AccessKeyId)
        || has(Key::SecretAccessKey)
        || (has(Key::WebIdentityTokenFile) && has(Key::RoleArn))
        || has(Key::ContainerCredentialsRelativeUri)
        || (has(Key::ContainerCredentialsFullUri) && has(Key::ContainerAuthorizationTokenFile))
        || builder.get_config_value(&Key::SkipSignature).is_some_and(|skip| skip == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(variables: &[(&str, &str)]) -> Result<Site, S3Error> {
        let url = S3Url::parse("s3://events/prod").expect("an address");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<_> = variables.iter().map(owned).collect();
        connect(&url, &variables).map(|(_, site)| site)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];

    #[test]
    fn the_environment_says_who_asks_and_where() {
        assert!(connected(&KEYS).expect("keys").has_credentials);
        assert!(!connected(&[]).expect("nothing").has_credentials);
        // Set, and to nothing, is not set.
        assert!(
            !connected(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_ENDPOINT_URL", "")]).expect("").has_credentials
        );
        for endpoint in ["http://127.0.0.1:9000", "https://s3.example.org/", "http://[::1]:9000/under"] {
            for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"] {
                connected(&[KEYS[0], KEYS[1], (name, endpoint)]).expect(endpoint);
            }
        }
    }

    #[test]
    fn what_would_be_no_request_is_refused_by_its_variable() {
        let bad = [
            ("AWS_ENDPOINT_URL", "127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL", "ftp://127.0.0.1"),
            ("AWS_ENDPOINT_URL", "http://"),
            ("AWS_ENDPOINT_URL", "http://key:secret@host"),
            ("AWS_ENDPOINT_URL", "http://host/?a=b"),
            ("AWS_REGION", "eu central"),
            ("AWS_METADATA_ENDPOINT", "here"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "no path"),
        ];
        for (name, value) in bad {
            let what = match connected(&[KEYS[0], KEYS[1], (name, value)]) {
                Err(S3Error::Settings { what, .. }) => what,
                other => panic!("{name}={value}: {other:?}"),
            };
            assert!(what.starts_with(name) && what.contains(value), "{what}");
        }
        let half = connected(&KEYS[..1]).expect_err("no secret").to_string();
        assert!(half.contains("SecretAccessKey"), "{half}");
    }
}
