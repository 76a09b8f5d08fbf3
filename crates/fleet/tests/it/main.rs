//! The whole service against real processes; only the supervisor is played by the test.

mod adopt;
mod house;
mod life;
mod reload;
mod restart;
