//! What the agent is made of.

pub mod play;
