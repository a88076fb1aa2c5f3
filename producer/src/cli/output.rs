//! Where results go, and what the reader can be shown.

use std::io::{self, IsTerminal as _, Write as _};

use console::Term;
use serde::Serialize;

use super::render::{Screen, clean_json, clean_lines};

/// Standard output, and what stands at its other end.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether rows are wanted as JSON.
    pub json: bool,
    /// What the reader of standard output can be shown.
    pub screen: Screen,
    /// Whether a moving bar may be drawn on standard error.
    pub bars: bool,
}

impl Output {
    /// Looks at the terminal, if there is one, and at `NO_COLOR`, `TERM` and the locale.
    pub fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let width = Term::stdout()
            .size_checked()
            .map(|(_, columns)| usize::from(columns));
        // The first that is set decides, as for the C library.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let unicode = locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self {
            json,
            screen: Screen {
                colour: is_terminal && !dumb && set("NO_COLOR").is_none(),
                unicode,
                width: width.filter(|_| is_terminal),
            },
            bars: !json && is_terminal && io::stderr().is_terminal() && !dumb,
        }
    }

    /// Prints a line, or several.
    pub fn text(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Prints a row as JSON, in one line.
    pub fn row<T: Serialize>(&self, row: &T) -> io::Result<()> {
        self.text(&clean_json(&serde_json::to_string(row)?))
    }

    /// Prints rows as JSON, one a line, at once.
    pub fn rows<'a, T: Serialize + 'a>(
        &self,
        rows: impl IntoIterator<Item = &'a T>,
    ) -> io::Result<()> {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        for row in rows {
            writeln!(stdout, "{}", clean_json(&serde_json::to_string(row)?))?;
        }
        stdout.flush()
    }

    /// Says something that is no result, to a person.
    pub fn note(&self, text: &str) {
        eprintln!("{}", clean_lines(text));
    }
}
