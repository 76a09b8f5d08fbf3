//! Where a WebSocket's frames end (RFC 6455 §5.2): enough to close between two of them. Pure; payloads are not read.

/// A close frame from a server, status 1012: "service restart", please come back.
pub const CLOSE_1012: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];

/// Longest head: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// Follows one direction of a WebSocket, fed in pieces of any size.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// Payload of the current frame that has not passed yet.
    left: u64,
}

impl Frames {
    /// No frame is half sent.
    pub fn is_between(&self) -> bool {
        self.left == 0 && self.head_bytes == 0
    }

    pub fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            data = self.step(data);
        }
    }

    /// Passes data up to the first end of a frame and says where that is; all of it where there is none.
    pub fn first_end(&mut self, data: &[u8]) -> Option<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            rest = self.step(rest);
            if self.is_between() {
                return Some(data.len() - rest.len());
            }
        }
        None
    }

    /// Takes one byte of a head, or as much payload as there is.
    fn step<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if self.left > 0 {
            let taken = usize::try_from(self.left).map_or(data.len(), |left| left.min(data.len()));
            self.left -= taken as u64;
            return &data[taken..];
        }
        self.head[self.head_bytes] = data[0];
        self.head_bytes += 1;
        if let Some(payload) = self.payload() {
            self.left = payload;
            self.head_bytes = 0;
        }
        &data[1..]
    }

    /// Length of the payload, once the head is complete.
    fn payload(&self) -> Option<u64> {
        if self.head_bytes < 2 {
            return None;
        }
        let extended = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        if self.head_bytes < 2 + extended + mask {
            return None;
        }
        let long = self.head[2..2 + extended].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
        Some(if extended == 0 { u64::from(self.head[1] & 0x7f) } else { long })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match payload {
            0..=125 => bytes.push(mask | payload as u8),
            126..=65_535 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(0x82, payload + if masked { 4 } else { 0 }));
        bytes
    }

    proptest! {
        #[test]
        fn ends_are_found_however_the_bytes_are_cut(
            sizes in proptest::collection::vec((prop_oneof![0usize..200, 60_000usize..70_000], any::<bool>()), 1..5),
            cut in 1usize..5000,
        ) {
            let frames: Vec<Vec<u8>> = sizes.iter().map(|(n, masked)| frame(*n, *masked)).collect();
            let all = frames.concat();
            let mut follower = Frames::default();
            let mut ends = Vec::new();
            let mut passed = 0;
            for piece in all.chunks(cut) {
                let mut piece = piece;
                while let Some(end) = follower.first_end(piece) {
                    passed += end;
                    ends.push(passed);
                    piece = &piece[end..];
                }
                passed += piece.len();
            }
            let expected: Vec<usize> = frames.iter().scan(0, |at, f| { *at += f.len(); Some(*at) }).collect();
            prop_assert_eq!(ends, expected);
        }
    }

    #[test]
    fn between_is_only_true_between() {
        let mut frames = Frames::default();
        let bytes = frame(300, false);
        for byte in &bytes[..bytes.len() - 1] {
            frames.pass(&[*byte]);
            assert!(!frames.is_between());
        }
        frames.pass(&bytes[bytes.len() - 1..]);
        assert!(frames.is_between());
    }
}
