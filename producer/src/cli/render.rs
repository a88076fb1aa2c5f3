//! Values into text, purely: no clock, no terminal, no IO. What the text may hold (colours, signs beyond
//! ASCII, how many columns) is the [`Screen`]'s to say.
//!
//! Text that comes from rows was written by others: it passes through [`clean`], so that no commit
//! subject and no error of a remote can play with somebody's terminal.

mod fold;
mod hint;
mod job;
mod repo;
mod result;
mod stack;
mod table;
mod task;

use std::borrow::Cow;
use std::time::Duration;

use backstack_schemas::{JobStatus, Timestamp};
use console::Style;

pub use hint::after_error;
pub use job::{accepted, job_line, job_report, job_table, progress_words, step_line};
pub use repo::repo_table;
pub use stack::stack_tree;
pub use table::Table;
pub use task::{created_task, task_table};

/// What the reader's screen can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Whether colours may be used.
    pub colour: bool,
    /// Whether signs beyond ASCII may be used.
    pub unicode: bool,
    /// Its columns, where lines are to be cut or folded to them.
    pub width: Option<usize>,
}

impl Screen {
    /// A file or a pipe: no colours, whole lines.
    pub const fn plain() -> Self {
        Self {
            colour: false,
            unicode: true,
            width: None,
        }
    }

    fn paint(self, style: Style, text: &str) -> String {
        style.force_styling(self.colour).apply_to(text).to_string()
    }

    fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn dim(self, text: &str) -> String {
        self.paint(Style::new().dim(), text)
    }

    fn good(self, text: &str) -> String {
        self.paint(Style::new().green(), text)
    }

    fn bad(self, text: &str) -> String {
        self.paint(Style::new().red(), text)
    }

    fn warn(self, text: &str) -> String {
        self.paint(Style::new().yellow(), text)
    }

    fn busy(self, text: &str) -> String {
        self.paint(Style::new().cyan(), text)
    }

    /// `fancy` where the screen shows it, else `plain`.
    const fn sign(self, fancy: &'static str, plain: &'static str) -> &'static str {
        if self.unicode { fancy } else { plain }
    }

    fn arrow(self) -> &'static str {
        self.sign("→", "->")
    }

    /// The line, cut to the screen's columns.
    fn fit(self, line: &str) -> String {
        match self.width {
            Some(width) => console::truncate_str(line, width, self.sign("…", "~")).into_owned(),
            None => line.to_owned(),
        }
    }

    /// The line, as several where it is wider than the screen; all but the first `indent` columns in.
    fn fold(self, line: &str, indent: usize) -> Vec<String> {
        match self.width {
            Some(width) => fold::fold(line, width, indent),
            None => vec![line.to_owned()],
        }
    }

    /// A status in its colour.
    pub fn status(self, status: JobStatus) -> String {
        self.in_colour_of(status, status.as_str())
    }

    fn in_colour_of(self, status: JobStatus, text: &str) -> String {
        match status {
            JobStatus::Queued => self.dim(text),
            JobStatus::Running => self.busy(text),
            JobStatus::Completed => self.good(text),
            JobStatus::Error => self.bad(text),
            JobStatus::Cancelled => self.warn(text),
        }
    }

    fn status_sign(self, status: JobStatus) -> &'static str {
        match status {
            JobStatus::Queued => self.sign("○", "o"),
            JobStatus::Running => self.sign("◐", "*"),
            JobStatus::Completed => self.sign("✓", "ok"),
            JobStatus::Error => self.sign("✗", "x"),
            JobStatus::Cancelled => self.sign("⊘", "-"),
        }
    }

    /// A line of `doctor`: a check that passed.
    pub fn ok_line(self, what: &str) -> String {
        format!("{}       {}", self.good("ok"), clean(what))
    }

    /// A line of `doctor`: a check that did not, and what to do.
    pub fn problem_line(self, what: &str, remedy: &str) -> String {
        let arrow = self.arrow();
        format!(
            "{}  {}\n         {arrow} {}",
            self.bad("problem"),
            clean(what),
            clean(remedy)
        )
    }
}

