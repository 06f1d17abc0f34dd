//! `MatchService`: checks the request, has the core decode and search, encodes the answer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use earmark_proto::v1;
use earmark_proto::v1::audio::Source;
use fingerprint_core::decode::Input;
use fingerprint_core::index::Index;
use fingerprint_core::matching::{MatchOptions, match_fingerprint};
use fingerprint_core::params::{Params, Role};
use tokio::task::JoinSet;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::access::Caller;
use crate::analysis::{decode_options, fingerprint_audio};
use crate::client::Client;
use crate::config::Config;
use crate::convert;
use crate::envelope::Deadline;
use crate::metrics::Stage;
use crate::reason::Reason;
use crate::status;
use crate::stream::{StreamAnswer, Streams};
use crate::traces::Trace;
use crate::work::{Manner, Terms, Turns, Work};

/// Most clips of a batch.
const BATCH_MAX: usize = 100;

/// The terms of a request with these extensions.
fn terms(extensions: &Extensions, manner: Manner) -> Terms {
    let deadline = extensions.get::<Deadline>().map(|deadline| deadline.0);
    Terms { client: Client::of(extensions), deadline, manner }
}

/// Recognises audio.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    pub(crate) index: Arc<dyn Index>,
    pub(crate) params: Params,
    pub(crate) config: Arc<Config>,
    pub(crate) work: Work,
    pub(crate) streams: Streams,
    /// Clips of batches at a time, all batches together, as many as there are workers: the queue is for all
    /// clients, and who sends batches has time. They go around among the clients.
    pub(crate) batch_turns: Arc<Turns<Client>>,
}

impl Matcher {
    /// Searches for one clip.
    pub(crate) async fn answer(
        &self,
        request: v1::MatchRequest,
        terms: Terms,
    ) -> Result<v1::MatchResponse, Status> {
        let v1::MatchRequest { audio, options, request_id } = request;
        convert::check_request_id(&request_id)?;
        let deadline_ms = options.as_ref().map_or(0, |options| options.deadline_ms);
        let options = convert::match_options(options)?;
        let source = audio.and_then(|audio| audio.source).ok_or_else(|| {
            let text = "audio is not set; send audio.encoded or audio.fingerprint";
            Reason::ArgumentInvalid.status(text)
        })?;
        if deadline_ms == 0 {
            return self.search(source, options, request_id, terms).await;
        }
        let own = Instant::now() + Duration::from_millis(deadline_ms.into());
        let soonest = terms.deadline.map_or(own, |deadline| deadline.min(own));
        let terms = Terms { deadline: Some(soonest), ..terms };
        let search = self.search(source, options, request_id, terms);
        tokio::time::timeout_at(own.into(), search).await.unwrap_or_else(|_| {
            let text = "its deadline_ms have passed; send less audio or allow more time";
            Err(Reason::DeadlinePassed.status(text))
        })
    }

    async fn search(
        &self,
        source: Source,
        options: MatchOptions,
        request_id: String,
        terms: Terms,
    ) -> Result<v1::MatchResponse, Status> {
        let (index, params) = (Arc::clone(&self.index), self.params);
        let duration_max = self.config.query_duration_max;
        let decoding =
            decode_options(&self.config, duration_max, self.config.message_bytes_max as u64);
        let metrics = self.work.metrics.clone();
        if let Source::Encoded(bytes) = &source {
            self.work.queries.check_size(bytes.len(), &terms)?;
        }
        let job = self.work.queries.run_for(terms, move |cancel| {
            let started = Instant::now();
            let query = match source {
                Source::Encoded(bytes) => fingerprint_audio(
                    Input::Bytes(&bytes),
                    "the clip",
                    &decoding,
                    &params,
                    Role::Query,
                    cancel,
                    &metrics,
                )?,
                Source::Fingerprint(bytes) => {
                    convert::fingerprint(&bytes, duration_max.as_secs_f64(), &params)?
                }
            };
            let is_cancelled = || cancel.is_over();
            let (searching, waited) = (Instant::now(), cancel.waited());
            let report = match_fingerprint(&*index, &query, &options, &params, &is_cancelled)
                .map_err(status::from_match)?;
            let spent = &report.spent;
            metrics.spent(
                searching,
                &[
                    (Stage::Lookup, spent.lookup),
                    (Stage::Vote, spent.vote),
                    // Where it is seen whether somebody waits.
                    (Stage::Verify, spent.verify.saturating_sub(cancel.waited() - waited)),
                ],
            );
            let elapsed = started.elapsed().saturating_sub(cancel.waited());
            let elapsed_ms = elapsed.as_secs_f64() * 1e3;
            tracing::debug!(request_id, elapsed_ms, "clip searched");
            Ok(convert::match_response(report, query.duration_s(), elapsed_ms, request_id))
        });
        job.await
    }
}

