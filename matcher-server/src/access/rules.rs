//! What each request takes: the scopes of which a key must have one.
//!
//! What is not listed takes an admin's key, so that nothing new is open by mistake.

use axum::http::Method;

use crate::keys::Scope;

/// What a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: health, and what the interface looks like.
    Nothing,
    /// A key of one of these scopes, or of an admin.
    Scopes(&'static [Scope]),
}

const MATCH: Need = Need::Scopes(&[Scope::Match]);
const INGEST: Need = Need::Scopes(&[Scope::Ingest]);
const EITHER: Need = Need::Scopes(&[Scope::Match, Scope::Ingest]);
const ADMIN: Need = Need::Scopes(&[Scope::Admin]);

/// Services that tell nothing of the catalog.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Whether a request brings many.
pub(super) fn is_batch(path: &str) -> bool {
    path == "/earmark.v1.MatchService/BatchMatch"
}

/// What a request takes: of gRPC by its path, of HTTP by method and path.
pub(crate) fn need(method: &Method, path: &str) -> Need {
    if OPEN.iter().any(|service| path.starts_with(service)) {
        return Need::Nothing;
    }
    if let Some(call) = path.strip_prefix("/earmark.v1.") {
        return match call {
            "MatchService/Match" | "MatchService/BatchMatch" | "MatchService/MatchStream" => MATCH,
            "CatalogService/GetTrack" | "CatalogService/GetStats" => EITHER,
            "CatalogService/AddTrack"
            | "CatalogService/ListTracks"
            | "CatalogService/RemoveTrack" => INGEST,
            _ => ADMIN,
        };
    }
    let is = |wanted: Method| *method == wanted;
    match path {
        "/health/live" | "/health/ready" | "/v1/openapi.json" => Need::Nothing,
        "/v1/match" => MATCH,
        "/v1/stats" => EITHER,
        "/v1/tracks" => INGEST,
        _ if path.starts_with("/v1/tracks/") => {
            if is(Method::GET) || is(Method::HEAD) {
                EITHER
            } else {
                INGEST
            }
        }
        _ => ADMIN,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every method of the interface is decided on, and none that changes anything is open to all.
    #[test]
    fn every_call_takes_what_it_should() {
        let set = FileDescriptorSet::decode(earmark_proto::FILE_DESCRIPTOR_SET).unwrap();
        let services = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
        let calls: Vec<_> = services
            .flat_map(|(package, service)| {
                let name = format!("/{package}.{}", service.name());
                service.method.iter().map(move |method| format!("{name}/{}", method.name()))
            })
            .collect();
        let expected = |call: &str| match call.rsplit('/').next().unwrap() {
            "Match" | "BatchMatch" | "MatchStream" => MATCH,
            "GetTrack" | "GetStats" => EITHER,
            "AddTrack" | "ListTracks" | "RemoveTrack" => INGEST,
            "CreateBackup" | "ListBackups" => ADMIN,
            new => panic!("decide in rules.rs what {new} takes, and say it here and in the proto"),
        };
        assert!(calls.len() >= 10, "{calls:?}");
        for call in calls {
            assert_eq!(need(&Method::POST, &call), expected(&call), "{call}");
        }
    }

    #[test]
    fn what_is_not_listed_takes_an_admin() {
        for path in [
            "/",
            "/v1",
            "/v2/match",
            "/v1/match/",
            "/v1/tracksx",
            "/earmark.v1.New/Call",
            "//v1/match",
        ] {
            assert_eq!(need(&Method::GET, path), ADMIN, "{path}");
        }
        assert_eq!(need(&Method::DELETE, "/v1/tracks/a"), INGEST);
        assert_eq!(need(&Method::PUT, "/v1/tracks/a"), INGEST);
        assert_eq!(need(&Method::GET, "/v1/tracks/a"), EITHER);
        assert_eq!(need(&Method::GET, "/health/ready"), Need::Nothing);
    }
}
