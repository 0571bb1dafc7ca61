//! Targets on a store in memory, which minds conditions as S3 does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use async_trait::async_trait;
use courant_log::SystemClock;
use futures_util::FutureExt as _;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::*;
use crate::LEASE;
use crate::lock_object::LockObject;

const PART_BYTES: usize = 10;
const LOCK_KEY: &str = "prod/LOCK";

/// A store in memory that counts, and that may ignore all conditions.
#[derive(Clone, Debug, Default)]
struct Store {
    memory: InMemory,
    is_careless: bool,
    multiparts: Arc<AtomicUsize>,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store in memory")
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mode = if self.is_careless { PutMode::Overwrite } else { options.mode.clone() };
        self.memory.put_opts(key, payload, PutOptions { mode, ..options }).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.multiparts.fetch_add(1, Ordering::Relaxed);
        self.memory.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.memory.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.memory.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

impl Store {
    /// Writes past all targets.
    fn write(&self, key: &str, bytes: Vec<u8>) {
        let key = Path::parse(key).expect("a key");
        let put = self.memory.put_opts(&key, PutPayload::from(bytes), PutOptions::default());
        put.now_or_never().expect("memory answers at once").expect("it is written");
    }

    fn write_lock(&self, lock: &LockObject) {
        self.write(LOCK_KEY, lock.encode().expect("encodes"));
    }

    fn lock(&self) -> LockObject {
        let key = Path::parse(LOCK_KEY).expect("a key");
        let read = async move { self.memory.get_opts(&key, GetOptions::default()).await?.bytes().await };
        let bytes = read.now_or_never().expect("memory answers at once").expect("it is there");
        LockObject::decode(&bytes).expect("a lock")
    }

    fn target(&self) -> S3Target {
        self.target_with(&options(LEASE, 0, |_| {}))
    }

    fn target_with(&self, options: &S3Options) -> S3Target {
        let url = S3Url::parse("s3://events/prod").expect("an address");
        let site = Site { url, has_credentials: true };
        S3Target::on(Arc::new(self.clone()), site, options, PART_BYTES).expect("threads")
    }
}

/// A clock that is ahead of the store's.
struct Ahead {
    by_ms: i64,
}

impl Clock for Ahead {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.by_ms
    }

    fn elapsed_ms(&self) -> u64 {
        SystemClock.elapsed_ms()
    }
}

fn options(lease: Duration, by_ms: i64, say: impl Fn(&str) + Send + Sync + 'static) -> S3Options {
    S3Options {
        variables: Vec::new(),
        holder: "host, process 7".to_owned(),
        lease,
        clock: Arc::new(Ahead { by_ms }),
        say: Arc::new(say),
    }
}

/// A lock that somebody else has taken.
fn of_another(lease: Duration) -> LockObject {
    LockObject::new("another".to_owned(), "elsewhere".to_owned(), SystemClock.now_ms(), lease)
}

fn put(target: &S3Target, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut put = target.put(name)?;
    // Pieces that are no divisor of a part.
    for piece in bytes.chunks(3) {
        put.write(piece)?;
    }
    put.finish()
}

