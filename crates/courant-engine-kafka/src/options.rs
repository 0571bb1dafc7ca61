//! What stands behind the addresses of a URL: how the brokers are spoken to.

/// What a URL says besides the addresses and the login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `None`: nothing is encrypted.
    pub(crate) tls: Option<Tls>,
    /// `None`: nothing is said of it.
    pub(crate) mechanism: Option<Mechanism>,
    /// The variable of the environment that has the password.
    pub(crate) password_env: Option<String>,
}

/// TLS, and who is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// A file with the certificates of authorities, in PEM, or a folder of such. `None`: whom the system trusts.
    pub(crate) authorities: Option<String>,
}

/// How a login is made (SASL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// RFC 4616: the server gets the password.
    #[default]
    Plain,
    /// RFC 7677: the server gets the proof that the password is known.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

const MECHANISMS: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

/// Closes a sentence about an option that is none.
const THERE_ARE: &str = "there are tls=true, tls_ca=FILE, sasl=plain, scram-sha-256 or scram-sha-512, and \
                         password_env=VARIABLE, with & between them; topics are named in the service";

/// Characters of an unknown option that are shown.
const SHOWN_CHARS_MAX: usize = 32;

impl Mechanism {
    /// As servers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Reads `NAME=VALUE&NAME=VALUE…`. The error is a sentence, and never shows a value.
pub(crate) fn parse(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    let (mut tls, mut authorities) = (None, None);
    for option in text.split('&') {
        let Some((name, value)) = option.split_once('=') else {
            return Err(format!("an option is NAME=VALUE; {THERE_ARE}"));
        };
        let is_first = match name {
            "tls" => tls.replace(truth(value)?).is_none(),
            "tls_ca" => authorities.replace(text_of(name, value)?).is_none(),
            "sasl" => options.mechanism.replace(mechanism(value)?).is_none(),
            "password_env" => options.password_env.replace(text_of(name, value)?).is_none(),
            _ => {
                let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
                return Err(format!("there is no option {shown:?}; {THERE_ARE}"));
            }
        };
        if !is_first {
            return Err(format!("{name} is there twice"));
        }
    }
    options.tls = match (tls, authorities) {
        (Some(false), Some(_)) => {
            return Err("tls=false and tls_ca contradict each other; leave one of them away".to_owned());
        }
        (Some(false) | None, None) => None,
        (_, authorities) => Some(Tls { authorities }),
    };
    Ok(options)
}

fn truth(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("tls is true or false; tls_ca=FILE names who is believed".to_owned()),
    }
}

fn mechanism(value: &str) -> Result<Mechanism, String> {
    let found = MECHANISMS.into_iter().find(|known| known.name().eq_ignore_ascii_case(value));
    found.ok_or_else(|| "sasl is plain, scram-sha-256 or scram-sha-512".to_owned())
}

fn text_of(name: &str, value: &str) -> Result<String, String> {
    let text = decoded(value).filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("{name} has no value, or one in which % is not written %25"))
}

/// The text that percent signs stand for.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_an_authority_speaks_tls() {
        let tls = |text: &str| parse(text).expect("options").tls;
        assert_eq!(tls("tls=true"), Some(Tls { authorities: None }));
        assert_eq!(tls("tls=false"), None);
        let named = Some(Tls { authorities: Some("/etc/our ca.pem".to_owned()) });
        assert_eq!(tls("tls_ca=/etc/our%20ca.pem"), named);
        assert_eq!(tls("tls_ca=/etc/our ca.pem&tls=true"), named);
    }

    #[test]
    fn a_login_has_a_mechanism_and_a_variable() {
        let options = parse("sasl=SCRAM-sha-512&password_env=KAFKA_PASSWORD").expect("options");
        assert_eq!(options.mechanism, Some(Mechanism::ScramSha512));
        assert_eq!(options.password_env.as_deref(), Some("KAFKA_PASSWORD"));
        assert_eq!(parse("sasl=plain").expect("options").mechanism, Some(Mechanism::Plain));
    }

    #[test]
    fn what_is_no_option_is_told_without_its_value() {
        for (text, said) in [
            ("", "NAME=VALUE"),
            ("secret", "NAME=VALUE"),
            ("password=secret", "no option \"password\""),
            ("acks=1", "tls_ca=FILE"),
            ("tls=secret", "true or false"),
            ("tls=true&tls=true", "tls is there twice"),
            ("tls=false&tls_ca=secret", "contradict"),
            ("tls_ca=", "tls_ca has no value"),
            ("tls_ca=secret%4", "%25"),
            ("sasl=secret", "scram-sha-256"),
            ("password_env=", "password_env has no value"),
        ] {
            let Err(reason) = parse(text) else { panic!("{text} is refused") };
            assert!(reason.contains(said), "{text}: {reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
