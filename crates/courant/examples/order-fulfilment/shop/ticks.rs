//! What there is to see, and what of it has happened. A tick is set by what was counted, never by a button.

use std::time::Instant;

use super::figures::Figures;

/// One thing to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// Its name for programs.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// How to bring it about.
    pub(crate) to_do: &'static str,
    /// What was seen when it happened. `None`: it has not.
    pub(crate) seen: Option<String>,
}

/// Id, title, and how to bring it about.
type Thing = (&'static str, &'static str, &'static str);

/// Everything that can be seen.
static THINGS: [Thing; 8] = [
    ("flowing", "An order goes through five services", "Wait a moment: orders come by themselves"),
    (
        "parked",
        "A poison parks one customer",
        "Let the carrier forget Iceland; its customer there orders at once",
    ),
    ("others", "Everybody else is served meanwhile", "Watch parcels leave while the dead letter is there"),
    (
        "redriven",
        "Repaired and sent back, in order",
        "Let the carrier know Iceland again, then send the dead letters back",
    ),
    ("behind", "A slow consumer falls behind", "Make analytics slow, and watch its lag"),
    ("caught_up", "It catches up", "Make analytics fast again"),
    ("repeated", "Repetitions are ignored", "Turn the partner's gateway on: it sends each order three times"),
    (
        "away",
        "The broker is away, and orders are taken",
        "Cut the services off from the broker, and after a few orders let them back",
    ),
];

/// What was counted in one moment, and what is broken then.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) figures: Figures,
    pub(super) is_slow: bool,
    pub(super) is_cut: bool,
    /// Repetitions that were sent and that payments has come past.
    pub(super) repetitions: u64,
    pub(super) at: Instant,
}

/// What has happened so far.
#[derive(Debug)]
pub(super) struct Seen {
    /// How much lag is a lag, and how little is none.
    pub(super) much: u64,
    pub(super) little: u64,
    seen: [Option<String>; 8],
    /// Parcels elsewhere when the first dead letter was there.
    elsewhere: i64,
    /// Somebody has made analytics slow: a machine that has much to do while it starts lags by itself.
    was_slow: bool,
    /// Since when analytics is not slow any more.
    awake: Option<Instant>,
    /// Orders when the services were cut off, and how many came from then on.
    cut_at: Option<i64>,
    taken: i64,
}

impl Seen {
    /// Of a shop in which so many events come in a second.
    pub(super) fn nothing(events_per_second: u64) -> Self {
        Self {
            much: events_per_second * 2,
            little: events_per_second / 2,
            seen: Default::default(),
            elsewhere: 0,
            was_slow: false,
            awake: None,
            cut_at: None,
            taken: 0,
        }
    }

