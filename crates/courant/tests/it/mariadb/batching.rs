//! Several events in one transaction, which MariaDB cannot have.

use courant::prelude::*;

use super::common::{Script, Site, count};
use crate::build_errors::codes;

/// A handler that changes tables would commit what the handlers before it have done, and they would be
/// called again. So it is said before anything starts, with the reason; a batch of one is none.
#[tokio::test]
async fn batches_are_refused() {
    let Some(site) = Site::on_memory().await else { return };
    let together = Subscription::named("counting").batchable(2).on(count);
    let app = site.app().await.state(Script::default());
    let refused = app.subscribe(together).build().await.expect_err("is refused");
    assert_eq!(codes(&refused), ["batch-not-shared"], "{refused}");
    let problem = &refused.problems()[0];
    assert!(problem.what().contains("is .batchable(…), and on MariaDB a handler that ends"), "{refused}");
    assert!(problem.fix().starts_with("leave .batchable(…) away"), "{refused}");

    let alone = Subscription::named("counting").batchable(1).on(count);
    site.app().await.state(Script::default()).subscribe(alone).build().await.expect("fits together");
}
