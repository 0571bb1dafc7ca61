//! Stands between a store and its server, and cuts the connection at a COMMIT: before the server has seen
//! it, or before its answer comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How the packet of a text that commits ends.
const COMMIT: &[u8] = b"COMMIT";
/// What stands in the answer to a statement when there is another one behind it in the text.
const HAS_MORE: u8 = 8;

/// When the next COMMIT is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    /// It is not.
    Never = 0,
    /// Before the server has seen it.
    Question = 1,
    /// When the server has done it.
    Answer = 2,
    /// Before the server has seen it, and nothing ends: the server's host has vanished. From then on the time
    /// of the test's runtime passes by itself.
    Silence = 3,
}

pub(crate) struct Proxy {
    url: String,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    /// In front of the database at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let (credentials, place) = url.rsplit_once('@').expect("an address names a user");
        let (server, database) = place.split_once('/').expect("an address ends with a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let (server, shared) = (server.to_owned(), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), Arc::clone(&shared)));
            }
        });
        Self { url: format!("{credentials}@127.0.0.1:{port}/{database}"), cut }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn cut_next(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

/// One connection, until one side ends it or it is cut.
async fn pass(mut client: TcpStream, server: String, cut: Arc<AtomicU8>) {
    let mut server = TcpStream::connect(server).await.expect("the server");
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let is_commit = asked[..read].ends_with(COMMIT);
                let cut = if is_commit { cut.swap(Cut::Never as u8, Ordering::SeqCst) } else { 0 };
                if cut == Cut::Question as u8 {
                    return;
                }
                if cut == Cut::Silence as u8 {
                    tokio::time::pause();
                    std::future::pending::<()>().await;
                }
                if server.write_all(&asked[..read]).await.is_err() {
                    return;
                }
                if cut == Cut::Answer as u8 {
                    // The last answer says that it is done; nobody gets to know.
                    while has_more(&mut server).await {}
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads the answer to one statement that gives no rows, and whether there is another one. After its kind come two
/// numbers, of one byte each unless they are large, and what state the server is in.
async fn has_more(server: &mut TcpStream) -> bool {
    let Ok(length) = server.read_u32_le().await else { return false };
    let mut packet = vec![0; usize::try_from(length & 0xff_ffff).expect("a length")];
    if server.read_exact(&mut packet).await.is_err() {
        return false;
    }
    matches!(packet[..], [0, rows, id, state, ..] if rows < 0xfb && id < 0xfb && state & HAS_MORE != 0)
}