#[tonic::async_trait]
impl v1::match_service_server::MatchService for Matcher {
    async fn r#match(
        &self,
        request: Request<v1::MatchRequest>,
    ) -> Result<Response<v1::MatchResponse>, Status> {
        let terms = terms(request.extensions(), Manner::Prompt);
        self.answer(request.into_inner(), terms).await.map(Response::new)
    }

    async fn batch_match(
        &self,
        request: Request<v1::BatchMatchRequest>,
    ) -> Result<Response<v1::BatchMatchResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let terms = terms(request.extensions(), Manner::Patient);
        let requests = request.into_inner().requests;
        if requests.is_empty() || requests.len() > BATCH_MAX {
            let text =
                format!("requests has {} clips, it must have 1 to {BATCH_MAX}", requests.len());
            return Err(Reason::ArgumentInvalid.status(text));
        }
        let count = u32::try_from(requests.len()).ok().and_then(NonZeroU32::new);
        if let (Some(caller), Some(count)) = (caller, count) {
            caller.charge(count).map_err(|refused| refused.counted(&self.work.metrics))?;
        }
        let mut results = vec![v1::BatchMatchResult::default(); requests.len()];
        let mut waiting = requests.into_iter().enumerate();
        // Dropped with the request, which ends what runs.
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.config.workers
                && let Some((place, request)) = waiting.next()
            {
                let matcher = self.clone();
                let (turn, terms) = (Arc::clone(&self.batch_turns), terms.clone());
                let trace = Trace::part("clip");
                trace.note("earmark.clip", i64::try_from(place).ok());
                running.spawn(async move {
                    let answer = async {
                        let _place = turn.wait(terms.client.clone()).await;
                        matcher.answer_in_batch(request, terms).await
                    };
                    (place, trace.around(answer).await)
                });
            }
            match running.join_next().await {
                None => break,
                Some(Ok((place, result))) => results[place] = result,
                Some(Err(_)) => {
                    return Err(Reason::Internal.status("a clip of the batch broke down"));
                }
            }
        }
        Ok(Response::new(v1::BatchMatchResponse { results }))
    }

    type MatchStreamStream = StreamAnswer;

    async fn match_stream(
        &self,
        request: Request<Streaming<v1::MatchStreamRequest>>,
    ) -> Result<Response<StreamAnswer>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        self.streams.open(request.into_inner(), caller).await.map(Response::new)
    }
}

impl Matcher {
    async fn answer_in_batch(
        &self,
        request: v1::MatchRequest,
        terms: Terms,
    ) -> v1::BatchMatchResult {
        use v1::batch_match_result::Result as Answer;
        let request_id = request.request_id.clone();
        let result = match self.answer(request, terms).await {
            Ok(response) => Answer::Response(response),
            Err(status) => {
                let reason = Reason::of(&status);
                self.work.metrics.failed(reason);
                Answer::Error(v1::MatchError {
                    code: i32::from(status.code()),
                    reason: reason.name().to_owned(),
                    message: status.message().to_owned(),
                    request_id,
                })
            }
        };
        v1::BatchMatchResult { result: Some(result) }
    }
}
