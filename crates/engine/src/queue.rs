//! The queue of a partition thread. It is drained as a whole, and can be emptied from outside when its thread is
//! abandoned, so that no caller waits for an answer that cannot come (A33).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue with many senders and one receiver.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                is_closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Whole items go in and out under the lock, so a panic elsewhere leaves it sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item. A closed queue drops it, which notifies the waiter.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.lock();
        if !state.is_closed {
            state.items.push_back(item);
            if state.items.len() == 1 {
                drop(state);
                self.filled.notify_one();
            }
        }
    }

    /// Moves up to `most` items to `taken`; waits for the first of them at most `pause`. False once
    /// closed and empty.
    pub(crate) fn take(&self, taken: &mut VecDeque<T>, most: usize, pause: Duration) -> bool {
        let mut state = self.lock();
        if state.items.is_empty() && !state.is_closed && !pause.is_zero() {
            let waited = self
                .filled
                .wait_timeout_while(state, pause, |state| state.items.is_empty() && !state.is_closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = state.items.len().min(most);
        taken.extend(state.items.drain(..count));
        count > 0 || !state.is_closed
    }

    /// Accepts nothing more and drops what is in it.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.items)
        };
        self.filled.notify_one();
        // Outside the lock: an item's drop may wake a task.
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_a_closed_queue_ends() {
        let queue = Queue::new();
        queue.push(1);
        queue.push(2);
        queue.push(3);
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken, 2, Duration::ZERO));
        assert_eq!(taken, [1, 2]);
        queue.close();
        queue.push(4);
        assert!(!queue.take(&mut taken, 2, Duration::from_mins(1)));
        assert_eq!(taken, [1, 2]);
    }
}
