//! `10.0.0.0/8`, `10.0.0.1`, `fd00::/8`: addresses and ranges of them.

use ipnet::IpNet;
use std::net::IpAddr;

/// An address alone is a range of one; `::ffff:10.0.0.1` is 10.0.0.1, as addresses are compared everywhere.
///
/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn range(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(net.trunc());
    }
    let address = text.parse::<IpAddr>().map_err(|_| "is not an address or a range".to_owned())?;
    Ok(IpNet::from(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_range_of_one_and_bits_beyond_the_prefix_do_not_count() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            (" 10.0.0.1 ", "10.0.0.1/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("fd00::1/8", "fd00::/8"),
        ] {
            assert_eq!(range(text).map(|net| net.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in ["", "cloudflare", "10.0.0.0/33", "10.0.0", "10.0.0.1:80"] {
            assert_eq!(range(text), Err("is not an address or a range".to_owned()), "{text}");
        }
    }
}
