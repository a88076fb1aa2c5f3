//! Where a generator's choices come from: a seed (SplitMix64), or a list of choices made before.
//!
//! Guarantees: a seed gives the same choices always, so it stands for one history for as long as
//! the generator stays as it is; and a list that [`Rng::taken`] told gives that history again.
//! Of any choice 0 is the plainest outcome, and a list that is too short goes on with zeros: what
//! makes a list shorter or smaller makes what comes of it plainer, which is what shrinking needs.
//! A repetition asks each time whether to go on ([`Rng::again`]), and what belongs together is a
//! [`Rng::span`]; so a commit can be left out with all its choices.

use std::ops::Range;

/// The source.
pub struct Rng {
    source: Source,
    taken: Vec<usize>,
    spans: Vec<Range<usize>>,
}

enum Source {
    Seed(u64),
    Choices { given: Vec<usize>, next: usize },
}

impl Rng {
    /// The choices that follow from a seed.
    pub fn new(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        Self::of(Source::Seed(state))
    }

    /// These choices, and then the plainest.
    pub fn choosing(given: Vec<usize>) -> Self {
        Self::of(Source::Choices { given, next: 0 })
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            taken: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// All choices so far.
    pub fn taken(&self) -> &[usize] {
        &self.taken
    }

    /// Where choices that belong together lie among all.
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// Notes that the choices since `start`, a number of choices taken, belong together.
    pub fn span(&mut self, start: usize) {
        self.spans.push(start..self.taken.len());
    }

    /// Whether something is done again that is done from `low` to `high` times, each as likely, and
    /// has been `done` times.
    pub fn again(&mut self, done: usize, low: usize, high: usize) -> bool {
        if (low..high).contains(&done) {
            return self.below(high - done + 1) > 0;
        }
        // There is no choice; its place is kept for those that are left when others are left out.
        if let Source::Choices { next, .. } = &mut self.source {
            *next += 1;
        }
        self.taken.push(0);
        done < low
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let choice = match &mut self.source {
            Source::Seed(state) => (split_mix(state) % bound as u64) as usize,
            Source::Choices { given, next } => {
                let choice = given.get(*next).copied().unwrap_or(0);
                *next += 1;
                choice.min(bound - 1)
            }
        };
        self.taken.push(choice);
        choice
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// One of the items; `None` of none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        (!items.is_empty()).then(|| &items[self.below(items.len())])
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
