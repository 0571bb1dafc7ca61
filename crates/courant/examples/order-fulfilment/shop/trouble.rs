//! What can be broken on purpose, and whether it is.

use tokio::sync::watch;

/// One thing that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The carrier has no price for a country.
    Carrier,
    /// Analytics takes its time.
    Analytics,
    /// A partner's gateway sends what it sends several times.
    Gateway,
    /// The services do not reach the broker.
    Broker,
}

impl Trouble {
    pub(crate) const ALL: [Self; 4] = [Self::Carrier, Self::Analytics, Self::Gateway, Self::Broker];

    /// Its name for programs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::Analytics => "analytics",
            Self::Gateway => "gateway",
            Self::Broker => "broker",
        }
    }

    /// The trouble of that name.
    pub(crate) fn named(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.id() == id)
    }

    /// What is broken by it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Carrier => "The carrier",
            Self::Analytics => "Analytics",
            Self::Gateway => "The partner's gateway",
            Self::Broker => "The line to the broker",
        }
    }
}

/// Which troubles are on.
#[derive(Debug)]
pub(super) struct Troubles([watch::Sender<bool>; 4]);

impl Troubles {
    pub(super) fn none() -> Self {
        Self(Trouble::ALL.map(|_| watch::Sender::new(false)))
    }

    pub(super) fn is_on(&self, trouble: Trouble) -> bool {
        *self.switch(trouble).borrow()
    }

    /// Turns it on or off. `false`: it was so already.
    pub(super) fn turn(&self, trouble: Trouble, on: bool) -> bool {
        self.switch(trouble).send_if_modified(|is_on| std::mem::replace(is_on, on) != on)
    }

    /// Turns all of them off.
    pub(super) fn repair(&self) {
        for trouble in Trouble::ALL {
            self.turn(trouble, false);
        }
    }

    /// Comes back once it is on, or off.
    pub(super) async fn until(&self, trouble: Trouble, on: bool) {
        let mut watched = self.switch(trouble).subscribe();
        // The sender is a field of `self`, so it does not go away meanwhile.
        drop(watched.wait_for(|is_on| *is_on == on).await);
    }

    fn switch(&self, trouble: Trouble) -> &watch::Sender<bool> {
        &self.0[trouble as usize]
    }
}
