//! Spans, and who takes them when they are over.

use std::fmt;
use std::sync::Arc;

use super::{SpanId, TraceContext, TraceId};

/// How a span stands to those around it, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// It answers somebody else's request.
    Server,
    /// It asks somebody else, and waits for the answer.
    Client,
    /// It makes something that others take later.
    Producer,
    /// It takes what others have made.
    Consumer,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Something that was done, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// Which one it is.
    pub context: TraceContext,
    /// What it is a part of; `None`: it begins its trace.
    pub parent: Option<SpanId>,
    /// What was done, and to what.
    pub name: String,
    /// How it stands to those around it.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When it was over.
    pub end_ns: u64,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces, or of this one, that it has to do with.
    pub links: Vec<TraceContext>,
    /// It failed: the kind of error, and never what it said, which may be somebody's data.
    pub failure: Option<String>,
}

/// What has become of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Taken by whoever keeps them.
    pub exported: u64,
    /// Given up because too many waited.
    pub dropped: u64,
    /// Given up because nobody took them.
    pub failed: u64,
}

/// Who takes spans, and decides which traces are kept. Everything here is called wherever something is done
/// and must not wait.
pub trait Spans: fmt::Debug + Send + Sync {
    /// Nanoseconds since 1970.
    fn now_ns(&self) -> u64;

    /// Random bits, for ids.
    fn random(&self) -> u128;

    /// Whether a trace that begins here is kept.
    fn samples(&self, trace: TraceId) -> bool;

    /// Takes a span that is over.
    fn ended(&self, span: Span);

    /// What has become of those so far.
    fn counts(&self) -> SpanCounts {
        SpanCounts::default()
    }
}

/// Makes spans, or none at all. Clones make them for the same [`Spans`].
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<dyn Spans>>);

impl PartialEq for Tracer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Tracer {}

impl Tracer {
    /// One that hands its spans to these.
    #[must_use]
    pub fn new(spans: Arc<dyn Spans>) -> Self {
        Self(Some(spans))
    }

    /// Whether it makes spans.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What has become of its spans; `None` when it is off.
    #[must_use]
    pub fn counts(&self) -> Option<SpanCounts> {
        self.0.as_ref().map(|spans| spans.counts())
    }

    /// Begins a span below another one, or a trace. `None` when it is off.
    pub(super) fn begin(&self, name: String, kind: SpanKind, parent: Option<TraceContext>) -> Option<Active> {
        let spans = self.0.as_ref()?;
        let context = below(&**spans, parent);
        let recorded = context.is_sampled.then(|| {
            let start_ns = spans.now_ns();
            let span = Span {
                context,
                parent: parent.map(|parent| parent.span),
                name,
                kind,
                start_ns,
                end_ns: start_ns,
                attributes: Vec::new(),
                links: Vec::new(),
                failure: None,
            };
            (Arc::clone(spans), span)
        });
        Some(Active { context, recorded })
    }
}

/// The name of a new span.
fn below(spans: &dyn Spans, parent: Option<TraceContext>) -> TraceContext {
    let random = spans.random();
    // Zero is no id. It comes up once in all time, and then this is as good as any other.
    let span = SpanId::new(random as u64).unwrap_or(SpanId::MAX);
    match parent {
        Some(parent) => TraceContext { span, ..parent },
        None => {
            let trace = TraceId::new(spans.random()).unwrap_or(TraceId::MAX);
            TraceContext { trace, span, is_sampled: spans.samples(trace) }
        }
    }
}

/// A span that goes on. It is over when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Active {
    context: TraceContext,
    /// `None`: nobody keeps it, and it is there for its name alone.
    recorded: Option<(Arc<dyn Spans>, Span)>,
}

impl Active {
    /// Its name, for what is done or made in it.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Adds what is known of it.
    pub fn say(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some((_, span)) = &mut self.recorded {
            span.attributes.push((name, value.into()));
        }
    }

    /// Adds a span that it has to do with.
    pub fn link(&mut self, other: TraceContext) {
        if let Some((_, span)) = &mut self.recorded {
            span.links.push(other);
        }
    }

    /// Says that it failed with an error of this kind.
    pub fn fail(&mut self, kind: &str) {
        if let Some((_, span)) = &mut self.recorded {
            span.failure = Some(kind.to_owned());
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some((spans, mut span)) = self.recorded.take() {
            // Clocks go backwards; spans do not.
            span.end_ns = spans.now_ns().max(span.start_ns);
            spans.ended(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Kept {
        random: AtomicU64,
        samples: bool,
        spans: Mutex<Vec<Span>>,
    }

    impl Spans for Kept {
        fn now_ns(&self) -> u64 {
            1_000 - self.random() as u64
        }

        fn random(&self) -> u128 {
            u128::from(self.random.fetch_add(1, Ordering::Relaxed) + 1)
        }

        fn samples(&self, _: TraceId) -> bool {
            self.samples
        }

        fn ended(&self, span: Span) {
            self.spans.lock().expect("no panic").push(span);
        }
    }

    #[test]
    fn a_tracer_that_is_off_makes_nothing() {
        assert!(Tracer::default().begin("a".to_owned(), SpanKind::Client, None).is_none());
        assert_eq!(Tracer::default().counts(), None);
    }

    #[test]
    fn a_trace_is_kept_whole_or_not_at_all() {
        for samples in [true, false] {
            let kept = Arc::new(Kept { samples, ..Kept::default() });
            let tracer = Tracer::new(kept.clone());
            let root = tracer.begin("a".to_owned(), SpanKind::Producer, None).expect("is on");
            let below = tracer.begin("b".to_owned(), SpanKind::Consumer, Some(root.context()));
            let below = below.expect("is on");
            assert_eq!(below.context().trace, root.context().trace);
            assert_ne!(below.context().span, root.context().span);
            assert_eq!(below.context().is_sampled, samples, "whoever comes later keeps to it");
            let parent = root.context().span;
            drop(below);
            drop(root);
            let spans = kept.spans.lock().expect("no panic");
            let found: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.parent)).collect();
            assert_eq!(found, if samples { vec![("b", Some(parent)), ("a", None)] } else { vec![] });
            assert!(spans.iter().all(|span| span.end_ns >= span.start_ns), "a clock that goes backwards");
        }
    }
}
