//! Topic names.

use std::fmt;

/// Longest topic name in bytes (Kafka's limit: a name with its suffixes has to fit a file name).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A legal topic name: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..` (Kafka's `Topic.java`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

/// Why a string is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopicName {
    /// No characters at all.
    #[error("a topic name has at least one character")]
    Empty,
    /// Longer than [`TOPIC_NAME_BYTES_MAX`].
    #[error("a topic name has at most {max} bytes; this one has {bytes}", max = TOPIC_NAME_BYTES_MAX)]
    TooLong {
        /// Length of the string in bytes.
        bytes: usize,
    },
    /// `.` or `..`.
    #[error("\".\" and \"..\" are not topic names")]
    OnlyDots,
    /// A character outside the legal set.
    #[error(
        "a topic name consists of ASCII letters, digits, '.', '_' and '-'; character {position} is {character:?}"
    )]
    IllegalCharacter {
        /// The first such character.
        character: char,
        /// Which character it is, counted from 1.
        position: usize,
    },
}

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says which rule the string breaks. It never carries the string itself: that may be long.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(InvalidTopicName::TooLong { bytes: name.len() });
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::OnlyDots);
        }
        match name.chars().enumerate().find(|(_, c)| !is_legal(*c)) {
            Some((index, character)) => {
                Err(InvalidTopicName::IllegalCharacter { character, position: index + 1 })
            }
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, without a copy.
    pub fn into_string(self) -> String {
        self.0
    }
}

fn is_legal(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_are_kept_as_they_are() {
        let longest = "n".repeat(249);
        for name in ["a", "orders", "A.b_c-9", "...", ".x", "__consumer", longest.as_str()] {
            let topic = TopicName::new(name).unwrap();
            assert_eq!(topic.as_str(), name);
            assert_eq!(topic.to_string(), name);
            assert_eq!(topic.into_string(), name);
        }
    }

    #[test]
    fn each_rule_has_its_own_answer() {
        assert_eq!(TopicName::new(""), Err(InvalidTopicName::Empty));
        assert_eq!(TopicName::new("."), Err(InvalidTopicName::OnlyDots));
        assert_eq!(TopicName::new(".."), Err(InvalidTopicName::OnlyDots));
        assert_eq!(TopicName::new(&"n".repeat(250)), Err(InvalidTopicName::TooLong { bytes: 250 }));
        for (name, character, position) in
            [("../x", '/', 3), ("a b", ' ', 2), ("é", 'é', 1), ("ab\0", '\0', 3), ("a:b", ':', 2)]
        {
            assert_eq!(TopicName::new(name), Err(InvalidTopicName::IllegalCharacter { character, position }));
        }
    }

    #[test]
    fn the_sentence_shows_control_characters_escaped() {
        let said = TopicName::new("a\nb").unwrap_err().to_string();
        assert!(said.contains("character 2 is '\\n'"), "{said}");
    }
}
