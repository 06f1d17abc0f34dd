//! Who gets in: every request shows a key, which must allow what it asks for and has limits of its own.
//!
//! ```text
//! request ─ rules: which scope ─ token → key ─ valid? scope? rate? place? ─▶ service, with its Caller
//! ```
//!
//! Without a file of keys everybody may do everything. The file is read again when it changes: a revoked
//! key is refused from then on, and its streams end.

mod guarded;
mod holders;
mod rules;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::DefaultDirectRateLimiter;
use governor::clock::{Clock, DefaultClock};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

pub(crate) use self::guarded::Guarded;
pub use self::holders::KeyChanges;
pub(crate) use self::holders::KeyCounts;
use self::holders::{Holder, Keys, burst};
pub(crate) use self::rules::{Need, need};
use crate::http::{self, Problem, grpc_answer, is_grpc};
use crate::keys::{KeyFile, KeysError, Scope, Token};
use crate::metrics::{Metrics, Refusal};
use crate::reason::Reason;
use crate::transport::{self, Peer};

/// Who may do what.
#[derive(Debug)]
pub struct Access {
    /// `None` lets everybody in.
    keys: Option<Keys>,
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { keys: None }
    }

    /// Whoever shows one of these keys.
    ///
    /// # Errors
    ///
    /// As of [`KeyFile::read`].
    pub fn with_keys(file: KeyFile) -> Result<Self, KeysError> {
        Ok(Self { keys: Some(Keys::read(file)?) })
    }

    /// Whether clients need a key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.keys.is_some()
    }

    /// Reads the file again, and tells what has changed. Limits that stay the same go on counting.
    ///
    /// # Errors
    ///
    /// As of [`KeyFile::read`]; the keys are then those of before.
    pub fn reload(&self) -> Result<KeyChanges, KeysError> {
        self.keys.as_ref().map_or(Ok(KeyChanges::default()), Keys::reload)
    }

    /// How many keys are accepted at that time, and how many no longer; `None` if clients need none.
    pub(crate) fn key_counts(&self, time: SystemTime) -> Option<KeyCounts> {
        self.keys.as_ref().map(|keys| keys.counts(time))
    }

    /// How many keys are accepted now; `None` if clients need none.
    #[must_use]
    pub fn valid_count(&self) -> Option<usize> {
        self.key_counts(SystemTime::now()).map(|counts| counts.valid)
    }

    /// Lets a request in, or says why not.
    ///
    /// Of a batch its call is charged for here, and its clips by its service, all at once, so that those that are
    /// refused have cost nothing.
    fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
        need: Need,
        is_batch: bool,
    ) -> Result<Admitted, Refused> {
        let Some(keys) = &self.keys else { return Ok(Admitted::default()) };
        let Need::Scopes(scopes) = need else { return Ok(Admitted::default()) };
        let token = bearer(headers)?;
        let holder = keys.all().get(token.id()).filter(|h| h.key.is_opened_by(&token)).cloned();
        let holder = holder.ok_or_else(|| {
            // Not whose key of that id is: whoever made the token up shall not learn it.
            Refused::new(Reason::KeyInvalid, "the key is not known to this server")
        })?;
        let caller = Caller { access: Arc::clone(self), holder };
        let admitted = Self::admit_caller(&caller, scopes, is_batch);
        let place = admitted
            .map_err(|refused| Refused { key_id: Some(caller.id().to_owned()), ..refused })?;
        Ok(Admitted { caller: Some(caller), place })
    }

    /// Lets a known caller in. Gives its place, if its key has a limit of them.
    fn admit_caller(
        caller: &Caller,
        scopes: &[Scope],
        is_batch: bool,
    ) -> Result<Option<OwnedSemaphorePermit>, Refused> {
        caller.check_valid()?;
        let held = &caller.holder.key.scopes;
        if !held.contains(&Scope::Admin) && !scopes.iter().any(|scope| held.contains(scope)) {
            let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
            let text = format!(
                "key {} does not allow this; it takes a key of scope {}",
                caller.id(),
                names.join(" or ")
            );
            return Err(Refused::new(Reason::ScopeMissing, text));
        }
        let place = match &caller.holder.places {
            None => None,
            Some(places) => Some(Arc::clone(places).try_acquire_owned().map_err(|_| {
                let most = caller.holder.key.concurrent_max.map_or(0, NonZeroU32::get);
                let text = format!(
                    "key {} has as many requests open as it may, {most}; try again when one of them has ended",
                    caller.id()
                );
                Refused::at_limit(Refusal::KeyConcurrent, text, Some(Duration::from_secs(1)))
            })?),
        };
        let limiter = if is_batch { &caller.holder.batch_limiter } else { &caller.holder.limiter };
        caller.charge_to(limiter.as_ref(), NonZeroU32::MIN)?;
        Ok(place)
    }
}

/// Whose request it is: an extension of each request that has shown a key.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    access: Arc<Access>,
    holder: Arc<Holder>,
}

impl Caller {
    /// The key's id.
    pub(crate) fn id(&self) -> &str {
        &self.holder.key.id
    }

