//! From a history that fails to the plainest one that fails, by proptest's way of shrinking: choices
//! that belong together are left out, then any run of them; what is left is set to its plainest or
//! made smaller; for as long as the history that comes of it still fails.

use std::ops::Range;

use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// How many histories may be tried on the way.
const TRIES: u32 = 800;

/// The plainest list of choices found, from these on, of which `failure` still says what is wrong;
/// with that. `None` where even these do not fail. `spans` tells which choices belong together.
pub fn shrink(
    choices: Vec<usize>,
    spans: impl Fn(&[usize]) -> Vec<Range<usize>>,
    failure: impl Fn(&[usize]) -> Option<String>,
) -> Option<(Vec<usize>, String)> {
    let config = Config {
        max_shrink_iters: TRIES,
        failure_persistence: None,
        ..Config::default()
    };
    let test = |choices: Vec<usize>| match failure(&choices) {
        Some(what) => Err(TestCaseError::fail(what)),
        None => Ok(()),
    };
    match TestRunner::new(config).run_one(Choices::new(choices, spans), test) {
        Err(TestError::Fail(why, choices)) => Some((choices, why.message().to_owned())),
        _ => None,
    }
}

/// A list of choices that fails, and the one that is tried in its place.
struct Choices<S> {
    failing: Vec<usize>,
    tried: Vec<usize>,
    spans_of: S,
    /// What is left to be tried in this round, the next one last.
    todo: Vec<Step>,
    round: Round,
    /// Length of what was tried last.
    longest: usize,
    /// Whether anything was gained since the first round.
    gained: bool,
}

/// What is done to which choices.
#[derive(Clone, Debug)]
struct Step {
    what: What,
    at: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    LeaveOut,
    Zero,
    Halve,
    Lower,
}

/// A round goes through the whole list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Spans,
    /// Runs of so many choices.
    Runs(What, usize),
}

const ROUNDS: [Round; 10] = [
    Round::Spans,
    Round::Runs(What::LeaveOut, 8),
    Round::Runs(What::Zero, 16),
    Round::Runs(What::Zero, 4),
    Round::Runs(What::LeaveOut, 4),
    Round::Runs(What::LeaveOut, 2),
    Round::Runs(What::LeaveOut, 1),
    Round::Runs(What::Zero, 1),
    Round::Runs(What::Halve, 1),
    Round::Runs(What::Lower, 1),
];

impl<S: Fn(&[usize]) -> Vec<Range<usize>>> Choices<S> {
    fn new(choices: Vec<usize>, spans_of: S) -> Self {
        let mut new = Self {
            tried: choices.clone(),
            failing: choices,
            spans_of,
            todo: Vec::new(),
            round: ROUNDS[0],
            longest: 0,
            gained: false,
        };
        new.todo = new.steps();
        new
    }

    /// What this round tries, the first last: big spans before small ones, and runs from the end,
    /// since what comes last depends on all before.
    fn steps(&self) -> Vec<Step> {
        let length = self.failing.len();
        match self.round {
            Round::Spans => {
                let mut spans = (self.spans_of)(&self.failing);
                spans.retain(|span| span.end <= length && !span.is_empty());
                spans.sort_by_key(|span| (span.len(), span.start));
                let step = |at| Step {
                    what: What::LeaveOut,
                    at,
                };
                spans.into_iter().map(step).collect()
            }
            Round::Runs(what, run) => (0..length)
                .step_by(run)
                .map(|start| Step {
                    what,
                    at: start..(start + run).min(length),
                })
                .collect(),
        }
    }

    /// Sets `tried` to the next list that is plainer than `failing`; whether there is one.
    fn advance(&mut self) -> bool {
        loop {
            let Some(step) = self.todo.pop() else {
                if !self.next_round() {
                    return false;
                }
                self.todo = self.steps();
                continue;
            };
            self.longest = step.at.len();
            let end = step.at.end.min(self.failing.len());
            let at = step.at.start.min(end)..end;
            let mut plainer = self.failing.clone();
            let run = &mut plainer[at.clone()];
            match step.what {
                What::LeaveOut => drop(plainer.drain(at)),
                What::Zero => run.fill(0),
                What::Halve => run.iter_mut().for_each(|choice| *choice /= 2),
                What::Lower => run
                    .iter_mut()
                    .for_each(|choice| *choice = choice.saturating_sub(1)),
            }
            if plainer != self.failing {
                self.tried = plainer;
                return true;
            }
        }
    }

    /// The next round; after the last the first again, where it was of use.
    fn next_round(&mut self) -> bool {
        let at = ROUNDS.iter().position(|round| *round == self.round);
        match at.and_then(|at| ROUNDS.get(at + 1)) {
            Some(round) => self.round = *round,
            None if self.gained => {
                self.gained = false;
                self.round = ROUNDS[0];
            }
            None => return false,
        }
        true
    }
}

impl<S: Fn(&[usize]) -> Vec<Range<usize>>> ValueTree for Choices<S> {
    type Value = Vec<usize>;

    fn current(&self) -> Vec<usize> {
        self.tried.clone()
    }

    /// What was tried fails, too: on from there.
    fn simplify(&mut self) -> bool {
        if self.failing != self.tried {
            self.gained = true;
            self.failing.clone_from(&self.tried);
            if self.round == Round::Spans {
                // They lie elsewhere now. Longer ones than the last have had their turn.
                self.todo = self.steps();
                self.todo.retain(|step| step.at.len() <= self.longest);
            }
        }
        self.advance()
    }

    /// What was tried does not fail: another way from the last that did.
    fn complicate(&mut self) -> bool {
        let further = self.advance();
        if !further {
            self.tried.clone_from(&self.failing);
        }
        further
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        assert_eq!(shrink(vec![1, 2, 3], |_| vec![], |_| None), None);
    }

    #[test]
    fn only_what_makes_it_fail_is_left() {
        let choices: Vec<usize> = (0..400).map(|n| n * 7 % 100).collect();
        let failure = |choices: &[usize]| {
            let at = choices.iter().position(|choice| *choice >= 42)?;
            let last = choices[at..].iter().rposition(|choice| *choice > 2)?;
            (last > 0).then(|| format!("{at} and {last}"))
        };
        let (left, what) = shrink(choices, |_| vec![], failure).unwrap();
        assert_eq!(left, [42, 3]);
        assert_eq!(what, "0 and 1");
    }

    #[test]
    fn a_failure_at_the_last_try_is_what_is_told() {
        let failure = |choices: &[usize]| choices.is_empty().then(|| "none".to_owned());
        assert_eq!(
            shrink(vec![], |_| vec![], failure),
            Some((vec![], "none".to_owned()))
        );
    }

    #[test]
    fn what_belongs_together_goes_together() {
        // Pairs, of which the second says what the first is about.
        let spans = |choices: &[usize]| (0..choices.len() / 2).map(|n| 2 * n..2 * n + 2).collect();
        let failure = |choices: &[usize]| {
            let pairs: Vec<_> = choices.chunks(2).collect();
            let whole = pairs.iter().all(|pair| pair.len() == 2 && pair[1] == 9);
            (whole && pairs.contains(&&[5, 9][..])).then(|| "a 5".to_owned())
        };
        let choices = [3, 9, 5, 9, 7, 9, 1, 9].to_vec();
        assert_eq!(shrink(choices, spans, failure).unwrap().0, [5, 9]);
    }
}
