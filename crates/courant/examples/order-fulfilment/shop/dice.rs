//! Who orders what, by a seed: the same seed gives the same orders.

/// Customers and the countries they live in.
const CUSTOMERS: [(&str, &str); 12] = [
    ("ada", "GB"),
    ("barbara", "US"),
    ("edsger", "NL"),
    ("frances", "US"),
    ("grace", "US"),
    ("karen", "GB"),
    ("linus", "FI"),
    ("margaret", "US"),
    ("niklaus", "CH"),
    ("radia", "CA"),
    (DECLINED, "FR"),
    (ICELANDER, "IS"),
];

/// What can be ordered, and what it costs.
const ITEMS: [(&str, i64); 5] =
    [("grinder", 12_900), ("kettle", 5_900), ("scales", 3_400), ("filters", 450), ("beans", 1_650)];

/// The customer whose bank always says no.
pub(super) const DECLINED: &str = "mallory";

/// The customer in the country that the carrier can forget.
pub(super) const ICELANDER: &str = "sigrun";

/// What somebody wants to order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) customer: &'static str,
    pub(super) country: &'static str,
    pub(super) item: &'static str,
    pub(super) cents: i64,
}

/// What the customer in Iceland orders.
pub(super) const TO_ICELAND: Wanted =
    Wanted { customer: ICELANDER, country: "IS", item: "beans", cents: 1_650 };

/// What comes through the partner's gateway.
pub(super) const OF_PARTNER: Wanted =
    Wanted { customer: "partner", country: "DE", item: "filters", cents: 450 };

/// Random numbers that a seed repeats (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next order.
    pub(super) fn next_order(&mut self) -> Wanted {
        let (customer, country) = CUSTOMERS[self.below(CUSTOMERS.len())];
        let (item, cents) = ITEMS[self.below(ITEMS.len())];
        Wanted { customer, country, item, cents }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap_or_default()
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
