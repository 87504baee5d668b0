//! What stores do, each alone and all alike. One program, since each is linked anew.

mod common;
mod conformance_embedded;
mod conformance_mem;
mod crashes;
mod damage;
mod embedded;
mod figures;
mod folder;
mod golden;
mod history_reads;
mod large_rows;
mod listing_reads;
mod log_damage;
mod log_length;
mod log_owner;
mod lost;
mod mutations;
mod own;
mod pages;
mod rebuild;
mod scratch;
mod shrinking;
mod syncs;
