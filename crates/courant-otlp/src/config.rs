//! Where spans go, and which of them: by the standard variables of OpenTelemetry.

use std::fmt;
use std::time::Duration;

use courant_core::trace::TraceId;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

/// Spans that may wait in memory at most, whatever a variable says.
const QUEUE_MAX: usize = 65_536;

/// What an exporter is told.
#[derive(Clone)]
pub struct OtlpConfig {
    /// Where spans are sent, with its path.
    pub(crate) url: Url,
    /// What goes along with every request. There may be secrets in it.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What the process says of itself: `service.name` and others.
    pub(crate) resource: Vec<(String, String)>,
    /// Which traces are kept that begin here.
    pub(crate) sampler: Sampler,
    /// Spans that may wait.
    pub(crate) queue: usize,
    /// Spans of one request.
    pub(crate) batch: usize,
    /// How long a span waits for others.
    pub(crate) delay: Duration,
    /// How long a request may take.
    pub(crate) timeout: Duration,
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password, and so may what goes along.
        let (resource, sampler) = (&self.resource, &self.sampler);
        let host = self.url.host_str();
        let mut shown = f.debug_struct("OtlpConfig");
        shown.field("host", &host).field("resource", resource).field("sampler", sampler);
        shown.finish_non_exhaustive()
    }
}

/// Which traces are kept that begin here. One that comes from elsewhere is kept if it is kept there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// All.
    Always,
    /// None.
    Never,
    /// This part of them, from 0 to 1, by their ids: another process with the same part keeps the same ones.
    Ratio(f64),
}

