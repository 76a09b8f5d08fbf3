//! What nodes say to each other. In MessagePack, with the names of fields: nodes of two versions may stand beside each
//! other while one is brought up to date.

use crate::engine::QueueGlance;
use crate::error::Error;
use crate::event::Event;
use crate::handle::{Claim, Finished, Work};
use crate::job::{Name, State};
use crate::op::{Answer, Finish, Op, Refusal};
use crate::schedule::Schedule;
use mainstay_store::Error as StoreError;
use rmp_serde::config::BytesMode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A call of a node that stands by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    Op(Op),
    Claim(Claim),
    Finish {
        ends: Vec<Finish>,
        next: Option<Claim>,
    },
    /// Job and token of what was claimed for somebody who had left.
    Return(Vec<(u64, u64)>),
    /// Nobody waits for these calls of the node any more.
    Left(Vec<i64>),
    Queues,
    Schedules,
    Workers,
    List {
        queue: Name,
        state: State,
        skip: usize,
        most: usize,
    },
    /// The node lives, pushes under this name, and wants to hear what happens.
    Alive {
        pusher: Option<Name>,
        listens: bool,
    },
}

/// What is answered to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Answer(Answer),
    Work(Vec<Work>),
    Finished {
        ends: Vec<Result<(), Fault>>,
        work: Vec<Work>,
    },
    Queues(Vec<QueueGlance>),
    Schedules(Vec<Schedule>),
    Workers(Vec<Name>),
    Ids(Vec<u64>),
    /// What happened, and how many events before it were lost.
    Events {
        events: Vec<Event>,
        lost: u64,
        /// Who tells it, one number for as long as he listens without a break, and how many events came before.
        by: u64,
        before: u64,
    },
}

/// Why nothing was done, as far as another node is concerned.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    Refused(Refusal),
    Behind(Duration),
    /// Whoever was asked does not decide any more, or cannot keep anything.
    Away,
}

impl Asked {
    /// What a node says of its own queues counts once it decides itself.
    pub fn can_be_passed_on(&self) -> bool {
        match self {
            Asked::Op(op) => op.can_be_passed_on(),
            _ => true,
        }
    }

    /// What it wants to take.
    pub fn claims(&self) -> Option<&Claim> {
        match self {
            Asked::Claim(claim) => Some(claim),
            Asked::Finish { next, .. } => next.as_ref(),
            _ => None,
        }
    }

    /// How long whoever asks waits for the answer, beyond what the call itself waits.
    pub fn waits(&self) -> Duration {
        match self {
            Asked::Claim(claim) => claim.wait,
            _ => Duration::ZERO,
        }
    }
}

impl Told {
    pub fn of(finished: Finished) -> Told {
        let ends = finished.ends.into_iter().map(|end| end.map_err(Fault::from)).collect();
        Told::Finished { ends, work: finished.work }
    }

