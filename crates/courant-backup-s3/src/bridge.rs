//! From synchronous code to asynchronous requests: they run on threads of their own, and whoever asks
//! waits for the answer on a channel.
//!
//! So it does not matter where the caller is. A runtime that was entered to wait would refuse when the
//! caller's thread drives another one, and would stand still when it is the only thread of its own.

use std::sync::mpsc::{Receiver, sync_channel};

use tokio::runtime::{Builder, Runtime};

use crate::error::S3Error;

/// Threads that requests run on. They wait for the network most of the time.
const THREADS: usize = 2;

/// The runtime of one target. Dropped, it ends what is under way and waits for nothing.
pub(crate) struct Bridge {
    /// There until the end.
    runtime: Option<Runtime>,
}

/// An answer that is on its way.
pub(crate) struct Pending<T> {
    answer: Receiver<T>,
}

impl Bridge {
    pub(crate) fn new() -> Result<Self, S3Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("courant-s3")
            .enable_all()
            .build()
            .map_err(|error| S3Error::NoRuntime { cause: error.to_string() })?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Begins a request.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Pending<T> {
        // Room for the one answer: the request never waits for whoever asked.
        let (send, answer) = sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // Whoever asked may have given up.
                let _ = send.send(request.await);
            });
        }
        Pending { answer }
    }

    /// Makes a request, and waits for its answer.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, S3Error> {
        self.start(request).wait()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last owner may be a task of another runtime, where nobody may wait.
            runtime.shutdown_background();
        }
    }
}

impl<T> Pending<T> {
    /// Waits for the answer.
    pub(crate) fn wait(self) -> Result<T, S3Error> {
        self.answer.recv().map_err(|_| S3Error::BrokenOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_made_from_anywhere() {
        let bridge = Bridge::new().expect("threads");
        assert!(matches!(bridge.run(async { 1 }), Ok(1)));
        // The thread of another runtime, which has only this one.
        let other = Builder::new_current_thread().build().expect("a runtime");
        other.block_on(async move {
            assert!(matches!(bridge.run(async { 2 }), Ok(2)));
            drop(bridge);
        });
    }

    #[test]
    fn a_request_that_panics_is_an_error() {
        let bridge = Bridge::new().expect("threads");
        let answer = bridge.start::<()>(async { panic!("on purpose") }).wait();
        assert!(matches!(answer, Err(S3Error::BrokenOff)));
        assert!(matches!(bridge.run(async { 3 }), Ok(3)));
    }
}
