//! The HTTP API of a server, for the commands that ask it.

use super::tls;
use crate::cli::{Global, Http};
use crate::exit::{Exit, Failure};
use crate::files;
use courant_server::{ApiClient, ApiError};
use std::path::Path;

/// Bytes of a file with a token: the longest one and its name fit.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Who asks the server that the command line names.
pub(super) fn client(global: &Global, http: &Http) -> Result<ApiClient, Failure> {
    let token = http.http_token_file.as_deref().map(token).transpose()?;
    Ok(ApiClient::new(http.http_url.clone(), token, global.timeout).with_tls(tls::trusted(global)?))
}

/// The first token of a file. What stands in it is in no sentence.
fn token(file: &Path) -> Result<String, Failure> {
    let failure =
        |reason: String| Failure::new(Exit::Usage, format!("--http-token-file {}: {reason}", file.display()));
    let text = files::read_text(file, TOKEN_FILE_BYTES_MAX).map_err(|error| failure(error.to_string()))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let token = lines.find_map(|line| line.split_whitespace().next_back());
    token.map(str::to_owned).ok_or_else(|| failure("there is no token in it; write TOKEN".to_owned()))
}

/// What went wrong, with its exit code.
pub(super) fn failed(error: &ApiError) -> Failure {
    match error {
        ApiError::Unreachable { .. } => Failure::new(
            Exit::Unreachable,
            format!("{error}; start a server with `courant serve`, or name its address with --http-url"),
        ),
        ApiError::Tls { .. } => Failure::new(
            Exit::Unreachable,
            format!(
                "{error}; the certificate has to be good for this name and to lead to one in the file of --tls-ca"
            ),
        ),
        ApiError::TimedOut { .. } => Failure::new(
            Exit::Unreachable,
            format!("{error}; look at the server's log, or allow more with --timeout"),
        ),
        ApiError::NotTheApi { .. } => Failure::new(
            Exit::Failed,
            format!(
                "{error}; name the address of its HTTP port with --http-url, as https://HOST:PORT if that speaks TLS"
            ),
        ),
        ApiError::Token => Failure::new(Exit::Usage, error.to_string()),
        ApiError::NoAuthority { .. } => {
            Failure::new(Exit::Usage, format!("{error}; name a file with --tls-ca"))
        }
        ApiError::Problem { status, code, detail } => {
            Failure::new(exit_of(*status), in_words_of_commands(code, detail))
        }
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// Where the server advises its own addresses for what a command does.
fn in_words_of_commands(code: &str, detail: &str) -> String {
    let addresses = "; GET /api/v1/topics lists them";
    match detail.split_once(addresses) {
        Some((what, _)) if code == "topic_not_found" => format!("{what}; see `courant topic list`"),
        _ => detail.to_owned(),
    }
}

fn exit_of(status: u16) -> Exit {
    match status {
        400 | 422 => Exit::Usage,
        401 | 403 => Exit::NotAllowed,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        429 | 503 => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_may_have_names_and_comments() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        for (text, expected) in [("secret\n", "secret"), ("# mine\n\n  ci secret \nx other\n", "secret")] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(token(&path).expect("a token"), expected);
        }
        std::fs::write(&path, "# secret\n").expect("a file");
        let refused = token(&path).expect_err("none");
        assert_eq!(refused.exit, Exit::Usage);
        assert!(!refused.sentence.contains("secret"), "{}", refused.sentence);
    }

    #[test]
    fn problems_have_the_exit_codes_of_the_other_commands() {
        let exits = [400, 401, 403, 404, 409, 503, 500].map(exit_of);
        let expected = [
            Exit::Usage,
            Exit::NotAllowed,
            Exit::NotAllowed,
            Exit::NotFound,
            Exit::Conflict,
            Exit::Unreachable,
            Exit::Failed,
        ];
        assert_eq!(exits, expected);
    }
}
