//! Who gets in: every request shows a key, which must allow what it asks for and has limits of its own.
//!
//! ```text
//! request ─ rules: which scope ─ token → key ─ valid? scope? rate? place? ─▶ service, with its Caller
//! ```
//!
//! Without a file of keys everybody may do everything. The file is read again when it changes: a revoked
//! key is refused from then on, and its streams end.

mod guarded;
mod rules;

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

pub(crate) use self::guarded::Guarded;
use self::rules::Need;
use crate::envelope;
use crate::http::{Problem, grpc_answer, is_grpc};
use crate::keys::{Key, KeyFile, KeysError, Scope, Token};
use crate::metrics::Metrics;
use crate::reason::Reason;

/// Who may do what.
#[derive(Debug)]
pub struct Access {
    /// `None` lets everybody in.
    keys: Option<Keys>,
}

#[derive(Debug)]
struct Keys {
    file: KeyFile,
    by_id: RwLock<Arc<HashMap<String, Arc<Holder>>>>,
}

/// A key, and what its clients have used of its limits. Lives on while requests of it run, though the file has
/// changed.
struct Holder {
    key: Key,
    limiter: Option<DefaultDirectRateLimiter>,
    /// The same for batches, each of which counts once here, whatever becomes of it, and its clips above.
    batch_limiter: Option<DefaultDirectRateLimiter>,
    places: Option<Arc<Semaphore>>,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
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
        let by_id = RwLock::new(Arc::default());
        let keys = Keys { file, by_id };
        keys.reload()?;
        Ok(Self { keys: Some(keys) })
    }

    /// Whether clients need a key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.keys.is_some()
    }

    /// Reads the file again. Limits that stay the same go on counting.
    ///
    /// # Errors
    ///
    /// As of [`KeyFile::read`]; the keys are then those of before.
    pub fn reload(&self) -> Result<(), KeysError> {
        self.keys.as_ref().map_or(Ok(()), Keys::reload)
    }

    /// How many keys are accepted now; `None` if clients need none.
    #[must_use]
    pub fn valid_count(&self) -> Option<usize> {
        let now = SystemTime::now();
        let count = |keys: &Keys| keys.all().values().filter(|h| h.key.is_valid_at(now)).count();
        self.keys.as_ref().map(count)
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
                Refused { retry_after: Some(Duration::from_secs(1)), ..Refused::new(Reason::KeyLimit, text) }
            })?),
        };
        let limiter = if is_batch { &caller.holder.batch_limiter } else { &caller.holder.limiter };
        caller.charge_to(limiter.as_ref(), NonZeroU32::MIN)?;
        Ok(Admitted { caller: Some(caller), place })
    }
}

impl Keys {
    fn all(&self) -> Arc<HashMap<String, Arc<Holder>>> {
        Arc::clone(&self.by_id.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn reload(&self) -> Result<(), KeysError> {
        let old = self.all();
        let holders = self.file.read()?.into_iter().map(|key| {
            let kept = old.get(&key.id).filter(|holder| holder.key == key).cloned();
            (key.id.clone(), kept.unwrap_or_else(|| Arc::new(Holder::new(key))))
        });
        let new = Arc::new(holders.collect());
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl Holder {
    fn new(key: Key) -> Self {
        let quota = key.rate_per_s.and_then(|rate| {
            let quota = Quota::with_period(Duration::from_secs_f64(1.0 / rate))?;
            Some(quota.allow_burst(burst(rate)))
        });
        let places = key.concurrent_max.map(|most| Arc::new(Semaphore::new(most.get() as usize)));
        let (limiter, batch_limiter) =
            (quota.map(RateLimiter::direct), quota.map(RateLimiter::direct));
        Self { key, limiter, batch_limiter, places }
    }
}

/// What may come at once: a second's worth.
fn burst(rate_per_s: f64) -> NonZeroU32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a checked rate is 0.001 to 1,000,000"
    )]
    NonZeroU32::new(rate_per_s.ceil() as u32).unwrap_or(NonZeroU32::MIN)
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
                Err(Refused { retry_after: Some(wait), ..Refused::new(Reason::KeyLimit, text) })
            }
            Err(_) => {
                let text = format!(
                    "key {id} may make {} requests at once, and each clip of a batch counts as one; send fewer",
                    burst(rate)
                );
                Err(Refused::new(Reason::KeyLimit, text))
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
    retry_after: Option<Duration>,
}

impl Refused {
    fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), retry_after: None }
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
    let need = rules::need(request.method(), request.uri().path());
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
            let (path, reason) = (request.uri().path(), refused.reason.name());
            let client = envelope::client(&request).map(tracing::field::display);
            tracing::info!(path, client, reason, "refused: {}", refused.text);
            let status = Status::from(refused);
            if is_grpc(&request) {
                return grpc_answer(&status);
            }
            Problem::from(status).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