/// The text without what a terminal would obey: control characters, and those that turn the direction
/// of writing.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(is_obeyed) {
        Cow::Owned(text.replace(is_obeyed, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same for text of several lines, which stay lines.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| c != '\n' && is_obeyed(c);
    if text.contains(is_obeyed) {
        Cow::Owned(text.replace(is_obeyed, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON that says the same and that a terminal obeys in nothing. Such characters can only be within
/// strings, where each has a form of its own.
pub fn clean_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_obeyed) {
        return Cow::Borrowed(json);
    }
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        if is_obeyed(c) {
            clean.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name as a word of a command that somebody may copy into a shell; `None` where it cannot be typed.
fn shell_word(name: &str) -> Option<Cow<'_, str>> {
    if name.contains(is_obeyed) {
        return None;
    }
    let is_plain = |c: char| c.is_alphanumeric() || "_./@%+=:,-".contains(c);
    Some(if !name.is_empty() && name.chars().all(is_plain) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("'{}'", name.replace('\'', r"'\''")))
    })
}

/// A length of time in its two largest units: `0.3s`, `42s`, `2m 5s`, `3h 10m`, `4d 2h`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, l: &str, small: u64, s: &str| {
        if small == 0 {
            format!("{large}{l}")
        } else {
            format!("{large}{l} {small}{s}")
        }
    };
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// How long ago, in its largest unit.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `1 branch`, `2 branches`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! Rows at fixed times, for snapshots.

    use backstack_schemas::{
        Action, ActionMessage, Job, JobEvent, JobSpec, ObjectId, Timestamp, WorkerId,
    };

    /// Ten o'clock and `second`.
    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_795_341_600_000 + second * 1_000).unwrap()
    }

    pub(crate) fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; 20])
    }

    /// Alice's job on `web`, queued at ten.
    pub(crate) fn queued(action: Action) -> Job {
        let message = ActionMessage {
            requested_by: Some("alice".to_owned()),
            ..action.into()
        };
        let job_id = "0199aaaa-0000-7000-8000-000000000001".parse().unwrap();
        let spec = JobSpec::new("web".parse().unwrap(), job_id, &message);
        Job::queued(spec, Some(1_042), at(0))
    }

    /// The same, running since a second later.
    pub(crate) fn running(action: Action) -> Job {
        let worker: WorkerId = serde_json::from_str("\"host-1/4242/k3x9\"").unwrap();
        let start = JobEvent::Start {
            worker,
            sequence: 1_042,
            delivery: 1,
            max_attempts: 5,
        };
        queued(action).apply(start, at(1)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_can_play_with_the_terminal() {
        assert_eq!(
            clean("fix \u{1b}[31mred\r\n"),
            "fix \u{fffd}[31mred\u{fffd}\u{fffd}"
        );
        assert_eq!(clean("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(clean("plain é ✓"), "plain é ✓");
    }

    #[test]
    fn json_says_the_same_and_is_obeyed_in_nothing() {
        let text = "a\u{1b}[31m\u{9b}31m\u{7f}\u{202e}é";
        let json = serde_json::to_string(&[text]).unwrap();
        let clean = clean_json(&json);
        assert_eq!(clean, r#"["a\u001b[31m\u009b31m\u007f\u202eé"]"#);
        assert_eq!(serde_json::from_str::<Vec<String>>(&clean).unwrap(), [text]);
        assert_eq!(clean_lines("a\nb\u{1b}c\r"), "a\nb\u{fffd}c\u{fffd}");
    }

    #[test]
    fn a_copied_name_is_one_word_and_no_command() {
        for (name, word) in [
            ("feature/a-1.2", Some("feature/a-1.2")),
            ("größe", Some("größe")),
            ("a$(reboot)", Some("'a$(reboot)'")),
            ("a;reboot", Some("'a;reboot'")),
            ("it's`x`", Some(r"'it'\''s`x`'")),
            ("a\u{202e}b", None),
        ] {
            assert_eq!(shell_word(name).as_deref(), word);
        }
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let of = |seconds| span(Duration::from_secs(seconds));
        let all = [3, 42, 60, 125, 3_600, 11_400, 86_400, 360_000].map(of);
        assert_eq!(
            all,
            ["3.0s", "42s", "1m", "2m 5s", "1h", "3h 10m", "1d", "4d 4h"]
        );
        assert_eq!(span(Duration::from_millis(340)), "0.3s");
    }

    #[test]
    fn a_time_in_the_future_is_now() {
        let (early, late) = (fixtures::at(0), fixtures::at(90));
        assert_eq!(ago(early, late), "1m ago");
        assert_eq!(ago(late, early), "now");
    }
}
