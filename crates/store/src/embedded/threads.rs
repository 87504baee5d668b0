//! The store's own threads. Each runs one call at a time, in the order they were made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::{SqliteReader, SqliteWriter};
use crate::blocking::Writer;
use crate::{Error, Fut, Work};

type Call<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The writing half, which its own thread and those that write groups take in turns.
#[derive(Debug)]
struct Shared {
    writer: Mutex<SqliteWriter>,
    /// The writer's counters as of the end of its last call, so that they can be read without waiting for the writer.
    work: Mutex<Work>,
    /// Threads that are about to take it. A lock is not fair: without this the own thread would take it again and again while
    /// it shrinks the file.
    waiting: AtomicUsize,
}

/// The threads and the way to them.
#[derive(Debug)]
pub(super) struct Threads {
    writer: Option<Sender<Call<Arc<Shared>>>>,
    /// The writing half itself, for groups: they are written on the thread that polls, which saves two
    /// changes of thread for each.
    groups: Option<Arc<Shared>>,
    readers: Option<Sender<Call<SqliteReader>>>,
    /// Readers of their own for what may take long, so that a load never waits for it.
    scanners: Option<Sender<Call<SqliteReader>>>,
    /// Readers first: the last connection to close is the writer's, which puts the log back into the file.
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn start(
        writer: SqliteWriter,
        readers: Vec<SqliteReader>,
        scanners: Vec<SqliteReader>,
    ) -> Result<Self, Error> {
        let (to_writer, own_calls) = mpsc::channel();
        let writer = Arc::new(Shared {
            work: Mutex::new(writer.work()),
            writer: Mutex::new(writer),
            waiting: AtomicUsize::new(0),
        });
        let mut threads = Self {
            writer: Some(to_writer),
            groups: Some(Arc::clone(&writer)),
            readers: None,
            scanners: None,
            running: Vec::new(),
        };
        threads.readers = Some(threads.spawn_readers("taskhub-store-read", readers)?);
        threads.scanners = Some(threads.spawn_readers("taskhub-store-scan", scanners)?);
        threads.spawn("taskhub-store-write", move || {
            serve(writer, &Mutex::new(own_calls), |writer| writer.shrink_some());
        })?;
        Ok(threads)
    }

    fn spawn_readers(&mut self, name: &str, readers: Vec<SqliteReader>) -> Result<Sender<Call<SqliteReader>>, Error> {
        let (sender, calls) = mpsc::channel();
        let calls = Arc::new(Mutex::new(calls));
        for reader in readers {
            let calls = Arc::clone(&calls);
            self.spawn(name, move || serve(reader, &calls, |_| false))?;
        }
        Ok(sender)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.running
            .push(thread.map_err(|source| Error::Unavailable { source: source.into() })?);
        Ok(())
    }

    /// Runs a call on the writer's thread.
    pub(super) fn write<'a, T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut SqliteWriter) -> Result<T, Error> + Send + 'static,
    ) -> Fut<'a, T> {
        ask(self.writer.as_ref(), move |writer: &mut Arc<Shared>| writer.run(call))
    }

    /// Runs a call of the writer on the thread that polls the future, which it blocks until the disk has
    /// answered.
    pub(super) fn write_here<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut SqliteWriter) -> Result<T, Error> + Send + 'static,
    ) -> Fut<'_, T> {
        Box::pin(async move {
            let Some(writer) = &self.groups else {
                unreachable!("the writer is there until the store is dropped")
            };
            // As on its own thread, a broken assertion is one caller's trouble.
            let answer = catch_unwind(AssertUnwindSafe(|| {
                writer.run(|writer| (call(writer), writer.is_to_shrink()))
            }));
            let answer = answer.map(|(answer, is_to_shrink)| {
                if let (true, Some(own)) = (is_to_shrink, &self.writer) {
                    // Wakes the writer's thread, which shrinks the file while it has no calls.
                    let _ = own.send(Box::new(|_| ()));
                }
                answer
            });
            answer.unwrap_or_else(|_| {
                tracing::error!("a store call panicked");
                Err(Error::Unknown {
                    source: "a store call panicked".into(),
                })
            })
        })
    }

    /// Runs a short call on a reading thread: one that reads few rows, or the recovery of one partition.
    pub(super) fn read<'a, T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut SqliteReader) -> Result<T, Error> + Send + 'static,
    ) -> Fut<'a, T> {
        ask(self.readers.as_ref(), call)
    }

    /// Runs a call that may scan the whole store on the scanning thread.
    pub(super) fn scan<'a, T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut SqliteReader) -> Result<T, Error> + Send + 'static,
    ) -> Fut<'a, T> {
        ask(self.scanners.as_ref(), call)
    }

    pub(super) fn work(&self) -> Work {
        let Some(writer) = &self.groups else {
            unreachable!("the writer is there until the store is dropped")
        };
        *writer.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without a sender a thread ends after the calls that wait.
        self.readers = None;
        self.scanners = None;
        let writer = self.running.pop();
        for reader in self.running.drain(..) {
            join(reader);
        }
        self.writer = None;
        self.groups = None;
        writer.into_iter().for_each(join);
    }
}

