//! New secrets: random bytes from the kernel, in the two shapes the guides ask for.

use base64::Engine;

/// At least this many bytes: less is a secret that production refuses.
pub const BYTES_MIN: usize = 32;
/// Longer secrets gain nothing and no longer fit on a line.
pub const BYTES_MAX: usize = 1024;

/// Standard base64 on one line.
pub fn base64(bytes: usize) -> anyhow::Result<String> {
    let mut random = vec![0; bytes.clamp(BYTES_MIN, BYTES_MAX)];
    getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("the kernel gave no random bytes: {e}"))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(random))
}

/// A random UUID (version 4).
pub fn uuid() -> anyhow::Result<String> {
    let mut b = [0u8; 16];
    getrandom::fill(&mut b).map_err(|e| anyhow::anyhow!("the kernel gave no random bytes: {e}"))?;
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_asked_shape_and_never_repeat() {
        let a = base64(32).expect("random");
        assert_eq!(a.len(), 44);
        assert_ne!(a, base64(32).expect("random"));
        assert_eq!(base64(64).expect("random").len(), 88);
        let id = uuid().expect("random");
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }
}
