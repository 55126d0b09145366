//! The standard health service: the server as a whole serves when it has a place in its cluster, the dictionary when a
//! request can be served here or forwarded.

use std::sync::Arc;

use heirloom_proto::wire::v1::dictionary_server::SERVICE_NAME;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Desk;

/// Reports until the node has stopped.
pub(crate) async fn follow(reporter: HealthReporter, desk: Arc<Desk>) {
    let mut place = desk.place();
    loop {
        let now = *place.borrow_and_update();
        reporter.set_service_status("", status(now.is_settled())).await;
        reporter.set_service_status(SERVICE_NAME, status(now.can_serve())).await;
        tokio::select! {
            changed = place.changed() => if changed.is_err() {
                break;
            },
            () = desk.closed() => break,
        }
    }
    reporter.set_service_status("", status(false)).await;
    reporter.set_service_status(SERVICE_NAME, status(false)).await;
}

fn status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
