//! Why a login by a provider did not end in one. What a person reads names no cause an attacker could use; what stands
//! in the log names the provider's fault and never a part of a code, a token or a secret.

use super::Unlinked;
use crate::token::TokenFault;
use http::StatusCode;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("no such provider is named in the file")]
    NoProvider,
    #[error("another method than GET")]
    Method,
    #[error("`return_to` is not a page of this site")]
    ReturnTo,
    #[error("the login was not begun in this browser: {0}")]
    State(State),
    #[error("it was given up at the provider")]
    Denied,
    #[error("the provider refuses: {0}")]
    Refused(String),
    #[error("the provider cannot be asked: {0}")]
    Away(String),
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("too many logins at once")]
    Busy,
    #[error("this machine gives no random bytes")]
    Random,
    #[error("the provider's word is not enough")]
    Unlinked(Unlinked),
}

/// What is wrong with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum State {
    #[error("the request cannot be read in one way")]
    Malformed,
    #[error("no cookie, or one of another login")]
    Foreign,
    #[error("it came back before")]
    Used,
    #[error("it was begun with another provider")]
    OtherProvider,
}

/// What a provider says that cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("its document is another issuer's")]
    OtherIssuer,
    #[error("its document has no usable `{0}`")]
    Document(&'static str),
    #[error("the answer of {0} cannot be read")]
    Answer(&'static str),
    #[error("the id token: {0}")]
    Token(TokenFault),
    #[error("the id token is of another login")]
    Nonce,
    #[error("the id token was given to another party")]
    Party,
    #[error("there is no id token")]
    NoToken,
    #[error("it names nobody")]
    NoSubject,
    #[error("the id token and the user endpoint name two")]
    OtherSubject,
}

impl Fault {
    pub fn status(&self) -> StatusCode {
        match self {
            Fault::NoProvider => StatusCode::NOT_FOUND,
            Fault::Method => StatusCode::METHOD_NOT_ALLOWED,
            Fault::ReturnTo | Fault::State(_) => StatusCode::BAD_REQUEST,
            Fault::Denied => StatusCode::FORBIDDEN,
            Fault::Refused(_) | Fault::Untrusted(_) => StatusCode::BAD_GATEWAY,
            Fault::Unlinked(Unlinked::AddressTaken | Unlinked::Elsewhere) => StatusCode::CONFLICT,
            Fault::Unlinked(Unlinked::Closed | Unlinked::NotYou) => StatusCode::FORBIDDEN,
            Fault::Away(_) | Fault::Busy | Fault::Random => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub fn code(&self) -> &'static str {
        match self {
            Fault::NoProvider => "oauth_unknown_provider",
            Fault::Method => "method_not_allowed",
            Fault::ReturnTo => "oauth_return_to",
            Fault::State(_) => "oauth_state",
            Fault::Denied => "oauth_denied",
            Fault::Refused(_) | Fault::Untrusted(_) => "oauth_provider_fault",
            Fault::Away(_) => "oauth_provider_away",
            Fault::Busy | Fault::Random => "service_busy",
            Fault::Unlinked(Unlinked::AddressTaken) => "oauth_address_taken",
            Fault::Unlinked(Unlinked::Closed) => "oauth_no_account",
            Fault::Unlinked(Unlinked::Elsewhere) => "oauth_linked_elsewhere",
            Fault::Unlinked(Unlinked::NotYou) => "oauth_not_you",
        }
    }

    /// What the person is told, and what to do.
    pub fn sentence(&self, title: &str) -> String {
        match self {
            Fault::NoProvider => "There is no login by this provider here.".to_owned(),
            Fault::Method => "A login by a provider is opened in a browser, by GET.".to_owned(),
            Fault::ReturnTo => {
                "The page to come back to is not one of this site; it must be a path such as /app.".to_owned()
            }
            Fault::State(_) => {
                "This login was not begun in this browser within the last ten minutes, or has come back before. \
                 Nothing happened; start it again."
                    .to_owned()
            }
            Fault::Denied => format!("The login was given up at {title}. Nothing happened."),
            Fault::Refused(_) | Fault::Untrusted(_) => {
                format!("The login with {title} did not work, and not because of you. Try again, or log in otherwise.")
            }
            Fault::Away(_) => {
                format!("The login with {title} does not work at the moment. Try again soon, or log in otherwise.")
            }
            Fault::Busy | Fault::Random => "Too many are logging in at this moment. Try again soon.".to_owned(),
            Fault::Unlinked(Unlinked::AddressTaken) => format!(
                "There is an account with the address that {title} gives, and it is not shown that it is yours. \
                 Log in as you did before."
            ),
            Fault::Unlinked(Unlinked::Closed) => format!("You are known to {title}, and have no account here."),
            Fault::Unlinked(Unlinked::Elsewhere) => {
                format!("Whoever you are at {title} has another account here. Nothing happened.")
            }
            Fault::Unlinked(Unlinked::NotYou) => {
                "Whoever began this is not logged in any more, or it is not you. Nothing happened.".to_owned()
            }
        }
    }

    /// Seconds after which it is worth another try.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Fault::Away(_) => Some(5),
            Fault::Busy | Fault::Random => Some(2),
            _ => None,
        }
    }

    /// The operator can do something about it. What a client alone brought about is not told line by line.
    pub fn is_operators(&self) -> bool {
        match self {
            // A code that is no good is what anybody may send.
            Fault::Refused(error) => error != "invalid_grant" && error != "bad_verification_code",
            Fault::Away(_) | Fault::Untrusted(_) | Fault::Random => true,
            _ => false,
        }
    }
}