    /// Job and token of what is given with it.
    pub fn held(&self) -> Vec<(u64, u64)> {
        match self {
            Told::Work(work) | Told::Finished { work, .. } => {
                work.iter().map(|work| (work.claimed.job, work.claimed.token)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Refused(refusal) => Fault::Refused(refusal),
            Error::Behind(limit) => Fault::Behind(limit),
            _ => Fault::Away,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Refused(refusal) => Error::Refused(refusal),
            Fault::Behind(limit) => Error::Behind(limit),
            Fault::Away => StoreError::Standby.into(),
        }
    }
}

/// # Errors
/// What only the node that decides may ask of its engine cannot be said.
pub(super) fn written(words: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let mut to = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_bytes(BytesMode::ForceAll);
    words.serialize(&mut to).map_err(|_| StoreError::Strange("a node"))?;
    Ok(bytes)
}

/// # Errors
/// When another version of this program wrote it, and this one does not know the word.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|_| StoreError::Strange("a node of another version"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Body, Child, NewJob, OnFailure, Unique};
    use crate::op::{Claimed, Outcome};
    use crate::settings::Settings;
    use crate::store::ChildDetail;
    use mainstay_limits::window::Limit;

    fn again<T: Serialize + DeserializeOwned>(words: &T) -> T {
        read(&written(words).expect("written")).expect("read")
    }

    #[test]
    fn a_job_arrives_as_it_was_given() {
        let bytes: Vec<u8> = (0..=255).collect();
        let child = Child { queue: "b".into(), on_failure: OnFailure::Ignore, job: NewJob::new(bytes.clone()) };
        let unique = Some(Unique { key: "k\0".into(), for_ms: Some(u64::MAX) });
        let job = NewJob { children: vec![child], unique, priority: 7, ..NewJob::new(bytes.clone()) };
        match again(&Asked::Op(Op::Add { queue: "a".into(), jobs: vec![job.clone()] })) {
            Asked::Op(Op::Add { queue, jobs }) => assert_eq!((&*queue, &jobs), ("a", &vec![job.clone()])),
            other => panic!("{other:?}"),
        }
        let said = written(&Asked::Op(Op::Add { queue: "a".into(), jobs: vec![job] })).expect("written");
        assert!(said.windows(256).filter(|part| *part == bytes).count() == 2, "bytes go as they are");
    }

    #[test]
    fn work_and_what_its_children_gave_arrive_whole() {
        let claimed = Claimed {
            job: u64::MAX,
            token: 9,
            attempt: 1,
            attempts: 3,
            deadline_ms: u64::MAX,
            group: Some("g".into()),
            is_parent: true,
        };
        let body = Body { name: "é".into(), payload: vec![0, 255], trace: None };
        let child = ChildDetail {
            job: 1,
            queue: "b".into(),
            on_failure: OnFailure::Fail,
            state: State::Completed,
            is_gone: false,
            result: Some(vec![200; 300]),
            is_left_out: false,
        };
        let work = vec![Work { claimed, body, children: vec![child] }];
        let stale = Refusal::Stale { job: 3, state: State::Dead };
        let ends = vec![Ok(()), Err(Fault::Refused(stale.clone()))];
        let reply: Result<Told, Fault> = Ok(Told::Finished { ends, work: work.clone() });
        match again(&reply) {
            Ok(Told::Finished { ends, work: given }) => {
                assert_eq!(given, work);
                assert!(matches!(&ends[..], [Ok(()), Err(Fault::Refused(said))] if *said == stale), "{ends:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_refusal_and_a_queue_arrive_in_the_same_words() {
        for refusal in [
            Refusal::Flow("two".into()),
            Refusal::TooLong { what: "a payload".into(), found: 2, most: 1 },
            Refusal::Pattern("x".to_owned()),
            Refusal::NoSuchQueue("q".into()),
        ] {
            match again(&Fault::from(Error::from(refusal.clone()))) {
                Fault::Refused(said) => assert_eq!(said.to_string(), refusal.to_string()),
                other => panic!("{other:?}"),
            }
        }
        let rate = Some(Limit { count: 5, window_ms: 60_000, smooth: true });
        let glance = QueueGlance {
            name: "scan".into(),
            counts: crate::queue::Counts { waiting: 3, ..Default::default() },
            totals: crate::queue::Totals::default(),
            is_paused: true,
            is_short: false,
            settings: Settings { rate, ..Settings::default() },
        };
        match again(&Told::Queues(vec![glance.clone()])) {
            Told::Queues(queues) => assert_eq!(queues, [glance]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_the_deciding_nodes_own_business_cannot_be_asked_and_noise_is_refused() {
        assert!(written(&Asked::Op(Op::Tick)).is_err());
        let configure = Op::Configure { queue: "a".into(), settings: Box::default() };
        assert!(written(&Asked::Op(configure)).is_err());
        let completed = Outcome::Completed { result: None };
        let whole = written(&Asked::Finish { ends: vec![Finish { job: 1, token: 2, outcome: completed }], next: None });
        let whole = whole.expect("written");
        for cut in 0..whole.len() {
            assert!(read::<Asked>(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(read::<Asked>(b"\xc1\xff\xff").is_err());
    }
}
