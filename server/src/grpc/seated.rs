//! Answers that keep their room until they are on their way to the client.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use tonic::Response;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::NamedService;

use super::room::Seat;

/// Makes an answer keep its room until the transport has taken it, or the client is gone.
pub(super) fn keep<T>(mut response: Response<T>, seat: Seat) -> Response<T> {
    // What goes with a response must be `Clone`.
    response.extensions_mut().insert(Arc::new(seat));
    response
}

/// A service whose answers may keep their room: see [`keep`].
#[derive(Clone, Debug)]
pub(super) struct Seated<S>(pub(super) S);

impl<S: NamedService> NamedService for Seated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Seated<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let answering = self.0.call(request);
        Box::pin(async move {
            let mut response = answering.await?;
            Ok(match response.extensions_mut().remove::<Arc<Seat>>() {
                Some(seat) => response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _kept_with_the_body = &seat;
                        frame
                    }))
                }),
                None => response,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{At, Consistency, KeyRange, Request, Scan};

    use super::super::room::Room;
    use super::*;

    /// Answers with a body that keeps the seat.
    #[derive(Clone)]
    struct Answering(Room);

    impl Service<http::Request<()>> for Answering {
        type Response = http::Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<()>) -> Self::Future {
            let at = At::Now(Consistency::Stale);
            let scan = Scan { range: KeyRange::default(), limit: 0, keys_only: false, at, cluster: None };
            let seat = self.0.seat(&Request::Scan(scan)).expect("there is room");
            let page = http_body_util::Full::new(bytes::Bytes::from_static(b"page"));
            let body = Body::new(page.map_err(|never| match never {}));
            let (_, body, extensions) = keep(Response::new(body), seat).into_parts();
            let mut response = http::Response::new(body);
            *response.extensions_mut() = extensions;
            std::future::ready(Ok(response))
        }
    }

    #[tokio::test]
    async fn room_is_kept_until_the_answer_was_taken_or_dropped() {
        let room = Room::new();
        let mut service = Seated(Answering(room.clone()));
        let empty = room.pages_free();
        let waiting = service.call(http::Request::new(())).await.expect("answers");
        assert!(room.pages_free() < empty, "nobody has read it yet");
        let taken = waiting.into_body().collect().await.expect("a page").to_bytes();
        assert_eq!((&taken[..], room.pages_free()), (&b"page"[..], empty));
        drop(service.call(http::Request::new(())).await);
        assert_eq!(room.pages_free(), empty);
    }
}