fn get(target: &S3Target, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    target.get(name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn names(target: &S3Target, prefix: &str) -> Vec<String> {
    target.list(prefix).expect("lists").into_iter().map(|listed| listed.name).collect()
}

fn busy(target: &S3Target) -> io::Error {
    let refused = target.lock().expect_err("it is held");
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "{refused}");
    refused
}

/// Each size around the borders of a part: what comes back is what went, and only what does not fit into
/// one part goes in parts.
#[test]
fn objects_of_every_size_come_back_as_they_went() {
    let store = Store::default();
    let target = store.target();
    let _guard = target.lock().expect("locks");
    for bytes in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 7] {
        let content: Vec<u8> = (1..=bytes as u8).collect();
        let name = format!("segments/{bytes}");
        let multiparts = store.multiparts.load(Ordering::Relaxed);
        put(&target, &name, &content).expect("puts");
        assert_eq!(get(&target, &name).expect("gets"), content, "{bytes} bytes");
        let in_parts = store.multiparts.load(Ordering::Relaxed) > multiparts;
        assert_eq!(in_parts, bytes > PART_BYTES, "{bytes} bytes");
        let listed = target.list(&name).expect("lists");
        assert_eq!(listed, [Listed { name, bytes: bytes as u64 }]);
        target.remove(&format!("segments/{bytes}")).expect("removes");
    }
    assert_eq!(names(&target, ""), [""; 0]);
    assert_eq!(get(&target, "segments/1").expect_err("it is gone").kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_object_is_there_when_it_is_finished_and_not_before() {
    let store = Store::default();
    let target = store.target();
    let _guard = target.lock().expect("locks");
    for bytes in [3, 5 * PART_BYTES] {
        let mut abandoned = target.put("a/b").expect("begins");
        abandoned.write(&vec![1; bytes]).expect("writes");
        assert_eq!(names(&target, ""), [""; 0]);
        drop(abandoned);
        assert_eq!(names(&target, ""), [""; 0]);
    }
    put(&target, "a/b", b"first").expect("puts");
    put(&target, "a/b", b"second, and longer than one part").expect("puts");
    assert_eq!(get(&target, "a/b").expect("gets"), b"second, and longer than one part");
}

/// Two pieces of two contents would make a third one.
#[test]
fn an_object_that_is_replaced_under_the_reading_is_an_error() {
    let store = Store::default();
    let target = store.target();
    store.write("prod/a", vec![1; 3 * PART_BYTES]);
    let mut reading = target.get("a").expect("begins");
    let mut first = [0; PART_BYTES];
    reading.read_exact(&mut first).expect("the first piece");
    store.write("prod/a", vec![2; 3 * PART_BYTES]);
    let error = reading.read_exact(&mut first).expect_err("it is another one");
    assert!(error.to_string().contains("s3://events/prod/a was replaced"), "{error}");
}

#[test]
fn listings_are_sorted_and_have_neither_the_lock_nor_what_is_beside() {
    let store = Store::default();
    let target = store.target();
    let _guard = target.lock().expect("locks");
    for name in ["manifests/2", "manifests/10", "manifests-of-old/1", "states/1/a"] {
        put(&target, name, b"x").expect("puts");
    }
    store.write("production/manifests/9", Vec::new());
    store.write("manifests/8", Vec::new());
    assert_eq!(names(&target, "manifests/"), ["manifests/10", "manifests/2"]);
    assert_eq!(names(&target, "manifests"), ["manifests-of-old/1", "manifests/10", "manifests/2"]);
    assert_eq!(names(&target, "").len(), 4);
}

#[test]
fn one_backup_at_a_time() {
    let store = Store::default();
    let (first, second) = (store.target(), store.target());
    let guard = first.lock().expect("locks");
    let refused = busy(&second).to_string();
    assert!(refused.contains("s3://events/prod/LOCK is held by host, process 7, for "), "{refused}");
    busy(&first);
    drop(guard);
    assert!(store.lock().released);
    // It is free at once, and again.
    for target in [&second, &first] {
        let guard = target.lock().expect("it was given back");
        put(target, "a", b"x").expect("whoever has the lock writes");
        drop(guard);
    }
}

#[test]
fn nothing_is_written_without_the_lock() {
    let store = Store::default();
    let target = store.target();
    put(&target, "a", b"x").expect_err("no lock");
    drop(target.lock().expect("locks"));
    put(&target, "a", b"x").expect_err("no lock any more");
    target.remove("a").expect_err("no lock any more");
    assert_eq!(names(&target, ""), [""; 0]);
}

#[test]
fn the_lock_of_a_dead_process_is_taken_when_its_lease_is_over() {
    let store = Store::default();
    // Nobody is taken for dead before that, however late a busy machine is. A tenth of it is waited in the end.
    let lease = Duration::from_secs(10);
    store.write_lock(&of_another(lease));
    busy(&store.target());
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let later = options(LEASE, 100_000, move |said| {
        assert!(said.contains("was not renewed in time by elsewhere"), "{said}");
        count.fetch_add(1, Ordering::Relaxed);
    });
    let target = store.target_with(&later);
    let _guard = target.lock().expect("it is taken over");
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(store.lock().holder, "host, process 7");
}

/// A clock that is far ahead finds every lock stale. The holder's renewal, which comes while the lock is
/// watched, is what counts.
#[test]
fn a_clock_alone_breaks_no_lock() {
    let store = Store::default();
    let held = of_another(Duration::from_secs(2));
    store.write_lock(&held);
    let renewals = AtomicUsize::new(0);
    let (shared, alive) = (store.clone(), held.clone());
    let ahead = options(LEASE, 1_000_000, move |_| {
        renewals.fetch_add(1, Ordering::Relaxed);
        let mut renewed = alive.clone();
        renewed.renewals = renewals.load(Ordering::Relaxed) as u64;
        shared.write_lock(&renewed);
    });
    busy(&store.target_with(&ahead));
    assert_eq!(store.lock().id, held.id);
}

#[test]
fn a_held_lock_is_renewed() {
    let store = Store::default();
    // On a busy machine a renewal may come late: half of the lease is left for that.
    let target = store.target_with(&options(Duration::from_secs(6), 0, |_| {}));
    let _guard = target.lock().expect("locks");
    eventually("the second renewal", || store.lock().renewals >= 2);
}

/// Whoever lost the lock finds out by itself, and stops.
#[test]
fn nothing_is_written_when_the_lock_was_taken_over() {
    let store = Store::default();
    let target = store.target_with(&options(Duration::from_secs(10), 0, |_| {}));
    let guard = target.lock().expect("locks");
    put(&target, "a", b"x").expect("it is held");
    let mut begun = target.put("b").expect("it is held");
    store.write_lock(&of_another(LEASE));
    eventually("the loss is noticed", || target.put("a").is_err());
    let error = put(&target, "a", b"y").expect_err("it is lost");
    assert!(error.to_string().contains("taken over, by elsewhere"), "{error}");
    begun.write(b"z").expect("into memory");
    begun.finish().expect_err("it is lost");
    target.remove("a").expect_err("it is lost");
    assert_eq!(get(&target, "a").expect("gets"), b"x");
    // It is the other one's now, and stays it.
    drop(guard);
    let found = store.lock();
    assert_eq!((found.id.as_str(), found.released), ("another", false));
}

#[test]
fn a_process_that_ends_gives_the_lock_back() {
    let store = Store::default();
    let target = store.target();
    let guard = target.lock().expect("locks");
    let mut begun = target.put("a").expect("it is held");
    begun.write(b"x").expect("into memory");
    target.close();
    begun.finish().expect_err("the process ends");
    let next = store.target();
    drop(next.lock().expect("it is free"));
    drop(guard);
    target.lock().expect_err("the process ends");
    drop(next.lock().expect("it is still free"));
    assert_eq!(names(&target, ""), [""; 0]);
}

/// A store that takes every write would let two backups believe that they have the lock.
#[test]
fn a_store_that_minds_no_conditions_is_refused() {
    let store = Store { is_careless: true, ..Store::default() };
    for _ in 0..2 {
        let refused = store.target().lock().expect_err("it is careless");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported, "{refused}");
        assert!(refused.to_string().contains("If-None-Match"), "{refused}");
    }
}

/// A lock that a newer release, or somebody else, has written is a lock.
#[test]
fn what_nobody_understands_is_a_lock_for_an_hour() {
    let store = Store::default();
    store.write(LOCK_KEY, b"{\"format\":2}".to_vec());
    busy(&store.target());
    busy(&store.target_with(&options(LEASE, 3_500_000, |_| {})));
    store.write(LOCK_KEY, vec![b' '; 100_000]);
    busy(&store.target());
}

/// Waits for what another thread does.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
