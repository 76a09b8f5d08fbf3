//! Messages with descriptors over a Unix stream socket: a 4-byte little-endian length, then JSON.
//!
//! The descriptors of a message travel with its first byte, at most 253 (the kernel's limit); more go with the
//! second byte, and so on. A reader never reads past the end of a message, so what arrives while it reads one
//! belongs to it.
//!
//! Must never link an async runtime: the server reads on a thread of its own.

use crate::{Error, kernel};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// Configuration and a thousand instances fit many times over.
pub const MESSAGE_MAX_BYTES: usize = 16 << 20;
/// Two pipes for each of 1,024 instances and two thousand listeners.
pub const MESSAGE_MAX_DESCRIPTORS: usize = 4096;
/// What waits for a server that does not read; past it the server counts as stuck.
pub const OUTBOX_MAX_BYTES: usize = 32 << 20;
/// `SCM_MAX_FD` of the kernel.
const DESCRIPTORS_PER_BYTE: usize = 253;
/// One read; a body grows by what has really arrived, never by what was announced.
const READ_BYTES: usize = 64 << 10;
/// The number under which the server finds its end.
pub const SERVER_DESCRIPTOR: RawFd = 3;

/// One end of the connection between supervisor and server, both directions, blocking.
#[derive(Debug)]
pub struct Channel {
    socket: Arc<Mutex<UnixStream>>,
    receiver: Receiver,
}

impl Channel {
    pub fn pair() -> Result<(Channel, Channel), Error> {
        let (one, other) = UnixStream::pair().map_err(Error::io("cannot make a socket pair"))?;
        Ok((Channel::new(one)?, Channel::new(other)?))
    }

    /// The end that a parent passed by number; the server's is `SERVER_DESCRIPTOR`. Call it once.
    pub fn from_fd(raw: RawFd) -> Result<Channel, Error> {
        let what = "this verb is for mainstay itself: it has no connection to a supervisor; type: mainstay run";
        let fd = kernel::inherited(raw).map_err(Error::io(what))?;
        Channel::new(UnixStream::from(fd))
    }

    fn new(socket: UnixStream) -> Result<Channel, Error> {
        let read = socket.try_clone().map_err(Error::io("cannot duplicate a socket"))?;
        let receiver = Receiver { socket: read, inbox: Inbox::default() };
        Ok(Channel { socket: Arc::new(Mutex::new(socket)), receiver })
    }

    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        send(&self.socket, message, fds)
    }

    /// The next message, or `None` when the other side is gone.
    pub fn recv<M: DeserializeOwned>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, Error> {
        self.receiver.recv()
    }

    /// A sender for any thread, and a receiver for the thread that does nothing but wait.
    pub fn split(self) -> (Sender, Receiver) {
        (Sender { socket: self.socket }, self.receiver)
    }
}

/// Sends from any thread. Blocks while the socket is full: the supervisor always reads.
#[derive(Debug, Clone)]
pub struct Sender {
    socket: Arc<Mutex<UnixStream>>,
}

impl Sender {
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        send(&self.socket, message, fds)
    }
}

#[derive(Debug)]
pub struct Receiver {
    socket: UnixStream,
    inbox: Inbox,
}

impl Receiver {
    /// The next message, or `None` when the other side is gone.
    pub fn recv<M: DeserializeOwned>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, Error> {
        loop {
            match self.inbox.read(self.socket.as_fd())? {
                Read::Message(body, fds) => {
                    return Ok(Some((serde_json::from_slice(&body).map_err(Error::Message)?, fds)));
                }
                Read::Closed => return Ok(None),
                Read::Blocked => {}
            }
        }
    }
}

fn send<M: Serialize>(socket: &Mutex<UnixStream>, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let mut frame = Frame::new(message, fds.iter().map(|fd| fd.as_raw_fd()).collect())?;
    // A poisoned lock means a panic between two messages at worst; the frame on the wire is whole or the socket closed.
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    while !frame.write(socket.as_fd())? {}
    Ok(())
}

/// A message on its way out.
#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    raw: Vec<RawFd>,
    passed: usize,
    /// Keeps `raw` open until they are passed on.
    _held: Vec<Arc<OwnedFd>>,
}

