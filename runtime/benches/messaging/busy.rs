//! Busy loops of idle priority, which keep the CPUs awake without taking time from anything else.

use crate::process::{Child, Role, Task};

/// Burns the CPU at SCHED_IDLE until the process is ended by its parent, which closes its standard input.
pub(crate) fn burn() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    std::thread::spawn(|| {
        // The parent holds the other end; when it goes, so do we.
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0; 1]);
        std::process::exit(0);
    });
    if let Err(error) =
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
    {
        // At normal priority the loop would distort what it is meant to steady.
        eprintln!("no idle priority here ({error:?}): the CPUs may sleep, latencies will vary");
        return;
    }
    loop {
        std::hint::spin_loop();
    }
}

/// One busy loop per CPU for as long as the value lives.
pub(crate) fn keep_cpus_awake() -> Vec<Child> {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    (0..cpus)
        .map(|_| {
            Child::spawn(&Task {
                role: Role::Busy,
                system: "-".into(),
                workload: "-".into(),
                address: None,
            })
        })
        .collect()
}
