//! What a service tells of the letters of a redrive, and that it does no more than it was asked for.

use std::num::NonZeroU32;

use courant::channel::{Action, Outcome, RedriveProgress, ResultPage, Which};
use courant::testkit::World;

use crate::channel::{answered, asked};
use crate::given::{counted, seconds};

/// How many letters the redrive has, where that is said, and those whose results are told.
fn told(outcomes: &[Outcome]) -> (Option<u64>, Vec<i64>) {
    let (mut total, mut letters) = (None, Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Redrive { progress, .. } => total = Some(progress.letters()),
            Outcome::Results { results } => letters.extend(results.iter().map(|result| result.letter)),
            other => panic!("{other:?}"),
        }
    }
    (total, letters)
}

/// Results are told page by page, behind how far the redrive is, however many letters it has; who asks for no
/// page, because it knows of none, gets all of them and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn results_are_told_page_by_page() {
    let world = World::new(7);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    for n in 0..3 {
        service.publisher().publish(&counted(&format!("key-{n}"), n)).await.expect("is taken");
    }
    service.settle().await.expect("settles");
    let listed = service.dead_letters().list().await.expect("lists");
    let mut ids: Vec<i64> = listed.iter().map(|letter| letter.id).collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 3);
    let which = Which { all: true, ..Which::default() };
    let redrive = Action::Redrive { redrive: "again".to_owned(), which, rate: None };
    let begun = answered(&world, &*engine, &mut service, "r-1", redrive).await;
    assert_eq!(told(&begun), (Some(3), Vec::new()));

    let status = |page| Action::Status { redrive: "again".to_owned(), events: true, page };
    let all = answered(&world, &*engine, &mut service, "r-2", status(None)).await;
    assert_eq!(told(&all), (None, ids.clone()));
    for (id, after, expected) in
        [("r-3", 0, &ids[..2]), ("r-4", ids[1], &ids[2..]), ("r-5", ids[2], &ids[3..])]
    {
        let page = Some(ResultPage { after, limit: 2 });
        let page = answered(&world, &*engine, &mut service, id, status(page)).await;
        assert_eq!(told(&page), (Some(3), expected.to_vec()), "behind {after}");
    }
    service.stop().await.expect("stops");
}

/// How far a redrive is, as the service has answered.
fn progress(outcomes: &[Outcome]) -> RedriveProgress {
    match outcomes {
        [Outcome::Redrive { progress, .. }] => progress.clone(),
        other => panic!("{other:?}"),
    }
}

/// D5: a rate that the service is asked for is kept, and what it has left then can be cancelled: nothing more of it is
/// sent back, however long one waits, and the service says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_with_a_rate_is_cancelled_halfway() {
    const LETTERS: u32 = 5;
    let world = World::new(9);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    for n in 0..LETTERS {
        service.publisher().publish(&counted(&format!("key-{n}"), n)).await.expect("is taken");
    }
    service.settle().await.expect("settles");
    let which = Which { all: true, ..Which::default() };
    let redrive = Action::Redrive { redrive: "slow".to_owned(), which, rate: NonZeroU32::new(1) };
    let begun = progress(&answered(&world, &*engine, &mut service, "r-1", redrive).await);
    assert_eq!((begun.state.as_str(), begun.letters()), ("running", u64::from(LETTERS)));
    world.advance(seconds(1));
    service.settle().await.expect("settles");

    let cancel = Action::Cancel { redrive: "slow".to_owned() };
    let cancelled = progress(&answered(&world, &*engine, &mut service, "r-2", cancel).await);
    assert_eq!(cancelled.state, "cancelled");
    // One in each second: in the one of the request, and in the one behind it.
    assert!((1..=2).contains(&cancelled.failed), "{cancelled:?}");
    assert_eq!(cancelled.failed + cancelled.cancelled, u64::from(LETTERS), "{cancelled:?}");

    world.advance(seconds(60));
    service.settle().await.expect("settles");
    let status = Action::Status { redrive: "slow".to_owned(), events: false, page: None };
    let later = progress(&answered(&world, &*engine, &mut service, "r-3", status).await);
    assert_eq!(later, cancelled);
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), LETTERS as usize);
    service.stop().await.expect("stops");
}
