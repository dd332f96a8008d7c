//! A paused clock that stops whenever a datagram arrives, also between two ticks of tokio's timers.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use webmesh_transport::{InPlace, MemoryNetwork};

/// Whether a future has been woken since it was last polled.
#[derive(Default)]
struct Woken {
    woken: AtomicBool,
    outer: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.outer.wake();
    }
}

/// Runs a scenario as [`super::in_place`] does; what `network` carries is received when it arrives, to the nanosecond. Timers have
/// ticks of 1 ms all the same, as in reality.
pub fn in_exact_time<T>(
    seed: u64,
    network: &MemoryNetwork,
    scenario: impl AsyncFnOnce(Arc<InPlace>) -> T,
) -> T {
    let woken = Arc::new(Woken::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park({
            let (network, woken) = (network.clone(), woken.clone());
            move || {
                // tokio comes by here too when the outermost future has something to do.
                if woken.woken.load(Ordering::SeqCst) {
                    return;
                }
                network.before_park(|length| {
                    // Moves the clock when it is polled, and then yields.
                    let advance = pin!(tokio::time::advance(length));
                    let _ = advance.poll(&mut Context::from_waker(Waker::noop()));
                });
            }
        })
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(async {
        // The clock hasn't moved yet.
        network.receive_between_ticks(tokio::time::Instant::now());
        let inner = local.run_until(async {
            let placement = Arc::new(InPlace::new(seed).unwrap());
            scenario(placement).await
        });
        let mut inner = pin!(inner);
        let waker = Waker::from(woken.clone());
        std::future::poll_fn(move |cx| {
            woken.outer.register(cx.waker());
            woken.woken.store(false, Ordering::SeqCst);
            match inner.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    })
}
