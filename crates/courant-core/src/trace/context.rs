//! Which trace and which span: the header `traceparent` of W3C trace context.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

/// Everything that one request set off.
pub type TraceId = NonZeroU128;

/// One span of a trace.
pub type SpanId = NonZeroU64;

/// A span, as others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// The span itself.
    pub span: SpanId,
    /// Whether somebody keeps the trace.
    pub is_sampled: bool,
}

/// A header that names no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no traceparent, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct InvalidTraceContext;

impl TraceContext {
    /// What a header says, if it names a span.
    #[must_use]
    pub fn of(header: Option<&str>) -> Option<Self> {
        header?.parse().ok()
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Reads version 00, and of later ones what it has in common with them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidTraceContext);
        };
        let is_first = version == "00";
        if version == "ff" || (is_first && parts.next().is_some()) {
            return Err(InvalidTraceContext);
        }
        hex(version, 2)?;
        let trace = TraceId::new(hex(trace, 32)?).ok_or(InvalidTraceContext)?;
        let span = u64::try_from(hex(span, 16)?).ok().and_then(SpanId::new).ok_or(InvalidTraceContext)?;
        Ok(Self { trace, span, is_sampled: hex(flags, 2)? & 1 == 1 })
    }
}

/// Lower-case digits, so many of them.
fn hex(text: &str, digits: usize) -> Result<u128, InvalidTraceContext> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != digits || !is_hex {
        return Err(InvalidTraceContext);
    }
    u128::from_str_radix(text, 16).map_err(|_| InvalidTraceContext)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_as_it_is_written() {
        let context: TraceContext = TEXT.parse().expect("a span");
        assert_eq!(context.to_string(), TEXT);
        assert!(context.is_sampled);
        let other = TEXT.replace("-01", "-00").parse::<TraceContext>().expect("a span");
        assert!(!other.is_sampled);
        let later = format!("{}-more", TEXT.replace("00-4", "cc-4"));
        assert_eq!(later.parse(), Ok(context), "a later version");
    }

    #[test]
    fn what_names_no_span_is_refused() {
        let zero = "0".repeat(32);
        for text in [
            "",
            "00",
            &TEXT[..54],
            &TEXT.to_uppercase(),
            &TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zero),
            &TEXT.replace("00f067aa0ba902b7", &zero[..16]),
            &TEXT.replace("00-4", "ff-4"),
            &format!("{TEXT}-more"),
            &TEXT.replace("0e0e", "+e0e"),
            &"é".repeat(55),
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceContext), "{text}");
        }
        assert_eq!(TraceContext::of(None), None);
    }
}
