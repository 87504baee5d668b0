//! A hub that its own program puts on the network.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use taskhub::server::Config;
use taskhub::{Hub, HubError};

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn at(address: SocketAddr) -> Config {
    Config {
        address,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_served_until_its_server_is_stopped() {
    let hub = Hub::builder("SampleHub").in_memory().await.unwrap();
    let client = hub.client();
    assert_eq!(
        client.create_http_management_payload("one").unwrap_err().code(),
        "not-served"
    );
    let server = hub.serve(at(([127, 0, 0, 1], 0).into())).await.unwrap();
    let address = server.address();
    assert!(get(address, "/readyz").unwrap().starts_with("HTTP/1.1 200"));
    // Its clients know where they are served.
    client.start("Missing", ()).id("one").await.unwrap();
    client.wait_for_end("one").await.unwrap();
    let links = client.create_http_management_payload("one").unwrap();
    let path = links.status_query_get_uri;
    let path = &path[path.find("/runtime").unwrap()..];
    assert!(get(address, path).unwrap().contains("\"instanceId\":\"one\""));
    server.stop().await;
    // Somebody else can have the address.
    drop(TcpListener::bind(address).unwrap());
    // The hub goes on.
    assert!(client.get_status("one").await.unwrap().is_some());
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let hub = Hub::builder("SampleHub").in_memory().await.unwrap();
    let error = hub.serve(at(taken.local_addr().unwrap())).await.unwrap_err();
    assert_eq!(error.code(), "address-in-use");
    assert!(matches!(error, HubError::Server(_)));
    // Without keys it stays on this machine.
    let error = hub.serve(at(([0, 0, 0, 0], 0).into())).await.unwrap_err();
    assert_eq!(error.code(), "address-unprotected");
}
