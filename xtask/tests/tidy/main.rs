//! House rules that leave no room for argument. Each says what broke it and where; none judges taste.

mod graph;
mod pages;
mod shape;
mod suite;
mod tree;
