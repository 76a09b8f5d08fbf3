//! Limits that several Mainstays keep together: counted in Redis by its own clock, one call a limit, all of a request
//! on their way at once, after it is known whose it is.
//!
//! What this one admitted is counted here as well. So whoever is over a limit by what came here alone is refused
//! without a question, a Redis that is away leaves counts to go on from, and one that forgot everything does not
//! forgive everybody. Must never wait longer than a request's allowance, nor at all while Redis is left alone.

use super::{Counted, Limited, Rules, Told};
use crate::core::Core;
use crate::proxy::Refusal;
use crate::redis::Allowance;
use mainstay_limits::rates::{InForce, Place};
use mainstay_limits::redis::{SCRIPT, Subject, ask, give_back, key, read};
use mainstay_limits::window::Decision;
use mainstay_runtime::Clock;
use mainstay_store::redis::{REQUEST_BUDGET, Redis, Script, Value};
use mainstay_telemetry::Verdict;
use std::sync::LazyLock;
use std::time::Duration;

static ADMIT: LazyLock<Script> = LazyLock::new(|| Script::new(SCRIPT));
/// Who was refused because nobody could be asked may come again so soon: as often the breaker looks again.
const AGAIN_S: u32 = 1;

/// One limit a request falls under, that was not decided yet.
#[derive(Debug)]
pub(super) struct Asked {
    index: u16,
    place: Place,
    key: String,
    here: Decision,
    /// `None`: nobody said.
    there: Option<Decision>,
}

/// What is to become of it.
enum Judged {
    Admitted(Decision),
    Refused(Decision),
    /// Redis is away, and this limit does not admit whom it cannot count.
    Undecided,
}

impl Limited {
    /// Counts here what is to be asked of Redis. Refuses at once where what came here alone is too much.
    pub(super) fn expect<'a>(
        &mut self,
        (core, redis): (&Core, &Redis),
        rules: &Rules,
        place: impl Fn(&InForce) -> Option<(Place, Subject<'a>)>,
    ) -> Result<(), Refusal> {
        let (rates, now_us) = (&core.shared.rates, core.now_us());
        for &index in &self.matched {
            let Some(placed) = rules.all.get(usize::from(index)) else { continue };
            let Some((place, subject)) = place(&placed.rule) else { continue };
            let key = key(&placed.rule.rule.name, subject, &place.limit());
            // Before Redis is asked, so that its stamp is the later one and this count the first to let go.
            let here = rates.count(&place, now_us);
            self.expected.push(Asked { index, place, key, here, there: None });
        }
        match self.expected.iter().any(Asked::is_over_here) {
            true => self.settle((core, Some(redis)), rules),
            false => Ok(()),
        }
    }

    /// Asks for all that is expected, one round trip, and decides.
    pub(super) async fn ask_all(
        &mut self,
        (core, redis): (&Core, Option<&Redis>),
        rules: &Rules,
        allowance: &mut Allowance,
    ) -> Result<(), Refusal> {
        if let Some(redis) = redis {
            question(redis, allowance, &mut self.expected).await;
        }
        self.settle((core, redis), rules)
    }

    /// One that does not admit, and none of them has counted it.
    fn settle(&mut self, (core, redis): (&Core, Option<&Redis>), rules: &Rules) -> Result<(), Refusal> {
        let (rates, now_us) = (&core.shared.rates, core.now_us());
        let all = std::mem::take(&mut self.expected);
        let is_over_here = all.iter().any(Asked::is_over_here);
        let (mut refused, mut undecided, mut admitted) = (None::<Told>, None, Vec::new());
        for asked in &all {
            let Some(placed) = rules.all.get(usize::from(asked.index)) else { continue };
            match asked.judge(is_over_here, placed.is_closed) {
                Judged::Admitted(decision) => admitted.push((placed, asked.told(decision))),
                Judged::Refused(decision) => {
                    rates.judged(&placed.rule, &asked.place, false, now_us);
                    if refused.is_none_or(|other| other.decision.reset_us < decision.reset_us) {
                        refused = Some(asked.told(decision));
                    }
                }
                Judged::Undecided => {
                    rates.undecided(&placed.rule);
                    undecided = undecided.or(Some(placed.at));
                }
            }
        }
        if refused.is_none() && undecided.is_none() {
            for (placed, told) in admitted {
                rates.admitted(&placed.rule);
                self.admitted(told);
            }
            self.counted.extend(all.into_iter().map(Asked::counted));
            return Ok(());
        }
        self.take_back((rates, redis), rules);
        all.into_iter().map(Asked::counted).for_each(|counted| counted.forget(rates, redis));
        match refused {
            Some(told) => Err(self.refused(told, rules)),
            None => Err(Refusal {
                rule: undecided.unwrap_or_default(),
                retry_after: Some(AGAIN_S),
                ..Verdict::ServiceBusy.into()
            }),
        }
    }
}

