//! What the demo puts on the screen: numbered acts, the commands somebody would type, jobs as they
//! run, and pictures of the stack.
//!
//! Everything goes to standard output, in order. On a terminal a bar moves while a job runs; elsewhere
//! there are only lines. How rows look is the command line's own doing
//! ([`backstack_producer::cli::render`]).

use std::io::{self, Write as _};
use std::time::Duration;

use backstack_producer::cli::output::Output;
use backstack_producer::cli::render::{self, Screen, clean};
use backstack_schemas::{Branch, Job, JobStatus, Repository, Timestamp, job::Step};
use console::Style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// Before everything that belongs to an act.
const INDENT: &str = "   ";

/// Where texts are folded, unless the screen is narrower; and where, however narrow it is.
const COLUMNS: usize = 90;
const MIN_COLUMNS: usize = 30;

/// Standard output, and where the story stands.
#[derive(Debug)]
pub(super) struct Show {
    screen: Screen,
    bars: bool,
    act: u32,
}

impl Show {
    /// Looks at what stands at the other end of standard output.
    pub(super) fn new() -> Self {
        let output = Output::new(false);
        let width = output.screen.width;
        Self {
            // What is drawn is indented, and must not be wider for that.
            screen: Screen {
                width: width.map(|width| width.saturating_sub(INDENT.len())),
                ..output.screen
            },
            bars: output.bars,
            act: 0,
        }
    }

    /// The headline and what this is.
    pub(super) fn title(&self, title: &str, text: &str) -> io::Result<()> {
        print(&self.paint(Style::new().bold(), title))?;
        self.say(text)?;
        print("")
    }

    /// Begins the next act: what happens, and why.
    pub(super) fn act(&mut self, title: &str, why: &str) -> io::Result<()> {
        self.act += 1;
        let title = format!("{}. {title}", self.act);
        let line = self.sign("─", "-").repeat(self.columns() + INDENT.len());
        print("")?;
        print(&self.paint(Style::new().dim(), &line))?;
        print(&self.paint(Style::new().bold().cyan(), &title))?;
        self.say(why)
    }

    /// A paragraph.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        print(&indented(&fold(text, self.columns())))
    }

    /// A command that somebody would type for what comes next.
    pub(super) fn command(&self, command: &str) -> io::Result<()> {
        print("")?;
        let line = format!(
            "{INDENT}{}",
            self.paint(Style::new().yellow(), &format!("$ {command}"))
        );
        print(&line)
    }

    /// Something that happens outside Backstack.
    pub(super) fn outside(&self, text: &str) -> io::Result<()> {
        self.item(Style::new().magenta(), self.sign("•", "*"), text)
    }

    /// Something that was checked and is so.
    pub(super) fn proved(&self, text: &str) -> io::Result<()> {
        self.item(Style::new().green(), self.sign("✓", "ok"), text)
    }

    /// An action that was just accepted.
    pub(super) fn accepted(&self, job: &Job, after: Duration) -> io::Result<()> {
        let millis = after.as_secs_f64() * 1_000.0;
        let text = format!("accepted in {millis:.1} ms as job {}", job.spec.job_id);
        print(&indented(&self.paint(Style::new().dim(), &text)))
    }

    /// How a job ended, in one line.
    pub(super) fn end(&self, job: &Job) -> io::Result<()> {
        print(&indented(&render::step_line(job, self.screen)))
    }

    /// Everything about a job that has ended.
    pub(super) fn report(&self, job: &Job, now: Timestamp) -> io::Result<()> {
        print("")?;
        print(&indented(&render::job_report(job, self.screen, now)))
    }

    /// The stack as a tree.
    pub(super) fn stack(
        &self,
        repo: &Repository,
        branches: &[Branch],
        now: Timestamp,
    ) -> io::Result<()> {
        print("")?;
        print(&indented(&render::stack_tree(
            repo,
            branches,
            self.screen,
            now,
        )))
    }

    /// A job to be shown while it runs, from where it was `last` seen.
    pub(super) fn live(&self, last: Option<&Job>) -> Live {
        Live {
            screen: self.screen,
            bar: self.bars.then(bar),
            last: last.map(standing),
        }
    }

    fn item(&self, style: Style, sign: &str, text: &str) -> io::Result<()> {
        let hang = " ".repeat(console::measure_text_width(sign) + 1);
        let text = fold(text, self.columns() - hang.len());
        let text = text.replace('\n', &format!("\n{hang}"));
        print(&indented(&format!("{} {text}", self.paint(style, sign))))
    }

    fn sign(&self, fancy: &'static str, plain: &'static str) -> &'static str {
        if self.screen.unicode { fancy } else { plain }
    }

    /// How wide texts are: as the screen, but no wider than is good to read.
    fn columns(&self) -> usize {
        self.screen
            .width
            .unwrap_or(COLUMNS)
            .clamp(MIN_COLUMNS, COLUMNS)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        style
            .force_styling(self.screen.colour)
            .apply_to(text)
            .to_string()
    }
}

/// One job on the screen while it runs.
#[derive(Debug)]
pub(super) struct Live {
    screen: Screen,
    bar: Option<ProgressBar>,
    last: Option<Standing>,
}

/// What is worth a line where it changes.
type Standing = (JobStatus, u64, Option<Step>);

fn standing(job: &Job) -> Standing {
    let step = job.progress.map(|progress| progress.step);
    (job.status, job.run, step)
}

impl Live {
    /// The row as it is now: a line where its status, run or step is another; the bar always.
    pub(super) fn row(&mut self, job: &Job) -> io::Result<()> {
        let now = standing(job);
        if self.last != Some(now) && !job.status.is_terminal() {
            self.last = Some(now);
            let line = format!("{INDENT}{}", render::step_line(job, self.screen));
            match &self.bar {
                Some(bar) => bar.suspend(|| print(&line))?,
                None => print(&line)?,
            }
        }
        if let Some(bar) = &self.bar {
            self.move_bar(bar, job);
        }
        Ok(())
    }

    fn move_bar(&self, bar: &ProgressBar, job: &Job) {
        let known = job.progress.filter(|progress| progress.total > 0);
        let template = match known {
            Some(_) => "   {spinner} {wide_msg} [{bar:24}] {pos}/{len} {elapsed}",
            None => "   {spinner} {wide_msg} {elapsed}",
        };
        // The template is ours; if it did not parse, the plain spinner would stay.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let signs = if self.screen.unicode {
                "█▉▊▋▌▍▎▏ "
            } else {
                "=> "
            };
            bar.set_style(style.progress_chars(signs));
        }
        if let Some(progress) = known {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
        bar.set_message(clean(&job.message).into_owned());
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    bar.set_draw_target(ProgressDrawTarget::stdout());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Not `println!`, which panics where nobody reads any more.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

fn indented(text: &str) -> String {
    let line = |line: &str| {
        if line.is_empty() {
            String::new()
        } else {
            format!("{INDENT}{line}")
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The text with a new line wherever the next word does not fit.
fn fold(text: &str, columns: usize) -> String {
    let mut folded = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let width = console::measure_text_width(word);
        if used > 0 && used + 1 + width > columns {
            folded.push('\n');
            used = 0;
        } else if used > 0 {
            folded.push(' ');
            used += 1;
        }
        folded.push_str(word);
        used += width;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_folded_between_words_and_never_loses_one() {
        assert_eq!(fold("one two  three\nfour", 9), "one two\nthree\nfour");
        assert_eq!(fold("incomprehensible", 4), "incomprehensible");
        assert_eq!(fold("", 9), "");
    }
}
