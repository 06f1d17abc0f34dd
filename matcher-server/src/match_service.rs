//! The rpcs of `MatchService`.

use std::time::Instant;

use earmark_proto::v1::audio::Source;
use earmark_proto::v1::match_service_server::MatchService;
use earmark_proto::v1::{MatchRequest, MatchResponse};
use fingerprint_core::matching::{MatchOptions, match_fingerprint};
use tonic::{Request, Response, Status};

use crate::work::{Audio, Work};
use crate::{convert, status};

/// Most matches a caller may ask for.
const MATCHES_MAX: u32 = 1000;

pub(crate) struct Matcher {
    pub(crate) work: Work,
}

#[tonic::async_trait]
impl MatchService for Matcher {
    async fn r#match(
        &self,
        request: Request<MatchRequest>,
    ) -> Result<Response<MatchResponse>, Status> {
        let started = Instant::now();
        let request = request.into_inner();
        let options = options(request.options.unwrap_or_default())?;
        let audio = match request.audio.and_then(|audio| audio.source) {
            Some(Source::Encoded(bytes)) => Audio::Encoded(bytes),
            Some(Source::Fingerprint(bytes)) => Audio::Fingerprint(bytes),
            None => {
                return Err(Status::invalid_argument(
                    "audio is missing; set encoded or fingerprint",
                ));
            }
        };
        let answer = self.work.run(move |work, cancelled| {
            let query = work.fingerprint(&audio, work.limits.query_max_s, cancelled)?;
            let report = match_fingerprint(&*work.index, &query, &options, &work.params)
                .map_err(|error| status::index(&error))?;
            Ok((query.duration_s(), report))
        });
        let (duration_s, report) = answer.await?;
        Ok(Response::new(MatchResponse {
            status: convert::match_status(report.status).into(),
            matches: report.matches.into_iter().map(convert::found).collect(),
            duration_s,
            elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
        }))
    }
}

fn options(options: earmark_proto::v1::MatchOptions) -> Result<MatchOptions, Status> {
    let (max, confidence_min) = (options.max_matches, options.min_confidence);
    if max > MATCHES_MAX {
        let text = format!("options.max_matches is {max}, at most {MATCHES_MAX} are allowed");
        return Err(Status::invalid_argument(text));
    }
    if !(0.0..=1.0).contains(&confidence_min) {
        let text = format!("options.min_confidence is {confidence_min}, must lie between 0 and 1");
        return Err(Status::invalid_argument(text));
    }
    let matches_max = if max == 0 {
        MatchOptions::default().matches_max
    } else {
        usize::try_from(max).unwrap_or(1)
    };
    Ok(MatchOptions { matches_max, confidence_min })
}