impl Asked {
    /// By what came here alone; with room for what differs between two clocks, so that Redis would say so too.
    fn is_over_here(&self) -> bool {
        !self.here.allowed && self.here.reset_us > self.place.limit().slack_us()
    }

    fn judge(&self, is_over_here: bool, is_closed: bool) -> Judged {
        let decision = match self.there {
            Some(there) => there,
            None if is_over_here && self.is_over_here() => {
                // Redis may let go a little later.
                Decision { reset_us: self.here.reset_us + self.place.limit().slack_us(), ..self.here }
            }
            // Another limit refuses, and this one was not asked about.
            None if is_over_here => return Judged::Admitted(self.here),
            None if is_closed => return Judged::Undecided,
            None => self.here,
        };
        if decision.allowed { Judged::Admitted(decision) } else { Judged::Refused(decision) }
    }

    fn told(&self, decision: Decision) -> Told {
        Told { rule: self.index, count: self.place.limit().count, decision }
    }

    fn counted(self) -> Counted {
        let mark = |decision: Decision| decision.allowed.then_some(decision.mark_us);
        let there = self.there.and_then(mark).map(|mark_us| (self.key, mark_us));
        Counted { rule: self.index, place: self.place, here: mark(self.here), there }
    }
}

/// One round trip for all of them.
async fn question(redis: &Redis, allowance: &mut Allowance, all: &mut [Asked]) {
    let (began, left) = (Clock::micros(), allowance.left());
    let calls = all.iter().map(|asked| call(redis, asked, left));
    let answers = futures_util::future::join_all(calls).await;
    allowance.spend(Duration::from_micros(Clock::micros().saturating_sub(began)));
    for (asked, answer) in all.iter_mut().zip(answers) {
        asked.there = answer;
    }
}

async fn call(redis: &Redis, asked: &Asked, within: Duration) -> Option<Decision> {
    let arguments = ask(&asked.place.limit(), None);
    let answer = redis.script(&ADMIT, &[&asked.key], &arguments, within).await.ok()?;
    let Value::Array(values) = answer else { return None };
    let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
    read(&values.iter().map(number).collect::<Option<Vec<i64>>>()?).ok()
}

/// Takes one back. Nobody waits for it: what is lost on the way counts until its window is over.
pub(super) fn take_back(redis: &Redis, (key, mark_us): (String, u64), place: &Place) {
    let (redis, arguments) = (redis.clone(), give_back(&place.limit(), mark_us));
    tokio::task::spawn_local(async move {
        let _ = redis.script(&ADMIT, &[key], &arguments, REQUEST_BUDGET).await;
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::rules;
    use super::*;
    use mainstay_limits::Rates;

    const SECOND_US: u64 = 1_000_000;

    fn said(allowed: bool, reset_us: u64) -> Decision {
        Decision { allowed, remaining: u32::from(allowed), reset_us, mark_us: 1 }
    }

    fn word(judged: &Judged) -> String {
        match judged {
            Judged::Admitted(_) => "admitted".to_owned(),
            Judged::Refused(decision) => format!("refused for {} s", decision.reset_s()),
            Judged::Undecided => "undecided".to_owned(),
        }
    }

    #[test]
    fn redis_decides_where_it_answers_and_the_policy_where_it_does_not() {
        let rates = Rates::default();
        let text = "[limits]\nip = \"9/min\"\n[[route]]\nmatch = \"/\"\nlimit = \"9/min\"\non_outage = \"refuse\"\n";
        let rules = rules(text, &rates);
        let [open, closed] = &rules.all[..] else { panic!("two rules") };
        let (yes, no, nearly) = (said(true, 1), said(false, 40 * SECOND_US), said(false, 1000));
        for (placed, here, there, is_over, expected) in [
            (open, yes, Some(yes), false, "admitted"),
            (open, yes, Some(no), false, "refused for 40 s"),
            (open, yes, None, false, "admitted"),
            (closed, yes, None, false, "undecided"),
            (closed, yes, Some(yes), false, "admitted"),
            // What came here alone is too much: nobody is asked.
            (open, no, None, true, "refused for 41 s"),
            (closed, no, None, true, "refused for 41 s"),
            // The other clock may have let go already.
            (open, nearly, Some(yes), false, "admitted"),
            (open, nearly, None, false, "refused for 1 s"),
            (closed, nearly, None, false, "undecided"),
        ] {
            let place = rates.of_address(&placed.rule, [192, 0, 2, 1].into());
            let asked = Asked { index: 0, place, key: String::new(), here, there };
            assert_eq!(asked.is_over_here(), is_over, "{here:?}");
            assert_eq!(word(&asked.judge(is_over, placed.is_closed)), expected, "{here:?} {there:?}");
        }
    }
}
