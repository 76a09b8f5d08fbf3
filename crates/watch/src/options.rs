//! Which services to look after, from the guides' variables (REQUIREMENTS §12). Keeps addresses, never a secret.

use crate::probes::Target;
use crate::state::Watched;

/// A target a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub database: Target,
    pub redis: Target,
    pub email: Target,
    pub stripe: Target,
    pub blockchain: Target,
}

impl Options {
    pub fn target(&self, service: Watched) -> &Target {
        match service {
            Watched::Database => &self.database,
            Watched::Redis => &self.redis,
            Watched::Email => &self.email,
            Watched::Stripe => &self.stripe,
            Watched::Blockchain => &self.blockchain,
        }
    }
}