    /// The list.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let tick = |(thing, seen): (&Thing, &Option<String>)| {
            let (id, title, to_do) = *thing;
            Tick { id, title, to_do, seen: seen.clone() }
        };
        THINGS.iter().zip(&self.seen).map(tick).collect()
    }

    /// Analytics is made slow. It may be fast again before somebody looks.
    pub(super) fn slowed(&mut self) {
        self.was_slow = true;
    }

    /// The services are cut off, or let back, with so many orders. Both may be over before somebody looks.
    pub(super) fn line_turned(&mut self, placed: i64, is_cut: bool) {
        if is_cut {
            self.cut_at.get_or_insert(placed);
        } else if let Some(cut_at) = self.cut_at {
            self.taken = placed - cut_at;
        }
    }

    /// Looks at a moment. What has happened stays so.
    pub(super) fn note(&mut self, moment: &Moment) {
        self.note_orders(&moment.figures);
        self.note_lag(moment);
        self.note_line(moment);
        if moment.repetitions > 0 && moment.figures.paid_twice == 0 {
            let came = many(moment.repetitions, "repetition", "repetitions");
            self.set("repeated", format!("{came} came, and no order was paid twice"));
        }
    }

    fn note_orders(&mut self, figures: &Figures) {
        let Figures { placed, shipped, dead, behind, redriven, shipped_elsewhere, overtaken, .. } = figures;
        if *shipped > 0 {
            let were = many(*placed, "order was", "orders were");
            self.set("flowing", format!("{were} placed, {shipped} shipped"));
        }
        let was_parked = self.has("parked");
        if *dead > 0 && *behind > 0 {
            let letters = many(*dead, "dead letter", "dead letters");
            let wait = many(*behind, "event waits", "events wait");
            let it = if *dead == 1 { "it" } else { "them" };
            self.set("parked", format!("{letters}, and {wait} behind {it} for the customer"));
        }
        if !was_parked {
            self.elsewhere = *shipped_elsewhere;
            return;
        }
        let others = shipped_elsewhere - self.elsewhere;
        if *dead > 0 && others > 0 {
            let have = many(others, "parcel of another customer has", "parcels of other customers have");
            self.set("others", format!("{have} left since"));
        }
        if *dead == 0 && *behind == 0 && *redriven > 0 && *overtaken == 0 {
            self.set("redriven", format!("{redriven} handled at last, and no parcel has overtaken another"));
        }
    }

    fn note_lag(&mut self, moment: &Moment) {
        let lag = moment.figures.lag;
        if self.was_slow && lag >= self.much {
            self.set("behind", format!("analytics was {} behind", many(lag, "event", "events")));
        }
        if moment.is_slow {
            self.awake = None;
            return;
        }
        let awake = *self.awake.get_or_insert(moment.at);
        if self.has("behind") && lag <= self.little {
            let seconds = moment.at.saturating_duration_since(awake).as_secs_f64();
            let events = many(lag, "event", "events");
            self.set("caught_up", format!("after {seconds:.1} s it was {events} behind"));
        }
    }

    fn note_line(&mut self, moment: &Moment) {
        let Figures { placed, outbox, .. } = moment.figures;
        if moment.is_cut {
            let cut_at = *self.cut_at.get_or_insert(placed);
            self.taken = placed - cut_at;
        } else if self.cut_at.is_some() && outbox == 0 {
            self.cut_at = None;
            if self.taken > 0 {
                let have = if self.taken == 1 { "it has" } else { "all of them have" };
                let were = many(self.taken, "order was", "orders were");
                self.set("away", format!("{were} taken meanwhile, and {have} left"));
            }
        }
    }

    fn has(&self, id: &str) -> bool {
        THINGS.iter().zip(&self.seen).any(|((known, _, _), seen)| *known == id && seen.is_some())
    }

    /// What was seen first is kept.
    fn set(&mut self, id: &str, what: String) {
        let found = THINGS.iter().zip(&mut self.seen).find(|((known, _, _), _)| *known == id);
        if let Some((_, seen)) = found {
            seen.get_or_insert(what);
        }
    }
}

