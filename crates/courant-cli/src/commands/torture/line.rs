//! The lines that appending processes write to stdout: a worker to the process that kills it, and a run
//! until a power cut to whoever keeps its output.

use courant_history::Stamp;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::str::{FromStr, Split};

/// Something that has happened, as one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `o MS`: the log was opened, in so many milliseconds.
    Opened { ms: u64 },
    /// `r TOPIC PARTITION OFFSET HEX`: an event was read, with this value.
    Read { topic: &'a str, partition: u32, offset: u64, value: Cow<'a, [u8]> },
    /// `c TOPIC PARTITION START END`: the partition was read from its start to before its end.
    Complete { topic: &'a str, partition: u32, start: u64, end: u64 },
    /// `u`: everything was read.
    Up,
    /// `s TOPIC PARTITION PRODUCER SEQUENCE`: an event is about to be handed to the log.
    Sent(Stamp),
    /// `x TOPIC PARTITION PRODUCER SEQUENCE`: the log has not taken an event.
    Refused(Stamp),
    /// `a TOPIC PARTITION PRODUCER SEQUENCE OFFSET`: the log has acknowledged an event.
    Acknowledged(Stamp, u64),
    /// `lap N`: what follows is in another data directory.
    Lap(u64),
}

impl<'a> Line<'a> {
    /// What a line says, without its end. `None` when it is no line of ours, or not a whole one.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        let line = match words.next()? {
            "o" => Self::Opened { ms: number(&mut words)? },
            "r" => Self::Read {
                topic: words.next()?,
                partition: number(&mut words)?,
                offset: number(&mut words)?,
                value: Cow::Owned(from_hex(words.next()?)?),
            },
            "c" => Self::Complete {
                topic: words.next()?,
                partition: number(&mut words)?,
                start: number(&mut words)?,
                end: number(&mut words)?,
            },
            "u" => Self::Up,
            "s" => Self::Sent(stamp(&mut words)?),
            "x" => Self::Refused(stamp(&mut words)?),
            "a" => Self::Acknowledged(stamp(&mut words)?, number(&mut words)?),
            "lap" => Self::Lap(number(&mut words)?),
            _ => return None,
        };
        words.next().is_none().then_some(line)
    }
}

fn number<N: FromStr>(words: &mut Split<'_, char>) -> Option<N> {
    words.next()?.parse().ok()
}

fn stamp(words: &mut Split<'_, char>) -> Option<Stamp> {
    Some(Stamp {
        topic: words.next()?.to_owned(),
        partition: number(words)?,
        producer: number(words)?,
        sequence: number(words)?,
    })
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamped = |f: &mut fmt::Formatter<'_>, letter: char, stamp: &Stamp| {
            write!(f, "{letter} {} {} {} {}", stamp.topic, stamp.partition, stamp.producer, stamp.sequence)
        };
        match self {
            Self::Opened { ms } => write!(f, "o {ms}"),
            Self::Read { topic, partition, offset, value } => {
                write!(f, "r {topic} {partition} {offset} {}", to_hex(value))
            }
            Self::Complete { topic, partition, start, end } => {
                write!(f, "c {topic} {partition} {start} {end}")
            }
            Self::Up => f.write_str("u"),
            Self::Sent(stamp) => stamped(f, 's', stamp),
            Self::Refused(stamp) => stamped(f, 'x', stamp),
            Self::Acknowledged(stamp, offset) => {
                stamped(f, 'a', stamp)?;
                write!(f, " {offset}")
            }
            Self::Lap(lap) => write!(f, "lap {lap}"),
        }
    }
}

/// Writes lines to stdout, together and at once: whoever reads them may have to count them after this
/// process is gone.
///
/// # Errors
/// What the system says.
pub(super) fn say<'a>(lines: impl IntoIterator<Item = Line<'a>>) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp { topic: "orders".to_owned(), partition: 2, producer: 65, sequence: 7 }
    }

    fn read(value: &[u8]) -> Line<'_> {
        Line::Read { topic: "orders", partition: 2, offset: 9, value: Cow::Borrowed(value) }
    }

    #[test]
    fn every_line_comes_back() {
        let lines = [
            (Line::Opened { ms: 12 }, "o 12"),
            (read(&[0, 0xaf, 255]), "r orders 2 9 00afff"),
            (read(&[]), "r orders 2 9 "),
            (Line::Complete { topic: "orders", partition: 2, start: 0, end: 10 }, "c orders 2 0 10"),
            (Line::Up, "u"),
            (Line::Sent(stamp()), "s orders 2 65 7"),
            (Line::Refused(stamp()), "x orders 2 65 7"),
            (Line::Acknowledged(stamp(), 4), "a orders 2 65 7 4"),
            (Line::Lap(3), "lap 3"),
        ];
        for (line, text) in lines {
            assert_eq!(line.to_string(), text);
            assert_eq!(Line::parse(text), Some(line));
        }
    }

    #[test]
    fn what_is_not_a_whole_line_is_none() {
        for text in ["", "a", "a o 2 65 7", "a o 2 65 7 4 4", "a o 2 65 7 ", "z 1", "s o -1 1 1"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
        for text in ["r o 1 1 0g", "r o 1 1 abc", "r o 1 1 äb"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
