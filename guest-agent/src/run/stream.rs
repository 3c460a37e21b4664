//! Writes the event stream without ever letting its reader stop the run.
//!
//! The reader sits at the far end of an SSH connection: it can be slow, vanish, or stop reading without closing. Events
//! go through a bounded queue and a thread of their own. A slow reader slows a noisy step down; one that takes nothing for
//! [`PATIENCE`] is treated as gone, and from then on only the few events that say what happened are kept for it.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that wait for the reader.
const CAPACITY: usize = 2 * 1024 * 1024;

/// How long a full queue holds up the run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether an event may be lost when the reader does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Output of a step.
    Droppable,
    /// Start and end of something.
    Kept,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is being written right now.
    writing: bool,
    /// The writer failed; nothing is queued any more.
    broken: bool,
    /// The reader has not taken anything for too long.
    stalled: bool,
    /// No more lines will come.
    closed: bool,
    dropped: u64,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The near end of the stream.
pub struct EventStream {
    shared: Arc<Shared>,
    patience: Duration,
    thread: Option<JoinHandle<()>>,
}

impl EventStream {
    /// Starts writing to `out`.
    pub fn start(out: impl Write + Send + 'static) -> Self {
        Self::with_patience(out, PATIENCE)
    }

    fn with_patience(mut out: impl Write + Send + 'static, patience: Duration) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || write_out(&theirs, &mut out))
            .ok();
        if thread.is_none() {
            shared.lock().broken = true;
        }
        Self {
            shared,
            patience,
            thread,
        }
    }

    /// Queues a line; a line end is added.
    pub fn send(&self, mut line: Vec<u8>, weight: Weight) {
        line.push(b'\n');
        let mut queue = self.shared.lock();
        if weight == Weight::Droppable {
            let deadline = Instant::now() + self.patience;
            while queue.bytes > CAPACITY && !queue.broken && !queue.stalled {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    queue.stalled = true;
                    break;
                }
                queue = self
                    .shared
                    .changed
                    .wait_timeout(queue, left)
                    .map_or_else(|error| error.into_inner().0, |(queue, _)| queue);
            }
            if queue.stalled || queue.broken {
                queue.dropped += 1;
                return;
            }
        }
        if queue.broken {
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.shared.changed.notify_all();
    }

    /// Number of output events that the reader did not get.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Waits until everything is written, but not longer than the reader's due.
    pub fn close(mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + self.patience;
        while (!queue.lines.is_empty() || queue.writing) && !queue.broken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self
                .shared
                .changed
                .wait_timeout(queue, left)
                .map_or_else(|error| error.into_inner().0, |(queue, _)| queue);
        }
        drop(queue);
        if let Some(thread) = self.thread.take() {
            // The thread has nothing left to write, so this does not wait.
            let _ = thread.join();
        }
    }
}

fn write_out(shared: &Shared, out: &mut impl Write) {
    loop {
        let mut queue = shared.lock();
        while queue.lines.is_empty() && !queue.closed {
            queue = shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let Some(line) = queue.lines.pop_front() else {
            return;
        };
        queue.bytes -= line.len();
        queue.writing = true;
        drop(queue);
        let written = out.write_all(&line).and_then(|()| out.flush());
        let mut queue = shared.lock();
        queue.writing = false;
        queue.stalled = false;
        if written.is_err() {
            queue.broken = true;
            queue.lines.clear();
            queue.bytes = 0;
        }
        let broken = queue.broken;
        shared.changed.notify_all();
        drop(queue);
        if broken {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Blocks in the first write until told otherwise.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.recv() {
                Ok(()) => Ok(bytes.len()),
                Err(_) => Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_output_but_neither_time_nor_memory() {
        let (release, gate) = mpsc::channel();
        let stream = EventStream::with_patience(Stuck(gate), Duration::from_millis(50));
        let started = Instant::now();
        for _ in 0..10_000 {
            stream.send(vec![b'x'; 1024], Weight::Droppable);
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(stream.shared.lock().bytes <= CAPACITY + 2 * 1024);
        assert!(stream.dropped() > 7_000);
        stream.send(b"kept".to_vec(), Weight::Kept);
        assert_eq!(
            stream.shared.lock().lines.back().map(Vec::as_slice),
            Some(&b"kept\n"[..])
        );
        drop(release);
        stream.close();
    }

    #[test]
    fn everything_arrives_at_a_reader_that_reads() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let stream = EventStream::start(writer);
        let reading = std::thread::spawn(move || std::io::read_to_string(reader).expect("text"));
        for index in 0..1000 {
            stream.send(format!("{index}").into_bytes(), Weight::Droppable);
        }
        stream.close();
        assert_eq!(reading.join().expect("joined").lines().count(), 1000);
    }
}
