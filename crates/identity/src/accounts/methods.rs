//! How somebody proved who he is: `amr` of his tokens (RFC 8176), and what stands beside his login in the store.

use crate::identity::MFA;

/// None of it: a provider said who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Methods {
    pub password: bool,
    /// A code of his authenticator app.
    pub otp: bool,
    /// A second factor: such a code, or a recovery code.
    pub second: bool,
}

impl Methods {
    pub fn password() -> Methods {
        Methods { password: true, ..Methods::default() }
    }

    pub fn names(self) -> Vec<&'static str> {
        let all = [(self.password, "pwd"), (self.otp, "otp"), (self.second, MFA)];
        all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
    }

    /// In one column.
    pub fn text(self) -> String {
        self.names().join(" ")
    }

    pub fn parse(text: &str) -> Methods {
        let has = |name: &str| text.split(' ').any(|own| own == name);
        Methods { password: has("pwd"), otp: has("otp"), second: has(MFA) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_as_they_are_written_and_nothing_else_is_a_factor() {
        for bits in 0..8 {
            let methods = Methods { password: bits & 1 > 0, otp: bits & 2 > 0, second: bits & 4 > 0 };
            assert_eq!(Methods::parse(&methods.text()), methods);
        }
        assert_eq!(Methods::parse("pwd,mfa MFA mfas"), Methods::default());
    }
}