impl Shared {
    fn run<T>(&self, call: impl FnOnce(&mut SqliteWriter) -> T) -> T {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let answer = call(&mut writer);
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = writer.work();
        answer
    }

    /// Shrinks the file by one step if needed and if no call waits; returns whether there is more to do.
    fn shrink_some(&self) -> bool {
        // Waits for the writer, then lets all other waiting calls go first.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            drop(writer);
            thread::yield_now();
            return true;
        }
        writer.is_to_shrink();
        let has_more = writer.shrink_some();
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = writer.work();
        has_more
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a store thread panicked");
    }
}

/// Sends the call immediately; the future only waits for its result.
fn ask<'a, C: 'static, T: Send + 'static>(
    to: Option<&Sender<Call<C>>>,
    call: impl FnOnce(&mut C) -> Result<T, Error> + Send + 'static,
) -> Fut<'a, T> {
    let (answer, answered) = oneshot::channel();
    let call: Call<C> = Box::new(move |half| {
        // The receiver may have been dropped.
        let _ = answer.send(call(half));
    });
    // If the thread is gone, so is the sender of the answer.
    let _ = to.map(|to| to.send(call));
    Box::pin(async move {
        answered
            .await
            .unwrap_or_else(|gone| Err(Error::Unknown { source: gone.into() }))
    })
}

/// Runs calls until all senders are dropped. While no call waits, it runs `spare` as long as that returns true; after
/// each call, it tries `spare` again.
fn serve<T>(mut half: T, calls: &Mutex<Receiver<Call<T>>>, mut spare: impl FnMut(&mut T) -> bool) {
    let mut has_more = false;
    loop {
        let next = {
            let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            if has_more {
                calls.try_recv()
            } else {
                calls.recv().map_err(|_| TryRecvError::Disconnected)
            }
        };
        // A broken assertion is one caller's trouble, who hears that the outcome is unknown; the next
        // call takes back what may be open.
        let done = match next {
            Ok(call) => catch_unwind(AssertUnwindSafe(|| call(&mut half))),
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => return,
        };
        let more = catch_unwind(AssertUnwindSafe(|| spare(&mut half)));
        has_more = *more.as_ref().unwrap_or(&false);
        if done.is_err() || more.is_err() {
            tracing::error!("a store call panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conformance::block_on;
    use crate::embedded::{EmbeddedOptions, EmbeddedStore, SCANNERS};

    #[test]
    fn a_load_does_not_wait_for_listings() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), EmbeddedOptions::default()).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let ended = Arc::new(AtomicUsize::new(0));
        let listings: Vec<_> = (0..=SCANNERS)
            .map(|_| {
                let (released, ended) = (Arc::clone(&released), Arc::clone(&ended));
                store.threads.scan(move |_| {
                    // A test that fails must end too.
                    let _released = released.lock().unwrap().recv_timeout(Duration::from_mins(2));
                    ended.fetch_add(1, Ordering::AcqRel);
                    Ok(())
                })
            })
            .collect();
        block_on(store.threads.read(|_| Ok(()))).unwrap();
        assert_eq!(ended.load(Ordering::Acquire), 0, "all listings are under way or wait");
        drop(release);
        for listing in listings {
            block_on(listing).unwrap();
        }
    }
}
