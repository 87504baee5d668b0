//! A damaged page keeps new work from being written: the server says so, and answers what it can.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskhub::Hub;

use crate::support::{HUB, Running, SURFACES, config};
use crate::trouble::Gated;

const RPC: &str = SURFACES[2];

#[tokio::test]
async fn a_server_whose_store_is_damaged_is_not_ready_and_answers_reads() {
    let store = Gated::open();
    let is_damaged = Arc::clone(&store.is_damaged);
    let hub = Hub::builder(HUB)
        .open_in(&taskhub::Store::over(Arc::new(store)))
        .await
        .unwrap();
    let server = Running::serve(hub, config()).await;
    let start = format!("{RPC}/orchestrators/Slow?scheduledStartTime=2999-01-01");
    assert_eq!(server.call("POST", &start).await.status, 202);
    assert_eq!(server.call("GET", "/readyz").await.status, 200);
    is_damaged.store(true, Ordering::Release);
    for _ in 0..2 {
        let refused = server.call("POST", &start).await;
        assert_eq!(refused.status, 500);
        assert!(refused.body.contains("wrong checksum in page 7"), "{}", refused.body);
    }
    let ready = server.call("GET", "/readyz").await;
    let why = "not ready: the store of hub TestTaskHub is damaged and must be repaired\n";
    assert_eq!((ready.status.as_u16(), ready.body.as_str()), (503, why));
    assert_eq!(server.call("GET", &format!("{RPC}/instances")).await.status, 200);
}
