//! Told to end: the signals by which a terminal, systemd and containers end a program. The first one lets it end in
//! order, the second one ends the waiting for that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tracing::info;

use self::system::Signals;

/// Runs a program until it has ended, which it is told to by the first signal: by SIGTERM, as containers and systemd
/// send it, or by SIGINT, which is Ctrl-C. (On Windows it is Ctrl-C alone.) With the second one nothing is waited for
/// any more: what runs is dropped where it is. A [`Service`](crate::Service) that is dropped has lost nothing; what it
/// had not come to the end of comes again.
///
/// `run` is given a future that is done with the first signal, and gives back what there is to be run. It is called
/// when signals are heard, so none is missed from then on.
///
/// ```no_run
/// # async fn shown(service: courant::Service) -> Result<(), courant::BoxError> {
/// courant::until_signal(|told| service.run_until(told)).await??;
/// # Ok(())
/// # }
/// ```
///
/// From then on these signals end nothing by themselves in this process, also when this has come back. Tasks that were
/// spawned, requests of a server for example, end with the runtime. One that is dropped, as at the end of `main`, still
/// waits for threads of [`spawn_blocking`](tokio::task::spawn_blocking) and for handlers that block: the engines
/// `courant://` and `kafka://` have such threads, which ask a server that is away for 20 seconds and more. Who does not
/// want to wait for that either calls [`std::process::exit`].
///
/// # Errors
/// [`SignalError::Again`] is the second signal. What `run` comes to is within the `Ok`, whether or not a signal came.
///
/// # Panics
/// Outside of a runtime of tokio whose I/O is enabled, as that of `#[tokio::main]` is.
pub async fn until_signal<F: Future>(run: impl FnOnce(Told) -> F) -> Result<F::Output, SignalError> {
    let mut signals = Signals::listen().map_err(SignalError::Listen)?;
    let (tell, told) = oneshot::channel();
    let run = Box::pin(run(Told(told)));
    let told_again = async {
        signals.next().await;
        info!("told to end by a signal; a second one ends at once");
        // What runs may have let go of it, and ends by something else.
        let _ = tell.send(());
        signals.next().await;
    };
    tokio::select! {
        biased;
        ended = run => Ok(ended),
        () = told_again => Err(SignalError::Again),
    }
}

/// Is done when this program is told to end; see [`until_signal`].
#[derive(Debug)]
pub struct Told(oneshot::Receiver<()>);

impl Future for Told {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Whoever would tell has gone after a second signal, and what is left of the program is to end as well.
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

/// Why it is not known how a program has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The system does not let it hear signals. Nothing has run.
    #[error("signals cannot be heard: {0}")]
    Listen(#[source] io::Error),
    /// It was told to end a second time before it had ended, and has stopped where it was.
    #[error("told to end a second time before the end, and stopped at once")]
    Again,
}

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The signals that tell a program to end. Of two that come close to each other the second may be lost, if they
    /// are of one kind.
    pub(super) struct Signals {
        terminate: Signal,
        interrupt: Signal,
    }

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }

        /// Ends with the next one.
        pub(super) async fn next(&mut self) {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;

    use tokio::signal::windows::{CtrlC, ctrl_c};

    /// Ctrl-C tells a program to end.
    pub(super) struct Signals {
        interrupt: CtrlC,
    }

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self { interrupt: ctrl_c()? })
        }

        /// Ends with the next one.
        pub(super) async fn next(&mut self) {
            self.interrupt.recv().await;
        }
    }
}
