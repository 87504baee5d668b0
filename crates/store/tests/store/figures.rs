//! The figures of a store, beside its owner and without one.

use taskhub_core::status::RuntimeStatus::{Completed, Running};
use taskhub_store::conformance::{Owner, block_on, done, instance};
use taskhub_store::embedded::{EmbeddedStore, figures, pages_read};
use taskhub_store::{Error, Store};

use crate::common::{OFF, call};
use crate::scratch::Scratch;

#[test]
fn figures_say_what_is_there_whoever_has_the_store() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Figures", 3);
    for number in 0..400 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        if number % 4 == 0 {
            owner.complete(&id, None);
        } else {
            owner.turn(&id, vec![call()]);
        }
    }
    owner.flush();
    let empty = taskhub_store::conformance::hub("Another");
    block_on(store.create_hub(&empty, 2, owner.now)).unwrap();
    let beside = figures(scratch.path()).unwrap();
    assert_eq!(beside.format, 2);
    assert_eq!(beside.space, done(store.space()));
    assert!(beside.log_bytes > 0);
    let hubs = block_on(store.list_hubs()).unwrap();
    assert_eq!(beside.hubs.iter().map(|hub| hub.hub.clone()).collect::<Vec<_>>(), hubs);
    assert_eq!(beside.hubs[0].counts, []);
    assert_eq!(beside.hubs[1].counts, [(Running, 300), (Completed, 100)]);

    drop(store);
    let before = pages_read();
    let alone = figures(scratch.path()).unwrap();
    let pages = pages_read() - before;
    assert_eq!((alone.log_bytes, &alone.hubs), (0, &beside.hubs));
    assert!(pages < 12, "{pages} pages were read");
}

#[test]
fn figures_of_nothing_are_an_error_and_make_nothing() {
    let scratch = Scratch::new();
    let refused = figures(scratch.path());
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}
