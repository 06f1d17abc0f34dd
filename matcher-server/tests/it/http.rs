//! JSON over HTTP, and gRPC-web, as clients without gRPC see the server.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::support::{Server, cut, tune, wav};

/// A client that tells of bad statuses instead of failing.
#[derive(Clone)]
struct Client {
    agent: Agent,
    url: String,
}

impl Client {
    fn new(server: &Server) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { agent, url: server.url.clone() }
    }

    fn get(&self, path: &str) -> (u16, Value) {
        told(self.agent.get(format!("{}{path}", self.url)).call().unwrap()).0
    }

    fn delete(&self, path: &str) -> (u16, Value) {
        told(self.agent.delete(format!("{}{path}", self.url)).call().unwrap()).0
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Answer {
        let url = format!("{}{path}", self.url);
        let request = if method == "PUT" { self.agent.put(url) } else { self.agent.post(url) };
        told(request.header("content-type", media_type).send(body).unwrap())
    }
}

/// Status and JSON, and the headers.
type Answer = ((u16, Value), ureq::http::HeaderMap);

fn told(response: Response<Body>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let text = body.read_to_string().unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    ((parts.status.as_u16(), json), parts.headers)
}

/// A form with text fields and a file.
fn form(fields: &[(&str, &str)], file: (&str, &[u8])) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, text) in fields {
        body.extend(
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
                .bytes(),
        );
    }
    let (name, bytes) = file;
    body.extend(
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a\"\r\n\r\n")
            .bytes(),
    );
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    ("multipart/form-data; boundary=XX".to_owned(), body)
}

