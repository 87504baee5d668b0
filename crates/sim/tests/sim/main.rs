//! What the simulator finds, and that it finds it. One program, since each is linked anew.

mod bugs;
mod determinism;
mod everywhere;
mod partition;
mod seeds;
