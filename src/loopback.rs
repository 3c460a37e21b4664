//! A small HTTP server on the host's loopback interface, for guests that reach it through their SSH connection.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{FailureContext as _, FailureKind, Result};

/// What is answered.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The server; it ends with this value.
#[derive(Debug)]
pub struct Loopback {
    address: SocketAddr,
    _running: DropGuard,
}

impl Loopback {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if there is no port.
    pub async fn serve<H, F>(answer: H) -> Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .or_failure(FailureKind::Environment, || {
                "cannot open a port on loopback".into()
            })?;
        let address = listener
            .local_addr()
            .or_failure(FailureKind::Environment, || {
                "cannot learn the port on loopback".into()
            })?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            // Ends all connections when it goes.
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    () = stopped.cancelled() => break,
                    // Those that ended are forgotten.
                    Some(_) = connections.join_next() => continue,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => continue,
                    },
                };
                let answer = answer.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = answer(request);
                        async move { Ok::<_, std::convert::Infallible>(answer.await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self {
            address,
            _running: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