impl Sampler {
    pub(crate) fn samples(self, trace: TraceId) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // The lower 56 bits are random, whatever the upper ones are.
            Self::Ratio(part) => {
                ((trace.get() as u64) & ((1 << 56) - 1)) as f64 <= part * (1_u64 << 56) as f64
            }
        }
    }
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// A variable says what cannot be.
    #[error("{variable} is {value:?}: {problem}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What is wrong, and what to write.
        problem: &'static str,
    },
    /// A protocol is asked for that is not spoken here. Others in the same environment may speak it.
    #[error("{variable} is {value:?}, and only http/json is spoken here, which collectors take at port 4318")]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// Headers that no request can have. They are not shown: they may hold a secret.
    #[error("{variable} holds no headers: write name=value, several with commas")]
    Headers {
        /// The variable.
        variable: &'static str,
    },
    /// There is no client of HTTP.
    #[error("spans cannot be sent: {0}")]
    Client(#[from] reqwest::Error),
    /// There is no thread for it.
    #[error("spans cannot be sent: {0}")]
    Thread(#[from] std::io::Error),
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

impl OtlpConfig {
    /// Spans of a service of this name for a collector, such as `http://127.0.0.1:4318`, with everything else
    /// as OpenTelemetry has it.
    ///
    /// # Errors
    /// The address is none.
    pub fn to(endpoint: &str, service: &str) -> Result<Self, OtlpError> {
        Ok(Self::of(below(ENDPOINT, endpoint)?, service))
    }

    /// What the standard variables say; `None` where they want no spans. `variable` looks one up.
    ///
    /// Spans are sent when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names a
    /// collector, or when `OTEL_TRACES_EXPORTER` is `otlp`.
    ///
    /// # Errors
    /// A variable says what cannot be, or what this does not do: only `http/json` is spoken.
    pub fn from_variables(
        service: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpError> {
        // An empty variable is one that is not set.
        let get = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
        if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let exporter = get("OTEL_TRACES_EXPORTER");
        match exporter.as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => return Err(wrong("OTEL_TRACES_EXPORTER", other, "write otlp or none")),
        }
        let url = match (get(TRACES_ENDPOINT), get(ENDPOINT)) {
            (Some(whole), _) => url(TRACES_ENDPOINT, &whole)?,
            (None, Some(endpoint)) => below(ENDPOINT, &endpoint)?,
            (None, None) if exporter.is_some() => below(ENDPOINT, "http://127.0.0.1:4318")?,
            (None, None) => return Ok(None),
        };
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            match get(name) {
                Some(protocol) if protocol == "http/json" => break,
                Some(value) => return Err(OtlpError::Protocol { variable: name, value }),
                None => {}
            }
        }
        let mut config = Self::of(url, service);
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
            if let Some(text) = get(name) {
                config.headers.extend(headers(name, &text)?);
            }
        }
        config.describe(get("OTEL_RESOURCE_ATTRIBUTES"), get("OTEL_SERVICE_NAME"));
        config.sampler = sampler(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG"))?;
        config.bound(get)?;
        Ok(Some(config))
    }

    /// The traces that are kept.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    fn of(url: Url, service: &str) -> Self {
        Self {
            url,
            headers: Vec::new(),
            resource: vec![("service.name".to_owned(), service.to_owned())],
            sampler: Sampler::Always,
            queue: 2_048,
            batch: 512,
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }

    /// The later one of two attributes of one name holds, and a name of the service above all.
    fn describe(&mut self, attributes: Option<String>, service: Option<String>) {
        let attributes = attributes.unwrap_or_default();
        let pairs = attributes.split(',').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.trim().to_owned(), decoded(value.trim())));
        let service = service.map(|service| ("service.name".to_owned(), service));
        for (name, value) in pairs.chain(service) {
            self.resource.retain(|(known, _)| *known != name);
            self.resource.push((name, value));
        }
    }

    fn bound(&mut self, get: impl Fn(&str) -> Option<String>) -> Result<(), OtlpError> {
        let number = |name: &'static str| -> Result<Option<u64>, OtlpError> {
            let Some(text) = get(name) else { return Ok(None) };
            text.parse().map(Some).map_err(|_| wrong(name, &text, "write a whole number"))
        };
        if let Some(queue) = number("OTEL_BSP_MAX_QUEUE_SIZE")? {
            self.queue = usize::try_from(queue).unwrap_or(QUEUE_MAX).clamp(1, QUEUE_MAX);
        }
        if let Some(batch) = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")? {
            self.batch = usize::try_from(batch).unwrap_or(QUEUE_MAX);
        }
        self.batch = self.batch.clamp(1, self.queue);
        if let Some(ms) = number("OTEL_BSP_SCHEDULE_DELAY")? {
            self.delay = Duration::from_millis(ms.max(1));
        }
        for name in ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"] {
            if let Some(ms) = number(name)? {
                self.timeout = Duration::from_millis(ms.max(1));
            }
        }
        Ok(())
    }
}

fn wrong(variable: &'static str, value: &str, problem: &'static str) -> OtlpError {
    OtlpError::Variable { variable, value: value.to_owned(), problem }
}

fn url(variable: &'static str, text: &str) -> Result<Url, OtlpError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        // What stands before it may be a password.
        let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("…@{host}"));
        wrong(variable, &shown, "write an address such as http://127.0.0.1:4318")
    })
}

/// The address for traces below that of a collector.
fn below(variable: &'static str, endpoint: &str) -> Result<Url, OtlpError> {
    url(variable, endpoint)?;
    url(variable, &format!("{}/v1/traces", endpoint.trim_end_matches('/')))
}

fn headers(variable: &'static str, text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, OtlpError> {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let mut value: HeaderValue = decoded(value.trim()).parse().ok()?;
        value.set_sensitive(true);
        Some((name.trim().parse().ok()?, value))
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs.map(|pair| header(pair).ok_or(OtlpError::Headers { variable })).collect()
}