/// Runs blocking calls beside the server.
async fn with(server: &Server, calls: impl FnOnce(Client) + Send + 'static) {
    let client = Client::new(server);
    tokio::task::spawn_blocking(move || calls(client)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_is_added_found_read_listed_and_removed() {
    let server = Server::start("").await;
    with(&server, |client| {
        let audio = tune(1, 30);
        let added = client.send(
            "POST",
            "/v1/tracks?track_id=a%2Fb&title=Tune&policy=block",
            "audio/wav",
            &wav(&audio),
        );
        assert_eq!((added.0.0, &added.0.1["change"]), (201, &"inserted".into()), "{added:?}");
        let again = client.send("PUT", "/v1/tracks/a%2Fb?title=Other", "audio/wav", &wav(&audio));
        assert_eq!((again.0.0, &again.0.1["change"]), (200, &"metadata_updated".into()));
        let (kind, body) =
            form(&[("track_id", "second"), ("artist", "Ä")], ("audio", &wav(&tune(2, 20))));
        assert_eq!(client.send("POST", "/v1/tracks", &kind, &body).0.0, 201);

        let clip = wav(cut(&audio, 5, 15));
        let ((status, found), headers) =
            client.send("POST", "/v1/match?max_matches=1&request_id=r1", "audio/wav", &clip);
        assert_eq!((status, &found["status"]), (200, &"matched".into()), "{found}");
        assert_eq!(
            (&found["matches"][0]["track_id"], &found["request_id"]),
            (&"a/b".into(), &"r1".into())
        );
        assert!((found["matches"][0]["reference_offset_s"].as_f64().unwrap() - 5.0).abs() < 0.1);
        assert_eq!(headers["x-request-id"], "r1");
        let (kind, body) = form(&[("speed_search", "off")], ("audio", &clip));
        let ((status, of_form), _) = client.send("POST", "/v1/match", &kind, &body);
        assert_eq!((status, &of_form["matches"][0]["score"]), (200, &found["matches"][0]["score"]));

        let (status, track) = client.get("/v1/tracks/a%2Fb");
        assert_eq!((status, &track["metadata"]["title"]), (200, &"Other".into()), "{track}");
        let (_, page) = client.get("/v1/tracks?page_size=1");
        assert_eq!(page["tracks"].as_array().unwrap().len(), 1);
        let token = page["next_page_token"].as_str().unwrap();
        let (_, page) = client.get(&format!("/v1/tracks?page_token={token}"));
        assert_eq!(page["tracks"][0]["metadata"]["artist"], "Ä", "{page}");
        assert_eq!(page["next_page_token"], Value::Null);
        assert_eq!(client.get("/v1/stats").1["track_count"], 2);
        assert_eq!(client.delete("/v1/tracks/a%2Fb").0, 200);
        assert_eq!(client.get("/v1/tracks/a%2Fb").1["reason"], "TRACK_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_problems_with_a_reason_and_a_way_out() {
    let server = Server::start("message_max = '100KiB'").await;
    with(&server, |client| {
        let large = vec![0; 200 << 10];
        let (kind, misnamed) = form(&[], ("file", &[0; 70_000]));
        let lacks_audio =
            b"--XX\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\nx\r\n--XX--\r\n";
        let (_, named) = form(&[("request_id", "7")], ("audio", &wav(&tune(1, 3))));
        let many: Vec<_> = (0..20_000).map(|i| (format!("f{i}"), "x")).collect();
        let many: Vec<_> = many.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let (_, fields) = form(&many, ("audio", b"x"));
        let (_, other_id) = form(&[("track_id", "b")], ("audio", &wav(&tune(1, 3))));
        let lying = client.send("PUT", "/v1/tracks/a", &kind, &other_id);
        assert_eq!((lying.0.0, &lying.0.1["reason"]), (400, &"ARGUMENT_INVALID".into()));
        assert_eq!(client.get("/v1/match").0, 405);
        for path in ["/v1/tracks/a?x=1", "/v1/stats?x=1", "/v1/tracks?x=1"] {
            assert_eq!(client.get(path).0, 400, "{path}");
        }
        assert_eq!(client.delete("/v1/tracks/a?request_id=7").0, 400);
        let misnamed = client.send("POST", "/v1/match", &kind, &misnamed);
        let detail = misnamed.0.1["detail"].as_str().unwrap();
        assert!(misnamed.0.0 == 400 && detail.contains("field \"file\""), "{detail}");
        for (path, kind, body, status, reason) in [
            ("/v1/tracks", &*kind, &fields[..], 400, "ARGUMENT_INVALID"),
            ("/v1/match", "audio/wav", b"this is no audio", 422, "AUDIO_UNDECODABLE"),
            ("/v1/match", "audio/wav", &[], 400, "ARGUMENT_INVALID"),
            ("/v1/match", "audio/wav", &large, 413, "TOO_LARGE"),
            ("/v1/match?max_matches=x", "audio/wav", b"x", 400, "ARGUMENT_INVALID"),
            ("/v1/match?max_matches=2000", "audio/wav", b"x", 400, "ARGUMENT_INVALID"),
            ("/v1/tracks?=x", "audio/wav", b"x", 400, "ARGUMENT_INVALID"),
            ("/v1/match?nothing=1", "audio/wav", b"x", 400, "ARGUMENT_INVALID"),
            ("/v1/tracks", &kind, &named, 400, "ARGUMENT_INVALID"),
            ("/v1/tracks?request_id=7", "audio/wav", b"x", 400, "ARGUMENT_INVALID"),
            ("/v1/match", &kind, lacks_audio, 400, "ARGUMENT_INVALID"),
            ("/v1/tracks", &kind, lacks_audio, 400, "ARGUMENT_INVALID"),
            (
                "/v1/match",
                "application/vnd.earmark.fingerprint",
                b"x",
                400,
                "FINGERPRINT_MALFORMED",
            ),
            ("/v1/tracks", "audio/wav", b"this is no audio", 422, "AUDIO_UNDECODABLE"),
            ("/v1/nothing", "audio/wav", b"x", 404, "ARGUMENT_INVALID"),
        ] {
            let ((actual, problem), headers) = client.send("POST", path, kind, body);
            assert_eq!((actual, &problem["reason"]), (status, &reason.into()), "{path}: {problem}");
            assert_eq!(headers["content-type"], "application/problem+json");
            assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_the_document_are_served() {
    let server = Server::start("").await;
    with(&server, |client| {
        assert_eq!(client.get("/health/live"), (200, serde_json::json!({"status": "live"})));
        assert_eq!(client.get("/health/ready"), (200, serde_json::json!({"status": "ready"})));
        let (_, document) = client.get("/v1/openapi.json");
        for path in
            ["/v1/match", "/v1/tracks", "/v1/tracks/{track_id}", "/v1/stats", "/health/ready"]
        {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        let schemas = &document["components"]["schemas"];
        assert!(schemas["Problem"].is_object());
        let body = &document["paths"]["/v1/match"]["post"]["requestBody"]["content"];
        assert_eq!(body["audio/*"]["schema"]["format"], "binary", "{body}");
        let form = &schemas["ClipForm"];
        assert_eq!(form["required"], serde_json::json!(["audio"]), "{form}");
        assert_eq!(form["properties"]["audio"]["format"], "binary", "{form}");
        assert_eq!(form["properties"]["max_matches"]["maximum"], 1000, "{form}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_is_spoken_over_http_1() {
    let server = Server::start("").await;
    with(&server, |client| {
        let response = client
            .agent
            .post(format!("{}/earmark.v1.CatalogService/GetStats", client.url))
            .header("content-type", "application/grpc-web+proto")
            .send(&[0_u8; 5])
            .unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let mut bytes = Vec::new();
        response.into_body().into_reader().read_to_end(&mut bytes).unwrap();
        // A message, and then a frame of trailers.
        let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        assert_eq!((bytes[0], bytes[5 + len]), (0, 0x80));
        assert!(String::from_utf8_lossy(&bytes[5 + len..]).contains("grpc-status:0"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_form_may_stand_behind_its_file_but_only_once() {
    let server = Server::start("").await;
    with(&server, |client| {
        let audio = wav(&tune(1, 5));
        let (kind, body) = form(&[("title", "a"), ("title", "b")], ("audio", &audio));
        let ((status, told), _) = client.send("POST", "/v1/tracks", &kind, &body);
        let detail = told["detail"].as_str().unwrap();
        assert!(status == 400 && detail.contains("title is there twice"), "{told}");
        let ((status, told), _) =
            client.send("POST", "/v1/tracks?title=a&title=b", "audio/wav", &audio);
        let detail = told["detail"].as_str().unwrap();
        assert!(status == 400 && detail.contains("title is there twice"), "{told}");
        assert_eq!(client.get("/v1/tracks").1["tracks"].as_array().unwrap().len(), 0);

        let (kind, mut body) = form(&[], ("audio", &audio));
        let end = b"--XX--\r\n";
        body.truncate(body.len() - end.len());
        body.extend_from_slice(
            b"--XX\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nLate\r\n--XX--\r\n",
        );
        // The form is stronger than the address.
        let address = "/v1/tracks?title=Early&artist=Somebody";
        let ((status, told), _) = client.send("POST", address, &kind, &body);
        let metadata = &told["track"]["metadata"];
        assert_eq!((status, &metadata["title"]), (201, &"Late".into()), "{told}");
        assert_eq!(metadata["artist"], "Somebody");
        let (kind, body) = form(&[("max_matches", "0")], ("audio", &audio));
        let ((status, told), _) = client.send("POST", "/v1/match?max_matches=1", &kind, &body);
        let detail = told["detail"].as_str().unwrap();
        assert!(status == 400 && detail.contains("max_matches is \"0\""), "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_in_which_no_field_begins_or_ends_is_not_received_for_ever() {
    let server = Server::start("").await;
    with(&server, |client| {
        let junk = vec![b'j'; 8 << 20];
        let head = b"--XX\r\nContent-Disposition: form-data; name=\"audio\"\r\nX-Junk: ";
        for (path, begin) in [("/v1/tracks", &[][..]), ("/v1/tracks", head), ("/v1/match", &[])] {
            let kind = "multipart/form-data; boundary=XX";
            let ((status, told), _) = client.send("POST", path, kind, &[begin, &junk].concat());
            let detail = told["detail"].as_str().unwrap();
            assert!(status == 400 && detail.contains("bytes without a field"), "{path}: {told}");
        }
        // A file may be as long as files may be.
        let (kind, body) = form(&[], ("audio", &junk));
        let ((_, told), _) = client.send("POST", "/v1/tracks", &kind, &body);
        assert_eq!(told["reason"], "AUDIO_UNDECODABLE", "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_tell_their_methods_and_those_of_grpc_what_they_are_for() {
    let server = Server::start("").await;
    with(&server, |client| {
        let service = "/earmark.v1.CatalogService/GetStats";
        for (method, path, kind, expected, allowed) in [
            ("PUT", "/v1/match", "audio/wav", 405, Some("POST")),
            ("PUT", "/v1/tracks", "audio/wav", 405, Some("GET,HEAD,POST")),
            ("POST", "/health/live", "text/plain", 405, Some("GET,HEAD")),
            ("PUT", service, "application/grpc", 405, Some("POST")),
            ("POST", service, "application/json", 415, None),
            ("POST", service, "application/grpc", 400, None),
        ] {
            let ((status, told), headers) = client.send(method, path, kind, b"x");
            assert_eq!(status, expected, "{method} {path}: {told}");
            let allow = headers.get("allow").map(|value| value.to_str().unwrap());
            assert_eq!(allow, allowed, "{method} {path}");
            assert_eq!(headers["content-type"], "application/problem+json");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_carry_the_status_of_the_answer_and_the_callers_name_for_the_request() {
    let server = Server::start("").await;
    with(&server, |client| {
        for (method, path, expected) in [("GET", "/nowhere", 404), ("PUT", "/v1/match", 405)] {
            let url = format!("{}{path}", client.url);
            let answer = if method == "GET" {
                client.agent.get(url).call()
            } else {
                client.agent.put(url).send(&[0; 100][..])
            };
            let ((status, told), _) = told(answer.unwrap());
            assert_eq!((status, told["status"].as_u64()), (expected, Some(expected.into())));
        }
        let url = format!("{}/v1/tracks/none", client.url);
        let answer = client.agent.get(url).header("x-request-id", "mine-7").call().unwrap();
        assert_eq!(answer.headers()["x-request-id"], "mine-7");
        // Where the name decides nothing, and where it does.
        let clip = wav(&tune(1, 5));
        for (path, expected) in [("/v1/match?request_id=a", 200), ("/v1/tracks", 400)] {
            let request = client.agent.post(format!("{}{path}", client.url));
            let request = request.header("x-request-id", "b").header("x-request-id", "c");
            assert_eq!(request.send(&clip[..]).unwrap().status(), expected, "{path}");
        }
    })
    .await;
}

/// The head of a clip that does not come.
fn stall(server: &Server) -> TcpStream {
    let address = server.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).unwrap();
    let head = "POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n123";
    socket.write_all(head.as_bytes()).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn clips_that_do_not_come_give_their_places_back_and_nobody_else_waits_for_them() {
    let server = Server::start("requests_open_max = 4\nupload_pause_max = '4s'").await;
    // Half of the places: as many as one client may have.
    let mut stalled: Vec<_> = (0..2).map(|_| stall(&server)).collect();
    with(&server, move |client| {
        let clip = wav(&tune(1, 5));
        let ask = || client.send("POST", "/v1/match", "audio/wav", &clip).0.0;
        assert!((0..1_000).any(|_| ask() == 429), "nobody was stalled");
        assert_eq!(client.get("/v1/stats").0, 200);
        for socket in &mut stalled {
            let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
            while !answer.windows(14).any(|words| words == b"CLIENT_STALLED") {
                let count = socket.read(&mut piece).unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..count]);
            }
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.contains(" 408 ") && answer.contains("CLIENT_STALLED"), "{answer}");
        }
        assert_eq!(ask(), 200);
    })
    .await;
}
