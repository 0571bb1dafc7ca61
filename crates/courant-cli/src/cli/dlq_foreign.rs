//! The commands about dead letters that other frameworks have written to a topic.

use clap::{Args, Subcommand};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::dlq::{Because, By, Dlq};

/// The commands about dead letters: those of our services, and those of others.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    #[command(flatten)]
    Own(Dlq),
    /// Look after dead letters that other frameworks have written to a topic
    #[command(subcommand)]
    Foreign(DlqForeign),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqForeign {
    #[command(visible_alias = "ls")]
    List(ForeignList),
    Show(ForeignShow),
    Redrive(ForeignRedrive),
    Discard(ForeignDiscard),
    Export(ForeignExport),
}

/// A place in a topic of dead letters: `PARTITION@OFFSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LetterAt {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl fmt::Display for LetterAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

impl FromStr for LetterAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@');
        let numbers = parts.and_then(|(partition, offset)| {
            let partition = partition.parse::<i32>().ok()?;
            let offset = offset.parse::<i64>().ok()?;
            (partition >= 0 && offset >= 0).then_some(Self { partition, offset })
        });
        numbers.ok_or_else(|| {
            format!("`{text}` is no letter; write PARTITION@OFFSET, as `courant dlq foreign list --letters`")
        })
    }
}

/// Which dead letters are meant. What is not given does not restrict.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub(crate) struct WhichForeign {
    /// Of this failure, as `courant dlq foreign list` names it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// That come from this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) original: Option<String>,
}

/// List failures by their error and the topic they come from, or the letters of one of them
///
/// TOPIC is where Spring Kafka or Kafka Connect puts its dead letters, or the copies that our own services
/// publish. Without --letters, --group and --original: the failures.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant dlq foreign list orders-dlt\n  \
                  courant dlq foreign list orders-dlt --group 1f0a99c2 --server kafka://broker:9092")]
pub(crate) struct ForeignList {
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) which: WhichForeign,
    /// The letters, and not the failures
    #[arg(long)]
    pub(crate) letters: bool,
    /// Those that somebody has decided about, too
    #[arg(long)]
    pub(crate) decided: bool,
}

/// Show one dead letter: where it was, why it failed and what caused that, its headers and bytes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant dlq foreign show orders-dlt 0@17 -o json")]
pub(crate) struct ForeignShow {
    pub(crate) topic: String,
    /// The letter: PARTITION@OFFSET
    #[arg(value_name = "LETTER")]
    pub(crate) letter: LetterAt,
}

/// Publish dead letters again in the topic they come from
///
/// Every consumer of that topic gets them, not only the one that has failed: who has handled them before
/// handles them again, unless it remembers. So it wants --yes. What was published is written down in
/// TOPIC.courant-decisions; when the command is killed halfway, the same command with the same --id goes on
/// and publishes nothing twice. It stops at the first letter that is refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant dlq foreign redrive orders-dlt --all --dry-run\n  \
                  courant dlq foreign redrive orders-dlt --group 1f0a99c2 --id priced --rate 10 --yes\n  \
                  courant dlq foreign redrive orders-dlt 0@17 2@3 --yes")]
pub(crate) struct ForeignRedrive {
    pub(crate) topic: String,
    /// Letters: PARTITION@OFFSET
    #[arg(value_name = "LETTER")]
    pub(crate) letters: Vec<LetterAt>,
    /// Every letter that nobody has decided about
    #[arg(long, conflicts_with = "letters")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: WhichForeign,
    /// Id of the redrive [default: a new one]
    #[arg(long, value_parser = redrive_id, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Topic to publish to, instead of the one that the letter names
    #[arg(long, value_name = "TOPIC")]
    pub(crate) to: Option<String>,
    /// Publish at most so many in a second
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroU32>,
    /// Say how many are meant and who gets them, and publish nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Every consumer of the topic may get them again; with --cancel: end it also where nobody can tell any
    /// more what it has published
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Look what a redrive that was killed has published, write it down, and publish no more
    #[arg(long, requires = "id", conflicts_with_all = ["letters", "all", "group", "original", "rate", "dry_run"])]
    pub(crate) cancel: bool,
    #[command(flatten)]
    pub(crate) by: By,
}

/// Decide that dead letters are not published again
///
/// The letters stay in their topic. Who has decided and why is kept in TOPIC.courant-decisions.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant dlq foreign discard orders-dlt 0@17 --reason 'a test order'")]
pub(crate) struct ForeignDiscard {
    pub(crate) topic: String,
    /// Letters: PARTITION@OFFSET
    #[arg(value_name = "LETTER")]
    pub(crate) letters: Vec<LetterAt>,
    /// Every letter that nobody has decided about
    #[arg(long, conflicts_with = "letters")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: WhichForeign,
    /// Say which are meant, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) because: Because,
}

/// Write dead letters to stdout with their bytes, one JSON object per line
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant dlq foreign export orders-dlt > letters.jsonl")]
pub(crate) struct ForeignExport {
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) which: WhichForeign,
    /// Those that somebody has decided about, too
    #[arg(long)]
    pub(crate) decided: bool,
}

/// An id that can stand in a header and in a line of a table.
fn redrive_id(text: &str) -> Result<String, String> {
    const CHARACTERS_MAX: usize = 100;
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=CHARACTERS_MAX).contains(&text.len()) && text.chars().all(is_fine) {
        return Ok(text.to_owned());
    }
    Err(format!("an id has 1 to {CHARACTERS_MAX} of the characters a-z A-Z 0-9 . _ -"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_a_partition_and_an_offset() {
        let letter: LetterAt = "2@17".parse().expect("a letter");
        assert_eq!(letter, LetterAt { partition: 2, offset: 17 });
        assert_eq!(letter.to_string(), "2@17");
        for bad in ["17", "2@", "@17", "-1@3", "2@-3", "a@b", "2@17@1"] {
            assert!(bad.parse::<LetterAt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_stands_in_one_line() {
        assert_eq!(redrive_id("priced_2.0-b").as_deref(), Ok("priced_2.0-b"));
        for bad in ["", "a b", "a\n", "größe", &"x".repeat(101)] {
            assert!(redrive_id(bad).is_err(), "{bad:?}");
        }
    }
}
