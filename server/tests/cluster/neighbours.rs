//! Others on the port: garbage, strangers, and the standard services.

use heirloom_proto::wire::link::{Hello, PROTOCOL_VERSION, hello_to_wire};
use heirloom_proto::wire::v1::replication_client::ReplicationClient;
use heirloom_proto::wire::v1::{AddRequest, LinkMessage, LinkMessages};
use heirloom_proto::{ClusterId, Peer, RunId, ServerId, StoreId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::world::World;

fn hello(server: u8, cluster: Option<ClusterId>) -> Hello {
    let peer = Peer { server: ServerId(server), store: StoreId(1), run: RunId(1) };
    Hello { peer, cluster, protocol: PROTOCOL_VERSION }
}

async fn link(world: &World, first: LinkMessages) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", world.addresses[0])).expect("an address");
    let mut client = ReplicationClient::new(endpoint.connect_lazy());
    let stream = tokio_stream::iter([first]);
    let mut answers = client.link(stream).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let world = World::start(1, &[]).await;
    world.primary().await;
    let long = vec![0xff; 100_000];
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff", &long] {
        let mut stream = TcpStream::connect(world.addresses[0]).await.expect("connects");
        // The server may hang up at any point, which is as good as any answer.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let garbled = LinkMessages { hello: Some(hello_to_wire(&hello(1, None))), messages: vec![LinkMessage::default()] };
    let _ = link(&world, garbled).await;
    let request = AddRequest { key: "key".into(), value: "value".into(), ..Default::default() };
    world.dictionary(0).add(request).await.expect("as if nothing had been");
}

#[tokio::test]
async fn strangers_are_refused_with_the_reason() {
    let world = World::start(2, &[]).await;
    world.primary().await;
    let other_cluster = Some(ClusterId { id: 1, generation: 1 });
    let cases = [
        (hello(2, None), "--cluster names 2 servers"),
        (hello(0, None), "--id 0"),
        (hello(1, other_cluster), "another cluster"),
        (Hello { protocol: 0, ..hello(1, None) }, "version 0"),
    ];
    for (hello, reason) in cases {
        let first = LinkMessages { hello: Some(hello_to_wire(&hello)), messages: Vec::new() };
        let status = link(&world, first).await.expect_err("refused");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(reason), "{status:?}");
    }
    let status = link(&world, LinkMessages::default()).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_health_service_tells_who_serves() {
    let mut world = World::start(2, &["--quorum", "majority", "--min-copies", "1"]).await;
    let primary = world.primary().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", world.addresses[primary])).expect("an address");
    let mut client = HealthClient::new(endpoint.connect_lazy());
    for service in ["", "heirloom.v1.Dictionary"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = client.check(request).await.expect("answered").into_inner();
        assert_eq!(health.status(), ServingStatus::Serving.into(), "{service:?}");
    }
    let request = HealthCheckRequest { service: "nonsense".to_owned() };
    assert_eq!(client.check(request).await.expect_err("unknown").code(), Code::NotFound);
    world.stop(0).await;
    world.stop(1).await;
}

#[tokio::test]
async fn reflection_names_the_services_to_new_tools_and_old() {
    let world = World::start(1, &[]).await;
    let channel = Endpoint::from_shared(format!("http://{}", world.addresses[0])).expect("an address").connect_lazy();
    let services =
        ["heirloom.v1.Dictionary", "heirloom.v1.Cluster", "heirloom.v1.Replication", "grpc.health.v1.Health"];
    // The two versions differ in nothing but their name, and their types are apart all the same.
    macro_rules! names {
        ($version:ident) => {{
            use tonic_reflection::pb::$version as pb;
            let ask = pb::server_reflection_request::MessageRequest::ListServices(String::new());
            let request = pb::ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
            let mut client = pb::server_reflection_client::ServerReflectionClient::new(channel.clone());
            let answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("is served");
            let answer = answers.into_inner().message().await.expect("whole").expect("an answer");
            match answer.message_response {
                Some(pb::server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
                    list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            }
        }};
    }
    for names in [names!(v1), names!(v1alpha)] {
        for service in services {
            assert!(names.iter().any(|name| name == service), "{service} is missing in {names:?}");
        }
    }
}
