//! What a request must pass before the router sees it. Must not know: routes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::service::Service;

use super::activity::Activity;
use super::{Server, problem};
use crate::counters::{Counters, add};
use crate::guard::{Hosts, Token};
use crate::socket::Peer;

/// The router behind the checks; one for a whole server.
#[derive(Clone)]
pub(super) struct Checked {
    router: axum::Router,
    token: Option<Token>,
    open_paths: &'static [&'static str],
    hosts: Option<Arc<Hosts>>,
    counters: Arc<Counters>,
}

/// [`Checked`] for one connection.
#[derive(Clone)]
pub(super) struct Serving {
    checked: Checked,
    peer: Peer,
    activity: Arc<Activity>,
}

impl Checked {
    pub fn new(server: &Server) -> Self {
        Self {
            router: server.router.clone(),
            token: server.token.clone(),
            open_paths: server.open_paths,
            hosts: server.hosts.clone().map(Arc::new),
            counters: Arc::clone(&server.counters),
        }
    }

    pub fn serving(&self, peer: Peer, activity: Arc<Activity>) -> Serving {
        Serving { checked: self.clone(), peer, activity }
    }

    /// The answer to a request that does not pass.
    fn refusal<B>(&self, request: &Request<B>) -> Option<Response> {
        if let Some(hosts) = &self.hosts {
            let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
            if host.is_none() && request.version() == Version::HTTP_11 {
                add(&self.counters.wrong_hosts, 1);
                return Some(problem(
                    StatusCode::BAD_REQUEST,
                    "missing_host",
                    "an HTTP/1.1 request needs a Host header",
                ));
            }
            // A target that names a host goes before the header (RFC 9112, 3.2.2); the header still has to be fine.
            let named = request.uri().authority().map(|authority| authority.host());
            if let Some(host) = named.into_iter().chain(host).find(|host| !hosts.allows(host)) {
                add(&self.counters.wrong_hosts, 1);
                let host: String = host.chars().take(100).collect();
                let detail = format!("this door is not called {host:?}; list the name under `hosts` if it should be");
                return Some(problem(StatusCode::FORBIDDEN, "host_not_allowed", detail));
            }
        }
        let token = self.token.as_ref().filter(|_| !self.open_paths.contains(&request.uri().path()))?;
        if carries(request.headers(), token) {
            return None;
        }
        add(&self.counters.unauthorized, 1);
        let detail = "this door wants a token: send the header `Authorization: Bearer TOKEN`";
        let mut response = problem(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }
}

/// True when the headers carry the token: as a bearer token, or as the user name of basic authentication.
fn carries(headers: &HeaderMap, token: &Token) -> bool {
    let Some((scheme, given)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    let given = given.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.matches(given.as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let Ok(pair) = STANDARD.decode(given) else { return false };
    token.matches(pair.split(|byte| *byte == b':').next().unwrap_or_default())
}

impl Service<Request<Incoming>> for Serving {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.activity.request_begins();
        add(&self.checked.counters.requests, 1);
        let refusal = self.checked.refusal(&request);
        request.extensions_mut().insert(self.peer.clone());
        let mut router = self.checked.router.clone();
        let activity = Arc::clone(&self.activity);
        let counters = Arc::clone(&self.checked.counters);
        Box::pin(async move {
            let answer = match refusal {
                Some(refusal) => Ok(refusal),
                // A router is always ready.
                None => tower_service::Service::call(&mut router, request.map(Body::new)).await,
            };
            if let Ok(answer) = &answer {
                counters.answers.add(answer.status().as_u16());
            }
            activity.request_ends();
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_a_user_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret").expect("written");
        let token = Token::load(&path).expect("a token");
        let carried = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            carries(&headers, &token)
        };
        assert!(carried("Bearer s3cret") && carried("bearer  s3cret"));
        assert!(carried(&format!("Basic {}", STANDARD.encode("s3cret:"))));
        for wrong in ["s3cret", "Bearer", "Bearer s3cre", "Basic s3cret", "Digest s3cret"] {
            assert!(!carried(wrong), "{wrong}");
        }
        assert!(!carried(&format!("Basic {}", STANDARD.encode(":s3cret"))));
        assert!(!carries(&HeaderMap::new(), &token));
    }
}
