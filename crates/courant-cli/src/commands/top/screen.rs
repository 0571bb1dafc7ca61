//! The terminal, as far as it is needed: a screen of its own that is drawn over and over.

use crate::exit::Failure;
use crate::text::one_line;
use rustix::termios::tcgetwinsize;
use std::io::{self, Write};

/// Another screen than the shell's, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

/// The shell's screen again, as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Of a terminal that does not say how large it is.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// What is drawn on. The shell has its screen back when this is dropped.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    pub(super) fn enter() -> Result<Self, Failure> {
        write(ENTER)?;
        Ok(Self(()))
    }

    pub(super) fn size(&self) -> Size {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                Size { rows: usize::from(size.ws_row), columns: usize::from(size.ws_col) }
            }
            _ => USUAL,
        }
    }

    /// Draws over what is there.
    pub(super) fn show(&self, lines: &[String], size: Size) -> Result<(), Failure> {
        write(&frame(lines, size))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone, which is nobody's business any more.
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// The bytes that draw these lines from the top left corner on: each is cut where the screen ends, and what
/// was to the right of it and below is taken away.
fn frame(lines: &[String], size: Size) -> String {
    let mut frame = "\x1b[H".to_owned();
    for (row, line) in lines.iter().take(size.rows).enumerate() {
        if row > 0 {
            frame.push_str("\r\n");
        }
        // One less for the mark of what was cut.
        frame.push_str(&one_line(line, size.columns.saturating_sub(1)));
        frame.push_str("\x1b[K");
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen() {
        let lines = ["courant".to_owned(), "orders \x1b[2J".to_owned(), "below".to_owned()];
        let drawn = frame(&lines, Size { rows: 2, columns: 8 });
        assert_eq!(drawn, "\x1b[Hcourant\x1b[K\r\norders …\x1b[K\x1b[J");
    }
}
