//! Who is first, who repeats, what is forgotten; and all of it at once.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use tokio::task::yield_now;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn asked(what: &str) -> impl FnOnce() -> Hash {
    || digest("Test", [what.as_bytes()])
}

async fn turn(repeats: &Repeats, request_id: &str) -> Turn<u32> {
    repeats.turn("key", request_id, asked("x")).await.unwrap()
}

async fn first(repeats: &Repeats, request_id: &str) -> Claim {
    match turn(repeats, request_id).await {
        Turn::First(claim) => claim,
        Turn::Repeat(answer) => panic!("answered with {answer}"),
    }
}

async fn answer(repeats: &Repeats, request_id: &str) -> Option<u32> {
    match turn(repeats, request_id).await {
        Turn::First(_) => None,
        Turn::Repeat(answer) => Some(answer),
    }
}

#[tokio::test]
async fn a_repeat_gets_the_answer_and_nobody_else_does() {
    let repeats = Repeats::default();
    first(&repeats, "a").await.answered(&7_u32);
    assert_eq!(answer(&repeats, "a").await, Some(7));
    assert_eq!(answer(&repeats, "a").await, Some(7));
    assert_eq!(answer(&repeats, "b").await, None);
    let of_other = repeats.turn::<u32>("other", "a", asked("x")).await;
    assert!(matches!(of_other, Ok(Turn::First(_))), "a name is that of one key's calls");
    let status = repeats.turn::<u32>("key", "a", asked("y")).await.unwrap_err();
    assert_eq!(Reason::of(&status), Reason::RequestIdReused);
    assert!(status.message().contains("\"a\""), "{status}");
    // What has no name is never repeated.
    first(&repeats, "").await.answered(&8_u32);
    assert_eq!(answer(&repeats, "").await, None);
}

#[tokio::test]
async fn what_failed_is_not_remembered_and_may_then_be_another_request() {
    let repeats = Repeats::default();
    drop(first(&repeats, "a").await);
    let Ok(Turn::First(claim)) = repeats.turn::<u32>("key", "a", asked("y")).await else {
        panic!("it is still remembered")
    };
    // While it runs it counts already.
    assert!(repeats.turn::<u32>("key", "a", asked("x")).await.is_err());
    drop(claim);
    first(&repeats, "a").await.answered(&7_u32);
    assert_eq!(answer(&repeats, "a").await, Some(7));
}

#[tokio::test]
async fn a_repeat_waits_for_the_first_and_takes_its_place_if_it_fails() {
    let repeats = Repeats::default();
    for fails in [true, false] {
        let claim = first(&repeats, "a").await;
        let waiting = |repeats: Repeats| tokio::spawn(async move { turn(&repeats, "a").await });
        let (gives_up, stays) = (waiting(repeats.clone()), waiting(repeats.clone()));
        yield_now().await;
        gives_up.abort();
        assert!(gives_up.await.unwrap_err().is_cancelled());
        assert!(!stays.is_finished());
        if fails {
            drop(claim);
            assert!(matches!(stays.await.unwrap(), Turn::First(_)));
        } else {
            claim.answered(&7_u32);
            assert!(matches!(stays.await.unwrap(), Turn::Repeat(7)));
        }
    }
}

#[tokio::test]
async fn the_oldest_are_forgotten_by_number_and_by_bytes() {
    let many = Repeats::with(Limits { count: 2, age: HOUR, bytes: usize::MAX });
    // "key/a" has five bytes, and each answer two.
    let entry = ENTRY_BYTES + 5 + 2;
    let large = Repeats::with(Limits { count: usize::MAX, age: HOUR, bytes: 2 * entry });
    for repeats in [many, large] {
        for name in ["a", "b", "c"] {
            first(&repeats, name).await.answered(&7_u32);
        }
        let counts = {
            let book = lock(&repeats.0);
            (book.calls.len(), book.answered.len(), book.bytes)
        };
        assert_eq!(counts, (2, 2, 2 * entry));
        assert_eq!(answer(&repeats, "a").await, None);
        assert_eq!(answer(&repeats, "c").await, Some(7));
    }
}