impl Frame {
    fn new<M: Serialize>(message: &M, raw: Vec<RawFd>) -> Result<Frame, Error> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, message).map_err(Error::Message)?;
        let body = bytes.len() - 4;
        if body > MESSAGE_MAX_BYTES {
            return Err(Error::MessageTooLarge { bytes: body, limit: MESSAGE_MAX_BYTES });
        }
        let limit = MESSAGE_MAX_DESCRIPTORS.min(bytes.len() * DESCRIPTORS_PER_BYTE);
        if raw.len() > limit {
            return Err(Error::TooManyDescriptors { count: raw.len(), limit });
        }
        bytes[..4].copy_from_slice(&(body as u32).to_le_bytes());
        Ok(Frame { bytes, sent: 0, raw, passed: 0, _held: Vec::new() })
    }

    /// Writes what the socket takes. `true` once all of it is written.
    fn write(&mut self, socket: BorrowedFd<'_>) -> Result<bool, Error> {
        let end = self.raw.len().min(self.passed + DESCRIPTORS_PER_BYTE);
        let chunk = &self.raw[self.passed..end];
        let rest = &self.bytes[self.sent..];
        let part = if end < self.raw.len() { &rest[..1] } else { rest };
        let rights = [ControlMessage::ScmRights(chunk)];
        let rights: &[ControlMessage<'_>] = if chunk.is_empty() { &[] } else { &rights };
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(part)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => {
                self.sent += sent;
                self.passed = end;
                Ok(self.sent == self.bytes.len())
            }
            Err(Errno::EINTR) => Ok(false),
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(Error::Closed),
            Err(errno) => Err(Error::io("cannot send a message")(errno.into())),
        }
    }
}

/// Messages waiting for a socket that must not block.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Outbox {
    pub fn push<M: Serialize>(&mut self, message: &M, fds: Vec<Arc<OwnedFd>>) -> Result<(), Error> {
        let mut frame = Frame::new(message, fds.iter().map(|fd| fd.as_raw_fd()).collect())?;
        frame._held = fds;
        self.bytes += frame.bytes.len();
        if self.bytes > OUTBOX_MAX_BYTES {
            return Err(Error::MessageTooLarge { bytes: self.bytes, limit: OUTBOX_MAX_BYTES });
        }
        self.frames.push_back(frame);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes until everything is written or the socket is full.
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        while let Some(frame) = self.frames.front_mut() {
            match frame.write(socket) {
                Ok(true) => {
                    self.bytes -= frame.bytes.len();
                    self.frames.pop_front();
                }
                Ok(false) => {}
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

pub(crate) enum Read {
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing more at the moment (or a part of a message, on a blocking socket).
    Blocked,
    Closed,
}

/// A message on its way in.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    head: Vec<u8>,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Inbox {
    /// Reads until a message is complete, the socket is empty, or the other side is gone.
    pub fn read(&mut self, socket: BorrowedFd<'_>) -> Result<Read, Error> {
        loop {
            let announced = self.announced();
            if let Some(bytes) = announced
                && bytes > MESSAGE_MAX_BYTES
            {
                return Err(Error::MessageTooLarge { bytes, limit: MESSAGE_MAX_BYTES });
            }
            let missing = announced.map_or(4 - self.head.len(), |bytes| bytes - self.body.len());
            if missing == 0 {
                self.head.clear();
                return Ok(Read::Message(std::mem::take(&mut self.body), std::mem::take(&mut self.fds)));
            }
            let mut buffer = vec![0; missing.min(READ_BYTES)];
            match self.receive(socket, &mut buffer)? {
                Received::Bytes(0) | Received::Gone => return Ok(Read::Closed),
                Received::Bytes(count) => {
                    let into = if announced.is_some() { &mut self.body } else { &mut self.head };
                    into.extend_from_slice(&buffer[..count]);
                }
                Received::Blocked => return Ok(Read::Blocked),
            }
        }
    }

    /// No message is half read.
    pub fn is_between(&self) -> bool {
        self.head.is_empty() && self.body.is_empty() && self.fds.is_empty()
    }

    fn announced(&self) -> Option<usize> {
        let head: [u8; 4] = self.head.as_slice().try_into().ok()?;
        Some(u32::from_le_bytes(head) as usize)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Error> {
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_PER_BYTE]);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(message) => message,
            Err(Errno::EINTR) => return Ok(Received::Blocked),
            Err(Errno::EAGAIN) => return Ok(Received::Blocked),
            Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(Received::Gone),
            Err(errno) => return Err(Error::io("cannot receive a message")(errno.into())),
        };
        let lost = "descriptors of a message were lost (open files: raise `ulimit -n`)";
        for control in message.cmsgs().map_err(|errno| Error::io(lost)(errno.into()))? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                self.fds.extend(kernel::installed(&raw));
            }
        }
        if self.fds.len() > MESSAGE_MAX_DESCRIPTORS {
            return Err(Error::TooManyDescriptors { count: self.fds.len(), limit: MESSAGE_MAX_DESCRIPTORS });
        }
        Ok(Received::Bytes(message.bytes))
    }
}

