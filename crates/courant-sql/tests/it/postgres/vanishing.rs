//! A server to which some connections lead no more, and do not end: its host has vanished, or a router has forgotten
//! them.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Stands between a store and its server.
pub(super) struct Vanishing {
    pub(super) url: String,
    first: Arc<AtomicUsize>,
    last: Arc<AtomicUsize>,
}

impl Vanishing {
    /// In front of the database at `url`. Where something is lost, so much time of the test's runtime is over at once:
    /// only tests with one thread can do that.
    pub(super) async fn before(url: &str, over: Duration) -> Self {
        let (credentials, place) = url.rsplit_once('@').expect("an address with a user");
        let (server, database) = place.split_once('/').expect("an address with a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address");
        let url = format!("{credentials}@{own}/{database}");
        let (first, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (server, lost) = (server.to_owned(), (first.clone(), last.clone()));
        tokio::spawn(async move {
            let mut number = 0_usize;
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server");
                let (first, last) = lost.clone();
                let is_lost =
                    move || (first.load(Ordering::SeqCst)..last.load(Ordering::SeqCst)).contains(&number);
                tokio::spawn(pass(client, server, is_lost, over));
                number += 1;
            }
        });
        Self { url, first, last }
    }

    /// From now on nothing comes of what is said on these connections, which are numbered from 0.
    pub(super) fn lose(&self, first: usize, count: usize) {
        self.first.store(first, Ordering::SeqCst);
        self.last.store(first.saturating_add(count), Ordering::SeqCst);
    }
}

/// One connection, until one side ends it.
async fn pass(mut client: TcpStream, mut server: TcpStream, is_lost: impl Fn() -> bool, over: Duration) {
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                if is_lost() {
                    tokio::time::pause();
                    tokio::time::advance(over).await;
                    tokio::time::resume();
                    pending::<()>().await;
                }
                if server.write_all(&asked[..read]).await.is_err() {
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
