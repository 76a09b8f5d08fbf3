//! What a client is told of limits: the one with the least left, in the words of the IETF's drafts.

use super::{Placed, Told};
use crate::fields::Fields;
use mainstay_limits::Form;

impl Told {
    pub(super) fn write(&self, form: Form, placed: &Placed, fields: &mut Fields) {
        let (count, left, window) = (self.count, self.decision.remaining, placed.window_s);
        let mut reset = u64::from(self.decision.reset_s().max(1));
        if self.decision.allowed {
            // A moment is rounded to the end of its millisecond: not a second longer for that.
            reset = reset.min(window);
        }
        if form == Form::Draft10 {
            let label = &placed.rule.rule.label;
            fields.push(b"RateLimit-Policy", format!("\"{label}\";q={count};w={window}").as_bytes());
            return fields.push(b"RateLimit", format!("\"{label}\";r={left};t={reset}").as_bytes());
        }
        match count == placed.rule.rule.limit.count {
            true => fields.push(b"RateLimit-Policy", placed.policy.as_bytes()),
            // That of a tier.
            false => fields.push(b"RateLimit-Policy", format!("{count};w={window}").as_bytes()),
        }
        let numbers: [(&[u8], u64); 3] =
            [(b"RateLimit-Limit", count.into()), (b"RateLimit-Remaining", left.into()), (b"RateLimit-Reset", reset)];
        let mut room = [0; 20];
        numbers.iter().for_each(|(name, number)| fields.push(name, decimal(*number, &mut room)));
    }
}

/// Twenty digits hold any number of 64 bits.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}
