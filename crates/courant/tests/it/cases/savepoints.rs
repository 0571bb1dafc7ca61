//! A part of a transaction that is undone publishes nothing, and takes nothing else with it.

use courant::prelude::*;
use courant::testkit::published;
use sqlx::Connection as _;

use super::common::{Counted, Db, Site, counted, effects, publish};
use super::support::INSERT_EFFECT;

/// What becomes of a part.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Kept,
    Undone,
    /// A statement in it fails, and it is undone because of that.
    Failed,
}

const PARTS: [(&str, End); 4] =
    [("first", End::Kept), ("second", End::Undone), ("third", End::Failed), ("fourth", End::Kept)];

/// A part that was kept.
#[derive(Event, Serialize, Deserialize, Debug)]
#[event(type = "test.packed", topic = "test.packed", key = key)]
struct Packed {
    key: String,
    part: String,
}

/// Each part has a savepoint, with another one in it that is kept.
async fn pack(event: Counted, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    let key = event.key;
    for (part, end) in PARTS {
        let mut outer = tx.begin().await?;
        sqlx::query(INSERT_EFFECT).bind(format!("{key}:{part}")).execute(&mut *outer).await?;
        let mut inner = outer.begin().await?;
        sqlx::query(INSERT_EFFECT).bind(format!("{key}:{part}-inside")).execute(&mut *inner).await?;
        inner.commit().await?;
        if end == End::Failed {
            let missing = sqlx::query("insert into nowhere (what) values ('it')").execute(&mut *outer).await;
            assert!(missing.is_err(), "there is no such table");
        }
        if end != End::Kept {
            outer.rollback().await?;
            continue;
        }
        outer.commit().await?;
        tx.publish(&Packed { key: key.clone(), part: part.to_owned() })?;
    }
    Ok(())
}

/// O8: of four parts one is undone and one fails. Their rows are gone, also those of the savepoints in them,
/// and no event tells of them; the other two have happened, with what was published before and behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_undone_with_a_savepoint_publishes_nothing() {
    let Some(site) = Site::on_memory().await else { return };
    let packing = Subscription::named("packing").retry(Retry::never()).on(pack);
    let service = site.app().await.subscribe(packing).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    let expected = ["a:first", "a:first-inside", "a:fourth", "a:fourth-inside"];
    assert_eq!(effects(service.store()).await, expected);
    let packed = published::<Packed>(&**service.engine()).await.expect("reads");
    let parts: Vec<&str> = packed.iter().map(|packed| packed.part.as_str()).collect();
    assert_eq!(parts, ["first", "fourth"]);
    let letters = service.dead_letters().list().await.expect("lists");
    assert!(letters.is_empty(), "{letters:?}");
    service.stop().await.expect("stops");
}
