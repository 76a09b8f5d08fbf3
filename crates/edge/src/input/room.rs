//! Room for bodies that are held while they are checked and until the app has taken them, over all cores.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// All bodies that are held at once. Clients that send slowly hold theirs for `edge.timeouts.body` at most.
pub const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<AtomicUsize>);

/// A body and its place, given back when nobody holds the bytes any more.
#[derive(Debug)]
pub struct Held {
    bytes: Vec<u8>,
    place: usize,
    room: Room,
}

/// There is none left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Room {
    pub fn body(&self) -> Held {
        Held { bytes: Vec::new(), place: 0, room: self.clone() }
    }

    fn take(&self, size: usize) -> Result<(), Full> {
        let taken = self.0.fetch_add(size, Relaxed);
        if taken.saturating_add(size) > HELD_BYTES_MAX {
            self.0.fetch_sub(size, Relaxed);
            return Err(Full);
        }
        Ok(())
    }
}

impl Held {
    pub fn put(&mut self, data: &[u8]) -> Result<(), Full> {
        let wanted = self.bytes.len() + data.len();
        if wanted > self.bytes.capacity() {
            // Counted as it is allocated: the double, as a vector grows.
            let capacity = wanted.max(self.bytes.capacity() * 2);
            self.room.take(capacity - self.place)?;
            self.place = capacity;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.place, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_no_more_is_given_than_there_is() {
        let room = Room::default();
        let mut small = room.body();
        for i in 0..10_000_u32 {
            small.put(&i.to_le_bytes()).expect("room");
        }
        assert!(small.bytes.capacity() <= small.place, "{} {}", small.bytes.capacity(), small.place);
        let bytes = small.into_bytes();
        let half = bytes.slice(..20_000);
        drop(bytes);
        assert!(room.0.load(Relaxed) >= 40_000);
        drop(half);
        assert_eq!(room.0.load(Relaxed), 0);
        room.0.store(HELD_BYTES_MAX - 10, Relaxed);
        let mut large = room.body();
        assert_eq!(large.put(&[0; 11]), Err(Full));
        assert_eq!(large.put(&[0; 10]), Ok(()));
        drop(large);
        assert_eq!(room.0.load(Relaxed), HELD_BYTES_MAX - 10);
    }
}
