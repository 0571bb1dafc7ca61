//! The engines of this workspace against the contract, and the contract's scenarios against engines that
//! lie.

mod engines;
mod liar;
mod lies;
mod lying_publish;
mod lying_subscription;
mod mutants;
