//! Work that can wait: adding and merging must not make searches slow.
//!
//! Position in the flow: none; whoever starts a thread for such work calls this on it.

/// How much a thread steps back, in the system's unit: one that has stepped back by 10 gets a tenth
/// of the processor time of one that has not, if both want all of it, and all that is left over.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lets the calling thread, and those that it starts from now on, step back behind all others. There is
/// no way back without special rights, so it is for threads that do nothing else.
///
/// Linux only, where each thread has a priority of its own; elsewhere nothing happens.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::{process, thread};

        // A thread that was started with less than that keeps it: the system refuses.
        let _ = process::setpriority_process(Some(thread::gettid()), NICE);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::{process, thread};

    #[test]
    fn only_the_calling_thread_steps_back() {
        let nice = || process::getpriority_process(Some(thread::gettid())).unwrap();
        let before = nice();
        let stepped = std::thread::spawn(move || {
            super::step_back();
            (nice(), std::thread::spawn(nice).join().unwrap())
        });
        let after = before.max(super::NICE);
        assert_eq!(stepped.join().unwrap(), (after, after));
        assert_eq!(nice(), before);
    }
}
