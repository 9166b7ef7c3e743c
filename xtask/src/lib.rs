#![doc = include_str!("../README.md")]

pub mod tidy;
pub mod tree;
