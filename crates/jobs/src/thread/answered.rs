//! Which claims were answered, so that it can be kept: after a crash a worker that lives vouches for what it was told
//! of, and for nothing else.
//!
//! An answer is taken to have left this process a second after it was handed over. What is kept is behind, never ahead:
//! whoever was told of a job in the last seconds before a crash has to name it, or loses it after a lease.

use crate::op::Claimed;

/// After it was handed over an answer is on its way to its worker, or the worker is known to be gone.
const LEAVES_WITHIN_MS: u64 = 1000;

#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Of the last claim that was answered.
    last: u64,
    /// A token, and when its claim was answered, or was noted. One at a time: a note a second is enough.
    next: Option<(u64, u64)>,
    /// The last that was said to be kept.
    said: u64,
}

impl Answered {
    /// These were handed over.
    pub fn hand_over<'a>(&mut self, claimed: impl Iterator<Item = &'a Claimed>, now_ms: u64) {
        let last = claimed.map(|claimed| claimed.token).fold(self.last, u64::max);
        let is_new = std::mem::replace(&mut self.last, last) < last;
        if is_new && self.next.is_none_or(|(token, _)| token <= self.said) {
            self.next = Some((last, now_ms));
        }
    }

    /// What can be kept by now; said again each second, since it may not have been possible.
    pub fn due(&mut self, now_ms: u64) -> Option<u64> {
        let (token, _) = self.next.filter(|(_, at_ms)| at_ms + LEAVES_WITHIN_MS <= now_ms)?;
        (self.next, self.said) = (Some((self.last, now_ms)), token);
        Some(token)
    }

    /// All that this process has answered: it lives, and its answers leave it.
    pub fn last(&self) -> Option<u64> {
        (self.last > 0).then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(token: u64) -> Claimed {
        Claimed { job: 1, token, attempt: 1, attempts: 1, deadline_ms: 0, group: None, is_parent: false }
    }

    #[test]
    fn a_token_is_kept_once_its_answer_has_left_and_the_last_one_too() {
        let mut answered = Answered::default();
        assert_eq!((answered.due(5000), answered.last()), (None, None));
        answered.hand_over([claimed(7), claimed(8)].iter(), 1000);
        answered.hand_over([claimed(9)].iter(), 1500);
        assert_eq!((answered.due(1999), answered.last()), (None, Some(9)));
        assert_eq!(answered.due(2000), Some(8), "9 may still be on its way");
        assert_eq!((answered.due(2999), answered.due(3000), answered.due(3999)), (None, Some(9), None));
        answered.hand_over([].iter(), 3999);
        assert_eq!((answered.due(4000), answered.due(20_000)), (Some(9), Some(9)));
        answered.hand_over([claimed(11)].iter(), 20_500);
        assert_eq!((answered.due(21_499), answered.due(21_500)), (None, Some(11)), "a second, and not two");
    }
}
