//! Buffers of one core: a connection holds one while there are bytes in it, and none while it is idle.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// First room for what is read: a head and a body of 16 KiB, as much as one TLS record holds.
const SMALL_BYTES: usize = 32 * 1024;
/// A read of what has no known length.
pub const READ_BYTES: usize = SMALL_BYTES;
/// Room for a body known to be large: fewer reads.
const LARGE_BYTES: usize = 256 * 1024;
/// What our own fields may make a head longer by.
const HEADROOM_BYTES: usize = 1024;
/// Kept for reuse a core; more are freed. Enough for every request a busy core has under way.
const SMALL_KEPT_MAX: usize = 256;
const LARGE_KEPT_MAX: usize = 16;

/// Bytes that were read or are to be written. An empty one owns no memory.
#[derive(Debug, Default)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
}

/// A core's buffers that nobody holds at the moment.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    fn small(&self) -> Vec<u8> {
        self.small.borrow_mut().pop().unwrap_or_else(|| vec![0; SMALL_BYTES])
    }

    fn large(&self) -> Vec<u8> {
        self.large.borrow_mut().pop().unwrap_or_else(|| vec![0; LARGE_BYTES])
    }

    fn keep(&self, data: Vec<u8>) {
        let (kept, max) = match data.len() {
            SMALL_BYTES => (&self.small, SMALL_KEPT_MAX),
            LARGE_BYTES => (&self.large, LARGE_KEPT_MAX),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < max {
            kept.push(data);
        }
    }

    /// Takes back the memory of a buffer that holds nothing.
    pub fn release(&self, buffer: &mut Buffer) {
        if buffer.is_empty() && !buffer.data.is_empty() {
            self.keep(std::mem::take(buffer).data);
        }
    }

    /// The same of one whose bytes are done with.
    pub fn discard(&self, buffer: &mut Buffer) {
        buffer.consume(buffer.len());
        self.release(buffer);
    }
}

impl Buffer {
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// The first `bytes` are done with.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room behind what is there, without moving or growing anything.
    fn room(&self) -> usize {
        self.data.len() - self.end
    }

    /// Leaves room before what will be read, so that a head can be put there later (`put_before`).
    pub fn leave_headroom(&mut self, buffers: &Buffers) {
        if self.data.is_empty() {
            self.data = buffers.small();
        }
        if self.is_empty() {
            (self.start, self.end) = (HEADROOM_BYTES, HEADROOM_BYTES);
        }
    }

    /// Puts bytes before what is there, if there is room; false if nothing was done.
    pub fn put_before(&mut self, bytes: &[u8]) -> bool {
        if self.is_empty() || self.start < bytes.len() {
            return false;
        }
        let start = self.start - bytes.len();
        self.data[start..self.start].copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Makes at least one byte of room for a read of up to `max`: by moving, else by the large kind, else by doubling.
    fn make_room(&mut self, max: usize, buffers: &Buffers) {
        if self.data.is_empty() {
            self.data = if max > SMALL_BYTES { buffers.large() } else { buffers.small() };
        }
        if self.room() == 0 {
            self.grow(1, buffers);
        }
    }

    /// Makes room for so many bytes behind what is there.
    fn grow(&mut self, bytes: usize, buffers: &Buffers) {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let needed = self.end + bytes;
        if needed <= self.data.len() {
            return;
        }
        if needed <= SMALL_BYTES {
            self.data = buffers.small();
        } else if needed <= LARGE_BYTES {
            let mut large = buffers.large();
            large[..self.end].copy_from_slice(&self.data[..self.end]);
            buffers.keep(std::mem::replace(&mut self.data, large));
        } else {
            // Past every class: a very large head. Whoever fills it has a limit of its own.
            self.data.resize(needed.max(self.data.len() * 2), 0);
        }
    }

    /// Appends; grows as far as it must.
    pub fn put(&mut self, bytes: &[u8], buffers: &Buffers) {
        if self.room() < bytes.len() {
            self.grow(bytes.len(), buffers);
        }
        self.data[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Reads once, at most `max` bytes, behind what is there. 0: the other side has ended.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        max: usize,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        self.make_room(max, buffers);
        let room = self.room().min(max);
        let mut into = ReadBuf::new(&mut self.data[self.end..self.end + room]);
        match Pin::new(from).poll_read(cx, &mut into) {
            Poll::Ready(Ok(())) => {
                let read = into.filled().len();
                self.end += read;
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                buffers.release(self);
                Poll::Pending
            }
        }
    }

    /// Writes until nothing is left; gives the memory back then.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        buffers: &Buffers,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, self.filled()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.consume(written);
        }
        buffers.release(self);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_and_used_again() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        buffer.put(b"abc", &buffers);
        buffer.consume(3);
        buffers.release(&mut buffer);
        assert!(buffer.data.is_empty() && buffers.small.borrow().len() == 1);
        buffer.put(b"x", &buffers);
        assert!(buffers.small.borrow().is_empty());
    }

    #[test]
    fn it_grows_from_class_to_class_and_past_them() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        let mut all = Vec::new();
        for i in 0..100u8 {
            let piece = vec![i; 5_000];
            buffer.put(&piece, &buffers);
            all.extend_from_slice(&piece);
            if i % 10 == 0 {
                buffer.consume(1_000);
                all.drain(..1_000);
            }
        }
        assert!(buffer.filled() == all);
        assert!(buffer.data.len() > LARGE_BYTES);
    }

    #[test]
    fn a_head_is_put_before_what_was_read() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        assert!(!buffer.put_before(b"x"));
        buffer.leave_headroom(&buffers);
        buffer.put(b"body", &buffers);
        assert!(buffer.put_before(b"head "));
        assert_eq!(buffer.filled(), b"head body");
        assert!(!buffer.put_before(&[0; HEADROOM_BYTES]));
    }
}