/// A number with the words for one or for several.
fn many(number: impl Into<i128>, one: &str, several: &str) -> String {
    let number = number.into();
    format!("{number} {}", if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn moment(figures: Figures) -> Moment {
        Moment { figures, is_slow: false, is_cut: false, repetitions: 0, at: Instant::now() }
    }

    /// What was seen of one thing.
    fn said(seen: &Seen, id: &str) -> Option<String> {
        seen.ticks().into_iter().find(|tick| tick.id == id).and_then(|tick| tick.seen)
    }

    fn done(seen: &Seen) -> Vec<&'static str> {
        seen.ticks().into_iter().filter(|tick| tick.seen.is_some()).map(|tick| tick.id).collect()
    }

    #[test]
    fn nothing_has_happened_in_the_beginning() {
        let mut seen = Seen::nothing(10);
        seen.note(&moment(Figures::default()));
        assert_eq!(done(&seen), Vec::<&str>::new());
        assert_eq!(seen.ticks().len(), THINGS.len());
    }

    #[test]
    fn a_customer_is_parked_others_are_served_and_it_comes_back_in_order() {
        let mut seen = Seen::nothing(10);
        let dead = Figures { dead: 1, shipped_elsewhere: 7, ..Figures::default() };
        seen.note(&moment(dead.clone()));
        assert_eq!(done(&seen), Vec::<&str>::new(), "nobody waits behind it");
        let parked = Figures { behind: 2, ..dead };
        seen.note(&moment(parked.clone()));
        assert_eq!(done(&seen), ["parked"]);
        seen.note(&moment(parked.clone()));
        assert_eq!(done(&seen), ["parked"], "no parcel has left since");
        seen.note(&moment(Figures { shipped_elsewhere: 8, ..parked.clone() }));
        assert_eq!(done(&seen), ["parked", "others"]);
        let parked_as = "1 dead letter, and 2 events wait behind it for the customer";
        assert_eq!(said(&seen, "parked").as_deref(), Some(parked_as));
        assert_eq!(said(&seen, "others").as_deref(), Some("1 parcel of another customer has left since"));
        let back = Figures { dead: 0, behind: 0, redriven: 1, ..parked };
        seen.note(&moment(Figures { overtaken: 1, ..back.clone() }));
        assert_eq!(done(&seen), ["parked", "others"], "out of order is not in order");
        seen.note(&moment(back));
        assert_eq!(done(&seen), ["parked", "others", "redriven"]);
    }

    #[test]
    fn letters_that_were_thrown_away_are_not_sent_back() {
        let mut seen = Seen::nothing(10);
        seen.note(&moment(Figures { dead: 1, behind: 1, ..Figures::default() }));
        seen.note(&moment(Figures::default()));
        assert_eq!(done(&seen), ["parked"]);
    }

    #[test]
    fn lag_rises_and_falls() {
        let mut seen = Seen::nothing(10);
        let lagging = |lag| Figures { lag, ..Figures::default() };
        seen.note(&moment(lagging(99)));
        seen.note(&moment(lagging(0)));
        assert_eq!(done(&seen), Vec::<&str>::new(), "it is the machine that was slow");
        seen.slowed();
        seen.note(&Moment { is_slow: true, ..moment(lagging(19)) });
        assert_eq!(done(&seen), Vec::<&str>::new());
        seen.note(&Moment { is_slow: true, ..moment(lagging(20)) });
        seen.note(&Moment { is_slow: true, ..moment(lagging(0)) });
        assert_eq!(done(&seen), ["behind"], "who is slow has not caught up");
        let woken = moment(lagging(15));
        let later = woken.at + Duration::from_millis(2500);
        seen.note(&woken);
        seen.note(&Moment { at: later, ..moment(lagging(5)) });
        assert_eq!(done(&seen), ["behind", "caught_up"]);
        assert_eq!(said(&seen, "behind").as_deref(), Some("analytics was 20 events behind"));
        assert_eq!(said(&seen, "caught_up").as_deref(), Some("after 2.5 s it was 5 events behind"));
    }

    #[test]
    fn repetitions_count_when_nobody_has_paid_twice() {
        let mut seen = Seen::nothing(10);
        let twice = Figures { paid_twice: 1, ..Figures::default() };
        seen.note(&Moment { repetitions: 2, ..moment(twice) });
        assert_eq!(done(&seen), Vec::<&str>::new());
        seen.note(&Moment { repetitions: 2, ..moment(Figures::default()) });
        assert_eq!(done(&seen), ["repeated"]);
    }

    #[test]
    fn orders_between_two_looks_were_taken_while_the_broker_was_away_too() {
        let mut seen = Seen::nothing(10);
        let placed = |placed| moment(Figures { placed, ..Figures::default() });
        seen.note(&placed(8));
        seen.line_turned(10, true);
        seen.line_turned(12, false);
        seen.note(&placed(15));
        let left = "2 orders were taken meanwhile, and all of them have left";
        assert_eq!(said(&seen, "away").as_deref(), Some(left));
    }

    #[test]
    fn orders_that_were_taken_while_the_broker_was_away_have_left_when_the_outbox_is_empty() {
        let mut seen = Seen::nothing(10);
        let taken = |placed, outbox| Figures { placed, outbox, ..Figures::default() };
        seen.note(&Moment { is_cut: true, ..moment(taken(10, 0)) });
        seen.note(&moment(taken(10, 0)));
        assert_eq!(done(&seen), Vec::<&str>::new(), "no order came");
        seen.note(&Moment { is_cut: true, ..moment(taken(12, 1)) });
        seen.note(&Moment { is_cut: true, ..moment(taken(14, 3)) });
        seen.note(&moment(taken(14, 3)));
        assert_eq!(done(&seen), Vec::<&str>::new(), "they are still there");
        seen.note(&moment(taken(15, 0)));
        assert_eq!(done(&seen), ["away"]);
        let left = "2 orders were taken meanwhile, and all of them have left";
        assert_eq!(said(&seen, "away").as_deref(), Some(left));
    }

    #[test]
    fn one_of_a_thing_has_its_own_words() {
        let mut seen = Seen::nothing(1);
        let one = Figures { placed: 1, shipped: 1, dead: 1, behind: 1, lag: 2, ..Figures::default() };
        seen.note(&Moment { repetitions: 1, ..moment(one.clone()) });
        assert_eq!(said(&seen, "flowing").as_deref(), Some("1 order was placed, 1 shipped"));
        let waits = "1 dead letter, and 1 event waits behind it for the customer";
        assert_eq!(said(&seen, "parked").as_deref(), Some(waits));
        let repeated = "1 repetition came, and no order was paid twice";
        assert_eq!(said(&seen, "repeated").as_deref(), Some(repeated));
        seen.note(&Moment { is_cut: true, ..moment(one.clone()) });
        seen.note(&Moment { is_cut: true, ..moment(Figures { placed: 2, ..one.clone() }) });
        seen.note(&moment(Figures { placed: 2, ..one }));
        let left = "1 order was taken meanwhile, and it has left";
        assert_eq!(said(&seen, "away").as_deref(), Some(left));
    }
}
