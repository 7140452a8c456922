//! The admin port: gRPC for clients, on every broker.

use super::AdminHandle;
use crate::whole_messages;
use chronik_admin::{self as api, Admin, AdminServer};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

/// A client that does not answer a ping for this long is dropped.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Every request is small.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Flow control of what clients send.
const WINDOW_BYTES: u32 = 64 * 1024;
/// Calls of one connection that are worked on at once.
const CALLS: usize = 8;

/// Serves until stopped.
pub async fn serve(listener: TcpListener, handle: AdminHandle, stop: CancellationToken) {
    let server = AdminServer::new(handle).max_decoding_message_size(MAX_REQUEST_BYTES);
    let result = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(256)
        .concurrency_limit_per_connection(CALLS)
        .layer(MapRequestLayer::new(whole_messages::of_request))
        .add_service(server)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled())
        .await;
    if let Err(error) = result {
        tracing::error!(%error, "the admin port is not served any more");
    }
}

macro_rules! admin {
    ($($method:ident: $request:ident => $answer:ident;)*) => {
        #[tonic::async_trait]
        impl Admin for AdminHandle {
            $(async fn $method(&self, request: Request<api::$request>) -> Result<Response<api::$answer>, Status> {
                self.call(request.into_inner()).await.map(Response::new)
            })*
        }
    };
}

admin! {
    facts: FactsRequest => FactsResponse;
    request_stop: RequestStopRequest => RequestStopResponse;
    recovered: RecoveredRequest => RecoveredResponse;
    hand_over: HandOverRequest => HandOverResponse;
    stop: StopRequest => StopResponse;
    cordon: CordonRequest => CordonResponse;
    uncordon: UncordonRequest => UncordonResponse;
    drain: DrainRequest => DrainResponse;
    rebalance: RebalanceRequest => RebalanceResponse;
    remove_broker: RemoveBrokerRequest => RemoveBrokerResponse;
    change_voters: ChangeVotersRequest => ChangeVotersResponse;
}
