//! Who may use the HTTP API: its settings, and the credentials of a token file.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::TraceSettings;
use super::dead_letters::ServiceKeys;
use super::limits::{TOKEN_CHARS_MAX, TOKEN_CHARS_MIN, TOKENS_MAX};
use crate::planted::{Defect, is_planted};

/// The settings of the HTTP API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiSettings {
    /// Refuses every change by HTTP. Kafka clients are not touched by it.
    pub read_only: bool,
    /// Names of this server in the `Host` header besides `localhost` and IP addresses, without a port.
    pub hosts: Vec<String>,
    /// Who may ask. `None`: everybody who reaches the port.
    pub tokens: Option<ApiTokens>,
    /// What requests to services are signed with.
    pub service_keys: ServiceKeys,
    /// What the index of traces keeps.
    pub traces: TraceSettings,
}

/// The credentials of a token file, of which only the hashes are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiTokens(Vec<Token>);

#[derive(Clone, PartialEq, Eq)]
struct Token {
    name: String,
    hash: [u8; 32],
}

/// Why a token file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTokens {
    /// Nobody could ask anything.
    #[error("there is no token in it; write one on a line, as NAME TOKEN")]
    Empty,
    /// A line that is no name and no token. It is not shown: it may hold a secret.
    #[error("line {line}: write NAME TOKEN, with a space between them")]
    Line {
        /// Which line, counted from 1.
        line: usize,
    },
    /// A token that can be guessed, or that no header can carry.
    #[error(
        "line {line}: a token has {min} to {max} characters of printable ASCII; try `openssl rand -hex 32`"
    )]
    Token {
        /// Which line, counted from 1.
        line: usize,
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: usize,
    },
    /// A name that was given before.
    #[error("line {line}: the name {name} stands twice")]
    Twice {
        /// Which line, counted from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// More than the server compares.
    #[error("there are more than {max} tokens in it")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
}

impl ApiTokens {
    /// Reads a token file: `NAME TOKEN` on each line; `#` begins a comment, and empty lines are left out.
    ///
    /// # Errors
    /// Says which line is in the way, and never what stands in it.
    pub fn parse(text: &str) -> Result<Self, InvalidTokens> {
        let mut tokens: Vec<Token> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let mut words = content.split_whitespace();
            let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return Err(InvalidTokens::Line { line });
            };
            let is_printable = token.bytes().all(|byte| byte.is_ascii_graphic());
            let (min, max) = (TOKEN_CHARS_MIN, TOKEN_CHARS_MAX);
            if !is_printable || !(min..=max).contains(&token.len()) {
                return Err(InvalidTokens::Token { line, min, max });
            }
            if tokens.iter().any(|known| known.name == name) {
                return Err(InvalidTokens::Twice { line, name: name.to_owned() });
            }
            if tokens.len() == TOKENS_MAX {
                return Err(InvalidTokens::TooMany { max: TOKENS_MAX });
            }
            tokens.push(Token { name: name.to_owned(), hash: hash(token) });
        }
        if tokens.is_empty() { Err(InvalidTokens::Empty) } else { Ok(Self(tokens)) }
    }

    /// Whose credential that is. How long it takes tells nothing of those that are known: hashes are
    /// compared.
    pub(super) fn name_of(&self, token: &str) -> Option<&str> {
        let hash = hash(token);
        let is_it = |known: &&Token| known.hash == hash || is_planted(Defect::AnyToken);
        self.0.iter().find(is_it).map(|known| known.name.as_str())
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl fmt::Debug for ApiTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| &token.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# who may ask\n\nci 0123456789abcdef\n  anna   fedcba9876543210  \n";

    #[test]
    fn a_token_has_one_name_and_no_other_token_has_it() {
        let tokens = ApiTokens::parse(TEXT).expect("a good file");
        assert_eq!(tokens.name_of("0123456789abcdef"), Some("ci"));
        assert_eq!(tokens.name_of("fedcba9876543210"), Some("anna"));
        assert_eq!(tokens.name_of("0123456789abcdeF"), None);
        assert_eq!(tokens.name_of(""), None);
    }

    #[test]
    fn nothing_shows_a_token() {
        let tokens = ApiTokens::parse(TEXT).expect("a good file");
        assert_eq!(format!("{tokens:?}"), "[\"ci\", \"anna\"]");
        let refused = ApiTokens::parse("ci 0123456789abcdef extra").expect_err("three words");
        assert!(!refused.to_string().contains("0123"), "{refused}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let parse = ApiTokens::parse;
        assert_eq!(parse("# nobody\n"), Err(InvalidTokens::Empty));
        assert_eq!(parse("\n0123456789abcdef"), Err(InvalidTokens::Line { line: 2 }));
        assert_eq!(parse("ci short"), Err(InvalidTokens::Token { line: 1, min: 16, max: 512 }));
        let twice = parse("ci 0123456789abcdef\nci fedcba9876543210");
        assert_eq!(twice, Err(InvalidTokens::Twice { line: 2, name: "ci".to_owned() }));
        let many: String = (0..=TOKENS_MAX).map(|n| format!("n{n} 0123456789abcdef\n")).collect();
        assert_eq!(parse(&many), Err(InvalidTokens::TooMany { max: TOKENS_MAX }));
    }
}