enum Received {
    Bytes(usize),
    Blocked,
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd;

    #[test]
    fn messages_keep_their_order_their_size_and_their_descriptors() {
        let (one, mut other) = Channel::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let large = "x".repeat(3 << 20);
        let sending = std::thread::spawn(move || {
            one.send(&"first", &[]).unwrap();
            one.send(&large, &[writer.as_fd()]).unwrap();
            one.send(&"last", &[]).unwrap();
        });
        assert_eq!(other.recv::<String>().unwrap().unwrap().0, "first");
        let (text, fds) = other.recv::<String>().unwrap().unwrap();
        assert_eq!((text.len(), fds.len()), (3 << 20, 1));
        let (text, none) = other.recv::<String>().unwrap().unwrap();
        assert_eq!((text.as_str(), none.len()), ("last", 0));
        sending.join().unwrap();
        assert!(other.recv::<String>().unwrap().is_none(), "end of file");

        let mut passed = std::fs::File::from(fds.into_iter().next().unwrap());
        passed.write_all(b"through").unwrap();
        drop(passed);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn many_descriptors_arrive_in_order_with_their_message() {
        let (one, mut other) = Channel::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut fds: Vec<BorrowedFd<'_>> = vec![reader.as_fd(); 599];
        fds.push(writer.as_fd());
        one.send(&"many", &fds).unwrap();
        one.send(&"after", &[reader.as_fd()]).unwrap();
        let (text, received) = other.recv::<String>().unwrap().unwrap();
        assert_eq!((text.as_str(), received.len()), ("many", 600));
        let writable = std::fs::File::from(received.into_iter().next_back().unwrap());
        assert!((&writable).write(b"x").is_ok(), "the last one is the write end");
        assert_eq!(other.recv::<String>().unwrap().unwrap().1.len(), 1);
    }

    #[test]
    fn descriptors_received_close_at_exec() {
        let (one, mut other) = Channel::pair().unwrap();
        one.send(&(), &[std::io::stdin().as_fd()]).unwrap();
        let (_, fds) = other.recv::<()>().unwrap().unwrap();
        let flags = nix::fcntl::fcntl(&fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }

    #[test]
    fn an_announced_size_over_the_limit_is_refused_before_it_is_read() {
        let (mut raw, socket) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(socket).unwrap();
        raw.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(channel.recv::<String>(), Err(Error::MessageTooLarge { .. })));
    }

    #[test]
    fn a_peer_that_dies_within_a_message_is_gone_not_an_error() {
        let (mut raw, socket) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(socket).unwrap();
        raw.write_all(&[9, 0, 0, 0, b'"']).unwrap();
        drop(raw);
        assert!(channel.recv::<String>().unwrap().is_none());
    }

    #[test]
    fn an_outbox_never_blocks_and_is_bounded() {
        let (socket, _unread) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut outbox = Outbox::default();
        let megabyte = "x".repeat(1 << 20);
        let mut pushed = 0;
        while outbox.push(&megabyte, Vec::new()).is_ok() {
            outbox.flush(socket.as_fd()).unwrap();
            pushed += 1;
        }
        assert!((16..=32).contains(&pushed), "{pushed}");
        assert!(!outbox.is_empty());
    }
}
