//! Who handles events.

use std::fmt;

use crate::topic::{InvalidTopicName, TopicName};

/// What stands beside each offset that a service commits while its progress is in its own database: the offset
/// is a copy for tools that show lag, and whoever sets it changes nothing. It is kept with the offset and compared
/// letter by letter, so it never changes (`docs/formats/services.md`).
pub const COPY_OF_PROGRESS: &str = "courant: a copy, the progress is in the service's database";

/// The written name of a consumer. What it has handled, parked and given up is kept under it, so it
/// outlives every type and function of the code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(TopicName);

impl ConsumerName {
    /// Checks a name: the letters of topics, so that a topic can be named after a consumer.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        TopicName::new(name).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_has_the_letters_of_a_topic() {
        assert_eq!(ConsumerName::new("billing.v2").expect("legal").to_string(), "billing.v2");
        assert_eq!(ConsumerName::new(""), Err(InvalidTopicName::Empty));
    }

    /// Whoever reads offsets without this crate finds the text on the page, and it stays what it is.
    #[test]
    fn the_mark_of_a_copy_is_on_its_page() {
        const PAGE: &str = include_str!("../../../docs/formats/services.md");
        assert!(PAGE.contains(&format!("\n{COPY_OF_PROGRESS}\n")));
    }
}