#[test]
fn an_answer_is_forgotten_by_its_age_and_what_runs_is_not() {
    let limits = Limits { count: 10, age: HOUR, bytes: usize::MAX };
    let mut book = Book { limits, ..Book::default() };
    let begin = Instant::now();
    let (_sender, running) = watch::channel(());
    for name in ["running", "old", "new"] {
        let state = State::Running(running.clone());
        book.calls.insert(name.into(), Call { digest: asked("x")(), state });
    }
    book.answer(&"old".into(), Box::from([1]), begin);
    book.answer(&"new".into(), Box::from([1]), begin + HOUR / 2);
    book.forget_older(begin + HOUR);
    assert_eq!(book.calls.len(), 3);
    book.forget_older(begin + HOUR + Duration::from_secs(1));
    assert!(book.calls.contains_key("new") && !book.calls.contains_key("old"));
    book.forget_older(begin + 2 * HOUR);
    assert_eq!((book.calls.len(), book.bytes), (1, 0));
    assert!(book.calls.contains_key("running"));
}

#[test]
fn parts_of_a_digest_do_not_run_together() {
    let of = |parts: &[&str]| digest("Test", parts.iter().map(|part| part.as_bytes()));
    assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    assert_ne!(of(&["", "a"]), of(&["a", ""]));
    assert_ne!(digest("Other", []), digest("Test", []));
}

/// What a task does once it may.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Succeed,
    Fail,
    /// Its client hangs up, wherever it then is.
    GiveUp,
}

/// Counts what runs of one name.
struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct Counts {
    running: AtomicU32,
    made: AtomicU32,
}

async fn carry_out(repeats: Repeats, counts: Arc<Vec<Counts>>, id: usize, yields: u8, plan: Plan) {
    for _ in 0..yields {
        yield_now().await;
    }
    match turn(&repeats, &id.to_string()).await {
        Turn::Repeat(answer) => {
            assert_eq!((answer, counts[id].made.load(Ordering::SeqCst)), (1, 1));
        }
        Turn::First(claim) => {
            assert_eq!(counts[id].running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
            let running = Running(&counts[id].running);
            for _ in 0..yields {
                yield_now().await;
            }
            if let Plan::Succeed = plan {
                let number = counts[id].made.fetch_add(1, Ordering::SeqCst) + 1;
                drop(running);
                claim.answered(&number);
            } else {
                drop(running);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_change_is_made_once_however_many_ask_fail_and_hang_up(
        plans in proptest::collection::vec(
            (0_usize..3, 0_u8..6, prop::sample::select(vec![Plan::Succeed, Plan::Fail, Plan::GiveUp])),
            1..60,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let repeats = Repeats::default();
        let counts: Arc<Vec<Counts>> = Arc::new((0..3).map(|_| Counts::default()).collect());
        runtime.block_on(async {
            let tasks: Vec<_> = plans.iter().map(|&(id, yields, plan)| {
                let call = carry_out(repeats.clone(), Arc::clone(&counts), id, yields, plan);
                (plan, tokio::spawn(call))
            }).collect();
            for (plan, task) in tasks {
                if let Plan::GiveUp = plan {
                    task.abort();
                }
                match task.await {
                    Err(error) if error.is_cancelled() => {}
                    done => done.unwrap(),
                }
            }
            for (id, counts) in counts.iter().enumerate() {
                let succeeds = |(of, _, plan): &(usize, u8, Plan)| *of == id && matches!(plan, Plan::Succeed);
                let expected = u32::from(plans.iter().any(succeeds));
                assert_eq!(counts.made.load(Ordering::SeqCst), expected);
                assert_eq!(answer(&repeats, &id.to_string()).await.unwrap_or(0), expected);
            }
        });
        prop_assert!(lock(&repeats.0).calls.len() <= 3);
    }
}
