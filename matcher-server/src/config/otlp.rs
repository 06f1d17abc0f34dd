//! Where traces are sent, and what OpenTelemetry's own variables say about it.
//!
//! Whoever runs a collector sets these variables for all programs of a machine or a pod, and expects each of them to
//! follow. They are weaker than every setting of ours, and what they say to other protocols is left to others: a
//! variable that is not meant for this server must not keep it from starting.

use tonic::codegen::http::Uri;

use super::{ConfigError, Settings};

/// The collector, and how much it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// `http://HOST:PORT`, or `https://` where the collector has a certificate of a public root.
    pub endpoint: String,
    /// Share of traces that is kept, 0 to 1, of those about which no client has decided.
    pub sample: f64,
}

impl Otlp {
    /// Checks both settings; `None` if nothing is sent.
    pub(super) fn of(endpoint: Option<String>, sample: f64) -> Result<Option<Self>, ConfigError> {
        if !(0.0..=1.0).contains(&sample) {
            return Err(ConfigError::OutOfRange {
                name: "otlp-sample",
                actual: sample.to_string(),
                expected: "0 to 1",
            });
        }
        match endpoint {
            None => Ok(None),
            Some(endpoint) if endpoint == "none" => Ok(None),
            Some(endpoint) if is_endpoint(&endpoint) => Ok(Some(Self { endpoint, sample })),
            // Not the value, in which there may be a password.
            Some(_) => Err(ConfigError::OtlpEndpoint),
        }
    }
}

/// Whether it is an address as gRPC has them. Names and passwords do not belong there, nor does a path: that would be
/// an address of OTLP over HTTP.
fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    is_known && is_plain && has_host && matches!(uri.path(), "" | "/") && uri.query().is_none()
}

impl Settings {
    /// What OpenTelemetry's own variables say, of which `variable` has the values.
    #[must_use]
    pub fn of_opentelemetry(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first = |names: [&str; 2]| names.into_iter().find_map(set);
        let is_off = set("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter != "otlp");
        let protocol = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        if is_off || protocol.is_some_and(|protocol| protocol != "grpc") {
            return Self::default();
        }
        let endpoint = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
        Self { otlp_endpoint: endpoint.filter(|endpoint| is_endpoint(endpoint)), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_and_nothing_else() {
        for good in ["http://127.0.0.1:4317", "https://collector.example", "http://[::1]:4317/"] {
            let otlp = Otlp::of(Some(good.to_owned()), 0.5).unwrap().unwrap();
            assert_eq!((otlp.endpoint.as_str(), otlp.sample), (good, 0.5));
        }
        for bad in [
            "",
            "127.0.0.1:4317",
            "localhost",
            "grpc://a:4317",
            "http://a:4318/v1/traces",
            "http://a:4317?x=y",
            "http://user:secret@a:4317",
            "http://a b",
            "http://:4317",
        ] {
            let error = Otlp::of(Some(bad.to_owned()), 0.5).unwrap_err().to_string();
            assert!(error.contains("otlp-endpoint") && !error.contains("secret"), "{bad}: {error}");
        }
        assert_eq!(Otlp::of(None, 0.5).unwrap(), None);
        assert_eq!(Otlp::of(Some("none".to_owned()), 0.5).unwrap(), None);
    }

    #[test]
    fn a_share_is_between_none_and_all() {
        for good in [0.0, 0.01, 1.0] {
            assert!(Otlp::of(None, good).is_ok(), "{good}");
        }
        for bad in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            let error = Otlp::of(None, bad).unwrap_err().to_string();
            assert!(error.contains("otlp-sample") && error.contains("0 to 1"), "{error}");
        }
    }

    #[test]
    fn variables_of_opentelemetry_are_followed_where_they_are_meant() {
        let endpoint = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Settings::of_opentelemetry(variable).otlp_endpoint
        };
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&[all]).as_deref(), Some(all.1));
        assert_eq!(endpoint(&[all, traces]).as_deref(), Some(traces.1));
        assert_eq!(
            endpoint(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).as_deref(),
            Some(all.1)
        );
        for other in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:4318/v1/traces"),
        ] {
            assert_eq!(endpoint(&[all, other]), None, "{other:?}");
        }
        assert_eq!(endpoint(&[all, ("OTEL_SDK_DISABLED", "")]).as_deref(), Some(all.1));
    }
}
