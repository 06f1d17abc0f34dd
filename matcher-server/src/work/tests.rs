use std::sync::mpsc;

use super::*;

fn pool(workers: usize, queue_len: usize) -> Pool {
    Pool::new("test", workers, queue_len, Urgency::Now, Arc::default(), Metrics::new())
}

#[tokio::test]
async fn the_first_job_beyond_the_queue_is_refused_and_the_next_ones_run_again() {
    let pool = pool(1, 1);
    let (release, wait) = mpsc::channel::<()>();
    let running = tokio::spawn(pool.run(move |_| {
        wait.recv().ok();
        Ok(1)
    }));
    while pool.running.jobs().running == 0 {
        tokio::task::yield_now().await;
    }
    let queued = tokio::spawn(pool.run(|_| Ok(2)));
    while pool.running.jobs().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let refused = pool.run(|_| Ok(3)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    release.send(()).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), 1);
    assert_eq!(queued.await.unwrap().unwrap(), 2);
    assert_eq!(pool.run(|_| Ok(4)).await.unwrap(), 4);
}

#[tokio::test]
async fn a_job_learns_that_its_caller_is_gone_and_keeps_its_worker_until_it_ends() {
    let pool = pool(1, 1);
    let (started, is_started) = tokio::sync::oneshot::channel();
    let (ended, is_ended) = tokio::sync::oneshot::channel();
    let request = tokio::spawn(pool.run(move |cancel| {
        started.send(()).unwrap();
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        ended.send(()).unwrap();
        Ok(())
    }));
    is_started.await.unwrap();
    assert_eq!(pool.running.jobs().running, 1);
    request.abort();
    is_ended.await.unwrap();
    pool.idle().await;
    assert_eq!(pool.running.jobs().running, 0);
}

/// Files of hours, or of days of silence, must not hold the workers that clips of seconds need.
#[tokio::test]
async fn a_long_job_makes_way_and_more_than_there_is_room_for_are_refused() {
    let pool = Pool::new("test", 1, 4, Urgency::Now, Arc::default(), Metrics::new()).of_clips(4);
    let of = |client: &str| {
        let client = Client::Key(client.to_owned());
        Terms { client, deadline: None, manner: Manner::Prompt }
    };
    let ended = Arc::new(AtomicBool::new(false));
    let long = || {
        let ended = Arc::clone(&ended);
        tokio::spawn(pool.run_for(of("a"), move |cancel| {
            while !ended.load(Ordering::Relaxed) {
                cancel.check()?;
                thread::sleep(Duration::from_millis(1));
            }
            Ok(1)
        }))
    };
    let begun = async || {
        while pool.load().running == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut jobs = Vec::new();
    for long_jobs in [(1, 0), (1, 1), (1, 1)] {
        jobs.push(long());
        begun().await;
        // Of somebody who asks for nothing else.
        assert_eq!(pool.run_for(of("b"), |_| Ok(2)).await.unwrap(), 2);
        let Jobs { running, waiting } = pool.long_jobs();
        assert_eq!((running, waiting), long_jobs);
    }
    let refused = jobs.pop().unwrap().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    assert!(pool.check_size(LONG_BYTES, &of("a")).is_ok());
    assert!(pool.check_size(LONG_BYTES + 1, &of("a")).is_err());
    assert!(pool.check_size(LONG_BYTES + 1, &of("b")).is_ok());
    let patient = Terms { manner: Manner::Patient, ..of("a") };
    assert!(pool.check_size(LONG_BYTES + 1, &patient).is_ok());
    ended.store(true, Ordering::Relaxed);
    for job in jobs {
        assert_eq!(job.await.unwrap().unwrap(), 1);
    }
    pool.idle().await;
    assert_eq!(pool.long_load().running, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_can_wait_runs_behind_the_rest() {
    let nice = |_: &Cancel| {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The 19th field; the second is the name in parentheses.
        let fields = stat.rsplit_once(')').unwrap().1;
        Ok(fields.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap())
    };
    let pool = |urgency| Pool::new("test", 1, 0, urgency, Arc::default(), Metrics::new());
    let now = pool(Urgency::Now).run(nice).await.unwrap();
    let can_wait = pool(Urgency::CanWait).run(nice).await.unwrap();
    assert!(can_wait > now || now >= 10, "{can_wait}, {now}");
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_frees_the_worker() {
    let pool = pool(1, 0);
    let status = pool.run::<(), _>(|_| panic!("a decoder's bug")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
    assert!(!status.message().contains("decoder"));
    assert_eq!(pool.run(|_| Ok(7)).await.unwrap(), 7);
}
