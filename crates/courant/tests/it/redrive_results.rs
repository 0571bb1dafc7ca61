//! What a service tells of the letters of a redrive.

use courant::channel::{Action, Outcome, ResultPage, Which};
use courant::testkit::World;

use crate::channel::{answered, asked};
use crate::given::counted;

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
