//! The contract of engines, kept by every engine of this crate: the same cases, one after the other, on
//! `memory:` and on `embedded:`.

mod engines;
mod foreign;
mod given_up;
mod groups;
mod keeping;
mod memory;
mod order;
mod place;
mod reading;
mod records;
mod refusals;
mod served;
mod shares;
mod topics;
mod waiting;

/// One test per engine for each case.
macro_rules! on_every_engine {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(&crate::engines::memory().await).await;
                }
            )+
        }

        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(&crate::engines::embedded().await).await;
                }
            )+
        }
    };
}

pub(crate) use on_every_engine;
