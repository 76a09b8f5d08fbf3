//! The reader as blocks use it: texts in, faults and settings out.

mod any_input;
mod blocks;
mod faults;
mod fuzz;
mod gathering;
mod precedence;
mod reports;
mod secrecy;
mod spelled;
mod values;
