//! Logins: one that is not taken is an answer.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use courant_engine::OpenError;
use courant_engine_kafka::limits::OPEN_MAX;

use crate::server::opened;

/// Bytes of a request that are taken.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

const API_VERSIONS: i16 = 18;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;
const UNSUPPORTED_VERSION: i16 = 35;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// What the broker below speaks: each request with its oldest and its newest version.
const SPOKEN: [[i16; 3]; 4] =
    [[3, 0, 1], [SASL_HANDSHAKE, 0, 1], [API_VERSIONS, 0, 0], [SASL_AUTHENTICATE, 0, 0]];

/// What Apache Kafka says of a wrong password.
const REFUSAL: &str = "Authentication failed: Invalid username or password";

/// The port of a broker that takes no login, of anybody. It ends with the process.
fn refusing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever hangs up has heard enough.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    port
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let mut request = vec![0; length.clamp(8, REQUEST_BYTES_MAX)];
        stream.read_exact(&mut request)?;
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let Some(answer) = answer(number(0), number(2)) else { return Ok(()) };
        let length = u32::try_from(answer.len() + 4).unwrap_or(u32::MAX);
        // The number of the request stands before its answer.
        stream.write_all(&[&length.to_be_bytes()[..], &request[4..8], &answer[..]].concat())?;
    }
}

/// What is answered to a request of this kind and version. `None`: nothing.
fn answer(kind: i16, version: i16) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match kind {
        API_VERSIONS => {
            let error = if version == 0 { 0 } else { UNSUPPORTED_VERSION };
            bytes.extend(error.to_be_bytes());
            bytes.extend(4_i32.to_be_bytes());
            bytes.extend(SPOKEN.concat().into_iter().flat_map(i16::to_be_bytes));
        }
        SASL_HANDSHAKE => {
            bytes.extend(0_i16.to_be_bytes());
            bytes.extend(1_i32.to_be_bytes());
            text(&mut bytes, "PLAIN");
        }
        SASL_AUTHENTICATE => {
            bytes.extend(SASL_AUTHENTICATION_FAILED.to_be_bytes());
            text(&mut bytes, REFUSAL);
            bytes.extend(0_i32.to_be_bytes());
        }
        _ => return None,
    }
    Some(bytes)
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(i16::try_from(text.len()).expect("it is short").to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// The client tries again and again, and to whoever waits it says nothing of it: nobody answered, after 15 seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_not_taken_is_refused_at_once() {
    let port = refusing();
    let begun = Instant::now();
    let error = opened(&format!("kafka://ann:secret@127.0.0.1:{port}")).await.expect_err("no login");
    assert!(begun.elapsed() < OPEN_MAX, "{:?}", begun.elapsed());
    assert!(matches!(error, OpenError::Login { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(REFUSAL) && said.contains(&port.to_string()), "{said}");
    assert!(!said.contains("secret") && !said.contains("ann:"), "{said}");
}