fn sampler(name: Option<String>, argument: Option<String>) -> Result<Sampler, OtlpError> {
    let Some(name) = name else { return Ok(Sampler::Always) };
    // A trace that comes from elsewhere is kept if it is kept there, with every one of them.
    match name.strip_prefix("parentbased_").unwrap_or(&name) {
        "always_on" => Ok(Sampler::Always),
        "always_off" => Ok(Sampler::Never),
        "traceidratio" => {
            let text = argument.unwrap_or_else(|| "1".to_owned());
            let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
            let problem = "write a part from 0 to 1";
            part.map(Sampler::Ratio).ok_or_else(|| wrong("OTEL_TRACES_SAMPLER_ARG", &text, problem))
        }
        _ => Err(wrong("OTEL_TRACES_SAMPLER", &name, "write always_on, always_off or traceidratio")),
    }
}

/// A text without its percent signs: what stands behind one is a byte.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<OtlpConfig>, OtlpError> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        OtlpConfig::from_variables("courant", get)
    }

    #[test]
    fn nobody_who_asks_for_no_spans_gets_any() {
        for variables in [
            &[][..],
            &[(ENDPOINT, "")],
            &[(ENDPOINT, "http://c:4318"), ("OTEL_SDK_DISABLED", "true")],
            &[(ENDPOINT, "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(read(variables).expect("good variables").is_none(), "{variables:?}");
        }
    }

    #[test]
    fn variables_say_where_and_what() {
        let config = read(&[
            (ENDPOINT, "http://c:4318/base/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x,a=b"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=other"),
            ("OTEL_SERVICE_NAME", "shop"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ]);
        let config = config.expect("good variables").expect("spans are wanted");
        assert_eq!(config.url.as_str(), "http://c:4318/base/v1/traces");
        assert_eq!(config.headers[0].1, "Bearer x");
        assert!(!format!("{config:?}").contains("Bearer"), "a secret is shown");
        let with_password = read(&[(ENDPOINT, "http://me:secret@c:4318")]).expect("good").expect("wanted");
        assert!(!format!("{with_password:?}").contains("secret"), "a password is shown");
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.resource, [named("deployment.environment", "test"), named("service.name", "shop")]);
        assert_eq!((config.sampler, config.queue, config.batch), (Sampler::Ratio(0.25), 10, 10));
        assert_eq!(config.delay, Duration::from_millis(100));
        let whole = read(&[(TRACES_ENDPOINT, "https://c/x"), (ENDPOINT, "http://c:4318")]);
        assert_eq!(whole.expect("good variables").expect("wanted").url.as_str(), "https://c/x");
        let usual = read(&[("OTEL_TRACES_EXPORTER", "otlp")]).expect("good variables").expect("wanted");
        assert_eq!(usual.url.as_str(), "http://127.0.0.1:4318/v1/traces");
    }

    #[test]
    fn what_cannot_be_is_said_with_its_variable() {
        for (name, value) in [
            (ENDPOINT, "c:4318"),
            (ENDPOINT, "htp://me:secret@c:4318"),
            (TRACES_ENDPOINT, "me:secret@c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
        ] {
            let refused = read(&[(name, value), (ENDPOINT, "http://c:4318")]).expect_err(name);
            assert!(refused.to_string().contains(name), "{refused}");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_protocol_of_others_is_told_from_a_mistake() {
        for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
            let refused = read(&[(name, "grpc"), (ENDPOINT, "http://c:4317")]).expect_err(name);
            assert!(matches!(refused, OtlpError::Protocol { variable, .. } if variable == name), "{refused}");
        }
        let both = [
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            (ENDPOINT, "http://c:4318"),
        ];
        assert!(read(&both).expect("the one of traces counts").is_some());
    }

    #[test]
    fn a_part_of_the_traces_is_that_part() {
        let samples = |sampler: Sampler, trace: u128| sampler.samples(TraceId::new(trace).expect("not zero"));
        assert!(samples(Sampler::Ratio(0.5), 1) && samples(Sampler::Ratio(1.0), u128::MAX));
        assert!(!samples(Sampler::Ratio(0.5), 0xff << 48) && !samples(Sampler::Ratio(0.0), 1 << 55));
        assert!(samples(Sampler::Ratio(0.5), (0xff << 56) | 1), "the upper bits decide nothing");
    }
}