    /// Counts `count` requests more against the key's rate.
    ///
    /// # Errors
    ///
    /// `KEY_LIMIT` if they are too many, with the time after which they are not.
    pub(crate) fn charge(&self, count: NonZeroU32) -> Result<(), Refused> {
        self.charge_to(self.holder.limiter.as_ref(), count)
    }

    fn charge_to(
        &self,
        limiter: Option<&DefaultDirectRateLimiter>,
        count: NonZeroU32,
    ) -> Result<(), Refused> {
        let (Some(limiter), Some(rate)) = (limiter, self.holder.key.rate_per_s) else {
            return Ok(());
        };
        let id = self.id();
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(wait)) => {
                let wait = wait.wait_time_from(DefaultClock::default().now());
                let text = format!(
                    "key {id} may make {rate} requests a second; try again in {:.1} s",
                    // Never too early.
                    (wait.as_secs_f64() * 10.0).ceil() / 10.0
                );
                Err(Refused::at_limit(Refusal::KeyRate, text, Some(wait)))
            }
            Err(_) => {
                let text = format!(
                    "key {id} may make {} requests at once, and each clip of a batch counts as one; send fewer",
                    burst(rate)
                );
                Err(Refused::at_limit(Refusal::KeyBatch, text, None))
            }
        }
    }

    /// Whether the key is accepted still: it may have been revoked meanwhile, or have expired.
    ///
    /// # Errors
    ///
    /// `KEY_INVALID` if not.
    pub(crate) fn check_valid(&self) -> Result<(), Refused> {
        let id = self.id();
        let keys = self.access.keys.as_ref().map(Keys::all);
        let Some(now) = keys.as_ref().and_then(|keys| keys.get(id)) else {
            return Err(Refused::new(Reason::KeyInvalid, format!("key {id} is no longer known")));
        };
        if now.key.revoked.is_some() {
            return Err(Refused::new(Reason::KeyInvalid, format!("key {id} was revoked")));
        }
        if !now.key.is_valid_at(SystemTime::now()) {
            return Err(Refused::new(Reason::KeyInvalid, format!("key {id} has expired")));
        }
        Ok(())
    }
}

/// Whose names of streams and requests it is that a request uses: its key's id, or empty without keys.
pub(crate) fn owner(extensions: &Extensions) -> String {
    extensions.get::<Caller>().map_or_else(String::new, |caller| caller.id().to_owned())
}

/// A request that may go on.
#[derive(Debug, Default)]
struct Admitted {
    caller: Option<Caller>,
    /// Held until the answer is sent as a whole.
    place: Option<OwnedSemaphorePermit>,
}

/// Why a request may not go on.
#[derive(Debug)]
pub(crate) struct Refused {
    reason: Reason,
    text: String,
    /// Whose key was shown, if it is one that is known.
    key_id: Option<String>,
    retry_after: Option<Duration>,
    /// What was at its limit, if anything was.
    limit: Option<Refusal>,
}

impl Refused {
    fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), key_id: None, retry_after: None, limit: None }
    }

    /// One of the key's limits is reached.
    fn at_limit(limit: Refusal, text: String, retry_after: Option<Duration>) -> Self {
        Self { retry_after, limit: Some(limit), ..Self::new(Reason::KeyLimit, text) }
    }

    /// Counts what was at its limit, and makes an answer of it.
    pub(crate) fn counted(self, metrics: &Metrics) -> Status {
        if let Some(limit) = self.limit {
            metrics.refused(limit);
        }
        self.into()
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        refused.reason.status_retried_after(refused.text, refused.retry_after)
    }
}

/// The token of a request: `authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Result<Token, Refused> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let text = "this server wants a key; send it as the header `authorization: Bearer KEY`";
        return Err(Refused::new(Reason::KeyMissing, text));
    };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim())).flatten()
    });
    // The value is not repeated: it may be a secret with a typing error.
    let text = "the header authorization holds no key; it must be `Bearer KEY`, where KEY begins with earmark_";
    token.ok_or_else(|| Refused::new(Reason::KeyInvalid, text))
}

/// What [`guard`] works with.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) access: Arc<Access>,
    /// Where refusals are counted.
    pub(crate) metrics: Metrics,
}

/// Lets each request in that may come in, and answers the others.
pub(crate) async fn guard(
    State(Guard { access, metrics }): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    let need = need(request.method(), request.uri().path());
    let is_batch = rules::is_batch(request.uri().path());
    match access.admit(request.headers(), need, is_batch) {
        Ok(Admitted { caller, place }) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let response = next.run(request).await;
            let Some(place) = place else { return response };
            response.map(|body| {
                let held = body.map_frame(move |frame| {
                    let _held = &place;
                    frame
                });
                Body::new(held)
            })
        }
        Err(refused) => {
            metrics.failed(refused.reason);
            let peer = transport::peer(&request);
            tracing::info!(
                path = http::told_path(&request),
                client = peer.and_then(Peer::address).map(tracing::field::display),
                key = refused.key_id.as_deref(),
                certificate = peer.and_then(Peer::certificate),
                request_id = http::told_request_id(&request),
                reason = refused.reason.name(),
                why = refused.text,
                "refused"
            );
            let status = refused.counted(&metrics);
            if is_grpc(&request) {
                return grpc_answer(&status);
            }
            Problem::from(status).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
