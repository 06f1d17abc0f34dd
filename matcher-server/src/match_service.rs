//! `MatchService`: checks the request, has the core decode and search, encodes the answer.

use std::sync::Arc;
use std::time::Instant;

use earmark_proto::v1;
use earmark_proto::v1::audio::Source;
use fingerprint_core::decode::Input;
use fingerprint_core::index::Index;
use fingerprint_core::matching::match_fingerprint;
use fingerprint_core::params::{Params, Role};
use tonic::{Request, Response, Status, Streaming};

use crate::analysis::{decode_options, fingerprint_audio};
use crate::config::Config;
use crate::convert;
use crate::status;
use crate::stream::{StreamAnswer, Streams};
use crate::work::Work;

/// Recognises audio.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) index: Arc<dyn Index>,
    pub(crate) params: Params,
    pub(crate) config: Arc<Config>,
    pub(crate) work: Work,
    pub(crate) streams: Streams,
}

#[tonic::async_trait]
impl v1::match_service_server::MatchService for Matcher {
    async fn r#match(
        &self,
        request: Request<v1::MatchRequest>,
    ) -> Result<Response<v1::MatchResponse>, Status> {
        let v1::MatchRequest { audio, options } = request.into_inner();
        let options = convert::match_options(options)?;
        let source = audio.and_then(|audio| audio.source).ok_or_else(|| {
            Status::invalid_argument("audio is not set; send audio.encoded or audio.fingerprint")
        })?;
        let (index, params) = (Arc::clone(&self.index), self.params);
        let duration_max = self.config.query_duration_max;
        let decoding =
            decode_options(&self.config, duration_max, self.config.message_bytes_max as u64);
        let job = self.work.queries.run(move |cancel| {
            let started = Instant::now();
            let query = match source {
                Source::Encoded(bytes) => fingerprint_audio(
                    Input::Bytes(&bytes),
                    "the clip",
                    &decoding,
                    &params,
                    Role::Query,
                    cancel,
                )?,
                Source::Fingerprint(bytes) => {
                    convert::fingerprint(&bytes, duration_max.as_secs_f64(), &params)?
                }
            };
            let is_cancelled = || cancel.is_cancelled();
            let report = match_fingerprint(&*index, &query, &options, &params, &is_cancelled)
                .map_err(status::from_match)?;
            let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
            Ok(convert::match_response(report, query.duration_s(), elapsed_ms))
        });
        job.await.map(Response::new)
    }

    type MatchStreamStream = StreamAnswer;

    async fn match_stream(
        &self,
        request: Request<Streaming<v1::MatchStreamRequest>>,
    ) -> Result<Response<StreamAnswer>, Status> {
        self.streams.open(request.into_inner()).await.map(Response::new)
    }
}
