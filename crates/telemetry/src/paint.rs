//! Colours on a terminal, or none.

use crate::Level;

/// Paints only when asked to.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const RED_BOLD: &str = "1;31";
/// Instances take turns, so that neighbours differ; red and yellow stay for trouble.
const INSTANCES: [&str; 4] = ["36", "35", "34", "32"];

impl Paint {
    fn with(self, out: &mut Vec<u8>, code: &str, text: &str) {
        if !self.0 {
            return out.extend_from_slice(text.as_bytes());
        }
        for part in ["\x1b[", code, "m", text, "\x1b[0m"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    pub fn dim(self, out: &mut Vec<u8>, text: &str) {
        self.with(out, DIM, text);
    }

    pub fn level(self, out: &mut Vec<u8>, level: Level) {
        let code = match level {
            Level::Error => RED_BOLD,
            Level::Warn => YELLOW,
            Level::Info => GREEN,
            Level::Debug | Level::Trace => DIM,
        };
        self.with(out, code, level.as_str());
    }

    pub fn status(self, out: &mut Vec<u8>, status: u16) {
        let code = match status {
            0..300 => GREEN,
            300..400 => CYAN,
            400..500 => YELLOW,
            _ => RED,
        };
        self.with(out, code, &status.to_string());
    }

    pub fn instance(self, out: &mut Vec<u8>, name: &str) {
        let turn = name.bytes().fold(0usize, |sum, c| sum.wrapping_mul(31).wrapping_add(usize::from(c)));
        self.with(out, INSTANCES[turn % INSTANCES.len()], name);
    }
}
